"""Where the time of a run on the event engine goes, layer by layer, against what the machine could add at most.

    python benchmarks/floor.py --weights resnet20-cifar10-jpeg.safetensors [--vgg-weights FILE] --data-dir DATA [--isa AVX2]

The floor: a synaptic operation takes one lane of a multiply-add, of which a matrix product of the same run shows the
most that this machine does in a second. Each layer's kernel is also called without input spikes: that is the time for
thresholds, constant currents and lists of spikes that are empty. Writes benchmarks/floor.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from cases import ECC, NETWORKS, RECIPES, Case, case, restrict
from machine import QUIET, busy_of_others, description, smoke
from results import KEY, Results
from torch import Tensor

import transpike as ts
from transpike.core.cell import Cell
from transpike.core.op import Synapse
from transpike.engines.event.run import EventRun
from transpike.workflow.simulate import engine_named

HERE = Path(__file__).parent
SIDE = 1024  # of the square matrices
Clock = dict[str, dict[str, float]]


def peak(rounds: int = 5) -> float:
    """Multiply-adds of float32 numbers in a second: the best of a few matrix products with torch's threads."""
    a, b = torch.rand(2, SIDE, SIDE)
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return SIDE**3 / best


def operations(snn: ts.SNN, counts: dict[str, Tensor]) -> dict[str, float]:
    """The weights that the spikes ``counts`` (batch, *shape) add to each cell and to the output, by its name.

    Forward what ``fan_outs`` counts backward: paths with a synapse, and those without one yet.
    """
    weighted: dict[str, Tensor] = {}
    bare: dict[str, Tensor] = {}
    into: dict[str, float] = {}
    lowered = snn.program.lowered
    for node in lowered.nodes:
        if isinstance(node.op, Cell) or not node.inputs:
            into[node.name] = sum(float(weighted[name].sum()) for name in node.inputs)
            bare[node.name] = counts[node.name]
            weighted[node.name] = torch.zeros_like(bare[node.name])
            continue
        op = node.op.paths().to(dtype=torch.float64)
        met, free = (op.linear(*(values[name] for name in node.inputs)) for values in (weighted, bare))
        synapse = isinstance(node.op, Synapse)
        weighted[node.name], bare[node.name] = (met + free, torch.zeros_like(free)) if synapse else (met, free)
    into[lowered.output.name] = float(weighted[lowered.output.name].sum())
    return into


def spikes(snn: ts.SNN, images: Tensor, timesteps: int) -> dict[str, Tensor]:
    """The spikes of every cell over the run, (batch, *shape); none of a constant input."""
    lowered = snn.program.lowered
    names = [node.name for node in lowered.nodes if isinstance(node.op, Cell)]
    trains = ts.simulate(snn, images, timesteps, record=names).trains
    still = {n.name: torch.zeros((len(images), *n.shape), dtype=torch.float64) for n in lowered.nodes if not n.inputs}
    return still | {name: train.double().sum(0) for name, train in trains.items()}


def watched(run: EventRun, silent: bool) -> Clock:
    """Change a run so that it fills the clock that is returned: seconds by part and node."""
    clock: Clock = {}

    def spent(part: str, name: str, seconds: float) -> None:
        clock.setdefault(part, {})[name] = clock.get(part, {}).get(name, 0.0) + seconds

    def timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            answer = function(*arguments)
            node = arguments[0]
            spent(part, getattr(getattr(node, "node", node), "name", "output"), time.perf_counter() - start)
            return answer

        return call

    kernel, without = timed("kernel", run._fire), timed("silent", run._fire)

    def fire(layer: Any, words: dict[str, list[Tensor]], steps: int, last: bool) -> Tensor:
        if silent:
            name, answered = layer.node.name, (run.ties, run.exact, run.why)
            before = run.states.get(name)
            if before is not None:
                run.states[name] = before.clone()
            nothing = {wire: [torch.zeros_like(plane) for plane in words[wire]] for wire in layer.wires}
            without(layer, nothing, steps, last)
            run.states.pop(name, None)
            if before is not None:
                run.states[name] = before
            run.ties, run.exact, run.why = answered
        return kernel(layer, words, steps, last)

    run._fixed = lambda: None  # type: ignore[method-assign]  # layer by layer, not several in one call
    run._fire = fire  # type: ignore[method-assign]
    for part in ("_pool", "_count", "_dense", "_answer"):
        setattr(run, part, timed(part.strip("_"), getattr(run, part)))
    return clock


def once(snn: ts.SNN, images: Tensor, timesteps: int, silent: bool) -> tuple[float, Clock, dict[str, str]]:
    """(seconds of the run, the clock, the kernels)."""
    with torch.no_grad():
        run = engine_named("auto").start(snn.program, snn.prepare(images), torch.arange(len(images)), (), False)
        clock = watched(run, silent) if isinstance(run, EventRun) else {}
        start = time.perf_counter()
        run.advance(timesteps, last=True)
        return time.perf_counter() - start, clock, run.kernels


def profile(one: Case, recipe: str, isa: str, arguments: argparse.Namespace) -> dict:
    """The fastest of a few rounds that nothing else disturbed, and the layers in it."""
    timesteps, images = arguments.timesteps, one.images(arguments.batch)
    snn = one.convert(timesteps, recipe)
    into = operations(snn, spikes(snn, images, timesteps))
    best: tuple[float, Clock, dict[str, str]] | None = None
    quiet, most = 0, 0.0
    once(snn, images, timesteps, False)
    for _ in range(arguments.rounds):
        others, start = busy_of_others(), time.perf_counter()
        most = max(most, peak())
        now = once(snn, images, timesteps, False)
        if (busy_of_others() - others) / (time.perf_counter() - start) < QUIET or arguments.smoke:
            quiet += 1
            best = now if best is None or now[0] < best[0] else best
    best = once(snn, images, timesteps, False) if best is None else best
    silent = min(
        (once(snn, images, timesteps, True)[1].get("silent", {}) for _ in range(3)), key=lambda c: sum(c.values())
    )
    seconds, clock, kernels = best
    parts = {part: sum(names.values()) for part, names in clock.items()}
    layers = []
    for name, kernel in kernels.items():
        spent = sum(clock.get(part, {}).get(name, 0.0) for part in ("kernel", "pool", "dense"))
        row = {"layer": name, "kernel": kernel, "seconds": spent, "without_spikes": silent.get(name),
               "synaptic_operations": into.get(name, 0.0), "floor_seconds": into.get(name, 0.0) / most}  # fmt: skip
        layers.append(row)
    total = sum(into.values())
    found = {
        "network": one.name, "weights": one.weights, "recipe": recipe, "timesteps": timesteps, "batch": len(images), "isa": isa,
        "seconds": seconds, "parts": parts, "between": seconds - sum(parts.values()), "without_spikes": sum(silent.values()),
        "synaptic_operations": total, "peak": most, "floor_seconds": total / most, "rounds": quiet, "layers": layers,
    }  # fmt: skip
    why = smoke(arguments) or ("" if quiet else "no undisturbed round")
    return found | ({"void": why} if why else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="of the ResNet-20")
    parser.add_argument("--vgg-weights", type=Path, help="without: seeded weights with calibrated BatchNorm")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--recipes", nargs="+", choices=list(RECIPES), default=[ECC])
    parser.add_argument("--timesteps", type=int, default=32)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--isa", help="AVX2 or baseline: these vector instructions at most, also in torch")
    parser.add_argument(
        "--smoke", action="store_true", help="does everything run? disturbed rounds count; all are void"
    )
    parser.add_argument("--calibration-samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "floor.json")
    arguments = parser.parse_args()
    isa = restrict(arguments.isa)
    smoke(arguments)
    results = Results(arguments.output, description(arguments.seed))
    dataset = ts.data.load("cifar10", arguments.data_dir)
    for name in arguments.networks:
        one = case(name, arguments, dataset)
        for recipe in arguments.recipes:
            row = profile(one, recipe, isa, arguments)
            results.merge("rows", [row], tuple(part for part in KEY if part != "engine"))
            results.write()
            shown = {key: value for key, value in row.items() if key != "layers"}
            print(json.dumps(shown), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
