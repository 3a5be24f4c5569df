"""Networks by name. A new one: one file with a ``Model``, imported here."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transpike.core.preprocessing import Preprocessing
from transpike.core.registry import family, hint
from transpike.core.spelling import nearest
from transpike.errors import SettingError
from transpike.models import (
    densenet,
    ds_cnn,
    ecg,
    eeg,
    efficientnet_lite0,
    events_cnn,
    fastestdet,
    mobilenet,
    nanogpt,
    resnet20,
    small_cnn,
    vgg5,
    vgg7,
    vgg8,
    vgg16,
    vit,
)
from transpike.models._base import Model
from transpike.models._pretrained import PRETRAINED, Measured, Packaged, Pretrained, pretrained, trained
from transpike.models._sources import elsewhere, from_file, from_python, from_timm, from_torchvision
from transpike.models._weights import load_weights, metadata_of, read_weights

__all__ = [
    "PRETRAINED",
    "Measured",
    "Model",
    "Packaged",
    "Pretrained",
    "build",
    "load_weights",
    "metadata_of",
    "models",
    "pretrained",
    "read_weights",
    "trained",
]


def _network(function: Callable[[int, int], nn.Module], name: str, **details: Any) -> Model:
    """The model of a function that builds a network, registered by name."""
    try:
        return Model(name, function, **{"input_shape": (), "preprocessing": Preprocessing(), **details})
    except TypeError as error:
        raise SettingError(f"the network {name!r} does not accept these arguments: {error}") from error


members: tuple[Model, ...] = family("network", Model, holds="instances", wrap=_network).own(globals())
models: Mapping[str, Model] = family("network").table


def build(
    spec: str,
    *,
    num_classes: int | None = None,
    in_channels: int | None = None,
    weights: str | Path | None = None,
    input_shape: tuple[int, ...] | None = None,
    trust: bool = False,
) -> tuple[nn.Module, Model]:
    """The network that ``spec`` names, in evaluation mode if it has one, and its description.

    ``zoo:NAME`` · ``torchvision:NAME`` · ``timm:NAME`` · ``file:NETWORK.onnx`` · ``file:PROGRAM.pt2`` ·
    ``py:package.module:factory``; a bare NAME is the zoo's. ``weights``: a file for ``load_weights``; "pretrained" for
    those of the zoo that come with transpike (``pretrained()`` lists them), with the preprocessing that they need; or
    "default" for the published weights (a download) of torchvision and timm; without, they are random. ``input_shape``
    (channels, height, width) sets ``in_channels`` and is tested with one run. ``trust``: open the PROGRAM of ``file:``,
    which can run any code. Raises SettingError, CheckpointError, or MissingExtra.
    """
    if input_shape is not None:
        if len(input_shape) == 0 or any(size < 1 for size in input_shape):
            raise SettingError(f"input_shape is (channels, height, width), each at least 1, not {input_shape}")
        if in_channels not in (None, input_shape[0]):
            raise SettingError(f"in_channels={in_channels} contradicts input_shape={input_shape}")
        in_channels = input_shape[0]
    for name, value in (("num_classes", num_classes), ("in_channels", in_channels)):
        if value is not None and value < 1:
            raise SettingError(f"{name} must be at least 1, not {value}")
    kind, colon, name = spec.partition(":")
    if not colon:
        kind, name = "zoo", spec
    published = weights == "default"
    if published and kind not in ("torchvision", "timm"):
        own = ", or weights='pretrained' if transpike has trained it" if kind == "zoo" else ""
        raise SettingError(f"only torchvision: and timm: have weights='default'; pass {spec} a safetensors file{own}")
    ready = trained(spec) if weights == PRETRAINED else None
    if ready is not None:
        num_classes, in_channels = _as_trained(ready, num_classes, in_channels)
    if kind == "zoo":
        module, model = _from_zoo(name, num_classes, in_channels)
    elif kind in ("torchvision", "timm"):
        source: Callable[[str, int, int, bool], tuple[nn.Module, Model]]
        source = from_torchvision if kind == "torchvision" else from_timm
        module, model = source(name, num_classes or 1000, in_channels or 3, published)
    elif kind == "file":
        if num_classes is not None or (in_channels is not None and input_shape is None):
            raise SettingError(f"{spec} is an exported program; num_classes and in_channels cannot be changed")
        module, model = from_file(name, trust, input_shape)
    elif kind == "py":
        module, model = from_python(name, num_classes, None if input_shape else in_channels)
    else:
        known = ("zoo", "torchvision", "timm", "file", "py")
        raise SettingError(f"unknown kind of network {kind!r} in {spec!r}{nearest(kind, known)}; known: {known}")
    if kind != "file":
        module.eval()
    if ready is not None:
        model = replace(model, input_shape=ready.input_shape, preprocessing=ready.preprocessing)
        weights = ready.weights_path()
    if input_shape is not None:
        _try_out(module, spec, input_shape)
        model = replace(model, input_shape=tuple(input_shape))
    if weights is not None and not published and (remark := load_weights(module, weights).get("remark")):
        warnings.warn(remark, stacklevel=2)
    return module, model


def _as_trained(ready: Pretrained, num_classes: int | None, in_channels: int | None) -> tuple[int, int]:
    """Classes and channels of the trained network. Raises SettingError if others are asked for."""
    for what, asked, there in (
        ("classes", num_classes, len(ready.classes)),
        ("input channels", in_channels, ready.input_shape[0]),
    ):
        if asked not in (None, there):
            raise SettingError(f"the trained zoo:{ready.name} has {there} {what}, not {asked}")
    return len(ready.classes), ready.input_shape[0]


def _from_zoo(name: str, num_classes: int | None, in_channels: int | None) -> tuple[nn.Module, Model]:
    if name not in models:
        known = ", ".join(sorted(models))
        raise SettingError(f"the zoo has no network {name!r}{elsewhere(name, models)}; known: {known}{hint()}")
    model = models[name]
    if in_channels is None and not model.input_shape:
        raise SettingError(f"zoo:{name} has no input shape; pass input_shape or in_channels")
    classes, channels = num_classes or model.num_classes, in_channels or model.input_shape[0]
    preprocessing = model.preprocessing
    if model.input_shape and channels != model.input_shape[0]:
        # the stated values are per colour; another number of channels gets their average
        mean, std = (sum(values) / len(values) for values in (preprocessing.mean, preprocessing.std))
        preprocessing = Preprocessing((mean,), (std,))
    shape = (channels, *model.input_shape[1:]) if model.input_shape else ()
    spec = replace(model, input_shape=shape, preprocessing=preprocessing, num_classes=classes)
    return model.build(classes, channels), spec


def _try_out(module: nn.Module, spec: str, input_shape: tuple[int, ...]) -> None:
    """Run one blank image, so that a wrong size raises SettingError here."""
    try:
        with torch.no_grad():
            module(torch.zeros(1, *input_shape))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise SettingError(f"{spec} does not take images of shape {input_shape}: {error}") from error
