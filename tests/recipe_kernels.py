"""Which kernels the event engine uses for a small network of every recipe, and why it uses none."""

import copy
import functools
from collections import Counter

import torch
from torch import Tensor, nn

import transpike as ts
from networks import settle

STEPS, SHAPE = 8, (2, 8, 8)
# recipes that need a network trained for them get the first of these activations with which they convert
SOURCES = (
    None,
    lambda: ts.activations.QuantisedClip(levels=STEPS),
    lambda: ts.activations.ClampQuantise(),
    lambda: ts.activations.SlipReLU(levels=STEPS),
)


@functools.cache
def network(biases: bool = True) -> tuple[nn.Module, Tensor]:
    """Convolutions, a depthwise one among them, an average and a maximum, a linear layer; its calibration data."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 16, 3, padding=1, bias=biases), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=biases),
        nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(16, 24, 3, padding=1, bias=biases), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(96, 32, bias=biases), nn.ReLU(), nn.Linear(32, 5, bias=biases),
    )  # fmt: skip
    data = torch.rand((48, *SHAPE))
    return settle(model, data), data


def converted(recipe: type[ts.core.recipe.Recipe]) -> ts.SNN:
    """Raises the first refusal if the recipe takes none of the networks."""
    refusal: ts.TranspikeError | None = None
    for biases in (True, False):
        for source in SOURCES:
            model, data = copy.deepcopy(network(biases)[0]), network(biases)[1]
            try:
                model = model if source is None else ts.prepare(model, source(), calibration=data)
                made = recipe(**({"timesteps": STEPS} if recipe().schedule.mode != "slots" else {}))
                return ts.convert(model.eval(), made, data)
            except ts.TranspikeError as error:
                refusal = refusal or error
    assert refusal is not None
    raise refusal


def kernels(recipe: type[ts.core.recipe.Recipe]) -> Counter[str]:
    """Kernel or reason → the number of layers."""
    snn = converted(recipe)
    trace = ts.simulate(snn, network()[1][:2], engine="event", count=False)
    return Counter(trace.kernels.values())
