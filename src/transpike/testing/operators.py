"""The laws of operators."""

import copy
from typing import get_args

import torch
from torch import Tensor, nn

from transpike.core.op import Op, Role, Shape, Synapse
from transpike.ops import BatchNorm
from transpike.testing._law import ROUNDING, Law, carries_tensors, check_member, random, same
from transpike.workflow.capture import capture


def check_op(op: Op, *shapes: Shape, module: nn.Module | None = None) -> None:
    """An operator is a pure function of each sample; a synapse and wiring are affine, and state their weights truly.

    ``module``: a network of one layer that the class must be captured from and compute.
    """
    check_member(op)
    carries_tensors(op)
    wide, inputs = op.to(dtype=torch.float64), tuple(random(3, *shape) for shape in shapes or ((4,),))
    inputs = tuple((x > 0).double() for x in inputs) if op.is_look_up else inputs
    law = Law(op)
    before = copy.deepcopy((inputs, wide.tensors()))
    output = wide.run(*inputs)
    law("run() changes neither inputs nor tensors", same(before, (inputs, wide.tensors())))
    law("run() gives the same again", torch.equal(output, wide.run(*inputs)))
    law("the output has the batch and the dtype of the input", output.shape[0] == 3 and output.dtype == inputs[0].dtype)
    alone = torch.cat([wide.run(*(x[i : i + 1] for x in inputs)) for i in range(3)])
    law.close("each sample is computed alone", output, alone)
    law("its role is known", op.role in get_args(Role), op.role)
    claimed = [name for name in op.aten if not torch_has(name)]
    law("torch has the operators in aten", not claimed, claimed)
    macs = op.macs(tuple(tuple(x.shape[1:]) for x in inputs), tuple(output.shape[1:]))
    law("macs() is an integer or None", macs is None or (isinstance(macs, int) and macs >= 0), macs)
    counted = op.evaluations(tuple(tuple(x.shape[1:]) for x in inputs), tuple(output.shape[1:]))
    law("evaluations() are integers", all(isinstance(n, int) and n >= 0 for n in counted.values()), counted)
    law("describe() gives text", bool(op.describe()))
    if op.is_linear:
        _check_linear(wide, inputs, output, macs, law)
    if module is not None:
        _check_capture(op, module, inputs, law)


def _check_linear(op: Op, inputs: tuple[Tensor, ...], output: Tensor, macs: int | None, law: Law) -> None:
    bias = op.run(*(torch.zeros_like(x) for x in inputs))
    law.close("run() is linear() plus the bias", output, op.linear(*inputs) + bias)
    others = tuple(x.flip(0) for x in inputs)
    mixed = op.linear(*(3 * a - b for a, b in zip(inputs, others, strict=True)))
    law.close("linear() is linear", mixed, 3 * op.linear(*inputs) - op.linear(*others))
    if isinstance(op, BatchNorm):  # is folded before anything counts its paths
        return
    weights = _matrix(op, inputs)
    paths, factors = weights != 0, int(((weights != 0) & (weights.abs() != 1)).sum())
    enough = op.role == "wiring" or macs is None or macs >= factors
    law("macs() of a synapse are at least its paths with a weight beyond 1 and -1", enough, macs, factors)
    law.close("paths() has a one for each weight that is not 0", _matrix(op.paths(), inputs), paths.double())
    bound, value = op.magnitude().linear(*(x.abs() for x in inputs)), op.linear(*inputs).abs()
    law("magnitude() bounds linear()", bool((value <= bound + ROUNDING * bound.abs().max()).all()))
    for spike_scale in (torch.tensor([0.5]), torch.tensor([0.5, 2.0])):  # the same for all channels, and alternating
        scales = tuple(_alternating(spike_scale, x) for x in inputs)
        passed = op.propagate_levels(scales)
        if passed is not None:
            levels = tuple(torch.round(2 * x) for x in inputs)
            charge = op.linear(*(level * scale for level, scale in zip(levels, scales, strict=True)))
            answer = passed[0].linear(*levels)
            answer = answer if passed[1] is None else answer * torch.nan_to_num(passed[1])
            law.close("propagate_levels() keeps the charge of levels", answer, charge)
    if isinstance(op, Synapse):
        factor = torch.arange(1, output.shape[op.channel_axis] + 1).double()
        shape = [-1 if axis == op.channel_axis % output.ndim else 1 for axis in range(output.ndim)]
        scaled = op.scale_outputs(factor).run(*inputs)
        law.close("scale_outputs() multiplies the channels of run()", scaled, output * factor.reshape(shape))


def _check_capture(op: Op, module: nn.Module, inputs: tuple[Tensor, ...], law: Law) -> None:
    x = inputs[0].float()
    graph = capture(module, x)
    law("it is captured from the module", any(type(node.op) is type(op) for node in graph), str(graph))
    with torch.no_grad():
        expected = copy.deepcopy(module).double().eval()(inputs[0])
    law.close("the captured operator computes what torch does", graph.to(dtype=torch.float64).run(inputs[0]), expected)


def torch_has(operator: str) -> bool:
    """True where torch has an operator of this name: "relu.default", "library::name.overload"."""
    packet, _, overload = operator.rpartition(".")
    library, _, packet = packet.rpartition("::")
    try:
        return overload in getattr(getattr(torch.ops, library or "aten"), packet).overloads()
    except AttributeError:
        return False


def _matrix(op: Op, inputs: tuple[Tensor, ...]) -> Tensor:
    """What ``linear`` multiplies one sample with, (outputs, inputs)."""
    sizes, columns = [x[0].numel() for x in inputs], []
    for one in torch.eye(sum(sizes), dtype=torch.float64):
        parts = one.split(sizes)
        columns.append(op.linear(*(p.reshape(1, *x.shape[1:]) for p, x in zip(parts, inputs, strict=True))).flatten())
    return torch.stack(columns, 1)


def _alternating(spike_scale: Tensor, x: Tensor) -> Tensor:
    """One spike scale for all, or values that alternate along the channels, (1, *shape)."""
    values = spike_scale.repeat(x.shape[1])[: x.shape[1]].double()
    return values.reshape(1, -1, *(1,) * (x.ndim - 2)).expand(1, *x.shape[1:])
