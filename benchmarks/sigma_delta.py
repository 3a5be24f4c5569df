"""Seconds of sigma-delta neurons in the native library and in torch, in turn in the same run.

    python benchmarks/sigma_delta.py [--network FILE --shape 3 224 224]
    python benchmarks/sigma_delta.py --events [--models-dir MODELS --data-dir DATA]

One thread, processor time, medians; equal spikes are checked. FILE is a network converted by ``sigma-delta``, as
benchmarks/imagenet.py leaves in its folder; its input here is noise.

``--events``: the time of each step against the spikes in it, and of a run of all steps at once, as multiples of the
source network's time in the same run: networks of the zoo with seeded weights on noise and, with MODELS and DATA,
EfficientNet-Lite0 on pictures. *Shares* of the time of a run of all steps by the kind of layer. *Floor*: the time of the
additions that were counted, as a multiple of the source network's time, if two of them took as long as one multiplication
of the source network does (16-bit additions of pairs: twice as many numbers in a vector as in float32). Writes
benchmarks/sigma_delta.json, which docs/speed.md shows.
"""

import argparse
import collections
import functools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagenet
import torch
from machine import description
from torch import nn

import transpike as ts
from transpike.activations import Clip, Function, Unchanged
from transpike.core.cell import Cell
from transpike.core.op import Synapse
from transpike.engines.dense.engine import Dense
from transpike.engines.dense.estimates import Estimates
from transpike.engines.native import library
from transpike.engines.native.sigma_delta import Scans
from transpike.models.vit import Block
from transpike.neurons import SigmaDelta
from transpike.recipes import StreamingSigmaDelta
from transpike.results.writing import write_atomically

OUTPUT = Path(__file__).resolve().with_suffix(".json")

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


class _Wide(nn.Module):
    """A vision transformer of the width of ViT-S/16, of four blocks, for images of 128 × 128: 64 tokens."""

    def __init__(self, features: int = 384, patch: int = 16, tokens: int = 64) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, features, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, tokens, features) * 0.02)
        self.blocks = nn.Sequential(*(Block(features, heads=6) for _ in range(4)))
        self.norm, self.classifier = nn.LayerNorm(features), nn.Linear(features, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.classifier(self.norm(self.blocks(tokens)).mean(1))


def _networks(models: Path | None, data: Path | None) -> Iterator[tuple[str, ts.SNN, torch.Tensor]]:
    """(name, converted network, samples)"""
    zoo = {
        "small-cnn": (3, 32, 32),
        "resnet20-16-32-64": (3, 32, 32),
        "mobilenet": (3, 32, 32),
        "vgg16-average": (3, 32, 32),
        "vit-tiny": (1, 28, 28),
    }
    for name, shape in zoo.items():
        torch.manual_seed(0)
        module, spec = ts.models.build(f"zoo:{name}", num_classes=10, input_shape=shape)
        x = torch.rand((64, *shape), generator=torch.Generator().manual_seed(1))
        recipe = StreamingSigmaDelta(STEPS)
        yield name, ts.convert(settled(module, x), recipe, x, preprocessing=spec.preprocessing), x
    torch.manual_seed(0)
    x = torch.rand((8, 3, 128, 128), generator=torch.Generator().manual_seed(1))
    yield "vit, 384 features", ts.convert(_Wide().eval(), StreamingSigmaDelta(STEPS), x), x
    if models is not None and data is not None:
        module, preprocessing = imagenet.network(models)
        pictures = imagenet.pictures(data / imagenet.CALIBRATION[0], imagenet.RESIZED)
        used = torch.stack([pictures(i) for i in range(8)])
        snn = ts.convert(module, StreamingSigmaDelta(STEPS), used, preprocessing=preprocessing)
        shown = imagenet.pictures(data / imagenet.PICTURES)
        yield "efficientnet-lite0", snn, torch.stack([shown(i) for i in range(4)])


def settled(module: nn.Module, x: torch.Tensor) -> nn.Module:
    """The module with the batch statistics of ``x``: seeded weights alone leave most neurons silent."""
    module.train()
    with torch.no_grad():
        module(x)
    return module.eval()


def kind(value: Any) -> str:
    """The kind of a layer of the library, or of a node that torch runs."""
    if hasattr(value, "layer"):
        weights = value.layer.weights
        if weights is None:
            return "neurons without weights"
        return "depthwise" if weights.depthwise else "pointwise and linear" if weights.is_spot else "convolutions"
    op = value.op
    if isinstance(op, SigmaDelta):
        return "neurons of functions"
    if isinstance(op, Cell):
        return "products" if op.multiplies else "norms, softmax and other cells"
    return "weights in torch" if isinstance(op, Synapse) else "sums and wiring"


def shares(run: Callable[[], Any]) -> dict[str, float]:
    """The part of a run's processor time in each kind of layer; the rest counts, reads and calls."""
    spent: dict[str, float] = collections.Counter()
    methods = {name: getattr(Estimates, name) for name in ("_layer", "_evaluate")}

    def timed(method: Any, self: Any, what: Any, *given: Any) -> Any:
        start = time.process_time()
        found = method(self, what, *given)
        spent[kind(what)] += time.process_time() - start
        return found

    try:
        for name, method in methods.items():
            setattr(Estimates, name, functools.partialmethod(functools.partial(timed, method)))
        start = time.process_time()
        run()
        total = time.process_time() - start
    finally:
        for name, method in methods.items():
            setattr(Estimates, name, method)
    spent["rest"] = total - sum(spent.values())
    return {name: round(part / total, 3) for name, part in sorted(spent.items(), key=lambda one: -one[1])}


def against_events(name: str, snn: ts.SNN, samples: torch.Tensor, batch: int) -> dict[str, Any]:
    """Spikes and time of every step, and the time of a run of all steps."""
    snn, x = snn.accepting_any_input(), samples[:batch]
    prepared, ids = snn.prepare(x), torch.arange(batch)
    neurons = batch * sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")
    steps: list[list[float]] = [[] for _ in range(snn.timesteps)]
    ann, whole = [], []
    for _ in range(ROUNDS):
        with torch.no_grad():
            start = time.process_time()
            snn.source.run(prepared)
            ann.append(time.process_time() - start)
            start = time.process_time()
            trace = ts.simulate(snn, x, engine="dense")
            whole.append(time.process_time() - start)
            run = Dense().start(snn.program, prepared, ids)
            for taken in steps:
                start = time.process_time()
                run.advance(1)
                taken.append(time.process_time() - start)
    layers = trace.activity.layers
    spikes = sum(layer.spikes for layer in layers if layer.role == "neuron")
    operations = sum(float(layer.synaptic_operations.sum()) for layer in layers) / batch
    macs = sum(snn.source.macs(node) or 0 for node in snn.source)
    return {
        "network": name, "batch": batch, "T": snn.timesteps, "seconds of the ANN": round(min(ann), 5),
        "all steps at once / ANN": round(min(whole) / min(ann), 2), "exact": trace.exact,
        "events per neuron": round(float(spikes.sum()) / neurons, 2),
        "additions / multiplications of the ANN": round(operations / macs, 2),
        "floor": round(operations / macs / 2, 2),
        "shares": shares(lambda: ts.simulate(snn, x, engine="dense")),
        "events per neuron, by step": [round(float(one) / neurons, 4) for one in spikes],
        "time / ANN, by step": [round(min(taken) / min(ann), 2) for taken in steps],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--events", action="store_true")
    parser.add_argument("--models-dir", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--shape", type=int, nargs="+", default=[3, 224, 224])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.events:
        networks = _networks(arguments.models_dir, arguments.data_dir)
        found = [against_events(*one, batch) for one in networks for batch in (1, 4)]
        content = {"machine": description(0), "library": library.load()[1], "rows": found}
        write_atomically(OUTPUT, (json.dumps(content, indent=1) + "\n").encode())
        return
    found = neurons() + ([] if arguments.network is None else [network(arguments.network, arguments.shape)])
    print(json.dumps({"library": library.load()[1], "rows": found}, indent=1))


if __name__ == "__main__":
    main()
