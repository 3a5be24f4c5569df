"""The converted FILE and flags for the preprocessing of inputs, the same for every command that takes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

from transpike.core.preprocessing import Preprocessing
from transpike.data import Dataset, NamedSplit, named
from transpike.errors import SettingError
from transpike.hub.address import address_of
from transpike.snn import SNN

KEY = "transpike.preprocessing"
NAMES = ("unit", "data", *(name for name, one in named.sets.items() if not one.preprocessing.is_identity))


class NetworkFile(click.Path):
    """A path, or an address of a hub as it was typed: a Path would take one of its slashes away."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if isinstance(value, str) and address_of(value) else super().convert(value, param, ctx)


file_argument = click.argument("file", type=NetworkFile(path_type=Path))
optional_file_argument = click.argument("file", type=NetworkFile(path_type=Path), required=False)


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    context.meta.setdefault(KEY, {})[parameter.name] = value


def _flags(default: str) -> tuple[Callable, ...]:
    return (
        click.option(
            "--preprocessing", type=click.Choice(NAMES), expose_value=False, callback=_keep,
            help="Mean and standard deviation by name: unit (bytes / 255 only), data (of the data set), or a data "
            f"set (default: {default}).",
        ),
        click.option("--mean", metavar="M,M,…", expose_value=False, callback=_keep, help="Mean of each input channel."),
        click.option(
            "--std", metavar="S,S,…", expose_value=False, callback=_keep,
            help="Standard deviation of each input channel.",
        ),
    )  # fmt: skip


def of_model(function: Callable) -> Callable:
    """The flags for commands with --model."""
    return _applied(function, _flags("the model's"))


def of_file(function: Callable) -> Callable:
    """The flags for commands with a converted FILE, and --any-input."""
    lenient = click.option(
        "--any-input", is_flag=True, expose_value=False, callback=_keep,
        help="Also run on inputs that do not look like those of the calibration.",
    )  # fmt: skip
    return _applied(function, (*_flags("the file's"), lenient))


def _applied(function: Callable, flags: tuple[Callable, ...]) -> Callable:
    for flag in reversed(flags):
        function = flag(function)
    return function


def chosen(before: Preprocessing | None, dataset: Dataset) -> Preprocessing | None:
    """The preprocessing of the flags; ``before`` without flags. SettingError for another number of channels."""
    given = click.get_current_context().meta.get(KEY, {})
    name, mean, std = (given.get(key) for key in ("preprocessing", "mean", "std"))
    found = before
    if isinstance(dataset.train, NamedSplit):
        if name is not None or mean is not None or std is not None:
            raise SettingError(
                f"{dataset.name} has several inputs, and --preprocessing, --mean and --std are for one: store arrays "
                "after preprocessing, or convert in Python with a dictionary of preprocessings"
            )
        return before
    if name is not None:
        known = {"unit": Preprocessing(), "data": dataset.preprocessing}
        found = known[name] if name in known else named.sets[name].preprocessing
    if mean is not None or std is not None:
        base = found or Preprocessing()
        found = Preprocessing(
            base.mean if mean is None else _numbers("--mean", mean), base.std if std is None else _numbers("--std", std)
        )
    for part in () if found is None else (found.mean, found.std):
        if len(part) not in (1, dataset.image_shape[0]):
            raise SettingError(
                f"preprocessing has {len(part)} channels, {dataset.name} has {dataset.image_shape[0]}; "
                "pass --mean and --std"
            )
    return found


def adapted(snn: SNN, dataset: Dataset) -> SNN:
    """``snn`` with the preprocessing of the flags, and with --any-input."""
    found = chosen(snn.preprocessing, dataset)
    if found is not None and found != snn.preprocessing:
        snn = snn.with_preprocessing(found)
    return snn.accepting_any_input() if click.get_current_context().meta.get(KEY, {}).get("any_input") else snn


def first_samples(dataset: Dataset, count: int) -> Any:
    """The first inputs of the test samples, or of the training samples where there are none."""
    split = dataset.test if len(dataset.test) else dataset.train
    return split.batch(torch.arange(min(count, len(split))))[0]


def _numbers(flag: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingError(f"{flag} takes comma-separated numbers, not {text!r}") from None
