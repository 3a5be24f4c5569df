"""Networks in integers that are drawn at random, with everything that the form has."""

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from transpike.lowering.whole import (
    PARTS,
    Entrance,
    Follow,
    Front,
    Layer,
    Rule,
    Samples,
    Term,
    Timing,
    Trains,
    Whole,
    Window,
)  # fmt: skip
from transpike.lowering.whole_run import charge_of, run_whole
from transpike.lowering.whole_terms import charge_shape

T, BATCH = 6, 3


class Drawing:
    """Adds layers one by one; thresholds are about the size of the charge, so that neurons fire now and then."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.entrances: list[Entrance] = []
        self.layers: list[Layer] = []
        self.entering: dict[str, np.ndarray] = {}

    def entrance(self, name: str, kind: str, shape: tuple[int, ...], low: int, high: int) -> str:
        steps = (T,) if kind == "spikes" else ()
        self.entrances.append(Entrance(name, shape, kind, low, high, np.ones(1)))  # type: ignore[arg-type]
        self.entering[name] = self.random.integers(low, high, (*steps, BATCH, *shape), endpoint=True)
        return name

    def weights(self, *shape: int, peak: int = 9) -> np.ndarray:
        return self.random.integers(-peak // 2, peak, shape, endpoint=True)

    def conv(self, name: str, source: str, shape: tuple[int, ...], outputs: int, kernel: tuple[int, ...], **settings) -> Term:  # fmt: skip
        ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
        weight = self.weights(outputs, shape[0] // settings.get("groups", 1), *kernel)
        return Term(
            name, source, "conv", weight, shape, **{"stride": ones, "padding": zeros, "dilation": ones} | settings
        )

    def layer(self, name: str, shape: tuple[int, ...], *terms: Term, reset: str = "subtract", threshold: int = 12, currents: tuple[str, ...] = (), kind: str = "integrate", **others: Any) -> str:  # fmt: skip
        channels = (shape[0], *[1] * (len(shape) - 1))
        self.layers.append(
            Layer(
                name, kind, shape, 0, np.ones(()) if kind == "readout" else np.ones(shape[0]), terms, currents,  # type: ignore[arg-type]
                bias=self.random.integers(-2, 3, channels), threshold=self.random.integers(threshold // 2, threshold * 2, channels),
                initial=self.random.integers(0, 1 if kind == "readout" else threshold, shape if name == "each" else channels), reset=reset, **others,  # type: ignore[arg-type]
            )
        )  # fmt: skip
        return name

    def pool(self, name: str, source: str, shape: tuple[int, ...], *window: tuple[int, ...]) -> str:
        self.layers.append(Layer(name, "maximum", shape, 0, np.ones(shape[0]), pool=Window(*window), source=source))
        return name

    def done(self) -> tuple[Whole, Samples, Trains]:
        whole = Whole(tuple(self.entrances), tuple(self.layers), T)
        samples = Samples(self.entering, T)
        return whole, samples, run_whole(whole, samples)


def linear(drawing: Drawing, source: str, inputs: int, outputs: int, index: np.ndarray | None = None) -> Term:
    return Term(f"to {outputs}", source, "linear", drawing.weights(outputs, inputs), (inputs,), index)


def pixels(seed: int) -> tuple[Whole, Samples, Trains]:
    """Bytes enter; a residual block with both resets, overlapping pools, a strided shortcut with padded channels."""
    d = Drawing(seed)
    d.entrance("pixels", "values", (2, 7, 6), 0, 255)
    d.layer(
        "each", (4, 7, 6), d.conv("c1", "pixels", (2, 7, 6), 4, (3, 3), padding=(1, 1)), threshold=9000, reset="zero"
    )
    d.pool("pool", "each", (4, 4, 3), (3, 3), (2, 2), (1, 1))
    inner = d.conv("c2", "pool", (4, 4, 3), 4, (3, 3), padding=(2, 2), dilation=(2, 2), groups=2)
    d.layer("deep.1", (4, 4, 3), inner, threshold=25)
    flat = np.arange(4 * 4 * 3).reshape(4, 4, 3)
    index = np.concatenate([np.full((1, 2, 2), -1), flat[:, ::2, ::2], np.full((1, 2, 2), -1)])
    shortcut = Term("shortcut", "pool", "scale", d.weights(6, 1, 1, peak=20), (6, 2, 2), index)
    strided = d.conv("c3", "deep.1", (4, 4, 3), 6, (3, 2), stride=(2, 2), padding=(1, 1))
    d.layer("sum", (6, 2, 2), strided, shortcut, threshold=40, reset="zero")
    d.layer("out", (5,), linear(d, "sum", 24, 5), linear(d, "deep.1", 10, 5, np.array([0, 0, 3, 3, 3, -1, 7, 1, 0, 5])), kind="readout")  # fmt: skip
    return d.done()


def events(seed: int) -> tuple[Whole, Samples, Trains]:
    """Signed levels and spikes of two sources enter on one axis; repetition, tokens, a layer in another shape."""
    d = Drawing(seed)
    d.entrance("events", "spikes", (2, 12), -2, 2)
    d.entrance("spikes", "spikes", (3, 12), 0, 1)
    d.pool("at once", "spikes", (3, 6), (2,), (2,), (0,))
    d.layer("a", (4, 12), d.conv("c", "events", (2, 12), 4, (5,), padding=(2,)))
    repeated = np.repeat(np.arange(18).reshape(3, 6), 2, axis=1)
    conv = d.conv("up", "at once", (3, 12), 4, (3,), padding=(1,))
    up = Term(conv.name, conv.source, "conv", conv.weight, conv.shape, repeated, (1,), (1,), (1,))
    d.layer("flat", (48,), up, Term("to a", "a", "linear", d.weights(48, 48, peak=2), (48,)), threshold=40)
    tokens = Term("tokens", "a", "linear", d.weights(7, 4), (12, 4), np.arange(48).reshape(4, 12).T.copy())
    d.layer("tokens", (12, 7), tokens, Term("again", "events", "scale", np.array([3]), (12, 7), np.arange(84).reshape(12, 7) % 24), threshold=9)  # fmt: skip
    sums = Term("sum", "flat", "linear", np.repeat(d.weights(5, 4), 12, axis=1), (48,))
    d.layer("out", (5,), linear(d, "tokens", 84, 5), sums, kind="readout")
    return d.done()


def charges(seed: int) -> tuple[Whole, Samples, Trains]:
    """Charges enter a layer of three axes, and the readout; equal weights come by two ways."""
    d = Drawing(seed)
    d.entrance("first", "charge", (2, 3, 4, 3), -90, 200)
    d.entrance("last", "charge", (4, 2, 2, 1), -3, 3)
    d.layer("a", (2, 3, 4, 3), currents=("first",), threshold=150)
    once = d.conv("c", "a", (2, 3, 4, 3), 4, (2, 2, 2), padding=(0, 0, 0), stride=(1, 2, 2))
    flat = np.arange(prod(once.shape)).reshape(once.shape)
    again = Term("c", "a", "conv", once.weight, once.shape, flat[::-1].copy(), once.stride, once.padding, once.dilation)
    d.layer("b", (4, 2, 2, 1), once, again, threshold=70)
    same = Term("same", "b", "scale", np.array([-3]), (4, 2, 2, 1))
    other = Term("other", "a", "linear", d.weights(16, 72, peak=2), (72,))
    d.layer("out", (4, 2, 2, 1), same, other, kind="readout", currents=("last",))
    return d.done()


def bytes_in(seed: int) -> tuple[Whole, Samples, Trains]:
    """Integers of two inputs: through a convolution with groups after zeros, and a layer for each row."""
    d = Drawing(seed)
    image = d.random.integers(0, 255, (BATCH, 2, 5, 5), endpoint=True)
    rows = d.random.integers(-128, 127, (BATCH, 6, 4), endpoint=True)
    flat = np.pad(np.arange(50).reshape(2, 5, 5), [(0, 0), (1, 0), (0, 2)], constant_values=-1)
    conv = d.conv("c", "image", (2, 6, 7), 4, (3, 2), padding=(1, 1), stride=(2, 1), dilation=(1, 2), groups=2)
    first = Front("image", (2, 5, 5), 0, 255, replace(conv, index=flat), d.random.integers(0, 4, (4, 1, 1)))
    tokens = Term("t", "rows", "linear", d.weights(3, 4, peak=40), (6, 4))
    second = Front("rows", (6, 4), -128, 127, tokens, np.array([3]))
    for name, front, raw, shape in (("a.in", first, image, (4, 3, 7)), ("b.in", second, rows, (6, 3))):
        d.entering[name] = charge_of(front, raw).reshape(BATCH, *shape)
        assert d.entering[name].shape == (BATCH, *charge_shape(front.term))
        low, high = int(d.entering[name].min()), int(d.entering[name].max())
        d.entrances.append(Entrance(name, shape, "charge", low, high, np.ones(1), front))
    d.layer("a", (4, 3, 7), currents=("a.in",), threshold=2000)
    d.layer("b", (6, 3), currents=("b.in",), threshold=900)
    d.layer("out", (4,), linear(d, "a", 84, 4), linear(d, "b", 18, 4), kind="readout")
    whole = Whole(tuple(d.entrances), tuple(d.layers), T)
    samples = Samples(d.entering, T, {"image": image, "rows": rows})
    return whole, samples, run_whole(whole, samples)


def rules(seed: int) -> tuple[Whole, Samples, Trains]:
    """Bursts, signed levels, powers of two, sigma-delta neurons of both kinds; maxima of signed sums with padding."""
    d = Drawing(seed)
    d.entrance("x", "spikes", (2, 6, 6), -3, 3)
    d.layer(
        "burst",
        (2, 6, 6),
        d.conv("c0", "x", (2, 6, 6), 2, (3, 3), padding=(1, 1)),
        threshold=20,
        rule=Rule("levels", 3),
    )
    signed = replace(
        d.conv("c1", "burst", (2, 6, 6), 4, (3, 3), padding=(1, 1)), weight=d.random.integers(-9, 9, (4, 2, 3, 3))
    )
    d.layer("signed", (4, 6, 6), signed, threshold=40, rule=Rule("signed", below=d.random.integers(1, 30, (4, 1, 1))))
    d.pool("pool", "signed", (4, 3, 3), (3, 3), (2, 2), (1, 1))
    powers = replace(
        d.conv("c2", "pool", (4, 3, 3), 4, (3, 3), padding=(1, 1)), weight=d.random.integers(-9, 10, (4, 4, 3, 3))
    )
    d.layer("powers", (4, 3, 3), powers, threshold=40, rule=Rule("nearest", 4))

    def follow(falling: int) -> Follow:
        given = {name: d.random.integers(*ends, (1,)) for name, ends in FOLLOWS.items()}
        return Follow(
            **given,
            falling=np.array([falling]),
            low=np.array([-(2**60)]),
            high=np.array([9 * PARTS]),
            reach=np.array([200]),
        )

    d.layer("either", (36,), linear(d, "powers", 36, 36), threshold=60, rule=Rule("either", 4))
    d.layer("both", (36,), linear(d, "either", 36, 36), threshold=50, rule=Rule("both"))
    flat = linear(d, "both", 36, 12)
    d.layer("one", (12,), flat, rule=Rule("one", 4, follow=follow(0)))
    d.layer(
        "all", (8,), linear(d, "one", 12, 8), rule=Rule("all", 8, follow=replace(follow(-200), times=np.array([3])))
    )
    d.layers[-2:] = [
        replace(layer, threshold=np.array([PARTS]), initial=np.zeros(1, np.int64)) for layer in d.layers[-2:]
    ]
    d.layer("out", (4,), linear(d, "all", 8, 4), linear(d, "pool", 36, 4), kind="readout")
    return d.done()


FOLLOWS = {"rising": (300, 400), "offset": (0, 5000), "divisor": (5, 9)}


def waiting(seed: int) -> tuple[Whole, Samples, Trains]:
    """Windows of two steps: layers add what is constant, and fire, in some steps only; a wire that skips a layer."""
    d = Drawing(seed)
    d.entrance("x", "charge", (3, 5), -10, 50)
    d.entrance("spikes", "spikes", (3, 5), 0, 1)
    d.entering["spikes"][2:] = 0
    d.layer("first", (3, 5), Term("more", "spikes", "scale", np.array([7]), (3, 5)), currents=("x",), threshold=25, timing=Timing((0, 2), (0, 2), (2, 4)))  # fmt: skip
    again = d.conv("c", "first", (3, 5), 4, (3,), padding=(1,))
    d.layer("second", (4, 5), again, threshold=12, reset="zero", timing=Timing((2, 4), (0, 2), (4, 6)))
    d.layer("out", (4,), linear(d, "second", 20, 4), linear(d, "first", 15, 4), kind="readout", timing=Timing((4, 6), (0, 2), (4, 6)))  # fmt: skip
    return d.done()


DRAWN = {
    "rules": rules,
    "waiting": waiting,
    "bytes in": bytes_in,
    "pixels": pixels,
    "events": events,
    "charges": charges,
}
