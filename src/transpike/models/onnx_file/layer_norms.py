"""Layer norms that a file writes out of means, squares and roots, as one layer."""

import operator
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.models.onnx_file.values import Call, Layer, Steps, WithConstant, reshape_each, reversed_operands

ELEMENTWISE = frozenset(
    (
        operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, torch.sqrt, torch.reciprocal,
        torch.neg, torch.abs, torch.unsqueeze, torch.squeeze, reshape_each,
    )
)  # fmt: skip
"""Functions, besides means, of which a layer norm may be written."""
LONGEST = 24  # operators of one layer norm, its scale and shift included
PROBES = 16  # samples, at first of ordinary size, then so small that epsilon counts
CLOSE = 1e-6
"""Largest difference of the probes, in float64, relative to the largest value."""


def used(layers: Sequence[Layer], outputs: set[str]) -> list[Layer]:
    """The layers that outputs depend on."""
    wanted, found = set(outputs), []
    for layer in reversed(layers):
        if not wanted.isdisjoint(layer[3]):
            wanted |= set(layer[2])
            found.append(layer)
    return found[::-1]


def joined_norms(steps: Steps) -> list[Layer]:
    """The layers, the last operator of each written-out norm over the last axis replaced by ``nn.LayerNorm``.

    Candidates are operators that depend, element by element and by means over the last axis, on the input of such a
    mean only; they are compared with a layer norm on probes. Scale, shift and epsilon are those of the file. The others
    of its operators remain, for ``used`` to leave out.
    """
    layers = list(steps.layers)
    taken: set[int] = set()
    for place, (_, layer, inputs, _) in enumerate(layers):
        if place not in taken and _is_mean(layer, steps.shapes[inputs[0]]):
            cone = _cone(layers, steps, place, inputs[0])
            for end in [one for one in reversed(cone) if steps.shapes[layers[one][3][0]] == steps.shapes[inputs[0]]]:
                norm = _matched([layers[one] for one in cone if one <= end], inputs[0], steps.shapes[inputs[0]])
                if norm is not None:
                    layers[end] = (layers[end][0], norm, (inputs[0],), layers[end][3])
                    taken |= {one for one in cone if one <= end}
                    break
    return layers


def _is_mean(layer: nn.Module, shape: tuple[int, ...]) -> bool:
    if not isinstance(layer, Call) or layer.function is not torch.mean:
        return False
    return layer.settings["dim"] == (len(shape) - 1,) and len(shape) > 1


def _cone(layers: list[Layer], steps: Steps, first: int, root: str) -> list[int]:
    """The layers from a mean on that depend on ``root`` only, by operators of a layer norm."""
    known, found = {root}, []
    before = min(k for k, layer in enumerate(layers) if root in layer[2])  # a difference may stand before the mean
    for place in range(before, len(layers)):
        _, layer, inputs, outputs = layers[place]
        if known.issuperset(inputs) and (_is_elementwise(layer) or _is_mean(layer, steps.shapes[inputs[0]])):
            known |= set(outputs)
            found.append(place)
        if len(found) == LONGEST:
            break
    return found


def _is_elementwise(layer: nn.Module) -> bool:
    """An operator that a layer norm may be written of, or one that only names axes of size 1."""
    if isinstance(layer, Call) and layer.function is reversed_operands:
        return layer.args[0] in ELEMENTWISE
    if isinstance(layer, Call | WithConstant):
        return layer.function in ELEMENTWISE
    return isinstance(layer, nn.Flatten)


def _matched(cone: list[Layer], root: str, shape: tuple[int, ...]) -> nn.LayerNorm | None:
    """The layer norm that the last layer of the cone computes of ``root``; None: it computes something else."""
    width = shape[-1]
    epsilons = {abs(number) for _, layer, _, _ in cone for number in _numbers(layer) if 0 <= abs(number) < 1e-2} | {0.0}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((PROBES, *shape[1:]), generator=generator, dtype=torch.float64)
    x = x + torch.randn((PROBES, *shape[1:-1], 1), generator=generator, dtype=torch.float64)
    x[PROBES // 2 :] *= 3e-3
    values = {root: x}
    try:
        for _, layer, inputs, outputs in cone:
            values[outputs[0]] = layer(*(values[one] for one in inputs))
    except (RuntimeError, IndexError):  # a shape for one batch size
        return None
    y = values[cone[-1][3][0]].reshape(-1, width)
    if not bool(torch.isfinite(y).all()) or width < 2:
        return None
    for epsilon in sorted(epsilons):
        normal = F.layer_norm(x, (width,), eps=epsilon).reshape(-1, width)
        spread = normal - normal.mean(0)
        scale = (spread * (y - y.mean(0))).sum(0) / (spread**2).sum(0)
        shift = y.mean(0) - scale * normal.mean(0)
        if float((normal * scale + shift - y).abs().max()) <= CLOSE * max(1.0, float(y.abs().max())):
            return _norm(width, epsilon, scale, shift)
    return None


def _numbers(layer: nn.Module) -> list[float]:
    """Constants of one number."""
    if isinstance(layer, WithConstant):
        constant: Tensor = layer.constant  # type: ignore[assignment]
        return [float(constant)] if constant.numel() == 1 else []
    given = layer.args if isinstance(layer, Call) else ()
    return [float(value) for value in given if isinstance(value, (int, float, np.number))]


def _norm(width: int, epsilon: float, scale: Tensor, shift: Tensor) -> nn.LayerNorm:
    layer = nn.LayerNorm(width, epsilon)
    layer.weight, layer.bias = nn.Parameter(scale.float()), nn.Parameter(shift.float())
    return layer.eval()
