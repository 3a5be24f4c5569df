"""Opens ONNX files: nothing in them runs, and no file outside their folder is read."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from transpike.errors import CheckpointError, MissingExtra, UnsupportedModel

OPSETS = range(9, 24)
LARGEST = 2**31  # bytes; protobuf reads no larger message


def library(name: str = "onnx") -> ModuleType:
    """The package ``onnx``, or one of its parts. Raises MissingExtra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtra(
            f"reading ONNX files needs the package onnx: pip install 'transpike[onnx]' ({error})"
        ) from error


def read(path: Path) -> Any:
    """The ModelProto of a file with its external data, checked, its functions inlined.

    Raises CheckpointError for a file that is damaged or that refers to data outside its folder, UnsupportedModel for
    another version of the operators.
    """
    onnx = library()
    if not path.is_file():
        raise CheckpointError(f"no ONNX file at {path}")
    if path.stat().st_size >= LARGEST:
        raise CheckpointError(
            f"{path} has {path.stat().st_size:,} bytes; an ONNX file has less than 2 GiB, its data lie next to it"
        )
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf has its own classes of errors
        raise _damaged(path, error) from error
    if not model.graph.node or not model.graph.output:
        raise CheckpointError(f"{path} is not an ONNX file, or contains an empty network")
    _texts(model, path)
    _external(model, path)
    for output in model.graph.output:
        output.type.tensor_type.shape.SetInParent()  # the checker asks for it, some writers leave it out
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(model)
        if model.functions:
            model = importlib.import_module("onnx.inliner").inline_local_functions(model)
    except Exception as error:
        raise _damaged(path, error) from error
    versions = {one.domain: one.version for one in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if version not in OPSETS:
        raise UnsupportedModel(
            f"{path} uses version {version} of ONNX's operators (opset); supported are {OPSETS.start} to "
            f"{OPSETS.stop - 1}: convert it with onnx.version_converter.convert_version, or export it with "
            "another opset_version"
        )
    return model


def version_of(model: Any) -> int:
    """The version of the standard operators that the file uses."""
    return next(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))


def _damaged(path: Path, error: Exception) -> CheckpointError:
    first = next(iter(str(error).strip().splitlines()), "")[:300]
    return CheckpointError(f"{path} is not an ONNX file, or is damaged ({type(error).__name__}: {first})")


def array(tensor: Any, path: Path) -> Any:
    """A tensor of the file as an array. Raises CheckpointError where its bytes do not fit its shape or type."""
    try:
        return library().numpy_helper.to_array(tensor)
    except Exception as error:  # of numpy, of ONNX
        first = next(iter(str(error).strip().splitlines()), "")
        raise CheckpointError(
            f"{path}: the tensor {tensor.name!r} of shape {list(tensor.dims)} cannot be read ({type(error).__name__}: "
            f"{first})"
        ) from error


def _texts(model: Any, path: Path) -> None:
    """Raises CheckpointError for names that are not UTF-8, which protobuf returns as bytes."""
    graph = model.graph
    texts = [one.name for one in (*graph.initializer, *graph.input, *graph.output)]
    for node in graph.node:
        texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
        texts += [one.name for one in node.attribute]
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise CheckpointError(f"{path} is damaged: the name {wrong[0]!r} is not UTF-8")


def _external(model: Any, path: Path) -> None:
    """Raises CheckpointError for external data that do not lie, whole, in the folder of the file."""
    onnx, folder = library(), path.parent.resolve()
    tensors = [*model.graph.initializer]
    tensors += [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    for tensor in tensors:
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entry = {one.key: one.value for one in tensor.external_data}
        try:
            place = folder / entry.get("location", "")
            inside = place.resolve().is_relative_to(folder) and not place.is_symlink()
        except (OSError, ValueError, TypeError) as error:  # a null byte, a name that is too long or not UTF-8
            raise _damaged(path, error) from error
        if not inside:
            raise CheckpointError(
                f"{path}: the tensor {tensor.name!r} refers to {entry.get('location')!r}, outside the folder of the "
                "file; it was not read. Put the data next to the file and export it again"
            )
        if not place.is_file():
            raise CheckpointError(f"{path}: its data {entry.get('location')!r} are missing; they belong in {folder}")
        try:
            start, size = int(entry.get("offset", 0)), int(entry.get("length", -1))
        except ValueError as error:
            raise _damaged(path, error) from error
        end = place.stat().st_size if size < 0 else start + size
        if start < 0 or end > place.stat().st_size:
            raise CheckpointError(
                f"{path}: its data {entry.get('location')!r} are shorter than the tensor {tensor.name!r}"
            )
