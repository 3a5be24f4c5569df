"""The integer form of a network: integers only, which is what exporters read.

Every potential, weight, threshold and bias is an integer count of grid steps. In each step t a layer adds

    v += bias + Σ_terms W · levels[source](t) + Σ_currents charge

(levels of sources earlier in the order, of the same step), then fires where v ≥ threshold and resets: ``subtract``
takes the threshold off, ``zero`` clears v. Neurons of other kinds have another ``Rule``, layers that wait a ``Timing``.
The readout adds its charge in every step and never fires. The charge of a term has the elements of the layer in their
order; its shape may be another one.

In a first-spike network (``Whole.first_spikes``) a step is a time slot. Bias and currents are added once, before
the first step; after that v += Σ_terms W · levels in every step. A layer fires only in the steps of its ``Slots``, each
neuron at most once, where v reaches the threshold of the slot; it then sends the level of the slot, and v remains.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Front:
    """How a "charge" comes from an input of integers: ``W · n / 2^shift``, rounded to the nearest, ties to even.

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
class Slots:
    """The slots of what sends first spikes: slot k = 1, 2 … is step ``before + k`` of a run.

    ``levels`` (slots,): what a spike in each slot sends, above 0 and never rising. ``thresholds`` (slots, …), those of
    neurons, broadcast to (slots, *shape). ``wait``: a delay repeats what it received this number of steps ago.
    """

    before: int
    levels: Integers
    thresholds: Integers = field(default_factory=lambda: np.zeros((0, 1), np.int64))
    wait: int = 0

    def level(self, step: int) -> int:
        """What a spike in a step, from 1, sends; 0 if none can come."""
        slot = step - self.before
        return int(self.levels[slot - 1]) if 1 <= slot <= len(self.levels) else 0


@dataclass(frozen=True, eq=False)
class Entrance:
    """An input: one array of integers for each sample.

    ``kind``: "charge": (batch, *shape), added to the potentials of one layer in every step, in that layer's unit, named
    in the layer's ``currents``, with its ``front`` if the input is integers; "values": (batch, *shape), levels
    that are the same in every step, the source of terms; "spikes": (T, batch, *shape), levels of each step, the source
    of terms. ``low`` and ``high`` bound the integers; ``unit`` is the real value of 1 (broadcastable to shape).
    ``slots``: those of "spikes" that are first spikes.
    """

    name: str
    shape: tuple[int, ...]
    kind: Literal["charge", "values", "spikes"]
    low: int
    high: int
    unit: NDArray[np.float64]
    front: Front | None = None
    slots: Slots | None = None


@dataclass(frozen=True, eq=False)
class Term:
    """One layer of weights: charge = W · x, x the levels of ``source`` (a layer or an entrance), rearranged.

    ``index``: None where x is the levels in their order, or for each position of x the flat position in the levels, −1
    for a zero (permute, slices, padding, upsampling by repetition); x has the shape ``shape``. ``kind`` and ``weight``:
    "conv" (outputs, inputs / groups, *kernel) as in torch, with ``stride``, ``padding``, ``dilation`` for each axis and
    ``groups``; "linear" (outputs, inputs) on the last axis; "scale" (broadcastable to shape), element by element. Terms
    may share a ``name``, the node of the network: levels that are added before a weight are separate terms.
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


PARTS = 2**10
"""Parts of a level in which sigma-delta neurons compare."""


@dataclass(frozen=True, eq=False)
class Follow:
    """The function of a sigma-delta neuron: of the estimate u it wants to have sent n parts of a level,

    ``n = times · clip(⌊(a w + offset) / divisor⌋, low, high)``, w = ``clip(u, −reach, reach)``, a = ``rising`` where
    u ≥ 0, ``falling`` below 0; ``times`` is more than 1 for the stairs of a quantised function.

    All broadcast to the shape of the layer; ``a w + offset`` stays below 2⁶² for every u within the layer's bound. Of
    estimates beyond ``reach`` the neuron sends its largest level in every step, whatever it has sent.
    """

    rising: Integers
    falling: Integers
    offset: Integers
    divisor: Integers
    low: Integers
    high: Integers
    reach: Integers
    times: Integers = field(default_factory=lambda: np.ones(1, np.int64))


@dataclass(frozen=True, eq=False)
class Rule:
    """The level that a neuron sends for its potential u before the reset, θ the threshold, r the sum of its levels.

    - "levels": ``clip(⌊u / θ⌋, 0, most)``; for ``most`` 1 a spike where u ≥ θ
    - "signed": ``[u ≥ θ] − [u ≤ −below and r > 0]``; "both": without the condition on r
    - "nearest": the sign of u times the largest power of two p ≤ ``most`` with ``4 |u| ≥ 3 p θ``, or 0; where u < 0
      also ``p ≤ r``; "either": without this limit
    - "one", "all": of sigma-delta neurons, whose u is never reset. With ``w = n − θ r`` for the n of ``follow``, in
      parts of a level (θ = ``PARTS``), the sign of w times the largest power of two p ≤ ``most`` with
      ``4 |w| ≥ 3 p θ``, or 0; for "all" such powers one after the other, from the largest down, of what is left of w

    Every level times θ is taken off u, except for "one" and "all". ``below`` broadcasts to the shape of the layer.
    """

    kind: Literal["levels", "signed", "both", "nearest", "either", "one", "all"] = "levels"
    most: int = 1
    below: Integers = field(default_factory=lambda: np.ones(1, np.int64))
    follow: Follow | None = None

    @property
    def is_plain(self) -> bool:
        """True for one spike where the potential reaches the threshold."""
        return self.kind == "levels" and self.most == 1

    @property
    def ends(self) -> tuple[int, int]:
        """The smallest and the largest level of one step."""
        most = 2 * self.most - 1 if self.kind == "all" else self.most
        return (0 if self.kind == "levels" else -most), most

    @property
    def remembers(self) -> bool:
        """True if the sum of the levels decides."""
        return self.kind not in ("levels", "both", "either")

    @property
    def takes_back(self) -> bool:
        """True for one negative spike where the potential is at most −``below``."""
        return self.kind in ("signed", "both")

    @property
    def powers(self) -> tuple[int, ...]:
        """The powers of two up to ``most``, the largest first."""
        return tuple(2**k for k in reversed(range(self.most.bit_length())))


@dataclass(frozen=True)
class Timing:
    """The steps, counted from 0, of a layer that waits: from the first on, up to the one before the second.

    ``bias`` and ``currents``: those that add the bias, and the constant currents; ``fires``: those in which neurons may
    fire.
    """

    bias: tuple[int, int]
    currents: tuple[int, int]
    fires: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Layer:
    """Neurons ("integrate"), pooling by lateral inhibition ("maximum"), or the "readout".

    In a first-spike network neurons are "first-spike", and a "delay" repeats the spikes of its ``source`` later;
    all but the readout have ``slots``. For first spikes, a maximum sends the earliest of each window.

    ``unit`` is the real value of 1 in charge and potentials, a power of two for each channel: as many as ``shape`` has
    on ``axis`` (from 0, without the batch); one number for the readout. ``bias``, ``threshold``, ``initial`` broadcast
    to ``shape``. ``bound`` (broadcastable) is the largest |v| that can occur in the form's number of steps, before the
    reset, for any levels. ``pool`` is that of "maximum" and ``source`` what it pools; its rule is that of
    ``neurons.LateralInhibition``, whose padding is below every sum. ``start``: the readout adds nothing in its first
    ``start`` steps. ``timing`` None: in every step.
    """

    name: str
    kind: Literal["integrate", "maximum", "readout", "first-spike", "delay"]
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
    rule: Rule = Rule()
    timing: Timing | None = None
    slots: Slots | None = None

    @property
    def integrates(self) -> bool:
        """True for neurons."""
        return self.kind in ("integrate", "first-spike")

    def active(self, what: Literal["bias", "currents", "fires"], t: int) -> bool:
        """Whether step t, from 0, is one of those that ``Timing`` calls so."""
        if self.timing is None:
            return True
        first, end = getattr(self.timing, what)
        return first <= t < end


@dataclass(frozen=True, eq=False)
class Whole:
    """Entrances and layers in the order of execution; the last layer is the readout. ``timesteps``: the longest run.

    The logits are ``totals · unit / divisor``; ``divisor`` 0 is the number of steps that the readout has read. A
    network with ``window`` T > 0 answers after all of its ``timesteps`` only, and inputs enter in the first T of them.
    """

    entrances: tuple[Entrance, ...]
    layers: tuple[Layer, ...]
    timesteps: int
    divisor: int = 0
    window: int = 0

    def sends(self, name: str, t: int) -> bool:
        """False for a layer or an entrance that sends nothing in step t, from 0."""
        return sends(self.table, self.window, name, t)

    @property
    def first_spikes(self) -> bool:
        """True if a step is a time slot, and each neuron fires once or never."""
        return any(layer.slots is not None for layer in self.layers)

    @property
    def is_plain(self) -> bool:
        """True if every neuron sends at most one spike per step, and may in every step."""
        return all(layer.rule.is_plain and layer.timing is None for layer in self.layers)

    def ends(self, name: str) -> tuple[int, int]:
        """The smallest and the largest level that a layer or an entrance sends in one step."""
        one = self.table[name]
        if isinstance(one, Entrance):
            return one.low, one.high
        if one.slots is not None:
            return 0, int(one.slots.levels.max())
        return self.ends(one.source) if one.kind == "maximum" else one.rule.ends

    @property
    def readout(self) -> Layer:
        return self.layers[-1]

    @cached_property
    def table(self) -> dict[str, Layer | Entrance]:
        """Name → layer or entrance."""
        return {**{one.name: one for one in self.entrances}, **{one.name: one for one in self.layers}}


def sends(table: Mapping[str, Layer | Entrance], window: int, name: str, t: int) -> bool:
    """``Whole.sends``, for a part of a network."""
    one = table[name]
    if isinstance(one, Entrance):
        return not window or t < window
    return sends(table, window, one.source, t) if one.kind == "maximum" else one.active("fires", t)


@dataclass(frozen=True, eq=False)
class Samples:
    """The inputs of a run of the integer form: the integers of each entrance, and the number of steps.

    ``raw``: the integers of each ``Front``, by its name.
    """

    entering: dict[str, Integers]
    timesteps: int
    raw: dict[str, Integers] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Trains:
    """The result of a run: levels of each spiking layer (T, batch, *shape), and the readout's totals (batch, *shape).

    ``potentials``: those of neuron layers after the last step and its reset (batch, *shape), where a format tells them.
    ``ties``: how often a potential was exactly at the edge of another level, where the run tells it.
    """

    levels: dict[str, Integers]
    totals: Integers
    potentials: dict[str, Integers] = field(default_factory=dict)
    ties: int = 0
