"""From an ``nn.Module`` to a Graph, by ``torch.export``."""

import functools
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from transpike import activations, ops  # noqa: F401 (registers the ops)
from transpike.core import registry
from transpike.core.call import Call, Comparison, Layout, Refused, Wire
from transpike.core.graph import Graph, Input, Node
from transpike.core.inputs import Inputs, named
from transpike.core.op import Op, Part, check_finite
from transpike.core.precision import without_autocast
from transpike.errors import NotExact, SettingError, TranspikeError, UnsupportedModel
from transpike.ops.analogue import AnalogueOp, resolve
from transpike.ops.pack import Pack
from transpike.passes.rewrites.masks import behind_masks
from transpike.workflow import unsupported
from transpike.workflow.attention_calls import ATTENTION, write_out
from transpike.workflow.call import Example
from transpike.workflow.captured_inputs import input_nodes, looked_up, places_of
from transpike.workflow.captured_norms import with_norms
from transpike.workflow.captured_outputs import answers_of, check, check_batch_first, structured
from transpike.workflow.captured_samples import Samples, own_rows, samples
from transpike.workflow.captured_values import (
    SELECTIONS,
    ancestors,
    bound,
    changes,
    comparison,
    constant,
    in_order,
    keeper,
    masked,
    multiplied,
    operator_name,
    place_of,
    without_masks,
)
from transpike.workflow.entrance import is_packed
from transpike.workflow.exported import copied, exported, reference
from transpike.workflow.last_functions import LAST, last_functions
from transpike.workflow.layout_rules import with_batch_first
from transpike.workflow.layouts import Held, is_batch_first, is_unknown, moved_back, sizes_of, unknown, wires_of

OnUnsupported = Literal["error", "keep"]


@functools.lru_cache(maxsize=1)
def _claims(generation: int) -> dict[str, list[type[Op]]]:
    """Operator of torch → the ops that capture it, ours first; made again when an op has been registered."""
    found: dict[str, list[type[Op]]] = {}
    for member in registry.families["op"].classes():
        for name in member.aten:
            found.setdefault(name, []).append(member)
    return found


@without_autocast
def capture(
    model: nn.Module | Graph,
    example: Tensor | Inputs,
    *,
    output: str | int | None = None,
    on_unsupported: OnUnsupported = "error",
    remarks: list[str] | None = None,
    spikes: Callable[[str], bool] | None = None,
) -> Graph:
    """The network as a Graph that computes the same function in eval mode; checked on ``example``.

    ``example`` is an input (batch, *shape) of the network, or several by their places in its call; the graph takes
    those packed (``core.inputs``). Several outputs are packed into one, whose ``Pack`` knows the model's structure;
    ``output`` (key, attribute or index) selects one of them.
    ``on_unsupported="keep"`` keeps unknown operators analogue. ``spikes(path)``: whether a module is to spike; where it
    is not, unknown operators are always kept.
    The graph is made from a copy of the model in eval mode and float32; the model itself is not changed. ``remarks``
    gets sentences about what the graph does not take over from the model.

    Raises UnsupportedOperator with every place that prevents the conversion, UnsupportedModel with the reason
    where torch.export fails, SettingError for NaN or infinite weights, NotExact where the graph differs from the model.
    """
    if on_unsupported not in get_args(OnUnsupported):
        raise SettingError(
            f"on_unsupported must be one of {', '.join(get_args(OnUnsupported))}, not {on_unsupported!r}"
        )
    if isinstance(model, Graph):
        return model
    if not isinstance(model, nn.Module):
        way = "write a function as the forward method of an nn.Module"
        if isinstance(model, dict):
            way = "build the network, and load these weights into it with load_state_dict"
        raise SettingError(f"a model must be an nn.Module, not {type(model).__name__}: {way}")
    module = copied(model)
    if not isinstance(module, fx.GraphModule) or not hasattr(module, "_guards_fn"):
        module.eval()
    for key, value in (*module.named_parameters(), *without_masks(module)):
        if value.is_floating_point():
            check_finite("the model", **{key: value})
    example = Inputs.of((example,)) if isinstance(example, Tensor) and is_packed(module, example) else example
    call = Example.of(module, example)
    writes = on_unsupported == "keep" and ATTENTION not in _claims(registry.generation())
    failure: TranspikeError | None = None
    for program, left_out in exported(module, call):
        try:
            if writes:
                write_out(program.graph_module.graph)
            graph = behind_masks(_Reader(program, keeper(on_unsupported, spikes), call).read(output))
            check(graph, reference(module, program, left_out, call), call, output)
        except (UnsupportedModel, NotExact) as error:
            failure = error
        else:
            if remarks is not None:
                remarks += left_out
            return graph
    assert failure is not None
    raise failure


class _Reader:
    """Traverses an exported program once and makes a node of every relevant call."""

    def __init__(self, program: torch.export.ExportedProgram, keeps: Callable[[fx.Node], bool], call: Example) -> None:
        self.program, self.keeps, self.inputs = program, keeps, call.inputs
        self.places = {} if call.inputs is None else places_of(program, call.positional)
        signature = program.graph_signature
        self.origins = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
        self.lifted = signature.inputs_to_lifted_tensor_constants
        self.values: dict[fx.Node, Any] = {}
        self.names: dict[int, str] = {}
        self.keepalive: list[Any] = []
        self.nodes = [] if self.inputs is None else input_nodes(self.inputs)
        self.taken = {"input", *(node.name for node in self.nodes)}
        self.numbers: dict[str, int] = {}
        self.refused: list[tuple[str, str, str, str]] = []
        self.last: frozenset[fx.Node] = frozenset()

    def read(self, output: str | int | None) -> Graph:
        tree, answers = answers_of(self.program, output)
        wanted = ancestors(answers)
        changed = changes(self.program.graph, wanted)
        self.last = last_functions(self.program.graph, answers, wanted)
        inputs = 0
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                inputs += self._placeholder(node)
            elif node.op == "call_function" and (node in wanted or (node in changed and self._is_constant(node))):
                self._call(node)
        if inputs != 1 and self.inputs is None:
            raise UnsupportedModel(f"the model takes {inputs} inputs, but a batch of the data contains one tensor")
        if self.refused:
            raise unsupported.refusal(self.refused)
        self.nodes = looked_up(self.nodes, self.inputs)
        answer = self._answer(tree, answers)
        if self.nodes[-1].name != answer:
            self.nodes = [n for n in self.nodes if n.name != answer] + [n for n in self.nodes if n.name == answer]
        read = {name for node in self.nodes for name in node.inputs} | {answer}
        while unread := [
            n for n in self.nodes if n.name not in read and not isinstance(n.op, Input)
        ]:  # a part of a split that no node reads
            self.nodes = [n for n in self.nodes if n not in unread]
            read = {name for node in self.nodes for name in node.inputs} | {answer}
        return with_norms(Graph(tuple(self.nodes)))

    def _answer(self, tree: Any, answers: list[fx.Node]) -> str:
        """The name of the last node; several outputs are packed into one."""
        if tree is None:
            value = self.values[answers[0]]
            if not isinstance(value, Wire):
                raise UnsupportedModel("the model's output does not depend on its input")
            check_batch_first([value])
            return value.name
        structure, wires = structured(tree, self.values)
        check_batch_first(wires)
        name = next(name for name in ("outputs", *(f"outputs_{k}" for k in range(1, 99))) if name not in self.taken)
        self.nodes.append(Node(name, Pack(structure), tuple(wire.name for wire in wires)))
        return name

    def _placeholder(self, node: fx.Node) -> int:
        if (name := self.origins.get(node.name)) is not None:
            value = self.program.state_dict.get(name)
            self._constant(node, self.program.constants[name] if value is None else value, name)
        elif (name := self.lifted.get(node.name)) is not None:
            self._constant(node, self.program.constants[name], None)
        elif isinstance(node.meta.get("val"), Tensor):
            shape, name = tuple(node.meta["val"].shape[1:]), "input"
            if self.inputs is None:
                self.nodes.insert(0, Node(name, Input(shape)))
            else:
                name = named(self.places[node])
            self.values[node] = Wire(name, shape)
            return 1
        return 0

    def _constant(self, node: fx.Node, value: Tensor, name: str | None) -> None:
        tensor = value.detach()
        tensor = tensor.float().contiguous() if tensor.is_floating_point() else tensor
        self.values[node] = tensor
        self.keepalive.append(tensor)
        if name is not None:
            self.names[id(tensor)] = name

    def _call(self, node: fx.Node) -> None:
        if node.target is operator.getitem:
            self._item(node)
            return
        value = node.meta.get("val")
        if unread := [source.name for source in node.all_input_nodes if source not in self.values]:
            names = ", ".join(unread)
            reason = f"it reads {names}, which is not a tensor: a block of code, or a generator of random numbers"
            self._refused(node, operator_name(node), *place_of(node), reason)
            return
        args, kwargs = self._arguments(node)
        leaves = pytree.tree_leaves((args, kwargs))
        if not isinstance(value, (Tensor, list, tuple)):
            self.values[node] = value  # sizes and comparisons of sizes
        elif not any(isinstance(leaf, (Wire, Comparison, Samples, torch.SymInt)) for leaf in leaves):
            self.values[node] = node.target(*args, **kwargs)  # type: ignore[operator]
            self.keepalive.append(self.values[node])
        else:
            self._layer(node, args, kwargs)

    def _is_constant(self, node: fx.Node) -> bool:
        """True if all that a call reads is known, and none of it depends on the network's input."""
        values = [self.values.get(source, Wire("", ())) for source in node.all_input_nodes]
        return not wires_of(values) and not any(isinstance(value, (torch.SymInt, Samples)) for value in values)

    def _arguments(self, node: fx.Node) -> tuple[tuple, dict]:
        return fx.map_arg((node.args, node.kwargs), lambda n: self.values[n])

    def _item(self, node: fx.Node) -> None:
        """One of several outputs of a call; not all of them may be known."""
        call, index = node.args
        source = self.values[call]  # type: ignore[index]
        if not isinstance(source, (list, tuple)):
            self.values[node] = source
        elif -len(source) <= index < len(source):  # type: ignore[operator]
            self.values[node] = source[index]  # type: ignore[index]
        else:
            reason = f"output {index} of it (indices of a maximum, for example) is not computed"
            self._refused(node, operator_name(call), *place_of(call), reason)  # type: ignore[arg-type]

    def _layer(self, node: fx.Node, args: tuple, kwargs: dict) -> None:
        target: Any = node.target
        path, line = place_of(node)
        if not isinstance(target, torch._ops.OpOverload):
            self._refused(node, str(target), path, line, "it is not an operator of torch")
            return
        name, arguments = operator_name(node), bound(target, args, kwargs)
        for known in (constant(name, target, arguments), comparison(name, arguments), samples(name, arguments)):
            if known is not None:
                self.values[node] = known
                self.keepalive.append(known)
                return
        value = node.meta["val"]
        outputs = [value] if isinstance(value, Tensor) else value
        written = masked(name, arguments, node)
        name, arguments = written or (name, arguments)
        compares = any(isinstance(leaf, Comparison) for leaf in pytree.tree_leaves(arguments))
        if compares and not name.startswith(SELECTIONS):
            self._layer(node, *self._compared(node))
            return
        try:
            held = self._held(node, name, arguments, outputs)
        except Refused as error:
            if not is_unknown(arguments):
                self._refused(node, operator_name(node), path, line, str(error))
            else:
                self._unknown(node)
            return
        except RuntimeError as error:  # of torch's symbolic shapes
            raise UnsupportedModel(
                f"{name} in {path or 'the model itself'} ({line}) has an output whose size depends on values: select "
                "by positions instead of a mask, like x[:, [0, 2]]"
            ) from error
        if held.wire is not None:
            self.values[node] = replace(held.wire, layout=held.layouts[0])
            return
        call = Call(held.name, held.arguments, held.inner or held.shapes)
        reason = unsupported.reason(name)
        computed_once = node in self.last and operator_name(node) in LAST  # unless a plug-in has an op for it
        for member in _claims(registry.generation()).get(held.name, []):
            if computed_once and registry.is_ours(member.__module__):
                continue
            try:
                self._place_node(node, member.capture(call), path, held)
                return
            except Refused as error:
                reason = str(error)
        keeps = (self.keeps(node) or node in self.last) and isinstance(value, Tensor)
        args, kwargs = self._compared(node)
        if compares and keeps:
            self._layer(node, args, kwargs)
            return
        if written is not None or held.arguments is not arguments:
            args, kwargs = in_order(resolve(f"aten.{held.name}"), held.arguments)
        if keeps:
            try:
                self._place_node(node, AnalogueOp.of(f"aten.{held.name}", args, kwargs), path, held)
                return
            except Refused as error:
                reason = str(error)
        self._refused(node, operator_name(node), path, line, reason)

    def _held(self, node: fx.Node, name: str, arguments: dict, outputs: Sequence[Tensor]) -> Held:
        """The call on values that have the batch first. Raises Refused."""
        arguments = own_rows(name, arguments)
        if is_batch_first(arguments, outputs):
            shapes = tuple(sizes_of(value)[1:] for value in outputs)
            return Held(name, arguments, (Layout(),) * len(shapes), shapes)

        def put(part: Part, shape: tuple[int, ...]) -> Wire:
            kind = "" if isinstance(part, Wire) else type(part[0]).__name__.lower()
            name = moved_back(part, self.nodes) or self._placed(node, part, place_of(node)[0], kind)
            return Wire(name, shape)

        return with_batch_first(name, arguments, outputs, put)

    def _compared(self, node: fx.Node) -> tuple[tuple, dict]:
        """The arguments of a call that is not an activation: comparisons among them become layers, or are refused."""
        for source in node.all_input_nodes:
            if isinstance(self.values[source], Comparison):
                args, kwargs = self._compared(source)
                path, line = place_of(source)
                reason = "it compares activations, which is supported only as a part of a ReLU: where(x > 0, x, 0)"
                if self.keeps(source):
                    try:
                        wire = self.values[source].wire
                        held = Held(operator_name(source), {}, (wire.layout,), (wire.shape,))
                        self._place_node(source, AnalogueOp.of(f"aten.{held.name}", args, kwargs), path, held)
                        continue
                    except Refused as error:
                        reason = str(error)
                self._refused(source, operator_name(source), path, line, reason)
        return self._arguments(node)

    def _place_node(self, node: fx.Node, captured: Any, path: str, held: Held) -> None:
        wires = []
        for index, part in enumerate(captured if isinstance(captured, list) else [captured]):
            name, multiple = self._placed(node, part, path), multiplied(part)
            if held.last is not None:
                name, multiple = self._placed(node, held.last(Wire(name, ())), path, "back"), None
            wires.append(Wire(name, held.shapes[index], multiple, held.layouts[index]))
        self.values[node] = wires[0] if isinstance(node.meta["val"], Tensor) else wires

    def _placed(self, node: fx.Node, part: Part, path: str, kind: str = "") -> str:
        """The name of the wire; an op becomes a node, after the ops that it reads."""
        if isinstance(part, Wire):
            return part.name
        op, parts = part
        inputs = tuple(
            self._placed(node, inner, path, "" if isinstance(inner, Wire) else type(inner[0]).__name__)
            for inner in parts
        )
        origin = tuple((f, self.names[id(t)]) for f, t in op.tensors().items() if id(t) in self.names)
        name = self._name(node, path, kind.lower())
        self.nodes.append(Node(name, op, inputs, path, origin))
        return name

    def _name(self, node: fx.Node, path: str, kind: str = "") -> str:
        """The module path of a torch.nn layer; otherwise the path of the calling module and the name of the call.

        ``kind`` is appended for one of several layers that a call needs.
        """
        stack = list((node.meta.get("nn_module_stack") or {}).values())
        leaf = bool(stack) and str(stack[-1][1]).startswith("torch.nn.modules.") and path
        call = node.target.__name__.split(".")[0].rstrip("_") if not leaf else ""  # type: ignore[union-attr]
        base = path if leaf else f"{path}.{call}".lstrip(".")
        base = f"{base}.{kind}" if kind else base
        name, number = base, self.numbers.get(base, 0)
        while name in self.taken:
            number += 1
            name = f"{base}_{number}"
        self.taken.add(name)
        self.numbers[base] = number
        return name

    def _refused(self, node: fx.Node, name: str, path: str, line: str, reason: str) -> None:
        self.refused.append((name, path, line, reason))
        self._unknown(node)

    def _unknown(self, node: fx.Node) -> None:
        value = node.meta["val"]
        single = isinstance(value, Tensor)
        wires = [unknown(node.name, v) for v in ([value] if single else value) if isinstance(v, Tensor)]
        self.values[node] = wires[0] if single else wires
