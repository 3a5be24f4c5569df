"""Run NIR files of ours in other simulators, and count the spikes that differ.

    python benchmarks/nir_importers.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Writes benchmarks/nir_importers.json and the table of docs/nir.md. ``pip install 'transpike[conformance]'`` installs the
simulators; one that is missing has no row. samna and sinabs.backend.dynapcnn are never imported.
"""

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.exporters import Nir
from transpike.exporters.nir_file.importers import IMPORTERS, STEP, carries
from transpike.exporters.nir_file.interpreter import entering, levels_of, read
from transpike.lowering.whole import Samples, Trains, Whole
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import run_whole
from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
STORED, PAGE = HERE / "nir_importers.json", HERE.parent / "docs/nir.md"
BEGIN, END = "<!-- importers -->\n", "<!-- end -->"
NEEDED = {
    "spikingjelly": ("spikingjelly", "loguru", "nirtorch"),
    "snntorch": ("snntorch", "nirtorch"),
    "norse": ("norse", "nirtorch"),
}


def missing(importer: str) -> str:
    """The reason why an importer cannot run here, or ""."""
    absent = [name for name in ("nir", *NEEDED[importer]) if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed: pip install 'transpike[conformance]'" if absent else ""


@dataclass(frozen=True)
class Result:
    """``spikes`` of transpike, and how many of them ``differ`` in the importer; ``totals`` that differ."""

    spikes: int
    differ: int
    totals: int
    layers: Mapping[str, int]


def spikingjelly(path: Path, profile: str, dtype: torch.dtype) -> tuple[nn.Module, type]:
    from spikingjelly.activation_based import neuron
    from spikingjelly.activation_based.nir_exchange import from_nir

    model = from_nir.import_from_nir(str(path), dt=STEP, dtype=dtype)
    for module in model.modules():
        if isinstance(module, neuron.BaseNode) and profile == "soft":
            module.v_reset = None
    return model, from_nir._NIRStatefulModule


def snntorch(path: Path, profile: str, dtype: torch.dtype) -> tuple[nn.Module, type]:
    import nir
    import snntorch as library
    from snntorch.import_nir import import_from_nir

    with contextlib.redirect_stdout(io.StringIO()):
        model = import_from_nir(nir.read(path))
    for module in model.modules():
        if isinstance(module, library.SpikingNeuron) and profile == "soft":
            module.reset_mechanism = "subtract"
            module.state_function = module._base_sub
    return model.to(dtype), library.SpikingNeuron


def norse(path: Path, profile: str, dtype: torch.dtype) -> tuple[nn.Module, type]:
    import nir
    import norse.torch as library
    from norse.torch.functional.reset import reset_subtract, reset_value
    from norse.torch.utils.import_nir import CubaLIF

    reset = reset_subtract if profile == "soft" else reset_value
    return library.from_nir(nir.read(path), reset_method=reset, dt=STEP).to(dtype), CubaLIF


LOAD: dict[str, Callable[[Path, str, torch.dtype], tuple[nn.Module, type]]] = {
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
    "norse": norse,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of the importers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        if importlib.util.find_spec("loguru"):
            from loguru import logger

            logger.disable("spikingjelly")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def imported(importer: str, path: Path, samples: Samples, dtype: torch.dtype = torch.float32) -> Trains:
    """The trains and totals that a simulator computes from a file; ``samples`` enter step by step."""
    found = read(path)
    about = found.about
    value = entering(found, samples)
    spikes: dict[str, list[Tensor]] = {layer["node"]: [] for layer in about["layers"][:-1]}
    with _quiet(), torch.no_grad():
        model, kind = LOAD[importer](path, about["profile"], dtype)
        for name, module in model.named_modules():
            if isinstance(module, kind) and name in spikes:
                module.register_forward_hook(
                    lambda _module, _inputs, output, name=name: spikes[name].append(
                        (output[0] if isinstance(output, tuple) else output).detach().double()
                    )
                )
        state, outputs = None, []
        for t in range(samples.timesteps):
            output, state = model(value(t).to(dtype), state)
            outputs.append(output.double())
    layers, readout = about["layers"][:-1], about["layers"][-1]
    trains = {
        layer["name"]: _levels(spikes[layer["node"]], layer, about["pulse"], samples.timesteps) for layer in layers
    }
    totals = torch.stack(outputs[readout["start"] :]).sum(0) / 2.0 ** readout["unit_exponent"]
    return Trains(trains, _levels([totals.round()], readout, False, 1)[0])


def _levels(found: list[Tensor], layer: dict[str, Any], pulse: bool, steps: int) -> np.ndarray:
    """(T, batch, *shape); -1 everywhere where the importer has left the layer out or gives something else."""
    size = int(np.prod(layer["shape"]))
    if len(found) == steps and found[0][0, : found[0].shape[1] - pulse].numel() == size:
        return levels_of(torch.stack(found), layer, pulse)
    return np.full((steps, 1, *layer["shape"]), -1)


def compared(expected: Trains, found: Trains) -> Result:
    differ = {name: int((found.levels[name] != train).sum()) for name, train in expected.levels.items()}
    spikes = sum(int(train.sum()) for train in expected.levels.values())
    return Result(spikes, sum(differ.values()), int((found.totals != expected.totals).sum()), differ)


@dataclass(frozen=True, eq=False)
class Case:
    """A network with its samples and what transpike computes."""

    title: str
    whole: Whole
    samples: Samples
    expected: Trains

    @property
    def profile(self) -> str:
        return "soft" if self.whole.layers[0].reset == "subtract" else "hard"


def case(title: str, snn: ts.SNN, x: Tensor, timesteps: int) -> Case:
    whole = whole_form(snn.program, timesteps)
    samples = samples_of(snn.program, whole, snn.prepare(x), torch.arange(len(x)), timesteps)
    expected = run_whole(whole, samples)
    rates = {name: float(train.mean()) for name, train in expected.levels.items()}
    assert min(rates.values()) > 0.005 and 0.01 < np.mean(list(rates.values())) < 0.6, f"{title} shows nothing: {rates}"
    return Case(title, whole, samples, expected)


def recipes(timesteps: int) -> dict[str, ts.recipes.Recipe]:
    return {
        "soft": ts.recipes.ECC(timesteps=timesteps),
        "hard": ts.recipes.ECC(timesteps=timesteps, reset="hard", percentile=95.0),
    }


def averaged() -> nn.Module:
    """The network of ``transpike demo``, with average pooling in the place of max pooling."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    from stored import stored

    model = stored("small-cnn")
    model.pool = nn.AvgPool2d(2)
    return model


def cases(weights: Path | None, data_dir: Path | None) -> Iterator[Case]:
    """The average-pooled network of the demo on 50 digits, T=32, and ResNet-20 on 2 images, T=16."""
    data, model = ts.data.load("digits"), averaged()
    for reset, recipe in recipes(32).items():
        snn = ts.convert(model, recipe, data.train.images, preprocessing=data.preprocessing)
        yield case(f"digits, average pooling, {reset} reset, T=32, 50 images", snn, data.test.images[:50], 32)
    if weights is None:
        return
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=weights)
    images = ts.data.load("cifar10", data_dir).train
    calibration, x = images.batch(torch.arange(128))[0], images.batch(torch.arange(128, 130))[0]
    for reset, recipe in recipes(16).items():
        snn = ts.convert(model, recipe, calibration, preprocessing=spec.preprocessing)
        yield case(f"ResNet-20, {reset} reset, T=16, 2 images", snn, x, 16)


def without_margin(path: Path) -> None:
    """Move the thresholds of a file of the hard profile back onto the grid, as a careless writer would set them."""
    import nir

    found = read(path)
    for layer in found.about["layers"][:-1]:
        node = found.graph.nodes[layer["node"]]
        node.v_threshold = node.v_threshold + 2.0 ** (min(layer["grid_exponents"]) - 1)
    nir.write(path, found.graph)


def rows(one: Case, folder: Path) -> Iterator[dict[str, Any]]:
    """Each importer, and what refuses it; the file is written without the refusal, to count what it avoids."""
    path = folder / "net.nir"
    for importer in IMPORTERS:
        if reason := missing(importer):
            print(f"{importer}: {reason}")
            continue
        exporter = Nir(profile=one.profile)
        exporter.write(one.whole, path, one.samples, one.expected)
        ours = compared(one.expected, exporter.run(path, one.samples))
        assert not ours.differ and not ours.totals, ours
        found = compared(one.expected, imported(importer, path, one.samples))
        yield {
            "case": one.title, "importer": f"{IMPORTERS[importer].title} {importlib.metadata.version(importer)}",
            "spikes": found.spikes, "differ": found.differ, "totals": found.totals,
            "refused": bool(carries(importer, one.whole)), "file": "ours",
        }  # fmt: skip
        if one.profile == "hard" and not carries(importer, one.whole):
            without_margin(path)
            found = compared(one.expected, imported(importer, path, one.samples))
            yield {
                "case": one.title, "importer": f"{IMPORTERS[importer].title} {importlib.metadata.version(importer)}",
                "spikes": found.spikes, "differ": found.differ, "totals": found.totals, "refused": False,
                "file": "thresholds on the grid",
            }  # fmt: skip


def table(found: list[dict[str, Any]]) -> str:
    """One row for each network and file, one column for each importer."""
    names = list(dict.fromkeys(row["importer"] for row in found))
    lines = [f"| network, file | spikes | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for case, file in dict.fromkeys((row["case"], row["file"]) for row in found):
        rows = {row["importer"]: row for row in found if (row["case"], row["file"]) == (case, file)}
        cells = [_cell(rows.get(name)) for name in names]
        title = case if file == "ours" else f"the same, {file}"
        lines.append(f"| {title} | {next(iter(rows.values()))['spikes']:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "refused"
    wrong = f"{row['differ']:,} values differ" if row["differ"] or row["totals"] else "equal"
    return f"refused ({wrong})" if row["refused"] else wrong


def page() -> str:
    """docs/nir.md with the table of what was measured."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return before + BEGIN + table(json.loads(STORED.read_text())) + END + rest.split(END, 1)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="resnet20-cifar10-jpeg.safetensors; without it only the digits")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument(
        "--output", type=Path, default=STORED, help="rows as JSON; the page is written with the default"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for one in cases(arguments.weights, arguments.data_dir):
            rates = [train.mean() for train in one.expected.levels.values()]
            print(f"{one.title}: {min(rates):.1%} to {max(rates):.1%} of the neurons spike in a step")
            for row in rows(one, Path(folder)):
                print(f"  {row['importer']}, {row['file']}: {_cell(row)}, {row['totals']} totals differ", flush=True)
                found.append(row)
    write_atomically(arguments.output, (json.dumps(found, indent=1) + "\n").encode())
    if arguments.output == STORED:
        write_atomically(PAGE, page().encode())


if __name__ == "__main__":
    main()
