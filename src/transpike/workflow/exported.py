"""The program that ``torch.export`` makes of a model, or the reason why there is none, with a way out."""

import contextlib
import copy
import functools
import inspect
import io
import logging
import os
import re
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export import ExportedProgram
from torch.nn.parameter import is_lazy

from transpike.errors import UnsupportedModel

LIBRARIES = (
    str(Path(torch.__file__).parent) + os.sep,
    str(Path(__file__).parents[1]) + os.sep,
    contextlib.__file__,
    functools.__file__,
)
"""What is not the user's code, by the beginning of its file names."""
WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule")
REGIONS = {
    "wrap_with_autocast": "torch.autocast in the model's forward is left out: the numbers are those of full precision",
    "wrap_with_set_grad_enabled": "",
}
"""Regions of a program that compute the same outside of their context, and the remark about that."""
ONE_INPUT = (
    "write a module that takes one tensor and makes the other inputs of it:\n"
    "    class OneInput(torch.nn.Module):\n"
    "        def __init__(self, model): super().__init__(); self.model = model\n"
    "        def forward(self, x): return self.model({call})"
)


def copied(model: nn.Module) -> nn.Module:
    """A copy on the CPU in float32, without the wrappers of DataParallel, DistributedDataParallel and torch.compile.

    Raises UnsupportedModel with the reason for models that cannot be copied or are no layers of tensors.
    """
    while type(model).__name__ in WRAPPERS and type(model).__module__.startswith("torch."):
        model = getattr(model, "_orig_mod", None) or model.module  # type: ignore[assignment]
    _check_kind(model)
    kept: dict[int, Any] = {}  # what weight_norm leaves behind has a gradient, and copy refuses that
    for part in model.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                kept[id(value)] = value.detach().clone()
    try:
        model = copy.deepcopy(model, kept).cpu().float()
    except (TypeError, RuntimeError, NotImplementedError) as error:  # the last one: tensors without data (meta)
        raise UnsupportedModel(
            f"the model cannot be copied ({error}): keep what cannot be copied, like files, locks and loggers, outside "
            "of the module"
        ) from error
    for part in model.modules():
        for name, value in vars(part).items():  # constants that are no buffers
            if isinstance(value, Tensor):
                vars(part)[name] = value.cpu().float() if value.is_floating_point() else value.cpu()
    return model


def _check_kind(model: nn.Module) -> None:
    """UnsupportedModel for kinds of modules that torch.export cannot read, each with its way out."""
    for name, part in model.named_modules():
        place = f"{name or 'the model'} ({type(part).__name__})"
        home = type(part).__module__
        if isinstance(part, torch.jit.ScriptModule):
            raise UnsupportedModel(
                f"{place} is a TorchScript program (torch.jit), which torch.export cannot read. Build the network from "
                "its Python class, and take over the weights: network.load_state_dict(scripted.state_dict())"
            )
        if re.match(r"torch\.(ao\.)?nn\.(\w+\.)?quantized", home):
            raise UnsupportedModel(
                f"{place} is quantised by torch.ao: its weights are packed integers of one backend. Convert the "
                "network that you had before quantisation; recipes have their own settings for few bits (weight_bits)"
            )
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(value):
            raise UnsupportedModel(
                f"{name} has no size yet, because its layer is lazy: run one batch through the model first, model(x)"
            )


def input_name(model: nn.Module) -> str | None:
    """The name of the model's input if it must be given by name, else None.

    Raises UnsupportedModel for a model that needs another number of inputs than one.
    """
    if (
        type(model).forward is nn.Module.forward
        or getattr(type(model).forward, "__name__", "") == "_forward_unimplemented"
    ):
        raise UnsupportedModel(
            f"{type(model).__name__} has no forward method, so it computes nothing: put its layers into nn.Sequential, "
            "or into a module that calls them"
        )
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):
        return None
    empty = inspect.Parameter.empty
    needed = [
        one for one in parameters if one.default is empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    named = [one.name for one in needed if one.kind is one.KEYWORD_ONLY]
    takes_one = any(one.kind is not one.KEYWORD_ONLY and one.kind is not one.VAR_KEYWORD for one in parameters)
    if len(needed) > 1:
        names = ", ".join(one.name for one in needed)
        values = [f"{one.name}=…" if one.kind is one.KEYWORD_ONLY else "…" for one in needed]
        raise UnsupportedModel(
            f"the model takes {len(needed)} inputs ({names}), and a spiking network takes one: "
            + ONE_INPUT.format(call=", ".join(values))
        )
    if not needed and not takes_one:
        names = ", ".join(one.name for one in parameters if one.kind is one.KEYWORD_ONLY)
        raise UnsupportedModel(
            f"the model takes its inputs only by name ({names or 'none'}), and none is required: "
            + ONE_INPUT.format(call=f"{names.split(', ')[0] or '…'}=x")
        )
    return named[0] if named else None


def run_once(model: nn.Module, x: Tensor, name: str | None) -> Any:
    """What the model returns for ``x``, its input of this name."""
    with torch.no_grad():
        return model(x) if name is None else model(**{name: x})


def reference(model: nn.Module, program: ExportedProgram, remarks: list[str], x: Tensor, name: str | None) -> Any:
    """The answer that the graph must give: the model's, or the program's if it leaves something out (``remarks``).

    Raises UnsupportedModel for a model that fails on ``x``, although torch.export could read it.
    """
    try:
        return run_once(program.module() if remarks else model, x.clone(), name)
    except Exception as fault:
        raise UnsupportedModel(_fault(model, tuple(x.shape), fault)) from fault


def exported(model: nn.Module, example: Tensor, name: str | None) -> tuple[ExportedProgram, list[str]]:
    """The program of a copy of the model on inputs like ``example``, and remarks about what it leaves out.

    ``name`` is that of the input where it is given by name. Raises UnsupportedModel.
    """
    try:
        program = _program(model, example, name)
    except Exception as error:
        hooks = [part for part in model.modules() if part._forward_hooks or part._forward_pre_hooks]
        if not hooks or not _without_hooks(model, hooks, example):
            raise UnsupportedModel(_reason(model, example, error, bool(hooks))) from error
        try:
            program = _program(model, example, name)
        except Exception as second:
            raise UnsupportedModel(_reason(model, example, second, False)) from second
    return program, [remark for remark in dict.fromkeys(_inline_regions(program.graph_module)) if remark]


def _program(model: nn.Module, example: Tensor, name: str | None) -> ExportedProgram:
    args, kwargs = ((example,), None) if name is None else ((), {name: example})
    batch = {0: torch.export.Dim("batch", min=1)}
    shapes: Any = (batch,) if name is None else {name: batch}
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(model, args, kwargs, dynamic_shapes=shapes)
        except Exception:  # a model with a fixed batch size can still be exported
            return torch.export.export(model, args, kwargs)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch.export logs, prints and warns about (graphs, guards) out of the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _without_hooks(model: nn.Module, hooks: list[nn.Module], example: Tensor) -> bool:
    """Remove hooks that do not change the answer, like those that record; False if they change it."""
    try:
        before = _leaves(run_once(model, example.clone(), input_name(model)))
        for part in hooks:
            part._forward_hooks.clear()
            part._forward_pre_hooks.clear()
        after = _leaves(run_once(model, example.clone(), input_name(model)))
    except Exception:
        return False
    return len(before) == len(after) and all(map(torch.equal, before, after))


def _leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _reason(model: nn.Module, example: Tensor, error: Exception, hooks: bool) -> str:
    """The message for a model that cannot be exported: the fault of its input, of its code, or of torch.export."""
    shape = tuple(example.shape)
    try:
        run_once(model, example.clone(), input_name(model))
    except Exception as fault:
        return _fault(model, shape, fault)
    text = str(error)
    place = _place(error)
    if "data-dependent" in text or "Could not guard" in text or "GuardOnDataDependent" in type(error).__name__:
        what = f"the model decides by values of its input{place}, so there is no single network to convert. Remove "
        what += "control flow that depends on data (if, while, .item() and float() of activations)"
    elif "numpy" in text:
        what = f"the model leaves torch for NumPy{place}: use operators of torch in forward"
    else:
        what = f"torch.export cannot read the model on an input of shape {shape}{place}: {_first(error)}\n"
        what += "Use plain operators of torch in forward; torch.export.export(model, (input,)) shows the whole error"
    return what + (
        ". Also remove the forward hooks: they change the answer or fail without the others" if hooks else ""
    )


def _fault(model: nn.Module, shape: tuple[int, ...], fault: Exception) -> str:
    """The message for a model that fails on its input, also without transpike."""
    text = str(fault)
    tables = (nn.Embedding, nn.EmbeddingBag)
    lookups = [name or "the model" for name, part in model.named_modules() if isinstance(part, tables)]
    if "Long" in text or "indices" in text:
        layer = f" ({lookups[0]} is an embedding)" if lookups else ""
        return (
            f"the model takes whole numbers{layer}, and a spiking network takes real values: convert the part behind "
            "the look-up, with its outputs as calibration data, as in convert(rest, calibration=embedding(tokens))"
        )
    if "same dtype" in text or "scalar type" in text:
        way = "Models are converted in float32: remove casts to other types, like x.half(), from forward"
    elif isinstance(fault, TypeError | KeyError | IndexError):
        way = f"If the model takes a dict or a list, {ONE_INPUT.format(call='{...: x}')}"
    else:
        way = "The same happens without transpike, in model(x): compare the shape with that of the training data"
    return f"the model fails on an input of shape {shape}{_place(fault)}: {_first(fault)}\n{way}"


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _place(error: BaseException) -> str:
    """`` (file:line)`` of the last line of the user's code in the traceback, or ""."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [one for one in frames if not one.filename.startswith((*LIBRARIES, "<"))]
    return f" ({own[-1].filename}:{own[-1].lineno})" if own else ""


def _inline_regions(module: fx.GraphModule) -> list[str]:
    """Put the calls of regions, also of those within regions, in place of the regions; returns remarks about them."""
    graph, remarks = module.graph, []
    for node in [node for node in graph.nodes if _kind(node) in REGIONS]:
        index = next(i for i, one in enumerate(node.args) if isinstance(one, fx.Node) and one.op == "get_attr")
        body, inputs = node.args[index], node.args[index + 1 :]
        inner = getattr(module, body.target)
        remarks += _inline_regions(inner)
        if _kind(node) != "wrap_with_autocast" or node.args[2]:  # a disabled autocast changes nothing
            remarks.append(REGIONS[_kind(node)])
        _inline(graph, node, inner.graph, inputs)
        if not body.users:
            graph.erase_node(body)
    if remarks:  # types that the regions would have given
        for node in [node for node in graph.nodes if node.target is torch.ops.aten._assert_tensor_metadata.default]:
            graph.erase_node(node)
    module.recompile()
    return remarks


def _kind(node: fx.Node) -> str:
    return getattr(node.target, "__name__", "") if node.op == "call_function" else ""


def _inline(graph: fx.Graph, region: fx.Node, inner: fx.Graph, inputs: tuple) -> None:
    """Copy the nodes of ``inner`` before ``region``, and connect what reads the region's outputs."""
    values = dict(zip((node for node in inner.nodes if node.op == "placeholder"), inputs, strict=True))
    with graph.inserting_before(region):
        for node in inner.nodes:
            if node.op not in ("placeholder", "output"):
                values[node] = graph.node_copy(node, values.__getitem__)
    (results,) = next(node for node in inner.nodes if node.op == "output").args
    for reader in list(region.users):
        reader.replace_all_uses_with(values[results[reader.args[1]]])  # every reader takes one of the outputs
        graph.erase_node(reader)
    graph.erase_node(region)
