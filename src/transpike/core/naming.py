"""What modules, classes and distributions are called."""

import importlib.metadata
import re
from types import ModuleType
from typing import Any

GROUP = "transpike.plugins"
"""The group of entry points that plug-ins declare."""


def is_ours(module: str) -> bool:
    """True for the modules of transpike itself."""
    return module == "transpike" or module.startswith("transpike.")


def dashed(name: str) -> str:
    """``EventFrames`` as ``event-frames``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name).lower().replace("_", "-")


def script_name(module: str) -> str:
    """A script has one name, in the processes that it starts too."""
    return "__main__" if module == "__mp_main__" else module


def is_own_module(value: Any) -> bool:
    """True for a module of transpike."""
    return isinstance(value, ModuleType) and is_ours(value.__name__)


def title_of(thing: Any) -> str:
    """What a message calls a class, function or object."""
    return str(getattr(thing, "__qualname__", None) or getattr(thing, "name", None) or repr(thing))


def distribution_of(module: str) -> tuple[str, str] | None:
    """(name, version) of the installed distribution that this module belongs to; None where it belongs to none."""
    top = module.partition(".")[0]
    for point in importlib.metadata.entry_points(group=GROUP):
        if point.module.partition(".")[0] == top and point.dist is not None:
            return point.dist.name, point.dist.version
    for name in importlib.metadata.packages_distributions().get(top, ()):
        return name, importlib.metadata.version(name)
    return None
