"""Errors about unknown names suggest the nearest known one."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Self

from transpike.errors import SettingError


def nearest(name: object, known: Iterable[str]) -> str:
    """`` (did you mean 'ecc'?)``, or "" if no name is close; capitals, spaces and underscores do not count."""
    plain, text = {_plain(one): one for one in known}, _plain(name)
    stem = text.rstrip("0123456789-.")
    family = [one for one in plain if len(stem) > 2 and one.startswith(stem)]  # resnet18: resnet20-16-32-64
    close = difflib.get_close_matches(text, plain, n=1, cutoff=0.8)
    close = close or difflib.get_close_matches(text, family or plain, n=1, cutoff=0.0 if family else 0.6)
    return f" (did you mean {plain[close[0]]!r}?)" if close else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The message about a name that no member of this kind has, with a suggestion and the known names."""
    names = list(known)
    return f"there is no {kind} named {name!r}{nearest(name, names)}; choose from {', '.join(sorted(names))}"


def _plain(name: object) -> str:
    return str(name).strip().lower().replace("_", "-").replace(" ", "-")


def check_names(kind: type, settings: Mapping[str, Any]) -> None:
    """Raises SettingError for a name in ``settings`` that the dataclass ``kind`` does not take."""
    fields = getattr(kind, "__dataclass_fields__", {})
    wrong = [name for name in settings if name not in fields or not fields[name].init]
    if not fields or not wrong:
        return
    taken = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    open_ended = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in taken.values())
    known = [name for name in taken if name != "self"]
    if not open_ended and (wrong := [name for name in wrong if name not in known]):
        texts = ", ".join(f"{name!r}{nearest(name, known)}" for name in wrong)
        raise SettingError(f"{kind.__name__} has no setting {texts}; it has {', '.join(known) or 'none'}")


class NamedSettings:
    """Base of settings: a keyword that the class does not take raises a SettingError that suggests the right one."""

    def __new__(cls, *_: Any, **settings: Any) -> Self:
        check_names(cls, settings)
        return super().__new__(cls)
