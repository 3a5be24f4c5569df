"""The C network: writing its files, and running them with the system's compiler."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from transpike.core.constraints import check_settings, setting
from transpike.errors import UnsupportedModel
from transpike.exporters.c.costs import Costs, costs
from transpike.exporters.c.layout import Array, mixes_orders
from transpike.exporters.c.network import Network
from transpike.exporters.c.plan import Plan
from transpike.exporters.c.programs import test_program, trace_program
from transpike.exporters.c.rounding import rounded
from transpike.exporters.c.run import compiler, read_manifest, run_files
from transpike.exporters.c.slots import SlotNetwork, SlotPlan
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Entrance, Layer, Samples, Trains, Whole
from transpike.results.writing import write_atomically

OTHERS = "Export to golden or onnx instead, or change the network"


@dataclass(frozen=True)
class C(Exporter):
    """C99 with integers only: ``net.h`` and ``net.c``, without allocation or dependency.

    Each step visits only what has fired: an event adds a row of weights to the potentials that it reaches. Types are
    the narrowest that the proven bounds allow. ``test.c`` compares the samples, ``trace.c`` writes every event of
    others, ``net.json`` names inputs and layers, and says what the network costs. ``weight_bits`` rounds the weights,
    which gives another network: ``ts.export`` says how far its outputs are from those of transpike.
    """

    name: ClassVar[str] = "c"
    suffix: ClassVar[str] = ""
    reads_late: ClassVar[bool] = True
    every_rule: ClassVar[bool] = True
    first_spikes: ClassVar[bool] = True
    weight_bits: int | None = setting(None, "Bits of the weights (default: all that the grid has).", low=2, high=8)

    def __post_init__(self) -> None:
        check_settings(self)

    def written(self, whole: Whole) -> Whole:
        if self.weight_bits is None:
            return whole
        if whole.first_spikes:
            raise UnsupportedModel(
                "the C network rounds weights of networks that spike in every step only, but this one sends first "
                f"spikes: convert it with weight_bits={self.weight_bits}, which is a setting of its recipe"
            )
        return rounded(whole, self.weight_bits)

    def refuse(self, whole: Whole) -> None:
        ends = [(one.name, one.low, one.high) for one in whole.entrances if one.kind != "charge"]
        ends += [(one.front.name, one.front.low, one.front.high) for one in whole.entrances if one.front]
        for name, low, high in ends:
            if not -(2**31) <= low <= high < 2**31:
                raise UnsupportedModel(
                    f"the entrance {name} takes integers from {low} to {high}, but the C "
                    "network takes 32 bits: convert with input_bits=8"
                )
        for layer in whole.layers:
            if self.weight_bits is not None and not layer.rule.is_plain:
                raise UnsupportedModel(
                    f"{layer.name} sends levels other than 0 and 1, and weight_bits rounds networks of single spikes: "
                    "export without weight_bits"
                )
            if mixes_orders(whole, layer):
                raise UnsupportedModel(
                    f"{layer.name} adds the outputs of layers of weights that lie in different orders in the C "
                    f"network. {OTHERS}"
                )
            if layer.pool is None:
                continue
            source = whole.table[layer.source]
            binary = whole.first_spikes or whole.ends(source.name) == (0, 1)
            if isinstance(source, Entrance) and not (source.kind == "spikes" and binary):
                raise UnsupportedModel(
                    f"{layer.name} pools the entrance {source.name}, whose levels are not only 0 and 1. {OTHERS}"
                )
            if len(source.shape) != len(layer.pool.kernel) + 1:
                raise UnsupportedModel(
                    f"{layer.name} pools {len(layer.pool.kernel)} of {len(source.shape)} axes, but the C network pools "
                    f"all but the first. {OTHERS}"
                )

    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        self.refuse(whole)
        plan = SlotPlan(whole) if whole.first_spikes else Plan(whole)
        network = SlotNetwork(plan) if isinstance(plan, SlotPlan) else Network(plan)
        source = network.source
        found = costs(plan, network.constants.bytes, samples, expected)
        texts = {
            "net.c": source,
            "net.h": network.header(found.describe()),
            "test.c": test_program(plan, samples, expected),
            "trace.c": trace_program(plan),
            "net.json": json.dumps(manifest(plan, found), indent=1),
        }
        for name, text in texts.items():
            write_atomically(path / name, text.encode(), make_folder=True)

    def about(self, path: Path) -> str:
        return Costs.of(read_manifest(path)["costs"]).describe()

    def missing(self) -> str:
        return "" if compiler() else "a C compiler (gcc or clang; on Debian: apt-get install gcc libc6-dev)"

    def run(self, path: Path, samples: Samples) -> Trains:
        """Raises FileError if the files do not compile, or the program fails."""
        return run_files(path, samples)


def _order(array: Array) -> dict[str, Any]:
    return {"shape": list(array.shape), "view": list(array.view), "features_last": array.features_last}


def _sent(layer: Layer, steps: int) -> dict[str, Any]:
    """The level of a first spike in each step."""
    return {} if layer.slots is None else {"sent": [layer.slots.level(step) for step in range(1, steps + 1)]}


def manifest(plan: Plan, found: Costs) -> dict[str, Any]:
    """The content of ``net.json``."""
    whole = plan.whole
    return {
        "format": "c",
        "timesteps": whole.timesteps,
        "divisor": whole.divisor,
        "levels": bool(plan.level_type),
        "parameters": [
            {
                "name": one.name,
                "kind": one.kind,
                "argument": one.argument,
                "type": one.type,
                "low": one.low,
                "high": one.high,
                **_order(one.array),
            }
            for one in plan.parameters
        ],
        "layers": [
            {"name": one.name, "kind": one.kind, **_order(plan.arrays[one.name]), **_sent(one, whole.timesteps)}
            for one in whole.layers
        ],
        "costs": found.to_json(),
    }
