"""Prepare networks by flags, store the preparation with the weights, and restore it from there."""

import inspect
import json
import typing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
from torch import Tensor, nn

from transpike import activations, models
from transpike.cli._parts import settings_of
from transpike.core.registry import hint
from transpike.core.spelling import unknown
from transpike.errors import CheckpointError, SettingError, TranspikeError
from transpike.training.source import stages
from transpike.workflow.prepare import prepare

KEY = "prepare"
SIMPLE = (bool, int, float, str)


@dataclass(frozen=True)
class Activation:
    """A source activation by its name in ``activations.table``, with all of its settings."""

    name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Raises SettingError."""
        try:
            return _known(self.name)(**self.settings)
        except TypeError as error:
            raise SettingError(f"{self.name} does not take {self.settings}: {error}") from error


@dataclass(frozen=True)
class Preparation:
    """Arguments of ``prepare`` that define the network, and the last training stage."""

    activation: Activation
    pools: bool = False
    input: Activation | None = None
    max_pool: str = "keep"
    stage: str = "quantise"

    def apply(self, module: nn.Module, calibration: Tensor | None = None, percentile: float = 99.9) -> nn.Module:
        """A prepared copy of ``module``; raises as ``prepare`` does."""
        first = None if self.input is None else self.input.build()
        options: dict[str, Any] = {"pools": self.pools, "input": first, "max_pool": self.max_pool}
        prepared = prepare(module, self.activation.build(), calibration, percentile, **options)
        stages.enter(prepared, {self.stage: 1}, 1)
        return prepared

    def note(self) -> str:
        """Text for the metadata of the weights."""
        return json.dumps(asdict(self))


def noted(weights: Path | None) -> Preparation | None:
    """The preparation of the network of these weights. Raises CheckpointError for invalid metadata."""
    if weights is None:
        return None
    text = models.metadata_of(weights).get(KEY)
    if text is None:
        return None
    try:
        values = json.loads(text)
        activation, first = Activation(**values.pop("activation")), values.pop("input")
        found = Preparation(activation, input=first and Activation(**first), **values)
        if found.stage not in stages.STAGES:
            raise SettingError(f"there is no stage named {found.stage!r}")
        for part in (found.activation, found.input):
            if part is not None:
                part.build()
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, TranspikeError) as error:
        raise CheckpointError(
            f"{weights} has a preparation for conversion that this version of transpike does not support ({error}): "
            f"{text[:400]}. Train it again, or use the version that wrote it"
        ) from error
    return found


def again(module: nn.Module, weights: Path | None) -> nn.Module:
    """``module``, prepared if the network of the weights was prepared."""
    found = noted(weights)
    return module if found is None else found.apply(module)


def activation_named(text: str) -> Activation:
    """The activation of ``name:setting=value:…``. Raises SettingError."""
    name, *parts = text.split(":")
    kind = _known(name)
    parameters = inspect.signature(kind).parameters
    hints = typing.get_type_hints(kind.__init__)
    known = {key: hints[key] for key in parameters if key in hints and _is_simple(hints[key])}
    defaults = {key: parameters[key].default for key in known}
    found = Activation(name, defaults | settings_of(name, parts, known))
    found.build()
    return found


def _known(name: str) -> type[nn.Module]:
    if name not in activations.table:
        raise SettingError(unknown("activation", name, activations.table) + hint())
    return activations.table[name]


def _is_simple(hint: Any) -> bool:
    parts = [part for part in typing.get_args(hint) if part is not type(None)] or [hint]
    return all(part in SIMPLE or isinstance(part, SIMPLE) for part in parts)


class Named(click.ParamType):
    """A source activation on the command line."""

    name = "activation"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(sorted(activations.table))}][:setting=value…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Activation:
        if isinstance(value, Activation):
            return value
        try:
            return activation_named(value)
        except SettingError as error:
            self.fail(str(error), param, ctx)


FLAGS = (
    click.option(
        "--activation", type=Named(), help="Source activation that replaces every ReLU in training, for conversion."
    ),
    click.option("--pools/--no-pools", default=None, help="Also add an activation after every average pool."),
    click.option("--input-activation", type=Named(), help="Source activation of the input."),
    click.option(
        "--max-pool", type=click.Choice(["keep", "average"]), help="Keep max pooling, or replace it by average pooling."
    ),
    click.option(
        "--percentile",
        type=click.FloatRange(0, 100, min_open=True),
        help="Percentile of activations for initial thresholds (default: 99.9).",
    ),
    click.option(
        "--calibration-samples",
        type=click.IntRange(0),
        help="Training samples for --percentile; 0 keeps the activation's threshold (default: 1000 with --weights, "
        "else 0; 0 for rnl, and for an activation with threshold=…).",
    ),
)


def from_flags(activation: Activation | None, **flags: Any) -> Preparation | None:
    """The preparation, None without --activation. Raises SettingError for flags without effect."""
    given = {key: value for key, value in flags.items() if value is not None}
    if activation is None:
        if given:
            names = ", ".join("--" + key.replace("_", "-") for key in sorted(given))
            raise SettingError(f"{names} without --activation has no effect")
        return None
    if getattr(_known(activation.name), "factor", 1) != 1:
        raise SettingError(f"{activation.name} widens its input, so it can only be an --input-activation")
    return Preparation(
        activation, given.get("pools", False), given.get("input_activation"), given.get("max_pool", "keep")
    )


def calibrates(activation: Activation) -> bool:
    """Whether trained weights set its initial thresholds: unless one is given, or the activation measures it."""
    default = inspect.signature(_known(activation.name)).parameters.get("threshold")
    chosen = default is not None and activation.settings.get("threshold") != default.default
    return not chosen and activation.name != "rnl"
