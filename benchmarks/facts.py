"""What rows of speed.py say beside time: accuracy, rates, and whether spikes equal those of the reference engine."""

import argparse
import dataclasses
from dataclasses import dataclass
from functools import cached_property

import int8
import torch
from cases import Case
from spiking_peers import CONVERTER, SHARED, Peer
from torch import Tensor

import transpike as ts
from transpike.core.cell import Neuron
from transpike.workflow.simulate import engine_named

OURS = {
    "transpike auto": ("auto", False),
    "transpike event, counting": ("event", True),
    "transpike dense": ("dense", False),
}
"""Name → engine, and whether it counts."""
COMPARED = 4  # images whose spike counts are compared with the reference engine's


def ours(name: str, snn: ts.SNN, images: Tensor, timesteps: int) -> ts.Trace:
    engine, count = OURS[name]
    return ts.simulate(snn, images, timesteps, engine=engine, count=count)


def spike_counts(snn: ts.SNN, engine: str, images: Tensor, timesteps: int) -> dict[str, Tensor]:
    """For each layer of neurons (2, batch, *shape): the sum of the levels of each neuron, and that of their sizes."""
    names = [node.name for node in snn.program.lowered.nodes if isinstance(node.op, Neuron)]
    counts: dict[str, Tensor] = {}
    with torch.no_grad():
        run = engine_named(engine).start(snn.program, snn.prepare(images), torch.arange(len(images)), names, False)
        for begin in range(0, timesteps, 32):  # the trains of a part of the time are enough at once
            run.advance(min(32, timesteps - begin))
            for name, parts in run.counter.trains.items():
                train = torch.cat(parts).double()
                now = torch.stack([train.sum(0), train.abs().sum(0)])
                counts[name] = counts[name] + now if name in counts else now
                parts.clear()
    return counts


@dataclass
class Facts:
    """What does not depend on the batch: accuracy, and for each engine its rate and how its counts differ."""

    case: Case
    recipe: str
    snn: ts.SNN
    timesteps: int
    accuracy: float | None
    ours: tuple[str, ...]
    peers: dict[str, Peer]
    onnx: dict[str, int8.Session] | None = None

    @cached_property
    def free(self) -> ts.SNN:
        """What peers run: the same graph before the exact grid."""
        return dataclasses.replace(self.snn, exact_grid=False)

    @cached_property
    def rate(self) -> float:
        """Spikes per neuron and step, as the activity counts them."""
        layers = ts.simulate(self.snn, self.case.images(COMPARED), self.timesteps).activity.layers
        neurons = [layer for layer in layers if layer.role == "neuron"]
        steps = self.timesteps * COMPARED
        return sum(float(n.spikes.sum()) for n in neurons) / steps / sum(n.neurons for n in neurons)

    @cached_property
    def by_engine(self) -> dict[str, dict]:
        images = self.case.images(COMPARED)
        x = self.case.preprocessing(images)
        reference = spike_counts(self.snn, "reference", images, self.timesteps)
        found = {}
        for name in self.ours:
            counts = spike_counts(self.snn, OURS[name][0], images, self.timesteps)
            found[name] = _compared(counts, reference) | {"mean_spike_rate": self.rate}
        shared = {name: peer for name, peer in self.peers.items() if name in SHARED}
        reference = spike_counts(self.free, "reference", images, self.timesteps) if shared else {}
        for name, peer in shared.items():
            counts = {n: torch.stack([c, c]) for n, c in peer.counts(x, self.timesteps).items()}
            rate = sum(float(c[1].sum()) for c in counts.values()) / sum(c[1].numel() for c in counts.values())
            found[name] = _compared(counts, reference) | {"mean_spike_rate": rate / self.timesteps}
        return found


def _compared(counts: dict[str, Tensor], reference: dict[str, Tensor]) -> dict:
    """The neurons whose counts differ."""
    differing = sum(int((counts[n].cpu() != value).any(0).sum()) for n, value in reference.items())
    return {"differing_counts": differing, "compared_counts": sum(value[0].numel() for value in reference.values())}


def facts(case: Case, recipe: str, timesteps: int, names: list[str], arguments: argparse.Namespace) -> Facts:
    snn, accuracy = case.convert(timesteps, recipe), None
    if case.weights == "trained" and arguments.accuracy_images:
        data = case.dataset.test.batches(32, limit=arguments.accuracy_images)
        accuracy = ts.evaluate(snn, data, answers=(timesteps,), engine="auto").final.accuracy
    peers = {name: SHARED[name](snn.lowered) for name in names if name in SHARED}
    peers |= {name: CONVERTER[name](case.peer_copy, case.peer_batches) for name in names if name in CONVERTER}
    return Facts(case, recipe, snn, timesteps, accuracy, tuple(name for name in names if name in OURS), peers)
