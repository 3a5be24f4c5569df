"""Names of modules, classes and distributions."""

import importlib
import importlib.metadata
import re
from collections.abc import Iterable
from types import ModuleType
from typing import Any

GROUP = "transpike.plugins"
"""The entry-point group of plug-ins."""


def import_folders() -> None:
    """Import all public folders: one that nothing has imported yet has not declared its family in the registry."""
    package = importlib.import_module("transpike")
    for name in package.__all__:
        getattr(package, name)


def is_ours(module: str) -> bool:
    """True for a module name of transpike."""
    return module == "transpike" or module.startswith("transpike.")


def dashed(name: str) -> str:
    """``EventFrames`` as ``event-frames``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower().replace("_", "-")


def script_name(module: str) -> str:
    """The module name of a script, the same in the processes that it starts."""
    return "__main__" if module == "__mp_main__" else module


def qualified(kind: type) -> str:
    """``package:ClassName``, the name of a plug-in's class in files."""
    return f"{script_name(kind.__module__).partition('.')[0]}:{kind.__name__}"


def is_own_module(value: Any) -> bool:
    """True for a module object of transpike."""
    return isinstance(value, ModuleType) and is_ours(value.__name__)


def listed(names: Iterable[str], most: int = 4) -> str:
    """The names, separated by commas; of many only the first ones and how many others there are."""
    every = list(names)
    if len(every) <= most + 1:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {len(every) - most} others"


def title_of(thing: Any) -> str:
    """The name of a class, function or object in messages."""
    return str(getattr(thing, "__qualname__", None) or getattr(thing, "name", None) or repr(thing))


def distribution_of(module: str) -> tuple[str, str] | None:
    """(name, version) of the installed distribution that contains this module; None if there is none."""
    top = module.partition(".")[0]
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.module.partition(".")[0] == top and point.dist is not None:
            return point.dist.name, point.dist.version
    for name in importlib.metadata.packages_distributions().get(top, ()):
        return name, importlib.metadata.version(name)
    return None
