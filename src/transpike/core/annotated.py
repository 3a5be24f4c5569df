"""Whether a value is of an annotated type: for values that come from a file, which nothing has checked yet."""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from transpike.core.naming import is_ours


def fits(value: Any, hint: Any) -> bool:
    """True if ``value`` is of the annotated type; an integer also counts as a float, True and False only as bool.

    An annotation that is neither a class nor a union, literal, tuple, set or dictionary of classes fits every value.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None:
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return any(type(value) is type(one) and value == one for one in inner)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(inner) == 2 and inner[1] is ...:
            return all(fits(one, inner[0]) for one in value)
        return len(value) == len(inner) and all(map(fits, value, inner))
    if origin is frozenset:
        return isinstance(value, frozenset) and all(fits(one, inner[0]) for one in value)
    if origin in (dict, Mapping):
        named = isinstance(value, dict)
        return named and all(fits(key, inner[0]) and fits(one, inner[1]) for key, one in value.items())
    if not isinstance(hint, type):
        return True
    if isinstance(value, bool):
        return hint in (bool, object)
    return isinstance(value, (int, float) if hint is float else hint)


def wrong_fields(kind: type, values: Mapping[str, Any], names: Iterable[str] | None = None) -> list[str]:
    """The fields of a dataclass, or those in ``names``, whose ``values`` are not of the annotated type, as text.

    Only classes of transpike promise what they are annotated with; for others the list is empty.
    """
    hints = _hints(kind) if is_ours(kind.__module__) else {}
    given = [name for name in (values if names is None else names) if name in hints and name in values]
    return [
        f"{name} is {_text(values[name])}, not {_name(hints[name])}"
        for name in given
        if not fits(values[name], hints[name])
    ]


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _text(value: Any) -> str:
    """A short text of any value."""
    plain = value is None or isinstance(value, (bool, float, str)) or (isinstance(value, int) and abs(value) < 2**64)
    text = repr(value) if plain else f"a {type(value).__name__}"
    return text if len(text) < 60 else f"{text[:57]}…"
