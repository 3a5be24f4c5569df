"""Seconds of sigma-delta neurons in the native library and in torch, in turn in the same run.

    python benchmarks/sigma_delta.py [--network FILE --shape 3 224 224]

One thread, processor time, medians; equal spikes are checked. FILE is a network converted by ``sigma-delta``, as
benchmarks/imagenet.py leaves in its folder; its input here is noise.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import transpike as ts
from transpike.activations import Clip, Function, Unchanged
from transpike.engines.native import library
from transpike.engines.native.sigma_delta import Scans
from transpike.neurons import SigmaDelta

SHAPE, STEPS, BATCH, ROUNDS = (96, 56, 56), 8, 3, 5


def seconds(*functions: Callable[[], Any]) -> list[float]:
    """The median of each function's processor time, called in turn."""
    taken: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for place, function in enumerate(functions):
            start = time.process_time()
            function()
            taken[place].append(time.process_time() - start)
    return [statistics.median(one) for one in taken]


def row(what: str, ours: float, torchs: float, neuron_steps: int) -> dict[str, Any]:
    return {
        "what": what, "torch / native": round(torchs / ours, 2),
        "native, ns per neuron and step": round(1e9 * ours / neuron_steps, 2),
    }  # fmt: skip


def neurons() -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    threshold = 0.01 + 0.1 * torch.rand((SHAPE[0], 1, 1), generator=generator)
    train = torch.randn((STEPS * BATCH, *SHAPE), generator=generator).contiguous(memory_format=torch.channels_last)
    train = train.unflatten(0, (STEPS, BATCH))
    silu = Function.of_analogue(_silu())
    assert silu is not None
    found = []
    for source in (Clip(6.0), Unchanged(), silu):
        cell, scans = SigmaDelta(source, threshold, 0 * threshold), Scans()
        state = cell.init(train[0].double())
        ours, others = scans("x", cell, state, [train]), cell.scan(state, train, t=1)
        assert ours is not None and torch.equal(ours[1], others[1])
        pair = seconds(
            lambda: scans("x", cell, state, [train]), lambda: cell.scan(state, train, t=1)  # noqa: B023
        )  # fmt: skip
        found.append(row(f"neurons of {source.describe()}", *pair, train.numel()))
    return found


def _silu() -> Any:
    graph = ts.capture(
        nn.Sequential(nn.Linear(2, 2), nn.SiLU(), nn.Linear(2, 2)), torch.zeros(1, 2), on_unsupported="keep"
    )
    return next(node.op for node in graph if "silu" in getattr(node.op, "operator", ""))


def network(file: Path, shape: list[int]) -> dict[str, Any]:
    snn = ts.load(file).accepting_any_input()
    x = torch.rand((BATCH, *shape), generator=torch.Generator().manual_seed(1))
    load, missing = library.load, lambda: (None, "switched off")

    def run(how: Any) -> ts.Trace:
        library.load = how
        try:
            return ts.simulate(snn, x, engine="dense")
        finally:
            library.load = load

    assert torch.equal(run(load).logits, run(missing).logits)
    pair = seconds(lambda: run(load), lambda: run(missing))
    count = sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")
    return row(f"network of {count:,} neurons, T = {snn.timesteps}", *pair, count * snn.timesteps * BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--shape", type=int, nargs="+", default=[3, 224, 224])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = neurons() + ([] if arguments.network is None else [network(arguments.network, arguments.shape)])
    print(json.dumps({"library": library.load()[1], "rows": found}, indent=1))


if __name__ == "__main__":
    main()
