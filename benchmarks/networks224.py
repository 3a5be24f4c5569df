"""Networks of 224×224 pictures on the event engine: benchmarks/networks224.json.

    python benchmarks/networks224.py --data-dir DATA --models-dir MODELS
    python benchmarks/networks224.py --data-dir DATA --models-dir MODELS --quick

Rows: network × recipe setting × batch × T. EfficientNet-Lite0 has its ImageNet weights and is converted with every choice
of ``linear_wires``; the others have seeded weights and normalisations calibrated on pictures. R is the time by that of T
forward passes of the ANN at the same batch, the smallest of ``--repeats`` samples each, taken in turn; seconds are those of
the processor, so that other processes disturb less, and of one thread unless ``--threads`` says more (then of the clock).
``kernels`` counts layers by kernel or reason, ``slowest`` are the layers in which the run spends its time, ``mib`` what a
run adds to the memory. With ``--reference N`` the spikes of every neuron of N pictures are compared with the reference
engine's. Thresholds come from ``--calibration`` pictures of COCO.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from architectures224 import ARCHITECTURES, seeded
from imagenet import PICTURES, calibration, network, pictures
from machine import added_memory, description
from torch import Tensor, nn

import transpike as ts
from transpike.core.cell import Neuron
from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.engines.event.run import EventRun
from transpike.models._base import IMAGENET
from transpike.results.writing import write_atomically

OUTPUT = Path(__file__).resolve().with_suffix(".json")
TRAINED = "efficientnet-lite0"
NETWORKS = (TRAINED, *ARCHITECTURES)
BOTTLENECKS = (TRAINED, "mobilenetv2")
WIRES = ("pairs", "merge", "none")
SHOWN = 8  # slowest layers of a row


def clock(threads: int) -> Callable[[], float]:
    return time.process_time if threads == 1 else time.perf_counter


def in_turn(functions: dict[str, Callable[[], object]], repeats: int, threads: int) -> dict[str, float]:
    """The smallest seconds of each function after a call that does not count."""
    now, best = clock(threads), dict.fromkeys(functions, float("inf"))
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            start = now()
            function()
            if repeat:
                best[name] = min(best[name], now() - start)
    return best


class Watch:
    """Seconds of each layer while it is active."""

    def __init__(self, threads: int) -> None:
        self.now, self.seconds = clock(threads), Counter[str]()

    def __enter__(self) -> "Watch":
        self.kept = {name: getattr(EventRun, name) for name in ("_fire", "_pool", "_dense", "_count")}
        for name, method in self.kept.items():
            setattr(EventRun, name, self._timed(method))
        return self

    def __exit__(self, *_: object) -> None:
        for name, method in self.kept.items():
            setattr(EventRun, name, method)

    def _timed(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def timed(run: EventRun, layer: Any, *rest: Any) -> Any:
            start = self.now()
            found = method(run, layer, *rest)
            self.seconds[getattr(layer, "node", layer).name] += self.now() - start
            return found

        return timed


def conversion(recipe: Recipe, model: nn.Module, preprocessing: Preprocessing, x: Tensor) -> tuple[ts.SNN, float]:
    start = time.process_time()
    return ts.convert(model, recipe, list(x.split(8)), preprocessing=preprocessing), time.process_time() - start


def measured(
    snn: ts.SNN, model: nn.Module, preprocessing: Preprocessing, x: Tensor, steps: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """One row: time against the ANN's, memory, kernels, rate, and how often both networks agree."""
    prepared = preprocessing(x).contiguous(memory_format=torch.channels_last)
    best = in_turn(
        {"ann": lambda: model(prepared), "snn": lambda: ts.simulate(snn, x, steps, count=False)},
        arguments.repeats, arguments.threads,
    )  # fmt: skip
    with Watch(arguments.threads) as watch:
        trace = ts.simulate(snn, x, steps)
    answers = model(prepared)
    neurons = [layer for layer in trace.activity.layers if layer.role == "neuron"]
    kinds = Counter(kernel for kernel in trace.kernels.values())
    macs = sum(snn.source.macs(node) or 0 for node in snn.source if getattr(node.op, "role", "") == "synapse")
    row = {
        "T": steps, "batch": len(x), "ms": 1000 * best["snn"], "ann_ms": 1000 * best["ann"],
        "R": best["snn"] / best["ann"] / steps, "exact": trace.exact, "why": trace.why,
        "rate": sum(float(n.spikes.sum()) for n in neurons) / sum(n.updates for n in neurons),
        "operations / (T MACs)": sum(float(n.synaptic_operations.sum()) for n in neurons) / macs / steps / len(x),
        "agreement": float((trace.logits[-1].argmax(1) == answers.argmax(1)).float().mean()),
        "error": float((trace.logits[-1] - answers).norm() / answers.norm()),
        "kernels": dict(kinds), "dense": sum(n for kernel, n in kinds.items() if kernel.startswith("dense")),
        "slowest": {name: round(1000 * s, 2) for name, s in watch.seconds.most_common(SHOWN)},
        "mib": added_memory(lambda: ts.simulate(snn, x, steps)),
    }  # fmt: skip
    if arguments.reference:
        row["differing_counts"] = differing(snn, x[: arguments.reference], steps)
    return row


def differing(snn: ts.SNN, x: Tensor, steps: int) -> int:
    """Neurons that do not fire the reference's train; one sample at a time, one layer's trains at a time."""
    names = [node.name for node in snn.graph if isinstance(node.op, Neuron)]
    count = 0
    for sample in x.split(1):
        for name in names:
            ours, reference = (
                ts.simulate(snn, sample, steps, engine=engine, record=[name]).trains[name]
                for engine in ("auto", "reference")
            )
            count += int((ours != reference).any(0).sum())
    return count


def rows(name: str, arguments: argparse.Namespace, x: Tensor, used: Tensor) -> Iterator[dict[str, Any]]:
    preprocessing = IMAGENET
    if name == TRAINED:
        model, preprocessing = network(arguments.models_dir)
    else:
        model = seeded(name, preprocessing(torch.cat([used, x])[:32]))
    model = model.to(memory_format=torch.channels_last)
    for steps in arguments.steps:
        for wires in arguments.wires if name in BOTTLENECKS else ("none",):
            recipe = ts.recipes.ECC(timesteps=steps, linear_wires=wires)
            snn, seconds = conversion(recipe, model, preprocessing, used)
            for batch in arguments.batches:
                about = {"network": name, "weights": "trained" if name == TRAINED else "seeded", "recipe": str(recipe),
                         "linear_wires": wires, "conversion_s": seconds}  # fmt: skip
                yield about | measured(snn, model, preprocessing, x[:batch], steps, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--steps", nargs="+", type=int, default=[8, 32])
    parser.add_argument("--wires", nargs="+", choices=WIRES, default=list(WIRES))
    parser.add_argument("--calibration", type=int, default=53, help="pictures for thresholds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--reference", type=int, default=0, help="pictures that the reference engine runs too (slow)")
    parser.add_argument("--quick", action="store_true", help="batch 1, T = 8, 8 calibration pictures, one sample")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.batches, arguments.steps, arguments.calibration, arguments.repeats = [1], [8], 8, 1
    torch.set_num_threads(arguments.threads)
    used = calibration(arguments.data_dir)[: arguments.calibration]
    picture = pictures(arguments.data_dir / PICTURES)
    count = len(np.load(arguments.data_dir / PICTURES, allow_pickle=False)["labels"])
    most = max(arguments.batches)
    x = torch.stack([picture(i) for i in range(0, count, count // most)][:most])
    found: list[dict[str, Any]] = []
    with torch.no_grad():
        for name in arguments.networks:
            for row in rows(name, arguments, x, used):
                found.append(row)
                content = {"machine": description(0), "calibration": len(used), "rows": found}
                write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())
                shown = (
                    "network",
                    "linear_wires",
                    "batch",
                    "T",
                    "ms",
                    "R",
                    "dense",
                    "mib",
                    "rate",
                    "agreement",
                    "exact",
                )
                print({key: round(v, 4) if isinstance(v := row[key], float) else v for key in shown}, file=sys.stderr)


if __name__ == "__main__":
    main()
