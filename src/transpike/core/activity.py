"""Counts of a run: spikes, synaptic operations and membrane updates per layer."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from transpike.codes.time_code import TimeCode

Role = Literal["input", "neuron", "cell"]


@dataclass(frozen=True, eq=False)
class LayerActivity:
    """Counts of one spiking layer, summed over samples; per step where the field is a (timesteps,) tensor.

    ``spikes`` counts levels (a ternary spike counts one), ``synaptic_operations`` counts each spike's fan-out;
    ``product_operations`` are those of them that read a stored state (of a product of two wires) and not a weight.
    ``updates`` are membrane updates, neurons × steps, including pre-simulation and settling steps. All are integers,
    exact in float64. Pooling in time and delays have the role "cell". Per sample: ``synapses`` non-zero connections
    that leave the layer, ``biases`` additions of a non-zero bias, ``resets`` subtractions or resets per spike (1 or
    0), ``payload_bits`` bits that a spike carries in addition to its address, ``code`` the code of first spikes.
    ``positions``: places of a layer that sends differences, each with all features (tokens; pixels), and ``active`` how
    many of them sent a spike in each step: a position that has settled is not active. 0 and empty for other layers.
    """

    name: str
    kind: str
    role: Role
    neurons: int
    alphabet: str
    spikes: Tensor
    synaptic_operations: Tensor
    updates: int
    synapses: int = 0
    biases: int = 0
    resets: int = 0
    payload_bits: int = 0
    code: TimeCode | None = None
    product_operations: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))
    positions: int = 0
    active: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def active_share(self, samples: int) -> tuple[float, ...]:
        """The share of positions that are active in each step."""
        return tuple((self.active / (self.positions * samples)).tolist()) if self.positions else ()


@dataclass(frozen=True)
class Connection:
    """One layer of weights: its sources, its target and its sizes. The same for every run.

    ``sources`` are the spiking layers (or analogue values) that enter, ``target`` is the cell that integrates the
    result, or the output. ``macs`` are the multiplications of a forward pass, padding included, ``synapses`` its
    non-zero paths without padding, ``weights`` stored numbers, ``nonzero`` those that are not 0. ``inputs`` and
    ``outputs`` are elements, ``channels`` output channels, ``magnitudes`` the largest number of different |w| > 0 in
    one of them. ``kernel`` and ``stride`` are () without a convolution. ``analogue``: the inputs are real numbers, so
    the multiplications remain; the run executes them ``times`` times.
    """

    name: str
    sources: tuple[str, ...]
    target: str
    macs: int
    synapses: int
    weights: int
    nonzero: int
    inputs: int
    outputs: int
    channels: int
    magnitudes: int
    groups: int = 1
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    analogue: bool = False
    times: int = 1


VALUE_BITS = 32
"""Bits of a number that crosses a boundary: sums and activations, which nothing rounds there."""


@dataclass(frozen=True, eq=False)
class Crossing:
    """Data that crosses a boundary of a hybrid network at the layer ``name`` with ``elements`` outputs.

    ``kind``: "spikes" of a layer, of ``bits`` bits each (address and payload), ``events`` (timesteps,) of them, summed
    over samples; "sums" (into the analogue part) and "values" (out of it), real numbers that cross once for each
    answer, all ``elements`` with ``bits`` bits each, where ``events`` is empty.
    """

    name: str
    kind: Literal["spikes", "sums", "values"]
    elements: int
    bits: int
    events: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.float64))

    def number(self, samples: int) -> float:
        """Events per sample; of numbers that cross once their elements."""
        return float(self.events.sum()) / samples if self.kind == "spikes" else float(self.elements)


@dataclass(frozen=True, eq=False)
class Evaluations:
    """Functions (exp, rsqrt, silu) that a layer evaluates, as analogue operators and as neurons with such functions.

    ``each``: function → evaluations of one sample when all is computed, which the run does ``times`` times. ``parts``
    are computed apart: rows of a normalisation, single values of a function. ``needed`` (timesteps,), summed over
    samples: the parts of which an input changed since the step before; in the first step all. ``once``: of the
    analogue part of a hybrid network, computed once for each answer.
    """

    name: str
    each: dict[str, int]
    times: int
    parts: int
    needed: Tensor
    once: bool = False


@dataclass(frozen=True, eq=False)
class Activity:
    """Counts of a whole run: the spiking layers, and the remaining multiplications (per sample).

    ``unpriced``: layer → operations other than multiplications and additions, which no energy model covers.
    ``weight_bits``: the weight width that energy models assume; a run does not determine it.
    """

    layers: tuple[LayerActivity, ...]
    samples: int
    macs: dict[str, int]
    connections: tuple[Connection, ...] = ()
    timesteps: int = 1
    weight_bits: int = 8
    once: bool = False
    """True if biases are added in the first step only."""
    unpriced: dict[str, str] = field(default_factory=dict)
    evaluations: tuple[Evaluations, ...] = ()
    crossings: tuple[Crossing, ...] = ()
    """The boundaries of a hybrid network; none if all of it spikes."""
    computed_once: frozenset[str] = frozenset()
    """The layers of ``macs`` that the analogue part of a hybrid network computes once for each answer."""

    def until(self, t: int, macs: dict[str, int]) -> "Activity":
        """The counts of the first t steps of a run with counts per step; ``macs`` are those of t steps."""
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=layer.spikes[:t],
                synaptic_operations=layer.synaptic_operations[:t],
                product_operations=layer.product_operations[:t],
                active=layer.active[:t],
                updates=layer.neurons * t * self.samples if layer.updates else 0,
                biases=layer.biases if self.once else layer.biases * t // self.timesteps,
            )
            for layer in self.layers
        )
        connections = tuple(
            dataclasses.replace(c, times=macs[c.name] // c.macs if c.macs else 1) if c.analogue else c
            for c in self.connections
        )
        found = tuple(
            one if one.once else dataclasses.replace(one, times=t, needed=one.needed[:t]) for one in self.evaluations
        )
        crossings = tuple(dataclasses.replace(one, events=one.events[:t]) for one in self.crossings)
        return dataclasses.replace(
            self, layers=layers, macs=macs, connections=connections, timesteps=t, evaluations=found,
            crossings=crossings,
        )  # fmt: skip

    def __add__(self, other: "Activity") -> "Activity":
        """Counts of two runs of the same network over different samples."""
        layers = tuple(
            dataclasses.replace(
                a,
                spikes=a.spikes + b.spikes,
                synaptic_operations=a.synaptic_operations + b.synaptic_operations,
                product_operations=a.product_operations + b.product_operations,
                active=a.active + b.active,
                updates=a.updates + b.updates,
            )
            for a, b in zip(self.layers, other.layers, strict=True)
        )
        found = tuple(
            dataclasses.replace(a, needed=a.needed + b.needed)
            for a, b in zip(self.evaluations, other.evaluations, strict=True)
        )
        crossings = tuple(
            dataclasses.replace(a, events=a.events + b.events)
            for a, b in zip(self.crossings, other.crossings, strict=True)
        )
        return dataclasses.replace(
            self, layers=layers, samples=self.samples + other.samples, evaluations=found, crossings=crossings
        )

    @property
    def neurons(self) -> int:
        """Neurons with a membrane potential."""
        return sum(layer.neurons for layer in self.layers if layer.role == "neuron")

    @property
    def events(self) -> float:
        """Synaptic operations per sample."""
        return sum(float(layer.synaptic_operations.sum()) for layer in self.layers) / self.samples

    @property
    def product_operations(self) -> float:
        """Those of the synaptic operations that read a stored state and not a weight, per sample."""
        return sum(float(layer.product_operations.sum()) for layer in self.layers) / self.samples

    @property
    def evaluated(self) -> dict[str, tuple[float, float]]:
        """Function → its evaluations per sample: as executed, and only for parts of which an input changed."""
        found: dict[str, tuple[float, float]] = {}
        for one in self.evaluations:
            share = float(one.needed.sum()) / (one.parts * self.samples)
            for name, count in one.each.items():
                before = found.get(name, (0.0, 0.0))
                found[name] = before[0] + count * one.times, before[1] + count * share
        return found

    @property
    def synapses(self) -> int:
        """Non-zero connections that carry spikes, those to products included."""
        return sum(layer.synapses for layer in self.layers)

    @property
    def spikes(self) -> float:
        """Spikes per sample, including input spikes."""
        return sum(float(layer.spikes.sum()) for layer in self.layers) / self.samples

    @property
    def updates(self) -> float:
        """Membrane updates per sample: neurons × steps."""
        return sum(layer.updates for layer in self.layers if layer.role == "neuron") / self.samples

    @property
    def spikes_per_synapse(self) -> float:
        """σ = synaptic operations / synapses, per sample: the unit of published break-even points."""
        return self.events / self.synapses if self.synapses else 0.0

    def busier(self, factor: float) -> "Activity":
        """The same activity with all spikes multiplied by ``factor``; used to find break-even rates."""
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=layer.spikes * factor,
                synaptic_operations=layer.synaptic_operations * factor,
                product_operations=layer.product_operations * factor,
            )
            for layer in self.layers
        )
        crossings = tuple(dataclasses.replace(one, events=one.events * factor) for one in self.crossings)
        return dataclasses.replace(self, layers=layers, crossings=crossings)
