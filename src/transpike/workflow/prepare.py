"""Replace every ReLU by a source activation, to train a network for its conversion."""

import copy
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from transpike.activations.source import SourceActivation
from transpike.core.op import check_finite
from transpike.errors import DataError, SettingError, UnsupportedModel

FUNCTIONS: tuple[Any, ...] = (F.relu, F.relu6, torch.relu, torch.relu_)
METHODS = ("relu", "relu_")
MODULES = (nn.ReLU, nn.ReLU6)
BOUNDS = {F.hardtanh: "min_val", torch.clamp: "min", torch.clamp_min: "min", "clamp": "min", "clamp_": "min",
          "clamp_min": "min", "clamp_min_": "min"}  # fmt: skip
AVERAGES: tuple[Any, ...] = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    F.avg_pool1d, F.avg_pool2d, F.avg_pool3d, F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d,
)  # fmt: skip
MAXIMA: dict[Any, type[nn.Module]] = {
    nn.MaxPool1d: nn.AvgPool1d, nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d,
    F.max_pool1d: nn.AvgPool1d, F.max_pool2d: nn.AvgPool2d, F.max_pool3d: nn.AvgPool3d,
}  # fmt: skip
DROPOUTS: dict[Any, Callable[[float], nn.Module]] = {
    F.dropout: nn.Dropout, F.dropout1d: nn.Dropout1d, F.dropout2d: nn.Dropout2d, F.dropout3d: nn.Dropout3d
}  # fmt: skip


def prepare(
    model: nn.Module,
    activation: nn.Module,
    calibration: Tensor | None = None,
    percentile: float = 99.9,
    *,
    pools: bool = False,
    input: nn.Module | None = None,
    max_pool: Literal["keep", "average"] = "keep",
) -> nn.Module:
    """A copy of ``model`` with a copy of ``activation`` in place of every ReLU, ready for training.

    ``activation``: a source activation such as ``activations.QuantisedClip(levels=8)``. It replaces modules and
    functional calls of ReLU, ReLU6 and clips at 0; each place has a separate activation, also where a module is used
    twice, named after the module that contains it. All other names stay the same, so that checkpoints of ``model``
    can be loaded; functional dropout becomes a module, batch normalisation is kept. ``calibration`` (batch, *shape):
    inputs after preprocessing; the ``percentile`` of each ReLU's outputs becomes the activation's ``thresh``, which
    is useful when training starts from trained weights.

    ``pools`` adds activations after average pools, for methods with neurons there (CQ, VR); means over axes remain
    linear. ``input``: an activation for a non-negative input, which is then sent as spikes; its threshold starts at
    the largest value of ``calibration``. ``activations.ExpandedInput``, for inputs from 0 to 1, widens the first layer
    and divides its weights. ``max_pool`` "average" replaces every maximum pool by an average pool.

    Raises UnsupportedModel where torch.fx cannot trace the model, where training and evaluation compute different
    graphs, or where there is no ReLU; SettingError and DataError for wrong settings and data.
    """
    if not isinstance(model, nn.Module) or not isinstance(activation, nn.Module):
        given = f"{type(model).__name__} and {type(activation).__name__}"
        raise SettingError(f"prepare takes a network and an activation, both torch.nn.Module, not {given}")
    if calibration is not None and not isinstance(calibration, Tensor):
        raise SettingError(f"calibration is one batch of inputs, a tensor, not a {type(calibration).__name__}")
    if calibration is not None and not isinstance(activation, SourceActivation):
        raise SettingError(f"{type(activation).__name__} has no threshold to calibrate; omit calibration")
    if input is not None and not isinstance(input, nn.Module):
        raise SettingError(f"input is an activation for the input, a torch.nn.Module, not a {type(input).__name__}")
    if max_pool not in ("keep", "average"):
        raise SettingError(f"max_pool must be 'keep' or 'average', not {max_pool!r}")
    if not isinstance(percentile, (int, float)) or not 0 < percentile <= 100:
        raise SettingError(f"percentile must be in (0, 100], not {percentile!r}")
    if calibration is not None and (not calibration.is_floating_point() or not len(calibration)):
        raise DataError(
            f"calibration must be a floating-point batch of at least one preprocessed input, not "
            f"{tuple(calibration.shape)} of {calibration.dtype}"
        )
    root = copy.deepcopy(model)
    graph, dropouts = _traced(root)
    if max_pool == "average":
        _average_maxima(root, graph)
    if pools:
        _rectify_averages(root, graph)
    modules = dict(root.named_modules())
    found = dict(_paths(graph, modules))
    if not found:
        raise UnsupportedModel("the network has no ReLU, ReLU6 or clip at 0 that an activation could replace")
    largest = {} if calibration is None else _measured(root, graph, found, calibration, percentile)
    for node in list(graph.nodes):
        if node in dropouts:
            share = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            path = _free(dict(root.named_modules()), f"{_stack(node)}dropout")
            _replace(root, graph, node, path, DROPOUTS[node.target](share))
        elif node in found:
            new = copy.deepcopy(activation)
            if node in largest:
                assert isinstance(new, SourceActivation)
                new.calibrate(largest[node])
            _replace(root, graph, node, found[node], new)
    if input is not None:
        entrance = copy.deepcopy(input)
        if calibration is not None:
            _check_range(entrance, calibration)
        _put_at_input(root, graph, entrance)
    prepared = fx.GraphModule(root, graph, type(model).__name__)
    return prepared.train(model.training)


def _traced(root: nn.Module) -> tuple[fx.Graph, set[fx.Node]]:
    """The graph of a forward pass, equal in training and evaluation, and the dropouts that only training uses."""
    mode, graphs = root.training, []
    for training in (True, False):
        try:
            graphs.append(_Tracer().trace(root.train(training)))
        except Exception as error:  # whatever the network's code raises on a proxy
            raise UnsupportedModel(
                f"torch.fx cannot trace {type(root).__name__} ({error}); add activations to its source code as "
                "modules, for example transpike.activations.QuantisedClip"
            ) from error
    root.train(mode)
    if _text(graphs[0]) != _text(graphs[1]):
        raise UnsupportedModel(
            f"{type(root).__name__} computes different graphs in training and evaluation; use modules with both modes "
            "(nn.Dropout, nn.BatchNorm2d) instead of self.training"
        )
    both = zip(*(graph.nodes for graph in graphs), strict=True)
    return graphs[1], {node for other, node in both if node.target in DROPOUTS and _drops(node) != _drops(other)}


class _Tracer(fx.Tracer):
    """Does not trace into source activations."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, SourceActivation) or super().is_leaf_module(m, module_qualified_name)


def _drops(node: fx.Node) -> bool:
    """The training flag of a functional dropout; True by default."""
    return bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True))


def _text(graph: fx.Graph) -> list[str]:
    """A graph as text for a comparison, without the flags of dropout."""
    return [
        f"{node.op} {node.target} {node.args[0] if node.target in DROPOUTS else (node.args, node.kwargs)}"
        for node in graph.nodes
    ]


def _paths(graph: fx.Graph, modules: dict[str, nn.Module]) -> Iterator[tuple[fx.Node, str]]:
    """Every node that rectifies, and the name of its activation."""
    taken = set(modules)
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    for node in graph.nodes:
        if not _rectifies(node, modules):
            continue
        if node.op == "call_module" and calls.count(node.target) == 1:
            yield node, str(node.target)
            continue
        stem = str(node.target) if node.op == "call_module" else f"{_stack(node)}relu"
        path = _free(taken, stem)
        taken.add(path)
        yield node, path


def _rectifies(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        module = modules[str(node.target)]
        return isinstance(module, MODULES) or (isinstance(module, nn.Hardtanh) and module.min_val == 0)
    if node.target in BOUNDS:
        low = node.args[1] if len(node.args) > 1 else node.kwargs.get(BOUNDS[node.target])
        return isinstance(low, (int, float)) and low == 0
    return (node.op == "call_function" and node.target in FUNCTIONS) or (
        node.op == "call_method" and node.target in METHODS
    )


def _stack(node: fx.Node) -> str:
    """The path of the calling module with a final dot; "" for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack)[-1] if stack else ""
    return f"{path}." if path else ""


def _free(taken: Collection[str], stem: str) -> str:
    """``stem``, with the smallest number that makes it a new name if it is taken."""
    return next(path for n in range(len(taken) + 1) if (path := f"{stem}_{n}" if n else stem) not in taken)


def _replace(root: nn.Module, graph: fx.Graph, node: fx.Node, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    root.get_submodule(parent).add_module(name, module)
    source = node.args[0] if node.args else node.kwargs["input"]
    with graph.inserting_before(node):
        new = graph.call_module(path, (source,))
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _kind(node: fx.Node, root: nn.Module) -> Any:
    """The function that a node calls, or the class of its module."""
    return type(root.get_submodule(str(node.target))) if node.op == "call_module" else node.target


def _average_maxima(root: nn.Module, graph: fx.Graph) -> None:
    """Replace maximum pools by average pools of the same windows."""
    for node in list(graph.nodes):
        kind = _kind(node, root)
        if kind not in MAXIMA:
            continue
        where = str(node.target) if node.op == "call_module" else f"{_stack(node)}max_pool"
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        if node.op == "call_module":
            module = root.get_submodule(where)
            given = {name: getattr(module, name) for name in names}
        else:
            given = {
                **dict(zip(names, node.args[1:], strict=False)),
                **{k: v for k, v in node.kwargs.items() if k in names},
            }
        dilation = given.pop("dilation", 1)
        if given.pop("return_indices", False) or dilation not in (1, (1,), (1, 1), (1, 1, 1)):
            raise UnsupportedModel(
                f"{where} is a maximum pool with dilation or indices, which average pooling cannot replace; change it "
                "in the network's source code"
            )
        used = node.op == "call_module" and len([n for n in graph.nodes if n.target == node.target]) == 1
        path = where if used else _free(dict(root.named_modules()), f"{where}_average")
        _replace(root, graph, node, path, MAXIMA[kind](**{k: v for k, v in given.items() if v not in (None, [])}))


def _rectify_averages(root: nn.Module, graph: fx.Graph) -> None:
    """Add a ReLU after every average pool, where the output is not negative; an activation replaces it."""
    for node in list(graph.nodes):
        if _kind(node, root) not in AVERAGES:
            continue
        where = str(node.target) if node.op == "call_module" else f"{_stack(node)}pool"
        path = _free(dict(root.named_modules()), f"{where}_relu")
        parent, _, name = path.rpartition(".")
        root.get_submodule(parent).add_module(name, nn.ReLU())
        with graph.inserting_after(node):
            new = graph.call_module(path, ())
        node.replace_all_uses_with(new)
        new.args = (node,)


def _check_range(entrance: nn.Module, x: Tensor) -> None:
    """Set the threshold to the largest input. SettingError for negative inputs, which would be clipped."""
    if float(x.min()) < 0:
        raise SettingError(
            f"the smallest calibration value is {float(x.min()):.3g}, but {type(entrance).__name__} clips negative "
            "inputs: train without normalising the input (mean 0, standard deviation 1)"
        )
    if isinstance(entrance, SourceActivation):
        entrance.calibrate(float(x.max()))


def _put_at_input(root: nn.Module, graph: fx.Graph, module: nn.Module) -> None:
    """Insert the activation after the input; a ``factor`` of the module widens the layers that follow."""
    places = [node for node in graph.nodes if node.op == "placeholder" and node.users]
    if len(places) != 1:
        raise UnsupportedModel(f"the network takes {len(places)} inputs; an activation for the input needs one")
    factor = int(getattr(module, "factor", 1))
    axes = set()
    for reader in places[0].users if factor > 1 else ():
        layer = root.get_submodule(str(reader.target)) if reader.op == "call_module" else None
        if not isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)) or getattr(layer, "groups", 1) != 1:
            raise UnsupportedModel(
                f"{type(module).__name__} cannot widen the input, because {reader.target} reads it: only ungrouped "
                "convolutions and linear layers may"
            )
        repeats = (1, factor, *(1,) * (layer.weight.ndim - 2))
        layer.weight = nn.Parameter(layer.weight.detach().repeat(repeats) / factor)
        axes.add(-1 if isinstance(layer, nn.Linear) else 1)
        setattr(layer, "in_features" if isinstance(layer, nn.Linear) else "in_channels", layer.weight.shape[1])
    if len(axes) > 1:
        raise UnsupportedModel(
            f"{type(module).__name__} cannot widen the input, because both convolutions and linear layers read it, "
            "along different axes"
        )
    if axes:
        module.axis = axes.pop()  # type: ignore[assignment]
    path = _free(dict(root.named_modules()), "input_activation")
    root.add_module(path, module)
    with graph.inserting_after(places[0]):
        new = graph.call_module(path, ())
    places[0].replace_all_uses_with(new)
    new.args = (places[0],)


def _measured(
    root: nn.Module, graph: fx.Graph, found: dict[fx.Node, str], x: Tensor, percentile: float
) -> dict[fx.Node, float]:
    """Node → the percentile of its outputs: the value of rank ⌈p n / 100⌉ of n."""
    largest: dict[fx.Node, float] = {}

    class Observer(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            output = super().run_node(node)
            if node in found:
                values = output.detach().flatten()
                rank = max(1, math.ceil(percentile / 100 * values.numel()))
                largest[node] = float(values.kthvalue(rank).values)
            return output

    mode = root.training
    for name, tensor in root.state_dict().items():
        check_finite(type(root).__name__, **{name: tensor})
    try:
        with torch.no_grad():
            Observer(root.eval(), graph=graph).run(x)
    except (RuntimeError, ValueError, IndexError) as error:
        raise DataError(
            f"the network cannot process the calibration data, a batch of inputs {tuple(x.shape)}: {error}"
        ) from error
    finally:
        root.train(mode)
    for node, value in largest.items():
        if not 0 < value < math.inf:
            raise DataError(
                f"percentile {percentile:g} of {found[node]} on the calibration data is {value:g}, which is not a "
                "valid threshold; use other data, or a higher percentile"
            )
    return largest
