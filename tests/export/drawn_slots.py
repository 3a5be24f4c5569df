"""First-spike networks in integers, drawn at random or converted, for the tests of exporters."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from drawn_wholes import BATCH, Drawing, linear
from torch import nn

import transpike as ts
from stored import stored
from transpike.activations import TimeToFirstSpike
from transpike.core.recipe import Recipe
from transpike.lowering.whole import Front, Samples, Slots, Term, Trains, Whole
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import charge_of, run_whole

WINDOW, LAG = 4, 3

Formed = tuple[Whole, Samples, Trains]


class SlotDrawing(Drawing):
    """Draws layers whose windows begin one after another, before the window of the layer before has ended."""

    def slots(self, depth: int, shape: tuple[int, ...], peak: int, levels: tuple[int, ...] = (9, 6, 5, 2)) -> Slots:
        """Thresholds that fall from slot to slot, of each neuron its own."""
        thresholds = np.sort(self.random.integers(-peak // 4, peak, (len(levels), *shape)), 0)[::-1].copy()
        return Slots(LAG * depth, np.array(levels), thresholds)

    def fired(self, name: str, slots: Slots, shape: tuple[int, ...], *terms: Term, currents: tuple[str, ...] = ()) -> str:  # fmt: skip
        self.layer(name, shape, *terms, currents=currents)
        self.layers[-1] = replace(self.layers[-1], kind="first-spike", slots=slots)
        return name

    def late(self, name: str, source: str, shape: tuple[int, ...]) -> Slots:
        slots = next(one.slots for one in (*self.entrances, *self.layers) if one.name == source)
        later = Slots(slots.before + LAG, slots.levels, wait=LAG)
        self.layer(name, shape)
        self.layers[-1] = replace(self.layers[-1], kind="delay", source=source, slots=later)
        return later

    def earliest(self, name: str, source: str, shape: tuple[int, ...], *window: tuple[int, ...]) -> None:
        slots = next(one.slots for one in (*self.entrances, *self.layers) if one.name == source)
        self.pool(name, source, shape, *window)
        self.layers[-1] = replace(self.layers[-1], slots=slots)

    def spikes(self, name: str, shape: tuple[int, ...], steps: int, levels: tuple[int, ...]) -> None:
        """An entrance in which about half of the elements send one spike."""
        slots = self.random.integers(0, 2 * len(levels), (BATCH, *shape))
        sent = np.zeros((steps, BATCH, *shape), np.int64)
        for slot, level in enumerate(levels):
            sent[slot] = level * (slots == slot)
        self.entrance(name, "spikes", shape, 0, max(levels))
        self.entrances[-1] = replace(self.entrances[-1], slots=Slots(0, np.array(levels)))
        self.entering[name] = sent

    def ended(self, steps: int, raw: dict[str, np.ndarray]) -> Formed:
        whole = Whole(tuple(self.entrances), tuple(self.layers), steps, 1, WINDOW)
        samples = Samples(self.entering, steps, raw)
        return whole, samples, run_whole(whole, samples)


def of_pictures(seed: int) -> Formed:
    """Integers enter one layer, charges the next and the readout; overlapping pools, groups, a late shortcut."""
    d = SlotDrawing(seed)
    raw = d.random.integers(0, 255, (BATCH, 2, 7, 6), endpoint=True)
    first = d.conv("c0", "picture", (2, 7, 6), 4, (3, 3), padding=(1, 1))
    front = Front("picture", (2, 7, 6), 0, 255, first, d.random.integers(0, 4, (4, 1, 1)))
    charge = charge_of(front, raw)
    d.entrance("in", "charge", (4, 7, 6), int(charge.min()), int(charge.max()))
    d.entrances[-1], d.entering["in"] = replace(d.entrances[-1], front=front), charge
    d.entrance("again", "charge", (4, 4, 3), -20, 30)
    d.entrance("last", "charge", (5,), -9, 9)
    d.fired("each", d.slots(1, (4, 7, 6), 2500), (4, 7, 6), currents=("in",))
    d.earliest("pool", "each", (4, 4, 3), (3, 3), (2, 2), (1, 1))
    inner = d.conv("c2", "pool", (4, 4, 3), 4, (3, 3), padding=(2, 2), dilation=(2, 2), groups=2)
    d.fired("deep.1", d.slots(2, (4, 1, 1), 90, (7, 3, 1)), (4, 4, 3), inner, currents=("again",))
    d.late("late", "pool", (4, 4, 3))
    residual = Term("sum", "late", "scale", d.weights(4, 1, 1), (4, 4, 3))
    d.fired("sum", d.slots(3, (1, 1, 1), 200), (4, 4, 3), d.conv("c3", "deep.1", (4, 4, 3), 4, (1, 1)), residual)
    d.layer("out", (5,), linear(d, "sum", 48, 5), linear(d, "deep.1", 10, 5, np.array([0, 0, 3, 3, 3, -1, 7, 1, 0, 5])),
            kind="readout", currents=("last",))  # fmt: skip
    return d.ended(3 * LAG + LAG + WINDOW, {"picture": raw})


def of_spikes(seed: int) -> Formed:
    """Two inputs of spikes: one level for all, and pooled, delayed ones; tokens; a layer in another order."""
    d = SlotDrawing(seed)
    steps = 2 * LAG + LAG + WINDOW
    d.spikes("ones", (3, 12), steps, (1, 1, 1, 1))
    d.spikes("events", (2, 12), steps, (8, 4, 2, 1))
    d.earliest("at once", "events", (2, 6), (2,), (2,), (0,))
    d.fired("a", d.slots(1, (4, 12), 12), (4, 12), d.conv("c", "ones", (3, 12), 4, (5,), padding=(2,)))
    up = d.conv("up", "at once", (2, 12), 4, (3,), padding=(1,))
    repeated = np.repeat(np.arange(12).reshape(2, 6), 2, axis=1)
    d.fired("flat", d.slots(1, (1,), 60, (5,)), (48,), replace(up, index=repeated))
    d.late("later", "ones", (3, 12))
    d.late("flat.late", "flat", (48,))
    tokens = Term("tokens", "a", "linear", d.weights(7, 4), (12, 4), np.arange(48).reshape(4, 12).T.copy())
    again = Term("again", "later", "scale", np.array([3]), (12, 7), np.arange(84).reshape(12, 7) % 36)
    d.fired("tokens", d.slots(2, (12, 7), 60), (12, 7), tokens, again)
    d.layer("out", (5,), linear(d, "tokens", 84, 5), linear(d, "flat.late", 48, 5), kind="readout")
    return d.ended(steps, {})


DRAWN: Mapping[str, Callable[[int], Formed]] = {"pictures": of_pictures, "spikes": of_spikes}


def _prepared(name: str, window: int, tau: float) -> nn.Module:
    """A stored network with CAT's activation in place of ReLU."""
    digits = ts.data.load("digits")
    x = digits.preprocessing(digits.train.batch(torch.arange(128))[0])
    return ts.prepare(stored(name), TimeToFirstSpike(window, tau), x).eval()


def _cat(name: str, window: int, tau: float, **settings: object) -> tuple[nn.Module, Recipe]:
    return _prepared(name, window, tau), ts.recipes.CAT(timesteps=window, tau=tau, **settings)


NETWORKS: Mapping[str, Callable[[], tuple[nn.Module, Recipe]]] = {
    "cat, 5-bit logarithmic weights, maximum pooling": lambda: _cat("small-cnn", 24, 4.0, weight_bits=5),
    "cat, seven layers, maximum pooling": lambda: _cat("vgg", 12, 2.0),
    "linear kernel, shortcuts": lambda: (stored("residual"), ts.recipes.LinearTTFS(timesteps=8)),
    "thresholds per channel, average pooling": lambda: (
        stored("three-neuron-layers"), ts.recipes.YOSO(timesteps=12, tau=2.0, granularity="channel", weight_bits=5),
    ),
    "early firing, spikes enter": lambda: (
        stored("vgg"), ts.recipes.T2FSNN(timesteps=20, tau=5.0, epochs=1, input="spikes"),
    ),
    "first crossings, spikes enter": lambda: (stored("small-cnn"), ts.recipes.S4NN(timesteps=16, threshold=0.3)),
    "the first class that fires": lambda: (
        stored("small-cnn"), ts.recipes.YOSO(timesteps=12, readout=ts.readouts.EarliestSpike()),
    ),
}  # fmt: skip


@functools.cache
def converted(name: str) -> tuple[ts.SNN, torch.Tensor]:
    """A network of digits with a few images for it."""
    digits = ts.data.load("digits")
    model, recipe = NETWORKS[name]()
    images = digits.train.batch(torch.arange(96))[0], digits.test.batch(torch.arange(4))[0]
    enter = (lambda pixels: pixels / 255) if "spikes enter" in name else digits.preprocessing
    calibration, x = map(enter, images)
    return ts.convert(model, recipe, calibration), x


def formed(snn: ts.SNN, x: torch.Tensor) -> Formed:
    whole = whole_form(snn.program, snn.timesteps)
    samples = samples_of(snn.program, whole, snn.prepare(x), torch.arange(len(x)), whole.timesteps)
    return whole, samples, run_whole(whole, samples)
