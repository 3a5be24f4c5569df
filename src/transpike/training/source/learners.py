"""Selection of trained parameters: all, or only those of source activations."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Literal, get_args

from torch import nn

from transpike.activations.source import SourceActivation
from transpike.errors import SettingError
from transpike.training.source import stages as phases

Learn = Literal["all", "activations"]


def parameters(module: nn.Module, learn: Learn, stages: Mapping[str, int]) -> dict[str, nn.Parameter]:
    """Name → trained parameter; raises SettingError for an unknown ``learn``, for none, or in early ``stages``."""
    if learn not in get_args(Learn):
        raise SettingError(f"learn is one of {get_args(Learn)}, not {learn!r}")
    if learn == "activations" and (stages or phases.partial(module)):
        raise SettingError(
            "learn='activations' needs activations in their last stage, 'quantise': their parameters may have no "
            "effect before. Omit stages, and set the attribute stage of every activation to 'quantise'"
        )
    found = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if learn == "activations":
        own = {id(p) for part in _activations(module) for p in part.parameters()}
        found = {name: p for name, p in found.items() if id(p) in own}
    if not found and learn == "all":
        raise SettingError(f"{type(module).__name__} has no parameters to train")
    if not found:
        raise SettingError(
            f"no activation of {type(module).__name__} has parameters; prepare it with one that has a "
            "trainable threshold (qcfs, rnl, tcl, …), or omit learn='activations'"
        )
    return found


@contextlib.contextmanager
def alone(module: nn.Module, learn: Learn, found: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Context in which all parameters except ``found`` are frozen if only activations are trained."""
    if learn == "all":
        yield
        return
    parts, own = _activations(module), {id(p) for p in found.values()}
    others = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
    for parameter in others:
        parameter.requires_grad_(False)
    for part in parts:
        part.locked = True
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
        for part in parts:
            part.locked = False


def enter(module: nn.Module, learn: Learn) -> None:
    """Training mode for the trained parts; the others remain in evaluation mode."""
    module.train(learn == "all")
    if learn == "activations":
        for part in _activations(module):
            part.train()


def _activations(module: nn.Module) -> list[SourceActivation]:
    return [part for part in module.modules() if isinstance(part, SourceActivation)]
