"""Norms of tokens that a network writes out of several operators, as one operator."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.naming import listed
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import Add, Mean, Product, Scale
from transpike.ops.analogue import AnalogueOp

PARTS = frozenset(("add", "div", "mul", "pow", "reciprocal", "rsqrt", "sqrt", "square", "sub", "var"))
"""Operators of torch, without overload, of which a norm may be written."""
ROWS = 12
"""Probes, each of another size, so that ε matters in some."""
CLOSE = 1e-6


@dataclass(frozen=True)
class RecogniseNorms(Pass):
    """``x / √(mean(x²) + ε)`` over the last axis becomes RMSNorm, and ``(x − mean(x)) / √(var(x) + ε)`` LayerNorm.

    Both can be written in many ways. Candidates are products and quotients that depend on one wire only; they are
    compared with torch's norms on random values of several sizes. Between the parts there would be wires whose real
    numbers need separate neurons. A remark names what was found.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        roots: dict[str, list[str]] = {}
        for node in graph:
            before = [roots[name] for name in node.inputs]
            common = [name for name in before[0] if all(name in one for one in before)] if before else []
            roots[node.name] = [*(common if _is_part(node) else []), node.name]
        found: dict[str, Node] = {}
        names: list[str] = []
        for node in graph:
            if type(node.op) is not AnalogueOp and not is_plain(node.op, Product):
                continue
            for root in roots[node.name][:-1] if len(set(node.inputs)) == 2 else []:
                norm = _norm(graph, node, root)
                if norm is not None:
                    found[node.name] = dataclasses.replace(node, op=norm, inputs=(root,), origin=())
                    names.append(f"{node.name} is {norm.operator.split('.')[1]}")
                    break
        if not found:
            return graph
        context.remark(f"norms written by hand: {listed(names)}")
        return graph.rewrite(lambda node: found.get(node.name))


def _is_part(node: Node) -> bool:
    op = node.op
    if type(op) is AnalogueOp:
        return op.operator.split(".")[1] in PARTS and all(value.numel() == 1 for value in op.constants)
    if is_plain(op, Mean):
        assert isinstance(op, Mean)
        return op.keep and op.axes == (len(node.shape),)
    if not isinstance(op, Op):
        return False
    return is_plain(op, (Add, Scale, Product)) and all(value.numel() == 1 for value in op.tensors().values())


def _norm(graph: Graph, node: Node, root: str) -> AnalogueOp | None:
    """The norm of the wire ``root`` that a node computes; None if it is none."""
    shape = graph[root].shape
    if node.shape != shape or not shape or shape[-1] < 2:
        return None
    cone = graph.between(root, node.name)
    if not any(one.shape == (*shape[:-1], 1) for one in cone):
        return None
    sizes = torch.logspace(-4, 1, ROWS, dtype=torch.float64).reshape(-1, *(1,) * len(shape))
    probe = sizes * (torch.randn((ROWS, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3)
    values = {root: probe}
    for one in cone:
        assert isinstance(one.op, Op)
        values[one.name] = one.op.to(dtype=torch.float64).run(*(values[name] for name in one.inputs))
    answer, width = values[node.name], shape[-1]
    for eps in _numbers(cone):
        if _close(answer, F.rms_norm(probe, (width,), None, eps)):
            return AnalogueOp("aten.rms_norm.default", (("input", 0), (width,), None, eps))
        if _close(answer, F.layer_norm(probe, (width,), None, None, eps)):
            return AnalogueOp("aten.layer_norm.default", (("input", 0), (width,), None, None, eps))
    return None


def _numbers(cone: list[Node]) -> list[float]:
    """What may be ε: the small numbers that are added, and 0."""
    found = [0.0]
    for node in cone:
        values: list[object] = []
        if isinstance(node.op, Scale) and node.op.bias is not None:
            values = [float(node.op.bias)]
        elif isinstance(node.op, AnalogueOp):
            values = [*node.op.arguments, *map(float, node.op.constants)]
        found += [float(value) for value in values if isinstance(value, float) and 0 < value < 0.1]
    return found


def _close(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.allclose(first, second, rtol=CLOSE, atol=CLOSE)
