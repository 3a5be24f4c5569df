"""The gradient gain of neuron layers, and the surrogate width for which it is 1."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from transpike.core.cell import Neuron
from transpike.core.spike import Surrogate
from transpike.errors import DataError
from transpike.training.spiking.surrogates import Rectangular
from transpike.training.spiking.unrolled import Network, Unrolled

HALVINGS = 12


def surrogate_gain(network: Unrolled | Network, x: Tensor, seed: int = 0) -> dict[str, float]:
    """``‖∂L/∂I_n‖ / ‖∂L/∂I_{n+1}‖`` for the input currents I of each neuron layer and the next, by its name.

    L is a random weighting of the output of every step for x (batch, *shape) after preprocessing; at 1 the gradient
    neither grows nor vanishes, at 0 it is lost (also in the next layer). ``network`` is an SNN, or a module (Unrolled)
    with its surrogate; in training mode normalisations use the batch. Raises DataError if no gradient reaches the
    output. Source: after Ledinauskas et al. 2020 (arXiv 2006.04436), section 3.
    """
    module = network if isinstance(network, Unrolled) else Unrolled.of(network)
    before = {node.name: node.inputs[0] for node in module.source_graph if isinstance(node.op, Neuron)}
    seen = module.watched(x, {*before.values(), module.source_graph.output.name})
    output = seen[module.source_graph.output.name].charge
    random = torch.Generator().manual_seed(seed)
    weights = torch.randn(output.shape, generator=random).to(output)
    currents = [seen[source].charge for source in before.values()]
    if not currents or not output.requires_grad:
        raise DataError("no gradient reaches the output: the network has no neurons, or no trained parameters")
    needed = [current for current in currents if current.requires_grad]
    found = iter(torch.autograd.grad((output * weights).sum(), needed, allow_unused=True))
    norms = []
    for current in currents:
        gradient = next(found) if current.requires_grad else None
        norms.append(0.0 if gradient is None else float(gradient.norm()))
    pairs = zip(list(before)[:-1], norms, norms[1:], strict=False)
    return {name: here / behind if behind else 0.0 for name, here, behind in pairs}


def tuned_width(
    module: Unrolled, x: Tensor, make: Callable[[float], Surrogate] = Rectangular, low: float = 0.05, high: float = 20.0
) -> float:
    """The width between ``low`` and ``high`` at which the geometric mean of the gains is 1.

    ``make(width)`` becomes the module's surrogate. Bisection of the logarithm, because a wider surrogate passes less
    gradient; twelve halvings, one backward pass each.
    """
    for _ in range(HALVINGS):
        width = math.sqrt(low * high)
        module.surrogate = make(width)
        gains = surrogate_gain(module, x).values()
        passed = sum(math.log(max(gain, 1e-12)) for gain in gains)
        low, high = (width, high) if passed > 0 else (low, width)
    module.surrogate = make(math.sqrt(low * high))
    return math.sqrt(low * high)
