"""One neuron on spikes that come at chosen times: the unevenness vectors of QCFS (figure 1; reference, section 1.2)."""

import torch
from torch import Tensor, nn

import transpike as ts
from transpike.core.recipe import Recipe

EVEN, EARLY, LATE = ((1, 3, 5), (2, 4)), ((1, 2, 3), (4, 5)), ((3, 4, 5), (1, 2))
"""(steps of the exciting input, of the inhibiting one): of 2 · 3 − 2 · 2, the source's count is 2."""


def frames(first: tuple[int, ...], second: tuple[int, ...], steps: int) -> Tensor:
    """(1, steps, 2)."""
    return torch.tensor([[[float(t in times) for times in (first, second)] for t in range(1, steps + 1)]])


def one_neuron(recipe: Recipe, activation: nn.Module, weights: tuple[float, float] = (2.0, -2.0)) -> ts.SNN:
    """θ is the activation's ceiling; the second layer has weight one."""
    model = nn.Sequential(nn.Linear(2, 1, bias=False), activation, nn.Linear(1, 1, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([weights]))
        model[2].weight.fill_(1.0)
    steps = recipe.timesteps
    return ts.convert(model, recipe, frames(tuple(range(1, steps + 1)), (), steps).expand(8, steps, 2))


def neuron(snn: ts.SNN) -> str:
    """The name of the one neuron."""
    (name,) = (node.name for node in snn.graph.cells)
    return name


def sent(snn: ts.SNN, x: Tensor) -> list[float]:
    """What the neuron sends in each step in which it may."""
    name = neuron(snn)
    return ts.simulate(snn, x, record=[name], engine="reference").trains[name].flatten().tolist()


class Sum(nn.Module):
    """``act(body(x) + x)``."""

    def __init__(self, body: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.activation = body, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + x)
