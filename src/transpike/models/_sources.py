"""Networks from other sources: torchvision, timm, a saved program, or a user's function."""

import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from transpike.core.preprocessing import Preprocessing
from transpike.core.spelling import nearest
from transpike.errors import CheckpointError, MissingExtra, SettingError
from transpike.models._base import IMAGENET, Model
from transpike.models.onnx_file import from_onnx


def elsewhere(name: str, known: Iterable[str]) -> str:
    """A suggestion for a name that the zoo does not have: the same name of another source, or one that is close."""
    for source, lists in (("torchvision", "torchvision.models"), ("timm", "timm")):
        try:
            library = importlib.import_module(lists)
            found = name in (library.list_models(module=library) if source == "torchvision" else library.list_models())
        except (ImportError, RuntimeError):
            continue
        if found:
            return f" (did you mean '{source}:{name}'?)"
    return f"{nearest(name, known)}; other sources are torchvision:{name} and timm:{name}"


def from_torchvision(name: str, num_classes: int, in_channels: int, pretrained: bool) -> tuple[nn.Module, Model]:
    """A torchvision classifier; ``pretrained`` downloads the published ImageNet weights."""
    library = _optional("torchvision.models")
    known = library.list_models(module=library)
    if name not in known:
        raise SettingError(f"torchvision has no model {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    if in_channels != 3:
        raise SettingError(f"torchvision:{name} takes 3 input channels, not {in_channels}; use timm: or py: instead")
    if pretrained and num_classes != 1000:
        raise SettingError(f"the published weights of torchvision:{name} have 1000 classes, not {num_classes}")
    module = library.get_model(name, weights="DEFAULT" if pretrained else None, num_classes=num_classes)

    def build(classes: int, channels: int) -> nn.Module:
        return from_torchvision(name, classes, channels, False)[0]

    return module, Model(f"torchvision:{name}", build, (3, 224, 224), IMAGENET, num_classes)


def from_timm(name: str, num_classes: int, in_channels: int, pretrained: bool) -> tuple[nn.Module, Model]:
    """A timm network with the input size, mean and standard deviation that timm states for it."""
    library = _optional("timm")
    if not library.is_model(name):
        raise SettingError(f"timm has no model {name!r}{nearest(name, library.list_models())}")
    module = library.create_model(name, pretrained=pretrained, num_classes=num_classes, in_chans=in_channels)
    stated = getattr(module, "pretrained_cfg", {})
    shape = (in_channels, *tuple(stated.get("input_size", (3, 224, 224)))[1:])
    mean = tuple(stated.get("mean", IMAGENET.mean))
    preprocessing = Preprocessing(mean, tuple(stated.get("std", IMAGENET.std)))

    def build(classes: int, channels: int) -> nn.Module:
        return from_timm(name, classes, channels, False)[0]

    return module, Model(f"timm:{name}", build, shape, preprocessing, num_classes)


def from_file(path: str, trust: bool, input_shape: tuple[int, ...] | None = None) -> tuple[nn.Module, Model]:
    """An ONNX file, or a program saved by ``torch.export.save``, unchanged, if it is to be trusted.

    ``input_shape`` is needed for an ONNX file that leaves sizes open. Raises as ``from_onnx``, and CheckpointError.

    PyTorch unpickles parts of such a file, and evaluates texts in its graph (sizes, guards) as Python. So it is code,
    which no check of its pickles makes safe.
    """
    if path.lower().endswith(".onnx"):
        return from_onnx(path, input_shape)
    if not Path(path).is_file():
        raise CheckpointError(f"no saved program at {path}")
    if not trust:
        raise CheckpointError(
            f"{path} is a program, and opening it can run any code on this computer; it was not opened. If you made it "
            "or trust its origin, add --trust (trust=True in Python). Else ask for the weights as .safetensors, and "
            "name the network (zoo:, torchvision:, timm:, py:)"
        )
    try:
        program = torch.export.load(path)
        module = program.module()
        arguments = program.example_inputs[0] if program.example_inputs else ()
        shape = tuple(arguments[0].shape[1:]) if arguments and isinstance(arguments[0], torch.Tensor) else ()
    except Exception as error:  # torch raises whatever its zip reader, JSON reader and unpickler raise
        raise CheckpointError(
            f"{path} is not a program saved by torch.export.save, or is damaged ({type(error).__name__}: {error}). "
            "For a file of weights, name the network (zoo:, torchvision:, timm:, py:) and pass the file as weights"
        ) from error

    def build(classes: int, channels: int) -> nn.Module:
        return from_file(path, trust)[0]

    return module, Model(f"file:{path}", build, shape, Preprocessing())


def from_python(target: str, num_classes: int | None, in_channels: int | None) -> tuple[nn.Module, Model]:
    """``package.module:factory``, imported also from the current folder, and called with the given settings only."""
    place, _, attribute = target.partition(":")
    if not place or not attribute:
        raise SettingError(f"py:{target} is not of the form py:package.module:factory")
    folder = str(Path.cwd())
    sys.path.append(folder)
    try:
        factory = getattr(importlib.import_module(place), attribute)
    except (ImportError, AttributeError) as error:
        raise SettingError(f"py:{target} cannot be imported: {error}") from error
    finally:
        sys.path.remove(folder)
    if not callable(factory):
        raise SettingError(f"py:{target} is a {type(factory).__name__}, not a function that builds a network")

    def build(classes: int | None, channels: int | None) -> nn.Module:
        if isinstance(factory, nn.Module):
            return factory
        settings = {"num_classes": classes, "in_channels": channels}
        given = {name: value for name, value in settings.items() if value is not None}
        try:
            inspect.signature(factory).bind(**given)
        except TypeError as error:
            raise SettingError(f"py:{target} cannot be called with {given}: {error}") from error
        return factory(**given)

    module = build(num_classes, in_channels)
    if not isinstance(module, nn.Module):
        raise SettingError(f"py:{target} returned a {type(module).__name__}, not a torch.nn.Module")
    return module, Model(f"py:{target}", build, (), Preprocessing(), num_classes or 0)


def _optional(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        package = name.partition(".")[0]
        raise MissingExtra(f"{package} cannot be imported: pip install 'transpike[vision]' ({error})") from error
