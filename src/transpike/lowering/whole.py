"""The whole-number form of a network: integers only, which is what exporters read.

Every potential, weight, threshold and bias is an integer count of grid steps. In each step t a layer adds

    v += bias + Σ_terms W · levels[source](t) + Σ_currents charge

(levels of sources earlier in the order, of the same step), then fires where v ≥ threshold and resets: ``subtract``
takes the threshold off, ``zero`` clears v. The readout adds its charge in every step and never fires. The charge of a
term has the elements of the layer in their order; its shape may be another one.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Front:
    """How a "charge" comes from an input of whole numbers: ``W · n / 2^shift``, rounded to the nearest, ties to even.

    ``term`` has the input ``name`` as its source, n in (batch, *shape) from ``low`` to ``high``; ``shift`` broadcasts
    to the shape of the charge. The products are sums below 2⁵³. Formats may take the charge instead.
    """

    name: str
    shape: tuple[int, ...]
    low: int
    high: int
    term: "Term"
    shift: Integers


@dataclass(frozen=True, eq=False)
class Entrance:
    """What enters: one array of integers for each sample.

    ``kind``: "charge": (batch, *shape), added to the potentials of one layer in every step, in that layer's unit, named
    in the layer's ``currents``, with its ``front`` if the input is whole numbers; "values": (batch, *shape), levels
    that are the same in every step, the source of terms; "spikes": (T, batch, *shape), levels of each step, the source
    of terms. ``low`` and ``high`` bound the integers; ``unit`` is the real value of 1 (broadcastable to shape).
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["charge", "values", "spikes"]
    low: int
    high: int
    unit: NDArray[np.float64]
    front: Front | None = None


@dataclass(frozen=True, eq=False)
class Term:
    """One layer of weights: charge = W · x, x the levels of ``source`` (a layer or an entrance), rearranged.

    ``index``: None where x is the levels in their order, or for each position of x the flat position in the levels, −1
    for a zero (permute, slices, padding, upsampling by repetition); x has the shape ``shape``. ``kind`` and ``weight``:
    "conv" (outputs, inputs / groups, *kernel) as in torch, with ``stride``, ``padding``, ``dilation`` for each axis and
    ``groups``; "linear" (outputs, inputs) on the last axis; "scale" (broadcastable to shape), element by element. Terms
    may share a ``name``, the node of the network: levels that are added before a weight are terms of their own.
    """

    name: str
    source: str
    kind: Literal["conv", "linear", "scale"]
    weight: Integers
    shape: tuple[int, ...]
    index: Integers | None = None
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True, eq=False)
class Window:
    """Pooling windows over the last axes of a layer's input."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Layer:
    """Neurons ("integrate"), pooling by lateral inhibition ("maximum"), or the "readout".

    ``unit`` is the real value of 1 in charge and potentials, a power of two for each channel: as many as ``shape`` has
    on ``axis`` (from 0, without the batch); one number for the readout. ``bias``, ``threshold``, ``initial`` broadcast
    to ``shape``. ``bound`` (broadcastable) is the largest |v| that can occur in the form's number of steps, before the
    reset, for any levels. ``pool`` and ``source`` are those of "maximum"; its rule is that of
    ``neurons.LateralInhibition``. ``start``: the readout adds nothing in its first ``start`` steps.
    """

    name: str
    kind: Literal["integrate", "maximum", "readout"]
    shape: tuple[int, ...]
    axis: int
    unit: NDArray[np.float64]
    terms: tuple[Term, ...] = ()
    currents: tuple[str, ...] = ()
    bias: Integers = field(default_factory=lambda: np.zeros(1, np.int64))
    threshold: Integers = field(default_factory=lambda: np.zeros(1, np.int64))
    initial: Integers = field(default_factory=lambda: np.zeros(1, np.int64))
    reset: Literal["subtract", "zero"] = "subtract"
    bound: Integers = field(default_factory=lambda: np.zeros(1, np.int64))
    pool: Window | None = None
    source: str = ""
    start: int = 0


@dataclass(frozen=True, eq=False)
class Whole:
    """Entrances and layers in the order of execution; the last layer is the readout. ``timesteps``: the longest run."""

    entrances: tuple[Entrance, ...]
    layers: tuple[Layer, ...]
    timesteps: int

    @property
    def readout(self) -> Layer:
        return self.layers[-1]

    @cached_property
    def table(self) -> dict[str, Layer | Entrance]:
        """Name → layer or entrance."""
        return {**{one.name: one for one in self.entrances}, **{one.name: one for one in self.layers}}


@dataclass(frozen=True, eq=False)
class Samples:
    """What a run of the whole-number form takes: the integers of each entrance, and the number of steps.

    ``raw``: the whole numbers of each ``Front``, by its name.
    """

    entering: dict[str, Integers]
    timesteps: int
    raw: dict[str, Integers] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trains:
    """What a run gives: levels of each spiking layer (T, batch, *shape), and the readout's totals (batch, *shape).

    ``potentials``: those of neuron layers after the last step and its reset (batch, *shape), where a format tells them.
    """

    levels: dict[str, Integers]
    totals: Integers
    potentials: dict[str, Integers] = field(default_factory=dict)
