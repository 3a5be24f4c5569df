"""A source activation in the place of every ReLU, so that a network can be trained for its conversion."""

import copy
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from transpike.errors import DataError, SettingError, UnsupportedModel

FUNCTIONS: tuple[Any, ...] = (F.relu, F.relu6, torch.relu, torch.relu_)
METHODS = ("relu", "relu_")
MODULES = (nn.ReLU, nn.ReLU6)
BOUNDS = {F.hardtanh: "min_val", torch.clamp: "min", torch.clamp_min: "min", "clamp": "min", "clamp_": "min",
          "clamp_min": "min", "clamp_min_": "min"}  # fmt: skip
DROPOUTS: dict[Any, Callable[[float], nn.Module]] = {
    F.dropout: nn.Dropout, F.dropout1d: nn.Dropout1d, F.dropout2d: nn.Dropout2d, F.dropout3d: nn.Dropout3d
}  # fmt: skip


def prepare(
    model: nn.Module, activation: nn.Module, calibration: Tensor | None = None, percentile: float = 99.9
) -> nn.Module:
    """A copy of ``model`` with a copy of ``activation`` in the place of every ReLU, ready to be trained.

    ``activation``: a source activation such as ``activations.QuantisedClip(levels=8)``. Modules and functional calls
    are found, ReLU6 and clips at 0 too; each place gets its own activation, also where a module is used twice, under
    the name of the module that it stands in. Everything else keeps its name, so that the checkpoints of ``model`` fit;
    batch normalisation stays, functional dropout that rests in evaluation becomes a module. ``calibration``
    (batch, *shape): inputs after preprocessing, on which each place's ``percentile`` of what the ReLU gave becomes the
    activation's parameter ``thresh``; training from trained weights wants that.

    Raises UnsupportedModel where torch.fx cannot trace the model, where training and evaluation take different ways,
    or where nothing is found; SettingError and DataError for the rest.
    """
    if not isinstance(model, nn.Module) or not isinstance(activation, nn.Module):
        given = f"{type(model).__name__} and {type(activation).__name__}"
        raise SettingError(f"prepare takes a network and an activation, both torch.nn.Module, not {given}")
    if calibration is not None and not isinstance(calibration, Tensor):
        raise SettingError(f"calibration is one batch of inputs, a tensor, not a {type(calibration).__name__}")
    if calibration is not None and not isinstance(getattr(activation, "thresh", None), nn.Parameter):
        raise SettingError(f"{type(activation).__name__} has no parameter thresh to calibrate; leave out calibration")
    if not 0 < percentile <= 100:
        raise SettingError(f"percentile must be in (0, 100], not {percentile}")
    root = copy.deepcopy(model)
    graph, dropouts = _traced(root)
    modules = dict(root.named_modules())
    found = dict(_paths(graph, modules))
    if not found:
        raise UnsupportedModel("the network has no ReLU, ReLU6 or clip at 0 whose place an activation could take")
    largest = {} if calibration is None else _measured(root, graph, found, calibration, percentile)
    for node in list(graph.nodes):
        if node in dropouts:
            share = node.args[1] if len(node.args) > 1 else node.kwargs.get("p", 0.5)
            path = _free(dict(root.named_modules()), f"{_stack(node)}dropout")
            _replace(root, graph, node, path, DROPOUTS[node.target](share))
        elif node in found:
            new = copy.deepcopy(activation)
            if node in largest:
                with torch.no_grad():
                    new.thresh.fill_(largest[node])  # type: ignore[operator]
            _replace(root, graph, node, found[node], new)
    prepared = fx.GraphModule(root, graph, type(model).__name__)
    return prepared.train(model.training)


def _traced(root: nn.Module) -> tuple[fx.Graph, set[fx.Node]]:
    """The graph of a forward pass, the same in training and in evaluation, and the dropouts that only training has."""
    mode, graphs = root.training, []
    for training in (True, False):
        try:
            graphs.append(fx.Tracer().trace(root.train(training)))
        except Exception as error:  # whatever the network's own code raises on a proxy
            raise UnsupportedModel(
                f"torch.fx cannot trace {type(root).__name__} ({error}); put activations into its source as modules, "
                "transpike.activations.QuantisedClip for example"
            ) from error
    root.train(mode)
    if _text(graphs[0]) != _text(graphs[1]):
        raise UnsupportedModel(
            f"{type(root).__name__} computes something else in training than in evaluation; use modules that know the "
            "difference (nn.Dropout, nn.BatchNorm2d) in place of self.training"
        )
    both = zip(*(graph.nodes for graph in graphs), strict=True)
    return graphs[1], {node for other, node in both if node.target in DROPOUTS and _drops(node) != _drops(other)}


def _drops(node: fx.Node) -> bool:
    """The flag of a functional dropout, which drops unless it is told not to."""
    return bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("training", True))


def _text(graph: fx.Graph) -> list[str]:
    """A graph to be compared, without the flags of dropout."""
    return [
        f"{node.op} {node.target} {node.args[0] if node.target in DROPOUTS else (node.args, node.kwargs)}"
        for node in graph.nodes
    ]


def _paths(graph: fx.Graph, modules: dict[str, nn.Module]) -> Iterator[tuple[fx.Node, str]]:
    """Every node that rectifies, and the name that its activation gets."""
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
    """The path of the module whose code made the call, with a dot behind it; "" for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    path = list(stack)[-1] if stack else ""
    return f"{path}." if path else ""


def _free(taken: Collection[str], stem: str) -> str:
    """``stem``, or with the first number that makes it a new name."""
    return next(path for n in range(len(taken) + 1) if (path := f"{stem}_{n}" if n else stem) not in taken)


def _replace(root: nn.Module, graph: fx.Graph, node: fx.Node, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    root.get_submodule(parent).add_module(name, module)
    source = node.args[0] if node.args else node.kwargs["input"]
    with graph.inserting_before(node):
        new = graph.call_module(path, (source,))
    node.replace_all_uses_with(new)
    graph.erase_node(node)


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
    with torch.no_grad():
        Observer(root.eval(), graph=graph).run(x)
    root.train(mode)
    for node, value in largest.items():
        if not 0 < value < math.inf:
            raise DataError(
                f"{found[node]} gives {value:g} at percentile {percentile:g} of the calibration data, which is no "
                "threshold; give other data, or a higher percentile"
            )
    return largest
