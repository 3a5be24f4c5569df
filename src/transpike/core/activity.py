"""What a run did: spikes, synaptic operations and membrane updates, layer by layer."""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from transpike.codes.time_code import TimeCode

Role = Literal["input", "neuron", "cell"]


@dataclass(frozen=True, eq=False)
class LayerActivity:
    """Counts of one spiking layer, summed over ``samples``; per step where a (timesteps,) tensor is given.

    ``spikes`` counts levels (a ternary spike counts one), ``synaptic_operations`` each spike's fan-out.
    ``updates`` are membrane updates: neurons × steps, those of pre-simulations and of settling included. Integers, held
    exactly in float64. Pooling in time and relays are "cell"s. Of one sample: ``synapses`` non-zero connections that
    leave the layer, ``biases`` additions of a bias that is not zero, ``resets`` subtractions or resets for each spike
    (1 or 0), ``payload_bits`` what a spike says beside its address, ``code`` that of first spikes.
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


@dataclass(frozen=True)
class Connection:
    """One layer of weights: what it joins, and its sizes. The same for every run.

    ``sources`` are the layers of spikes (or the analogue values) that enter, ``target`` the cell, or the output, that
    hears it. ``macs`` are the multiplications of a forward pass, padding included, ``synapses`` its non-zero paths
    without padding, ``weights`` stored numbers, ``nonzero`` those that are not 0. ``inputs`` and ``outputs`` are
    elements, ``channels`` output channels, ``magnitudes`` the most different |w| > 0 of one of them. ``kernel`` and
    ``stride`` are () where nothing is convolved. ``analogue``: real numbers enter, so that its products stay products,
    ``times`` of them in the run.
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


@dataclass(frozen=True, eq=False)
class Activity:
    """Counts of a whole run: spiking layers, and the multiplications of what stays analogue (per sample).

    ``unpriced``: layer → what it computes beside multiplications and additions, which no count and no joule holds.
    ``weight_bits``: how wide energy models take a weight to be; no run knows that.
    """

    layers: tuple[LayerActivity, ...]
    samples: int
    macs: dict[str, int]
    connections: tuple[Connection, ...] = ()
    timesteps: int = 1
    weight_bits: int = 8
    once: bool = False
    """True where biases come in the first step alone."""
    unpriced: dict[str, str] = field(default_factory=dict)

    def until(self, t: int, macs: dict[str, int]) -> "Activity":
        """What the first t steps of a run took that counts step by step; ``macs`` are those of t steps."""
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=layer.spikes[:t],
                synaptic_operations=layer.synaptic_operations[:t],
                updates=layer.neurons * t * self.samples if layer.updates else 0,
                biases=layer.biases if self.once else layer.biases * t // self.timesteps,
            )
            for layer in self.layers
        )
        connections = tuple(
            dataclasses.replace(c, times=macs[c.name] // c.macs if c.macs else 1) if c.analogue else c
            for c in self.connections
        )
        return dataclasses.replace(self, layers=layers, macs=macs, connections=connections, timesteps=t)

    def __add__(self, other: "Activity") -> "Activity":
        """Counts of two runs of the same network over different samples."""
        layers = tuple(
            dataclasses.replace(
                a,
                spikes=a.spikes + b.spikes,
                synaptic_operations=a.synaptic_operations + b.synaptic_operations,
                updates=a.updates + b.updates,
            )
            for a, b in zip(self.layers, other.layers, strict=True)
        )
        return dataclasses.replace(self, layers=layers, samples=self.samples + other.samples)

    @property
    def neurons(self) -> int:
        """Elements that fire and have a potential."""
        return sum(layer.neurons for layer in self.layers if layer.role == "neuron")

    @property
    def events(self) -> float:
        """Synaptic operations of a sample."""
        return sum(float(layer.synaptic_operations.sum()) for layer in self.layers) / self.samples

    @property
    def synapses(self) -> int:
        """Non-zero connections that spikes pass."""
        return sum(layer.synapses for layer in self.layers)

    @property
    def spikes(self) -> float:
        """Spikes of a sample, input spikes included."""
        return sum(float(layer.spikes.sum()) for layer in self.layers) / self.samples

    @property
    def updates(self) -> float:
        """Membrane updates of a sample: neurons × steps."""
        return sum(layer.updates for layer in self.layers if layer.role == "neuron") / self.samples

    @property
    def spikes_per_synapse(self) -> float:
        """σ = synaptic operations / synapses, of a sample: what published break-even points are given in."""
        return self.events / self.synapses if self.synapses else 0.0

    def busier(self, factor: float) -> "Activity":
        """The same with ``factor`` times the spikes, evenly: what a break-even rate is found with."""
        layers = tuple(
            dataclasses.replace(
                layer,
                spikes=layer.spikes * factor,
                synaptic_operations=layer.synaptic_operations * factor,
            )
            for layer in self.layers
        )
        return dataclasses.replace(self, layers=layers)
