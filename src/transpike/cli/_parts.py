"""Settings as text: ``name:setting=value``, with the types of a class."""

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

import click

from transpike import encoders, readouts, schedules, tasks
from transpike.core.encoder import Encoder
from transpike.core.readout import Readout
from transpike.core.registry import hint
from transpike.core.renamed import SETTINGS
from transpike.core.schedule import Schedule
from transpike.core.spelling import nearest, unknown
from transpike.errors import SettingError

TABLES: dict[str, Mapping[str, Any]] = {
    "encoder": encoders.table,
    "readout": readouts.table,
    "schedule": schedules.table,
    "task": tasks.table,
}


def click_type(name: str, hint: Any) -> Any:
    """The click type of a setting with this annotation."""
    if name in TABLES:
        return Part(name)
    if typing.get_origin(hint) is typing.Literal:
        return click.Choice(list(typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return click_type(name, next(a for a in typing.get_args(hint) if a is not type(None)))
    return hint


def is_simple(hint: Any) -> bool:
    """True where text can be converted to this annotation: number, word, choice, member of the tables, or None."""
    parts = [one for one in typing.get_args(hint) if one is not type(None)] or [hint]
    if typing.get_origin(hint) is typing.Literal:
        return all(isinstance(one, str) for one in parts)
    if typing.get_origin(hint) not in (None, typing.Union, types.UnionType):
        return False
    return len(parts) == 1 and (
        parts[0] in (bool, int, float, str, Encoder, Readout, Schedule)
        or (typing.get_origin(parts[0]) is typing.Literal and is_simple(parts[0]))
    )


class Part(click.ParamType):
    """An encoder, schedule, readout or task: its name, and after colons settings with values other than the default."""

    def __init__(self, key: str) -> None:
        self.key, self.name = key, f"{key}[:setting=value]"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{'|'.join(sorted(TABLES[self.key]))}][:setting=value…]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            part_named(self.key, value)
        except SettingError as error:
            self.fail(str(error), param, ctx)
        return value


def part_named(key: str, text: str, seed: int = 0) -> Any:
    """The encoder, schedule, readout or task of ``name:setting=value:…``; ``seed`` is for random encoders."""
    name, *parts = text.split(":")
    if key == "task":
        name = tasks.ALSO_CALLED.get(name, name)
    if key == "task" and name in tasks.TAKE_FUNCTIONS:
        raise SettingError(
            f"{name} takes a function, which cannot be written on a command line: call it in Python, as "
            f"ts.evaluate(snn, data, task=ts.tasks.{name.capitalize()}(…)), or register a custom task"
        )
    if name not in TABLES[key]:
        raise SettingError(unknown(key, name, TABLES[key]) + hint())
    member = TABLES[key][name]
    hints = typing.get_type_hints(member)
    known = {field.name: hints[field.name] for field in dataclasses.fields(member)}
    settings = {"seed": seed} if "seed" in known else {}
    if key == "task":
        parts = [re.sub(r"^\s*ignore\s*=", "ignore_index=", part) for part in parts]
    return member(**settings | settings_of(name, parts, known))


def settings_of(name: str, parts: list[str], known: dict[str, Any]) -> dict[str, Any]:
    """Settings of ``key=value`` parts, with the types of ``known``."""
    found: dict[str, Any] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        field = key.strip().replace("-", "_")
        if field not in known:
            flags = ", ".join(sorted(flag.replace("_", "-") for flag in known)) or "none"
            new = SETTINGS.get(field, "").replace("_", "-")
            text = f"the setting {key.strip()!r} has been renamed to {new!r}" if new else f"it has {flags}"
            close = "" if new else nearest(field, [flag.replace("_", "-") for flag in known])
            raise SettingError(f"{name} has no setting {key.strip()!r} here{close}; {text}")
        if not equals or field in found:
            raise SettingError(f"{name}: {part.strip()!r} must be {key.strip()}=value, given once")
        try:
            found[field] = click.types.convert_type(click_type(field, known[field]))(value.strip())
        except click.BadParameter as error:
            raise SettingError(f"{name}:{part.strip()}: {error.message}") from None
    return found
