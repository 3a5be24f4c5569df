"""A digest of user code, so that stored results are not reused after the code was edited.

The digest covers the code that runs, not its file: a module that was edited after its import still runs in the old
form. It includes classes with their bases, methods, attributes and defaults, and the functions, classes and values
that they refer to, across modules. Code of transpike, of the standard library and of installed distributions is
represented by its name and version. Other code that a function imports while it runs cannot be known.
"""

import dataclasses
import dis
import enum
import functools
import hashlib
import importlib.metadata
import re
import reprlib
import sys
import types
import typing
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike.core.naming import is_ours

PLAIN = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(Ellipsis),
    type(NotImplemented),
    range,
    enum.Enum,
    np.generic,
)
NAMED = (re.Pattern, torch.dtype, torch.device, torch.Size, types.GenericAlias, types.UnionType, typing.TypeVar)
BUILT_IN = (
    types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType, types.MethodWrapperType,
    types.GetSetDescriptorType, types.MemberDescriptorType, types.ClassMethodDescriptorType,
)  # fmt: skip
BOOKKEEPING = {
    "__module__", "__dict__", "__weakref__", "__doc__", "__dataclass_fields__", "__dataclass_params__",
    "__match_args__", "__abstractmethods__", "_abc_impl", "__annotations__", "__parameters__", "__orig_bases__",
    "__qualname__", "__firstlineno__", "__static_attributes__", "__slots__", "__annotate__", "__annotations_cache__",
    "__slotnames__",  # which pickle keeps in the class
}  # fmt: skip
LIBRARIES = {"torch", "torchvision", "timm", "numpy"}
"""Represented by their version, even if a network consists of their layers."""
IMPORTABLE = {*sys.stdlib_module_names, "torch", "numpy", "transpike"}
"""Packages that a function may import while it runs, because their version represents them."""
IMPORTERS = {"__import__", "importlib"}
MARKS = {"__wrapped__", "__isabstractmethod__", "__final__", "__override__"}
"""Attributes that decorators of the standard library set on a function."""
TORCH = Path(torch.__file__).parent
GENERATED = {dataclasses.__file__, reprlib.__file__}
GENERATED_NAMES = {
    "__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__delattr__", "__lt__", "__le__", "__gt__", "__ge__",
}  # fmt: skip


class Unknown(Exception):
    """The digest of a piece of code cannot be computed; the text gives the reason."""


@dataclasses.dataclass(frozen=True)
class Code:
    """``digest`` of all user code; "" if there is none, None if it cannot be computed, with the ``reason``."""

    digest: str | None
    reason: str = ""


def code_of(*things: Any) -> Code:
    """The digest of the user code (code outside transpike) that these objects, classes and functions run."""
    walk = _Walk({_top(_module_of(thing)) for thing in things} - LIBRARIES)
    try:
        for thing in things:
            walk.value(thing, _title(thing))
    except Unknown as reason:
        return Code(None, str(reason))
    except RecursionError:
        return Code(None, "its code has too many nested references")
    if not walk.outside:
        return Code("")
    return Code(hashlib.sha256("\n".join((sys.version.split(".", 2)[1], *walk.parts)).encode()).hexdigest())


class _Walk:
    """Visits everything that the code refers to, once, and notes it in a deterministic order."""

    def __init__(self, roots: set[str]) -> None:
        self.roots = roots
        self.parts: list[str] = []
        self.seen: dict[int, Any] = {}
        self.outside = False

    def note(self, *parts: object) -> None:
        self.parts.append(" ".join(map(str, parts)))

    def first_time(self, thing: Any) -> bool:
        """False for a thing that was visited before. Visited things are kept alive, so that ids stay unique."""
        new = id(thing) not in self.seen
        self.seen[id(thing)] = thing
        return new

    def value(self, value: Any, where: str) -> None:
        """Note a value. Raises Unknown for an object whose state cannot be inspected."""
        wrapped = _unwrapped(value)
        if _imports(value):
            raise Unknown(f"{where} imports code while it runs")
        if isinstance(value, PLAIN):
            self.note(type(value).__name__, repr(value))
        elif isinstance(value, (Tensor, np.ndarray)):
            array = value.detach().cpu().contiguous() if isinstance(value, Tensor) else np.ascontiguousarray(value)
            raw = array.reshape(-1).view(torch.uint8).numpy() if isinstance(array, Tensor) else array
            self.note("array", array.dtype, tuple(array.shape), hashlib.sha256(raw.tobytes()).hexdigest())
        elif isinstance(value, NAMED) or _module_of(value) == "typing":
            self.note(repr(value))
        elif isinstance(value, BUILT_IN):
            self.note("built-in", getattr(value, "__qualname__", repr(value)))
        elif isinstance(value, ModuleType):
            self.module(value.__name__)
        elif isinstance(value, type):
            self.kind(value)
        elif isinstance(value, FunctionType):
            self.function(value)
        elif wrapped:
            self.note(type(value).__name__, len(wrapped))
            for part in wrapped:
                self.value(part, where)
        elif isinstance(value, (tuple, list, dict, set, frozenset, types.MappingProxyType)):
            self.collection(value, where)
        elif dataclasses.is_dataclass(value):
            self.kind(type(value))
            if self.first_time(value):
                for field in dataclasses.fields(value):
                    self.note(field.name)
                    self.value(getattr(value, field.name, None), f"{where}.{field.name}")
        else:
            raise Unknown(f"{where} is a {type(value).__name__}, whose state is not known")

    def collection(self, value: Any, where: str) -> None:
        # equal constants may be one object or several: immutable ones are always noted
        if not isinstance(value, (tuple, frozenset)) and not self.first_time(value):
            return
        self.note(type(value).__name__, len(value))
        items = value.items() if isinstance(value, (dict, types.MappingProxyType)) else value
        for item in sorted(items, key=repr) if isinstance(value, (set, frozenset)) else items:
            for part in item if isinstance(value, (dict, types.MappingProxyType)) else (item,):
                self.value(part, where)

    def kind(self, kind: type) -> None:
        """A class: by name if its version represents it, else everything that it defines, and its bases."""
        self.note("class", _module_of(kind), kind.__qualname__)
        if not self.first_time(kind) or self.trusted(_module_of(kind)):
            return
        self.outside = True
        self.check_place(kind)
        for base in (*kind.__mro__[1:], type(kind)):
            if base not in (object, type):
                self.kind(base)
        for name, value in sorted(vars(kind).items()):
            if name not in BOOKKEEPING and not _generated(name, value):
                self.note(name)
                self.value(value, f"{kind.__qualname__}.{name}")
        for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
            for value in (field.default, field.default_factory):
                if value is not dataclasses.MISSING:
                    self.note(field.name)
                    self.value(value, f"{kind.__qualname__}.{field.name}")

    def function(self, function: FunctionType) -> None:
        self.note("function", _module_of(function), function.__qualname__)
        if not self.first_time(function):
            return
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if self.trusted(_module_of(function)):
            if is_ours(_module_of(function)):  # values in the closure of a function that transpike created
                for name, cell in cells.items():
                    self.value(cell.cell_contents, f"{function.__qualname__} ({name})")
            return
        self.outside = True
        if Path(function.__code__.co_filename).is_relative_to(TORCH) and hasattr(function, "__wrapped__"):
            self.note("torch", torch.__version__, function.__code__.co_name)  # a wrapper such as torch.no_grad()
            self.value(function.__wrapped__, function.__qualname__)
            return
        self.check_place(function)
        if free := sorted(set(cells) - {"__class__"}):
            raise Unknown(f"{function.__qualname__} uses {', '.join(free)} of the enclosing function")
        if kept := sorted(set(vars(function)) - MARKS):
            raise Unknown(f"{function.__qualname__} keeps values in its attributes: {', '.join(kept)}")
        if "__wrapped__" in vars(function):
            self.value(vars(function)["__wrapped__"], function.__qualname__)
        self.value(function.__defaults__, function.__qualname__)
        self.value(function.__kwdefaults__, function.__qualname__)
        self.code(function.__code__, function.__globals__, function.__qualname__)

    def code(self, code: CodeType, known: dict[str, Any], where: str) -> None:
        self.note(code.co_name, code.co_code.hex(), code.co_names, code.co_varnames, code.co_freevars)
        if used := sorted(IMPORTERS & set(code.co_names)):
            raise Unknown(f"{where} imports code while it runs, by {', '.join(used)}")
        for name in _imported(code):
            if _top(name) not in IMPORTABLE:
                raise Unknown(f"{where} imports {name} while it runs: import it at the top of the file")
            self.module(name)
        self.note(code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self.code(constant, known, where)
            else:
                self.value(constant, where)
        for name in code.co_names:
            if name in known:
                self.note(name)
                self.reference(known[name], code.co_names, f"{name} in {where}")

    def reference(self, value: Any, names: tuple[str, ...], where: str) -> None:
        """A global; for a module of user code, those of its attributes that the code may use."""
        if not isinstance(value, ModuleType) or self.trusted(value.__name__):
            self.value(value, where)
            return
        self.note("module", value.__name__)
        for name in names:
            if name in vars(value) and vars(value)[name] is not value:
                self.note(name)
                self.reference(vars(value)[name], tuple(n for n in names if n != name), where)

    def module(self, name: str) -> None:
        self.note("module", name, _version(_top(name)) if not is_ours(name) else "")

    def trusted(self, module: str) -> bool:
        """True if name and version represent the module: transpike, the standard library, other distributions."""
        top = _top(module)
        if is_ours(module) or top in sys.stdlib_module_names:
            return top != "__main__"
        file = getattr(sys.modules.get(module), "__file__", None) or ""
        installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
        if top in self.roots or not installed:
            return False
        self.module(module)
        return True

    def check_place(self, thing: type | FunctionType) -> None:
        """Raises Unknown for definitions that cannot be found again by their name."""
        module = _module_of(thing)
        if "<locals>" in thing.__qualname__:
            raise Unknown(f"{thing.__qualname__} is defined inside a function")
        if not getattr(sys.modules.get(module), "__file__", None):
            raise Unknown(f"{thing.__qualname__} is defined in {module}, which has no file")
        if _top(module) in self.roots:
            self.note(_version(_top(module)))


def _unwrapped(value: Any) -> tuple[Any, ...]:
    """The contents of Python's wrappers; () for everything else."""
    if isinstance(value, property):
        return tuple(part for part in (value.fget, value.fset, value.fdel) if part is not None)
    if isinstance(value, (staticmethod, classmethod)):
        return (value.__func__,)
    if isinstance(value, functools.cached_property):
        return (value.func,)
    if isinstance(value, functools.partial):
        return (value.func, value.args, value.keywords)
    if isinstance(value, types.MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, functools._lru_cache_wrapper):
        return (value.__wrapped__,)
    return ()


def _imported(code: CodeType) -> list[str]:
    """Names of the modules that this code imports; relative ones begin with a dot."""
    found = []
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for place, step in enumerate(steps):
        if step.opname == "IMPORT_NAME":  # preceded by the level and the imported names
            level = steps[place - 2].argval
            found.append("." * (level if isinstance(level, int) else 0) + str(step.argval))
    return found


def _imports(value: Any) -> bool:
    """True for ``__import__``, and for importlib and its functions."""
    if isinstance(value, ModuleType):
        return _top(value.__name__) == "importlib"
    return value is __import__ or (isinstance(value, FunctionType) and _top(_module_of(value)) == "importlib")


def _generated(name: str, value: Any) -> bool:
    """True for the methods that ``dataclass`` generates, which the fields determine."""
    code = getattr(value, "__code__", None)
    if code is None:
        return False
    return code.co_filename in GENERATED or (name in GENERATED_NAMES and code.co_filename == "<string>")


def _module_of(thing: Any) -> str:
    name = thing.__module__ if isinstance(thing, (type, FunctionType)) else type(thing).__module__
    return "__main__" if name == "__mp_main__" else str(name)


def _top(module: str) -> str:
    return module.partition(".")[0]


@functools.cache
def _version(top: str) -> str:
    try:
        names = importlib.metadata.packages_distributions().get(top, [])
        return " ".join(f"{name}=={importlib.metadata.version(name)}" for name in sorted(set(names)))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _title(thing: Any) -> str:
    named: Callable[..., Any] = thing if isinstance(thing, (type, FunctionType)) else type(thing)
    return named.__qualname__
