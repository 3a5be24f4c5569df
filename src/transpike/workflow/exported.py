"""The program that ``torch.export`` makes of a model, or the reason why there is none, with a remedy."""

import contextlib
import copy
import dataclasses
import functools
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

from transpike.core.structure import children
from transpike.errors import UnsupportedModel
from transpike.workflow.batch_first import keep_batch_first
from transpike.workflow.call import Example

LIBRARIES = (
    str(Path(torch.__file__).parent) + os.sep,
    str(Path(__file__).parents[1]) + os.sep,
    contextlib.__file__,
    functools.__file__,
)
"""What is not the user's code, by the beginning of its file names."""
WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule")
REGIONS = {
    "wrap_with_autocast": "torch.autocast in the model's forward is ignored: the results are those of full precision",
    "wrap_with_set_grad_enabled": "",
}
"""Regions of a program that compute the same outside of their context, and the remark about that."""


def copied(model: nn.Module) -> nn.Module:
    """A copy on the CPU in float32, without the wrappers of DataParallel, DistributedDataParallel and torch.compile.

    Raises UnsupportedModel with the reason for models that cannot be copied or are not layers of tensors.
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
    keep_batch_first(model)
    return model


def _check_kind(model: nn.Module) -> None:
    """UnsupportedModel for kinds of modules that torch.export cannot read, each with its remedy."""
    for name, part in model.named_modules():
        place = f"{name or 'the model'} ({type(part).__name__})"
        home = type(part).__module__
        if isinstance(part, torch.jit.ScriptModule):
            raise UnsupportedModel(
                f"{place} is a TorchScript program (torch.jit), which torch.export cannot read. Build the network from "
                "its Python class, and load the weights: network.load_state_dict(scripted.state_dict())"
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


def reference(model: nn.Module, program: ExportedProgram, remarks: list[str], example: Example) -> Any:
    """The answer that the graph must give: the model's, or the program's if it leaves something out (``remarks``).

    Raises UnsupportedModel for a model that fails on the example, although torch.export could read it.
    """
    try:
        return example.run(program.module() if remarks else model)
    except Exception as fault:
        raise UnsupportedModel(_fault(model, example, fault)) from fault


def exported(model: nn.Module, example: Example) -> Iterator[tuple[ExportedProgram, list[str]]]:
    """Programs of a copy of the model on inputs like ``example``, with remarks about what they leave out.

    One, if it is for batches of any size. Otherwise first that for the example's, and then one from which the place of
    the batch can be read, if there is one. Raises UnsupportedModel.
    """
    _register_classes(model, example)
    try:
        program = _program(model, example)
    except Exception as error:
        hooks = [part for part in model.modules() if part._forward_hooks or part._forward_pre_hooks]
        if not hooks or not _without_hooks(model, hooks, example):
            raise UnsupportedModel(_reason(model, example, error, bool(hooks))) from error
        try:
            program = _program(model, example)
        except Exception as second:
            raise UnsupportedModel(_reason(model, example, second, False)) from second
    yield program, _simplified(program)
    if not _is_symbolic(program):
        with contextlib.suppress(Exception):
            program = _of_many(model, example)
            yield program, _simplified(program)


def _simplified(program: ExportedProgram) -> list[str]:
    return [remark for remark in dict.fromkeys(_inline_regions(program.graph_module)) if remark]


def _program(model: nn.Module, example: Example) -> ExportedProgram:
    args, kwargs = example.args, example.kwargs or None
    with quiet(), torch.no_grad():
        try:
            return torch.export.export(model, args, kwargs, dynamic_shapes=example.dynamic)
        except Exception:  # a model with a fixed batch size can still be exported
            return torch.export.export(model, args, kwargs)


def _of_many(model: nn.Module, example: Example) -> ExportedProgram:
    """The program for a batch so large that no other size is a multiple of it.

    Views may be copies for small batches, and len(x) is a number, so that torch.export has no program for all batches.
    """
    example = example.repeated(_unusual(model, example))
    args, kwargs = example.args, example.kwargs or None
    with quiet(), torch.no_grad():
        program = torch.export.export(model, args, kwargs, dynamic_shapes=example.sized(torch.export.Dim.AUTO))
        if not _is_symbolic(program):
            _make_symbolic(program, len(next(iter(example.tensors))))
    return program


def _unusual(model: nn.Module, example: Example) -> int:
    """A prime number that divides no size of the model's tensors and inputs."""
    tensors = (*model.parameters(), *model.buffers())
    sizes = {size for one in tensors for size in one.shape} | {size for x in example.tensors for size in x.shape[1:]}
    primes = [61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127]
    return next((prime for prime in primes if all(size % prime for size in sizes)), 131)


def _is_symbolic(program: ExportedProgram) -> bool:
    names = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.name in names]
    return any(isinstance(size, torch.SymInt) for one in values if isinstance(one, Tensor) for size in one.shape)


def _make_symbolic(program: ExportedProgram, count: int) -> None:
    """Sizes that are multiples of ``count`` become multiples of a symbol."""
    identity = torch.export.export(
        nn.Identity(), (torch.zeros(count),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    batch = next(iter(identity.graph.nodes)).meta["val"].shape[0]

    def symbolic(value: Any) -> Any:
        if not isinstance(value, Tensor) or not any(size and size % count == 0 for size in value.shape):
            return value
        sizes = [size // count * batch if size and size % count == 0 else size for size in value.shape]
        return torch.empty(sizes, dtype=value.dtype, device="meta")

    for node in program.graph.nodes:
        if ("val" in node.meta and node.name in program.graph_signature.user_inputs) or node.op == "call_function":
            node.meta["val"] = torch.utils._pytree.tree_map(symbolic, node.meta.get("val"))


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


def _without_hooks(model: nn.Module, hooks: list[nn.Module], example: Example) -> bool:
    """Remove hooks that do not change the answer, like those that record; False if they change it."""
    try:
        before = _leaves(example.run(model))
        for part in hooks:
            part._forward_hooks.clear()
            part._forward_pre_hooks.clear()
        after = _leaves(example.run(model))
    except Exception:
        return False
    return len(before) == len(after) and all(map(torch.equal, before, after))


def _register_classes(model: nn.Module, example: Example) -> None:
    """Make the dataclasses that the model returns known to torch.export, which refuses others."""
    if type(model).forward is nn.Sequential.forward:
        return
    try:
        found = example.run(model)
    except Exception:
        return  # the export says why
    stack = [found]
    while stack:
        one = stack.pop()
        inner = children(one)
        if inner is None:
            continue
        if dataclasses.is_dataclass(one) and type(one) not in torch.utils._pytree.SUPPORTED_NODES:
            torch.export.register_dataclass(type(one))
        stack += [value for _, value in inner[1]]


def _leaves(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def _reason(model: nn.Module, example: Example, error: Exception, hooks: bool) -> str:
    """The message for a model that cannot be exported: the fault of its input, of its code, or of torch.export."""
    try:
        example.run(model)
    except Exception as fault:
        return _fault(model, example, fault)
    text = str(error)
    place = _place(error)
    if "data-dependent" in text or "Could not guard" in text or "GuardOnDataDependent" in type(error).__name__:
        what = f"the control flow of the model depends on values of its input{place}, so there is no single network to "
        what += "convert. Remove it from forward (if, while, .item() and float() of activations)"
    elif "numpy" in text:
        what = f"the model calls NumPy{place}: use operators of torch in forward"
    else:
        what = f"torch.export cannot read the model on {example.text}{place}: {_first(error)}\n"
        what += "Use plain operators of torch in forward; torch.export.export(model, (input,)) shows the whole error"
    return what + (
        ". Also remove the forward hooks: they change the answer or fail without the others" if hooks else ""
    )


def _fault(model: nn.Module, example: Example, fault: Exception) -> str:
    """The message for a model that fails on its input, also without transpike."""
    text = str(fault)
    tables = (nn.Embedding, nn.EmbeddingBag)
    lookups = [name or "the model" for name, part in model.named_modules() if isinstance(part, tables)]
    if "Long" in text or "indices" in text:
        layer = f" ({lookups[0]} is an embedding)" if lookups else ""
        return (
            f"the model takes integers{layer}, but the data are floating point or bytes: pass int64, like tokens.long()"
        )
    if "same dtype" in text or "scalar type" in text:
        way = "Models are converted in float32: remove casts to other types, like x.half(), from forward"
    elif isinstance(fault, TypeError | KeyError | IndexError):
        way = "If the model takes a dictionary or a list, a batch of the data is (that structure, target)"
    else:
        way = "The same happens without transpike, in model(x): compare the shape with that of the training data"
    return f"the model fails on {example.text}{_place(fault)}: {_first(fault)}\n{way}"


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
