"""Activations that a network writes out of several operators, as one function."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.activations import Clip, Function, LeakyReLU, ReLU
from transpike.core.graph import Graph, Node
from transpike.core.naming import listed
from transpike.core.op import Op
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.ops import Add, Scale
from transpike.ops.analogue import AnalogueOp

ELEMENTWISE = frozenset((
    "add", "clamp", "div", "erf", "exp", "ge", "gt", "hardsigmoid", "le", "log", "log1p", "lt", "maximum", "minimum",
    "mul", "neg", "pow", "reciprocal", "relu", "sigmoid", "softplus", "sqrt", "square", "sub", "tanh", "where",
))  # fmt: skip
"""Operators of torch, without overload, of which an activation may be written."""
X = (("input", 0),)
KNOWN: tuple[tuple[str, Callable[[Tensor], Tensor], Op], ...] = (
    ("silu", F.silu, Function("aten.silu.default", X)),
    ("mish", F.mish, Function("aten.mish.default", X)),
    ("gelu", F.gelu, Function("aten.gelu.default", X)),
    ("gelu (tanh)", lambda x: F.gelu(x, approximate="tanh"),
     Function("aten.gelu.default", X, (("approximate", "tanh"),))),
    ("hardswish", F.hardswish, Function("aten.hardswish.default", X)),
    ("hardsigmoid", F.hardsigmoid, Function("aten.hardsigmoid.default", X)),
    ("softplus", F.softplus, Function("aten.softplus.default", X)),
    ("sigmoid", torch.sigmoid, Function("aten.sigmoid.default", X)),
    ("tanh", torch.tanh, Function("aten.tanh.default", X)),
    ("elu", F.elu, Function("aten.elu.default", X)),
    ("selu", F.selu, Function("aten.selu.default", X)),
    ("relu", torch.relu, ReLU()),
)  # fmt: skip
PROBE = torch.linspace(-8, 8, 321, dtype=torch.float64)
CLOSE = 1e-6


@dataclass(frozen=True)
class RecogniseFunctions(Pass):
    """``x · sigmoid(x)``, ``x · tanh(softplus(x))``, GELU by erf or tanh and similar functions become one activation
    each.

    Candidates are nodes that depend, element by element and with scalar constants, on one wire only; they are compared
    with torch's activations on 321 values from −8 to 8. A remark names what was found.
    """

    exact: ClassVar[bool] = True

    def apply(self, graph: Graph, context: Context) -> Graph:
        roots: dict[str, list[str]] = {}
        for node in graph:
            before = [roots[name] for name in node.inputs]
            common = [name for name in before[0] if all(name in one for one in before)] if before else []
            roots[node.name] = [*(common if _is_elementwise(graph, node) else []), node.name]
        found: dict[str, Node] = {}
        inside: set[str] = set()
        names = []
        for node in reversed(graph.nodes):
            if node.name in graph.static:
                continue
            for root in roots[node.name][:-1]:
                cone = [] if node.name in inside else graph.between(root, node.name)
                if len(cone) < 2 or all(isinstance(one.op, Op) and one.op.is_linear for one in cone):
                    continue
                match = _match(cone, root)
                if match is not None:
                    found[node.name] = dataclasses.replace(node, op=match[1], inputs=(root,), origin=())
                    inside |= {one.name for one in cone}
                    names.append(f"{node.name} is {match[0]}")
                    break
        if not found:
            return graph
        context.remark(f"activations written by hand: {listed(reversed(names))}")
        return graph.rewrite(lambda node: found.get(node.name))


def _is_elementwise(graph: Graph, node: Node) -> bool:
    """True if every element of the output is a function of the elements of the inputs at its position, and the same
    for all positions.
    """
    op = node.op
    if not node.inputs or any(graph[name].shape != node.shape for name in node.inputs):
        return False
    if type(op) is AnalogueOp:
        return op.operator.split(".")[1] in ELEMENTWISE and all(value.numel() == 1 for value in op.constants)
    scalar = all(value.numel() == 1 for value in op.tensors().values())
    return scalar and is_plain(op, (Add, Scale, ReLU, Clip, LeakyReLU))


def _match(cone: list[Node], root: str) -> tuple[str, Op] | None:
    values = {root: PROBE[:, None]}
    for node in cone:
        assert isinstance(node.op, Op)
        values[node.name] = node.op.to(dtype=torch.float64).run(*(values[name] for name in node.inputs))
    result = values[cone[-1].name][:, 0]
    for name, function, op in KNOWN:
        if torch.allclose(result, function(PROBE), rtol=CLOSE, atol=CLOSE):
            return name, op
    return None
