"""What a run did: spikes, synaptic operations and membrane updates, layer by layer."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.lowered import Lowered
from transpike.core.op import Synapse

Role = Literal["input", "neuron", "cell"]


@dataclass(frozen=True, eq=False)
class LayerActivity:
    """Counts of one spiking layer, summed over ``samples``; per step where a (timesteps,) tensor is given.

    ``spikes`` counts levels (a ternary spike counts one), ``synaptic_operations`` each spike's fan-out.
    ``updates`` are membrane updates: neurons × steps. Integers, held exactly in float64. Pooling in time is a "cell".
    """

    name: str
    kind: str
    role: Role
    neurons: int
    alphabet: str
    spikes: Tensor
    synaptic_operations: Tensor
    updates: int


@dataclass(frozen=True, eq=False)
class Activity:
    """Counts of a whole run: spiking layers, and the multiplications of what stays analogue (per sample)."""

    layers: tuple[LayerActivity, ...]
    samples: int
    macs: dict[str, int]

    def until(self, t: int, macs: dict[str, int]) -> "Activity":
        """What the first t steps of a run took that counts step by step; ``macs`` are those of t steps."""
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=layer.spikes[:t],
                synaptic_operations=layer.synaptic_operations[:t],
                updates=layer.neurons * t * self.samples if layer.updates else 0,
            )
            for layer in self.layers
        )
        return Activity(layers, self.samples, macs)

    def __add__(self, other: "Activity") -> "Activity":
        """Counts of two runs of the same network over different samples."""
        layers = tuple(
            LayerActivity(
                a.name,
                a.kind,
                a.role,
                a.neurons,
                a.alphabet,
                a.spikes + b.spikes,
                a.synaptic_operations + b.synaptic_operations,
                a.updates + b.updates,
            )
            for a, b in zip(self.layers, other.layers, strict=True)
        )
        return Activity(layers, self.samples + other.samples, self.macs)


def fan_outs(lowered: Lowered) -> dict[str, Tensor]:
    """For every wire that carries levels: the non-zero weighted paths from each element to the next cells.

    The gradient of the chain of wiring and synapses with non-zero weights set to one; borders, stride and groups are
    included. Paths without a synapse (a spike that is only moved or pooled) cost no operation. Shapes (1, *shape).
    """
    sources = [n for n in lowered.nodes if isinstance(n.op, Cell) or not n.inputs]
    with torch.enable_grad():
        leaves = {n.name: torch.zeros((1, *n.shape), dtype=torch.float64, requires_grad=True) for n in sources}
        total = torch.zeros((), dtype=torch.float64)
        # each wire has two values: paths that have met a synapse, and paths that have not yet
        weighted: dict[str, Tensor] = {}
        bare: dict[str, Tensor] = {}
        for node in lowered.nodes:
            if node.name in leaves:
                total = total + sum((weighted[name].sum() for name in node.inputs), torch.zeros(()))
                bare[node.name], weighted[node.name] = leaves[node.name], torch.zeros_like(leaves[node.name])
                continue
            op = node.op.paths().to(dtype=torch.float64)  # type: ignore[union-attr]
            met = op.linear(*(weighted[name] for name in node.inputs))
            free = op.linear(*(bare[name] for name in node.inputs))
            synapse = isinstance(node.op, Synapse)
            weighted[node.name] = met + free if synapse else met
            bare[node.name] = torch.zeros_like(free) if synapse else free
        total = total + weighted[lowered.output.name].sum()
        gradients: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if total.requires_grad:  # there is a layer at all
            gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else torch.round(gradient)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }


def analogue_macs(lowered: Lowered, times: int) -> dict[str, int]:
    """Multiplications of one sample that stay multiplications: synapses fed by analogue values, by node name.

    Counted as executed: once where a constant input alone decides, else ``times`` times.
    """
    macs, graded = {}, set()
    for node in lowered.nodes:
        if isinstance(node.op, Cell) or not node.inputs:
            if not lowered.alphabets[node.name].is_spiking:
                graded.add(node.name)
        elif any(name in graded for name in node.inputs):
            graded.add(node.name)
            if isinstance(node.op, Synapse):
                macs[node.name] = node.op.macs(node.shape) * (1 if node.name in lowered.steady else times)
    return macs
