"""The two models: one time step with its states as inputs and outputs, and a loop of T steps."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transpike.errors import MissingExtra, UnsupportedModel
from transpike.exporters.onnx_format.metadata import metadata
from transpike.exporters.onnx_format.step import Node, Step, Tensor

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

OPSET, IR_VERSION = 17, 8
MOST_BYTES = 2**31 - 1
"""A protobuf message is no larger."""
WAY_OUT = "pip install 'transpike[onnx]'"


def step_model(step: Step) -> "ModelProto":
    """Inputs: entrances, ``step`` and the states, which are the initial ones if left out. Outputs: logits, the next
    states, and the levels of each layer.
    """
    helper = _library().helper
    nodes = [helper.make_node("Identity", [step.entrances[name].name], [now]) for name, now in step.now.items()]
    nodes += [_node(one) for one in (*step.once, *step.nodes)]
    inputs = [_value(one) for one in step.entrances.values()]
    inputs += [_scalar("step"), *(_value(one, f"{one.name}_batch") for one in step.states.values())]
    outputs = [step.logits, *_following(step), *step.levels.values()]
    constants = step.constants | {step.states[name].name: value for name, value in step.initial.items()}
    graph = helper.make_graph(nodes, "step", inputs, [_value(one) for one in outputs], _tensors(constants))
    return _model(graph, step, "step", step.next)


def loop_model(step: Step) -> "ModelProto":
    """Inputs: entrances and ``timesteps``. Outputs of each step: logits, totals, and the levels of each layer; and the
    states after the last step.
    """
    helper, new = _library().helper, step.names.new
    nodes, starts, constants = [_node(one) for one in step.once], [], dict(step.constants)

    def constant(name: str, value: NDArray) -> str:
        constants[new(name)] = value
        return list(constants)[-1]

    def node(operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        output = new(name)
        nodes.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    first, enters = next(iter(step.entrances.items()))
    sizes = node("Shape", enters.name, name="sizes")
    axis = constant("batch_axis", np.array([int(first in step.now)], np.int64))
    batch = node("Gather", sizes, axis, name="batch_size", axis=0)
    for name, state in step.states.items():
        shape = constant(f"{state.name}_shape", np.array(state.shape, np.int64))
        shape = node("Concat", batch, shape, name=f"{state.name}_sizes", axis=0)
        initial = constant(f"{state.name}_initial", step.initial[name])
        starts.append(node("Expand", initial, shape, name=f"{state.name}_start"))
    going, ends = constant("going", np.array(True)), {name: new(f"{one.name}_end") for name, one in step.states.items()}
    answers = _answers(step)
    body = _body(step, answers)
    nodes.append(helper.make_node("Loop", ["timesteps", going, *starts], [*ends.values(), *answers], body=body))
    inputs = [_value(one, train=name in step.now) for name, one in step.entrances.items()]
    outputs = [_value(Tensor(name, one.kind, one.shape), train=True) for name, one in answers.items()]
    outputs += [_value(Tensor(ends[name], one.kind, one.shape)) for name, one in step.states.items()]
    graph = helper.make_graph(nodes, "run", [*inputs, _scalar("timesteps")], outputs, _tensors(constants))
    return _model(graph, step, "loop", ends)


def _answers(step: Step) -> dict[str, Tensor]:
    """Name of an output of the loop → what it collects from each step."""
    totals = next(one for one in _following(step) if one.name == step.next[step.whole.readout.name])
    return {"logits": step.logits, "totals": totals} | {one.name: one for one in step.levels.values()}


def _following(step: Step) -> list[Tensor]:
    """The states after a step."""
    return [Tensor(step.next[name], one.kind, one.shape) for name, one in step.states.items()]


def _body(step: Step, answers: dict[str, Tensor]) -> "GraphProto":
    """The graph of one step in the loop. Names occur once, so those of the loop's outputs get an ending in it."""
    helper, new = _library().helper, step.names.new
    inside = {one.name: new(f"{one.name}_inside") for name, one in answers.items() if name == one.name}
    nodes = [
        helper.make_node("Gather", [step.entrances[name].name, "step"], [now], axis=0) for name, now in step.now.items()
    ]
    nodes += [_node(one, inside) for one in step.nodes]
    goes_on, collected = new("goes_on"), []
    nodes.append(helper.make_node("Identity", ["continues"], [goes_on]))
    for name, one in answers.items():  # an output stands in one place, and the totals are a state as well
        collected.append(Tensor(new(f"{name}_collected"), one.kind, one.shape))
        nodes.append(helper.make_node("Identity", [inside.get(one.name, one.name)], [collected[-1].name]))
    inputs = [_scalar("step"), _scalar("continues", np.bool_), *map(_value, step.states.values())]
    outputs = [_scalar(goes_on, np.bool_), *map(_value, _following(step)), *map(_value, collected)]
    return helper.make_graph(nodes, "one_step", inputs, outputs)


def _library() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra(f"writing ONNX needs the package onnx: {WAY_OUT} ({error})") from error
    return onnx


def _kind(kind: Any) -> int:
    return _library().helper.np_dtype_to_tensor_dtype(np.dtype(kind))


def _node(one: Node, renamed: dict[str, str] | None = None) -> "NodeProto":
    names = renamed or {}
    attributes = {key: _kind(value) if isinstance(value, np.dtype) else value for key, value in one.attributes.items()}
    inputs, output = [names.get(name, name) for name in one.inputs], names.get(one.output, one.output)
    return _library().helper.make_node(one.operator, inputs, [output], name=output, **attributes)


def _value(one: Tensor, batch: str = "batch", *, train: bool = False) -> "ValueInfoProto":
    """``train``: with the steps as first axis."""
    shape = [*(["steps"] if train else []), batch, *one.shape]
    return _library().helper.make_tensor_value_info(one.name, _kind(one.kind), shape)


def _scalar(name: str, kind: Any = np.int64) -> "ValueInfoProto":
    return _library().helper.make_tensor_value_info(name, _kind(kind), [])


def _tensors(constants: dict[str, NDArray]) -> "list[TensorProto]":
    size = sum(value.nbytes for value in constants.values())
    if size > MOST_BYTES:
        raise UnsupportedModel(
            f"{size:,} bytes of weights do not fit into an ONNX file of 2 GiB; export to golden or c"
        )
    return [_library().numpy_helper.from_array(value, name) for name, value in constants.items()]


def _model(graph: "GraphProto", step: Step, kind: str, after: dict[str, str]) -> "ModelProto":
    """Checked, with the metadata. ``after``: layer → the output with its state after the run."""
    onnx = _library()
    opsets = [onnx.helper.make_opsetid("", OPSET)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="transpike")
    onnx.helper.set_model_props(model, metadata(step, kind, after))
    onnx.checker.check_model(model, full_check=True)
    return model
