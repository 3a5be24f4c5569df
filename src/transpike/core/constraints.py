"""One validator for settings: the limits are stored in the field's metadata, and the command line uses them too."""

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

from transpike.errors import SettingError

P = ParamSpec("P")
R = TypeVar("R")


def setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    below: float | None = None,
    choices: Iterable[str] = (),
    names: Iterable[str] = (),
    unit: str = "",
    flag: str = "",
    absent: Any = None,
) -> Any:
    """A field of a settings class, with the metadata for ``check_settings`` and the command line.

    ``text`` is the help text of its flag. Numbers lie in [``low``, ``high``], or are less than ``below``; ``unit``
    names what is counted. ``choices`` are the words allowed (not needed for a ``Literal``), ``names`` words that name
    objects. ``flag`` is the name on the command line, if it differs from the field's. ``absent`` is the value of
    files that do not hold the field because they are older, if it differs from the default.
    """
    limits: dict[str, Any] = {"low": low, "high": high, "below": below, "unit": unit, "flag": flag, "absent": absent}
    limits |= {"choices": tuple(choices), "names": tuple(names)}
    return dataclasses.field(default=default, metadata={"help": text} | {k: v for k, v in limits.items() if v})


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def choices_of(field: dataclasses.Field, hint: Any) -> tuple[Any, ...]:
    """The words that a field allows; () if it takes other values."""
    literal = next((one for one in alternatives(hint) if typing.get_origin(one) is typing.Literal), None)
    return field.metadata.get("choices", ()) or (() if literal is None else typing.get_args(literal))


def check_settings(settings: Any) -> None:
    """Raises SettingError for the first field of ``settings`` with a wrong type, a value out of range or no choice."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, kinds = getattr(settings, field.name), alternatives(hints[field.name])
        if value is None and type(None) in kinds:
            continue
        if choices := choices_of(field, hints[field.name]):
            if not isinstance(value, str) or value not in choices:
                raise SettingError(f"{field.name} is one of {', '.join(map(repr, choices))}, not {value!r}")
        elif str in kinds and isinstance(value, str):
            continue
        elif bool in kinds and not isinstance(value, bool):
            raise SettingError(f"{field.name} must be True or False, not {value!r}")
        elif float in kinds or (int in kinds and bool not in kinds):
            check_number(field.name, value, whole=float not in kinds, **_limits(field))


def _limits(field: dataclasses.Field) -> dict[str, Any]:
    return {key: field.metadata[key] for key in ("low", "high", "below", "unit") if key in field.metadata}


def check_number(
    name: str,
    value: Any,
    *,
    whole: bool = False,
    low: float = 0,
    high: float = math.inf,
    below: float = math.inf,
    unit: str = "",
) -> None:
    """Raises SettingError if ``value`` is not a finite number in [``low``, ``high``], or not less than ``below``."""
    kind = ("an integer" if whole else "a number") + (f"{' number' if whole else ''} of {unit}" if unit else "")
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise SettingError(f"{name} must be {kind}, not {value!r}")
    if not (low <= value <= high and value < below and math.isfinite(value)):
        least = f"at least {low:g}" if unit else f"of at least {low:g}"
        limits = f"{least} and below {below:g}" if below < math.inf else least
        limits = f"from {low:g} to {high:g}" if high < math.inf else limits
        raise SettingError(f"{name} must be {kind}{', ' if unit else ' '}{limits}, not {value!r}")


def takes_settings(kind: type, **moved: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator for a function whose single settings became fields of ``kind``; old calls raise a SettingError.

    The message shows the new call. ``moved``: other former parameters → what to write instead.
    """
    fields = {field.name for field in dataclasses.fields(kind)}

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if old := [name for name in kwargs if name in fields]:
                given = ", ".join(f"{name}={kwargs[name]!r}" for name in old)
                raise SettingError(
                    f"{function.__name__}() takes its settings as one object: write "
                    f"{function.__name__}(…, settings={kind.__name__}({given})) in place of {', '.join(old)}"
                )
            if gone := [name for name in kwargs if name in moved]:
                raise SettingError(f"{function.__name__}() no longer takes {gone[0]}: write {moved[gone[0]]} instead")
            return function(*args, **kwargs)

        return call

    return decorate


def settings_given(kind: type[R], settings: Any) -> R:
    """``settings``, or ``kind()`` for None. Raises SettingError for an object of another class."""
    if settings is None:
        return kind()
    if not isinstance(settings, kind):
        raise SettingError(
            f"settings must be a {kind.__name__}, like {kind.__name__}(…), not {type(settings).__name__}"
        )
    return settings
