"""The flags of a settings class: one for each field, with its name, type, help and default."""

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from transpike import energy, exits, recipes
from transpike.cli._parts import TABLES, Part, click_type, part_named
from transpike.core.constraints import alternatives, choices_of
from transpike.core.recipe import Recipe
from transpike.core.registry import hint
from transpike.core.size import bytes_of
from transpike.core.spelling import nearest, unknown
from transpike.errors import SettingError

S = TypeVar("S")


class Read(click.ParamType):
    """A value that a function reads from text; its SettingError becomes a usage error."""

    def __init__(self, name: str, read: Callable[[str], Any]) -> None:
        self.name, self.read = name, read

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except SettingError as error:
            self.fail(str(error), param, ctx)


def recipe_kind(name: str) -> type[Recipe]:
    """The recipe of this name. Raises SettingError with the names that there are."""
    if name not in recipes.table:
        raise SettingError(unknown("recipe", name, recipes.table) + hint())
    return recipes.table[name]


def energy_named(text: str) -> energy.EnergyModel:
    """The model of this name, or of a TOML file with custom constants."""
    if text.endswith(".toml"):
        return energy.load(text)
    if text not in energy.table:
        known = ", ".join(energy.table)
        raise SettingError(f"must be one of {known} or a .toml file, not {text!r}{nearest(text, energy.table)}{hint()}")
    return energy.table[text]()


def exit_named(text: str) -> exits.Exit:
    """SCORE or SCORE:DROP, the drop in percentage points."""
    score, _, drop = text.partition(":")
    if score not in exits.table:
        raise SettingError(unknown("exit score", score, exits.table) + hint())
    try:
        return exits.Exit(score, float(drop or 0.5))
    except ValueError:
        raise SettingError(f"an exit is SCORE:DROP like gap:0.5, not {text!r}") from None


def whole_numbers(text: str) -> tuple[int, ...]:
    """Comma-separated positive integers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise SettingError(f"must be comma-separated positive integers, like 8,16,32, not {text!r}")
    return tuple(int(part) for part in parts)


def starts(text: str) -> dict[str, int]:
    """Stages with their first epochs, from text like ``clip=3,quantise=5``."""
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if not all(name and number.strip().isdigit() for name, _, number in pairs):
        raise SettingError(f"must be stages with their first epochs, like clip=3,quantise=5, not {text!r}")
    return {name.strip(): int(number) for name, _, number in pairs}


ENERGY = Read(f"[{'|'.join(energy.table)}|FILE.toml]", energy_named)
EXIT = Read("SCORE[:DROP]", exit_named)
MEMORY = Read("SIZE", bytes_of)
NUMBERS = Read("N,N,…", whole_numbers)
STAGES = Read("STAGE=EPOCH,…", starts)


def _is_part(field: dataclasses.Field, hint: Any) -> bool:
    """Whether the field takes an encoder, schedule … object rather than a string."""
    return field.name in TABLES and str not in alternatives(hint)


def _type(field: dataclasses.Field, hint: Any) -> tuple[Any, bool]:
    """The click type of a field's flag, and whether the flag can be repeated."""
    kinds = [kind for kind in alternatives(hint) if kind is not type(None)]
    origins = [typing.get_origin(kind) for kind in kinds]
    if _is_part(field, hint):
        return Part(field.name), False
    if words := field.metadata.get("names") or choices_of(field, hint):
        return click.Choice(list(words)), tuple in origins
    if any(isinstance(origin, type) and issubclass(origin, Mapping) for origin in origins):
        return STAGES, False
    if tuple in origins:
        member = typing.get_args(kinds[origins.index(tuple)])[0]
        repeated: dict[type, Any] = {energy.EnergyModel: ENERGY, exits.Exit: EXIT, str: str}
        return (NUMBERS, False) if member is int else (repeated[member], True)
    if field.metadata.get("unit") == "bytes":
        return MEMORY, False
    if kinds == [int]:
        return click.IntRange(field.metadata.get("low", 0)), False
    return click_type(field.name, hint), False


def settings_options(kind: type, *, leave_out: tuple[str, ...] = (), defaults: bool = True) -> Callable:
    """One flag for each field of a settings class except ``leave_out``.

    Without ``defaults`` a flag that is not given is None or (), for example where a preset has other defaults.
    """
    hints = typing.get_type_hints(kind)

    def apply(function: Callable) -> Callable:
        for field in reversed(dataclasses.fields(kind)):
            if field.name not in leave_out:
                function = _option(field, hints[field.name], defaults)(function)
        return function

    return apply


def _option(field: dataclasses.Field, hint: Any, defaults: bool) -> Callable:
    flag = field.metadata.get("flag") or field.name.replace("_", "-")
    default, text = field.default if defaults else None, field.metadata.get("help", "")
    if hint is bool:
        return click.option(
            f"--{flag}/--no-{flag}", field.name, default=default, show_default=defaults, help=text
        )  # fmt: skip
    reads, many = _type(field, hint)
    if many:
        return click.option(f"--{flag}", field.name, type=reads, multiple=True, help=text)
    if isinstance(reads, Part):
        default = None  # the default of the field applies
    elif isinstance(default, tuple):
        default = ",".join(map(str, default))
    return click.option(f"--{flag}", field.name, type=reads, default=default, show_default=defaults, help=text)


def chosen(kind: type[S], values: dict[str, Any], **more: Any) -> S:
    """The settings of the flags, with the defaults of the class; removes used entries from ``values``."""
    return kind(**given(kind, values) | more)


def given(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """The fields of ``kind`` whose flag was given; removes all fields of ``kind`` from ``values``."""
    hints, found = typing.get_type_hints(kind), dict[str, Any]()
    for field in dataclasses.fields(kind):
        value = values.pop(field.name, None)
        if value not in (None, ()):
            found[field.name] = part_named(field.name, value) if _is_part(field, hints[field.name]) else value
    return found
