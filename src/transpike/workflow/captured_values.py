"""Values that ``capture`` computes while it reads a network: constants and comparisons."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from transpike.core.call import Comparison, Refused, Wire
from transpike.core.op import Op, Part
from transpike.core.plain import is_plain
from transpike.ops import Scale
from transpike.workflow.layouts import multiple

SHAPE_ONLY = {
    "zeros_like": "self",
    "ones_like": "self",
    "full_like": "self",
    "new_zeros": "self",
    "new_ones": "self",
    "new_full": "self",
    "expand_as": "other",
    "view_as": "other",
    "reshape_as": "other",
    "type_as": "other",
    "to": "other",
}
"""Operators of which this argument gives a shape or a type only: the result does not depend on its values."""
FOR_EACH_SAMPLE = ("expand", "full", "ones", "repeat", "reshape", "view", "zeros", *SHAPE_ONLY)
"""Operators whose result is the same for each sample if a size among their arguments is that of the batch."""
SELECTIONS = ("where.", "masked_fill.")
"""Operators that may read a comparison: the forms of a ReLU."""
CASTS = ("to", "_to_copy", "type_as")
COUNTING = (torch.int16, torch.int32, torch.int64)
"""Types that hold Boolean values, and integers of inputs, as they are."""
RELATIONS = ("gt", "ge", "lt", "le")
LOGICAL = {
    "__and__": "logical_and", "bitwise_and": "logical_and", "logical_and": "logical_and",
    "__or__": "logical_or", "bitwise_or": "logical_or", "logical_or": "logical_or",
    "__xor__": "logical_xor", "bitwise_xor": "logical_xor", "logical_xor": "logical_xor",
    "bitwise_not": "logical_not", "logical_not": "logical_not",
}  # fmt: skip
"""Operators of Boolean values, and those that read 0 and 1 in their place."""


def constant(name: str, target: Any, arguments: Mapping[str, Any]) -> Tensor | None:
    """The value of a call that is the same for each sample, with a batch of 1; None if it is not."""
    short = name.split(".")[0]
    table, index = arguments.get("self"), arguments.get("index")
    if short == "gather" and isinstance(table, Tensor) and isinstance(index, Wire) and len(table.unique()) == 1:
        return table.flatten()[:1].expand(1, *index.shape)  # whatever the index
    if short not in FOR_EACH_SAMPLE:
        return None
    free = SHAPE_ONLY.get(short)
    for key, value in arguments.items():
        if key != free and any(isinstance(leaf, (Wire, Comparison)) for leaf in pytree.tree_leaves(value)):
            return None
    if free is None and not _sized_by_batch(arguments):
        return None
    return target(**pytree.tree_map(_of_one_sample, dict(arguments)))


def _of_one_sample(leaf: Any) -> Any:
    if isinstance(leaf, Comparison):
        leaf = leaf.wire
    if isinstance(leaf, Wire):
        return torch.zeros(leaf.sizes)
    return multiple(leaf) if isinstance(leaf, torch.SymInt) else leaf


def _sized_by_batch(arguments: Mapping[str, Any]) -> bool:
    """True if the only unknown sizes among the arguments are multiples of the batch."""
    sizes = [leaf for leaf in pytree.tree_leaves(dict(arguments)) if isinstance(leaf, torch.SymInt)]
    try:
        return bool(sizes) and all(multiple(size) is not None for size in sizes)
    except Refused:
        return False


def comparison(name: str, arguments: Mapping[str, Any]) -> Comparison | None:
    """The comparison of activations with one number that this call computes, or its conversion to numbers."""
    short, first = name.split(".")[0], arguments.get("self")
    if isinstance(first, Comparison):
        return first if short in CASTS else None
    other = arguments.get("other")
    if short not in RELATIONS or not isinstance(first, Wire):
        return None
    if isinstance(other, Tensor) and other.numel() and bool((other == other.flatten()[0]).all()):
        other = float(other.flatten()[0])
    if isinstance(other, bool) or not isinstance(other, (int, float)):
        return None
    return Comparison(first, short, float(other))


def masked(name: str, arguments: Mapping[str, Any], node: fx.Node) -> tuple[str, dict[str, Any]] | None:
    """A product of activations and a comparison, or a mask of −inf, as the selection that it computes; Boolean values
    by the operators that also read numbers 0 and 1, which wires carry.
    """
    kind = getattr(node.meta["val"], "dtype", None)
    if kind == torch.bool:
        return _truth(name, arguments)
    if name.split(".")[0] in CASTS and isinstance(arguments["self"], Wire) and kind in COUNTING:
        before = node.all_input_nodes[0].meta["val"].dtype
        return ("alias.default", {"self": arguments["self"]}) if before in (torch.bool, *COUNTING) else None
    if name == "where.self" and isinstance(arguments["condition"], Wire):
        return _chosen(arguments)
    if name == "where.self" and isinstance(arguments["condition"], Tensor):
        hides = [
            isinstance(a, Tensor) and bool((a == -torch.inf).all()) for a in (arguments["self"], arguments["other"])
        ]
        if any(hides):
            wire, mask = arguments["other" if hides[0] else "self"], arguments["condition"]
            return "masked_fill.Scalar", {"self": wire, "mask": mask if hides[0] else ~mask, "value": -torch.inf}
    if name == "add.Tensor":
        return _hidden(arguments["self"], arguments["other"]) or _hidden(arguments["other"], arguments["self"])
    if name != "mul.Tensor":
        return None
    first, second = arguments["self"], arguments["other"]
    if isinstance(first, Comparison):
        first, second = second, first
    if not isinstance(first, Wire) or not isinstance(second, Comparison):
        return None
    return "where.ScalarOther", {"condition": second, "self": first, "other": 0.0}


def _truth(name: str, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """Boolean values of a call as an operator that reads wires, which carry 1 and 0 for them."""
    short = name.split(".")[0]
    if short in CASTS and isinstance(arguments["self"], Wire):
        return "ne.Scalar", {"self": arguments["self"], "other": 0}
    if short not in LOGICAL:
        return None
    kept = {key: arguments[key] for key in ("self", "other") if key in arguments}
    tensors = all(isinstance(value, (Wire, Comparison, Tensor)) for value in kept.values())
    return (f"{LOGICAL[short]}.default", kept) if tensors else None


def _chosen(arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """``where(condition, a, b)`` with constants of one value each as numbers, which may be −inf."""

    def number(value: Any) -> Any:
        same = isinstance(value, Tensor) and value.numel() and bool((value == value.flatten()[0]).all())
        return float(value.flatten()[0]) if same else value

    first, second = number(arguments["self"]), number(arguments["other"])
    kinds = {(True, True): "Scalar", (True, False): "ScalarSelf", (False, True): "ScalarOther"}
    kind = kinds.get((isinstance(first, float), isinstance(second, float)))
    if kind is None:
        return None
    return f"where.{kind}", {"condition": arguments["condition"], "self": first, "other": second}


def multiplied(part: Part) -> tuple[Wire, Op] | None:
    """(wire, layer) for a layer that multiplies one wire by constants; an activation may read it and the wire."""
    if isinstance(part, Wire) or not isinstance(part[0], Scale) or part[0].bias is not None:
        return None
    return (part[1][0], part[0]) if is_plain(part[0], Scale) and isinstance(part[1][0], Wire) else None


def _hidden(wire: Any, mask: Any) -> tuple[str, dict[str, Any]] | None:
    """The sum of activations and a constant of 0 and −inf."""
    if not isinstance(wire, Wire) or not isinstance(mask, Tensor) or not bool((mask == -torch.inf).any()):
        return None
    hidden = mask == -torch.inf
    if bool(mask.masked_fill(hidden, 0.0).any()):
        return None
    return "masked_fill.Scalar", {"self": wire, "mask": hidden, "value": -torch.inf}


def without_masks(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The buffers by name; −inf, by which a buffer masks places of a softmax, is 0 there."""
    for key, value in module.named_buffers():
        masks = value.is_floating_point() and bool((value == -torch.inf).any())
        yield key, value.masked_fill(value == -torch.inf, 0.0) if masks else value


def operator_name(node: fx.Node) -> str:
    """The name of a call, like "conv2d.default"."""
    target: Any = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return str(target)
    return f"{target._schema.name.removeprefix('aten::')}.{target._overloadname}"


def place_of(node: fx.Node) -> tuple[str, str]:
    """(module path, source line) of a call; lines inside torch itself are skipped."""
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(list(stack.values())))[0] if stack else ""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if "/torch/nn/" not in frame[0].replace("\\", "/")] or frames
    return re.sub(r"@\d+$", "", path), f"{own[-1][0]}:{own[-1][1]}" if own else "source unknown"


def bound(target: Any, args: tuple, kwargs: dict) -> dict[str, Any]:
    """The arguments of a call by their names in torch's schema, with defaults."""
    found: dict[str, Any] = {}
    for index, argument in enumerate(target._schema.arguments):
        if index < len(args):
            found[argument.name] = args[index]
        else:
            found[argument.name] = kwargs.get(argument.name, argument.default_value)
    return found


def changes(graph: fx.Graph, wanted: set[fx.Node]) -> set[fx.Node]:
    """The calls that change, in place, what a call of ``wanted`` made, and what they read: masks are filled so."""
    found = set[fx.Node]()
    for node in graph.nodes:
        if node.op != "call_function" or node in wanted or not _writes(node):
            continue
        root = node.args[0]
        while isinstance(root, fx.Node) and root.op == "call_function" and _is_view(root):
            root = root.args[0]
        if isinstance(root, fx.Node) and root.op == "call_function" and root in wanted:
            found |= ancestors([node]) - wanted
    return found


def _writes(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_view(node: fx.Node) -> bool:
    """True if the output of a call shares the memory of its first argument."""
    first = node.target._schema.arguments[:1] if isinstance(node.target, torch._ops.OpOverload) else ()
    return any(argument.alias_info is not None for argument in first)


def in_order(target: Any, arguments: Mapping[str, Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments of a call of ``target`` by position, without defaults at the end, and those given by name only."""
    known = {one.name: one for one in target._schema.arguments}
    usual = {name for name, one in known.items() if one.has_default_value() and _same(arguments.get(name), one)}
    named = [name for name, one in known.items() if one.kwarg_only and name in arguments and name not in usual]
    first = [name for name, one in known.items() if not one.kwarg_only and name in arguments]
    while first and first[-1] in usual:
        first.pop()
    return tuple(arguments[name] for name in first), {name: arguments[name] for name in named}


def _same(value: Any, argument: Any) -> bool:
    """True for the default of an argument."""
    return (
        type(value) is type(argument.default_value)
        and not isinstance(value, Tensor)
        and value == argument.default_value
    )


def ancestors(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes and all that they depend on."""
    seen, stack = set(nodes), list(nodes)
    while stack:
        for parent in stack.pop().all_input_nodes:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return seen


def keeper(on_unsupported: str, spikes: Callable[[str], bool] | None) -> Callable[[fx.Node], bool]:
    """Whether an operator that is not known is kept analogue: always, or where its module is not to spike."""

    def keeps(node: fx.Node) -> bool:
        path, call = place_of(node)[0], operator_name(node).split(".")[0].rstrip("_")
        return spikes is not None and not spikes(path) and not spikes(f"{path}.{call}".lstrip("."))

    return (lambda _: True) if on_unsupported == "keep" else keeps
