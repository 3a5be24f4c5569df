"""Networks that a NIR file can hold, as integers with samples and what transpike computes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

import transpike as ts
from networks import Residual
from stored import stored
from transpike.lowering.whole import Entrance, Integers, Layer, Samples, Term, Trains, Whole
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import run_whole

STEPS = 16


@dataclass(frozen=True, eq=False)
class Case:
    whole: Whole
    samples: Samples
    expected: Trains

    @property
    def profile(self) -> str:
        return "soft" if self.whole.layers[0].reset == "subtract" else "hard"


def case(snn: ts.SNN, x: Tensor, timesteps: int = STEPS) -> Case:
    whole = whole_form(snn.program, timesteps)
    samples = samples_of(snn.program, whole, snn.prepare(x), torch.arange(len(x)), timesteps)
    return with_trains(whole, samples)


def with_trains(whole: Whole, samples: Samples) -> Case:
    """Equality of trains says nothing if nothing spikes or everything does."""
    expected = run_whole(whole, samples)
    rates = [float(train.mean()) for train in expected.levels.values()]
    assert min(rates) > 0.01 and max(rates) < 0.6, rates
    return Case(whole, samples, expected)


def recipe(reset: str, **settings: object) -> ts.recipes.Recipe:
    return ts.recipes.ECC(timesteps=STEPS, reset=reset, percentile=99.9 if reset == "soft" else 95.0, **settings)


def averaged() -> nn.Module:
    """The network of ``transpike demo`` with average pooling; its scaled shortcut ends at a convolution's neurons."""
    model = stored("small-cnn")
    model.pool = nn.AvgPool2d(2)
    return model


def residual() -> nn.Module:
    model = stored("residual")
    model[4] = nn.AvgPool2d(2)
    return model


def heartbeat() -> nn.Module:
    """A small network of the kind of zoo:ecg-screen, with weights of a seed."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv1d(2, 6, 3, padding=1), nn.ReLU(), nn.AvgPool1d(2), nn.Conv1d(6, 8, 5, padding=2), nn.ReLU(),
        nn.AvgPool1d(2), nn.Flatten(), nn.Linear(72, 12), nn.ReLU(), nn.Linear(12, 3),
    ).eval()  # fmt: skip


def strided() -> nn.Module:
    """A ResNet's second stage: a shortcut of slices and zero channels; groups; a mean at the end."""

    class Shortcut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))

    torch.manual_seed(1)
    body = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=2))
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), Residual(body, Shortcut()), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    ).eval()  # fmt: skip


@functools.cache
def digits(build: Callable[[], nn.Module], reset: str) -> Case:
    data = ts.data.load("digits")
    snn = ts.convert(build(), recipe(reset), data.train.images[:200], preprocessing=data.preprocessing)
    return case(snn, data.test.images[:4])


@functools.cache
def beats(reset: str) -> Case:
    torch.manual_seed(2)
    x = torch.sin(torch.arange(36) * torch.rand(40, 2, 1) + torch.rand(40, 2, 1) * 6) + 0.3 * torch.randn(40, 2, 36)
    return case(ts.convert(heartbeat(), recipe(reset), x), x[:4])


def stated(initial: int = 0, reset: str = "subtract", threshold: int = 20, shape: tuple[int, ...] = (3, 6, 6)) -> Case:
    """A network of integers that were chosen: pixels enter, two layers, a residual, a readout of one line."""
    random = np.random.default_rng(5)

    def weights(*size: int, low: int = -6, high: int = 9) -> Integers:
        return random.integers(low, high, size)

    inside = len(shape) - 1
    around = {"stride": (1,) * inside, "padding": (1,) * inside, "dilation": (1,) * inside}
    first = Layer(
        "first.relu", "integrate", shape, 0, np.full(shape[0], 2.0**-6),
        (Term("a", "pixels", "conv", weights(shape[0], 2, *(3,) * inside, low=-2, high=3), (2, *shape[1:]), **around),),
        bias=np.int64(1).reshape(1), threshold=np.array([threshold * 64]), initial=np.array([initial]), reset=reset,
    )  # fmt: skip
    second = replace(
        first, name="second", threshold=np.array([threshold]), initial=np.array([initial]),
        terms=(
            Term("b", "first.relu", "conv", weights(shape[0], shape[0], *(3,) * inside), shape, **around),
            Term("c", "first.relu", "scale", np.array([7]), shape),
        ),
    )  # fmt: skip
    count = int(np.prod(shape))
    readout = Layer(
        "logits", "readout", (4,), 0, np.array(2.0**-4),
        (Term("d", "second", "linear", weights(4, count), (count,)),), bias=np.array([3]),
    )  # fmt: skip
    pixels = Entrance("pixels", (2, *shape[1:]), "values", 0, 255, np.array([1 / 255]))
    whole = Whole((pixels,), (first, second, readout), STEPS)
    return with_trains(whole, Samples({"pixels": random.integers(0, 256, (3, 2, *shape[1:]))}, STEPS))


def joined(reset: str) -> Case:
    """The stated network, whose output also reads the first layer."""
    one = stated(9, reset)
    *layers, readout = one.whole.layers
    way = Term("e", "first.relu", "linear", np.random.default_rng(6).integers(-6, 9, (4, 108)), (108,))
    other = replace(one.whole, layers=(*layers, replace(readout, terms=(*readout.terms, way))))
    return with_trains(other, one.samples)
