"""The registry of names: one table per family, filled by transpike's own folders and by plug-ins.

A *family* is a kind of extension: recipes, neurons, energy models. Each folder declares its family and adds the
classes that its ``__init__`` imports. Users add members with ``transpike.register``, in a script or in a package whose
entry point in the group ``transpike.plugins`` names the module that registers. The first look-up imports all folders
of transpike and loads the entry points; ``import transpike`` does neither.

Files refer to transpike's classes by their bare name, to others as ``package:ClassName``.
"""

import contextlib
import dataclasses
import importlib.metadata
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

from transpike.core.naming import GROUP, dashed, import_folders, is_ours, is_own_module, script_name, title_of
from transpike.core.spelling import unknown
from transpike.errors import SettingError

NAME = re.compile(r"[a-z0-9][a-z0-9_.+-]*")
Thing = TypeVar("Thing")


class PluginWarning(UserWarning):
    """An installed plug-in could not be loaded; everything else works."""


@dataclass(frozen=True)
class Plugin:
    """An entry point with its ``distribution`` and ``version``, and the ``error`` of loading it, or ""."""

    name: str
    distribution: str
    version: str
    error: str = ""

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Entry:
    """One member of a family: ``name`` in tables and on the command line, ``key`` in files."""

    name: str
    key: str
    thing: Any
    module: str


@dataclass(eq=False)
class Family:
    """The members of one ``kind``.

    ``contract`` is the base class of members, or the class of members if ``holds`` is "instances". ``in_files``: a
    saved network may contain members. ``named``: members are selected by name. ``reserved``: other taken names.
    """

    kind: str
    contract: type | None = None
    holds: str = "classes"
    in_files: bool = False
    named: bool = True
    wrap: Callable[..., Any] | None = None
    reserved: Mapping[str, str] = field(default_factory=dict)
    entries: dict[str, Entry] = field(default_factory=dict)

    @property
    def table(self) -> "Table":
        """Name → member, including those of plug-ins."""
        return Table(self)

    def own(self, namespace: Mapping[str, Any], *, as_written: bool = False) -> tuple[Any, ...]:
        """Register and return the members that a folder's ``__init__`` has imported, given its namespace.

        In alphabetical order, or ``as_written``. If members are instances, those of imported modules count too.
        """
        found: dict[int, Any] = {}
        for value in namespace.values():
            inner = vars(value).values() if self.holds == "instances" and is_own_module(value) else (value,)
            for thing in inner:
                if self.takes(thing) and (self.holds == "instances" or is_ours(thing.__module__)):
                    found.setdefault(id(thing), thing)
        things = list(found.values())
        if not as_written:
            things.sort(key=lambda thing: str(getattr(thing, "__name__", getattr(thing, "name", ""))).casefold())
        for thing in things:
            self.add(thing)
        return tuple(things)

    @property
    def takes_functions(self) -> bool:
        """True if a function may be a member, directly or wrapped."""
        return self.holds == "functions" or self.wrap is not None

    def takes(self, thing: Any) -> bool:
        """True for a subclass of the contract (but not the contract itself), or an instance of it."""
        if self.contract is None:
            return False
        if self.holds == "instances":
            return isinstance(thing, self.contract)
        return isinstance(thing, type) and issubclass(thing, self.contract) and thing is not self.contract

    def add(self, thing: Any, name: str | None = None, module: str | None = None) -> None:
        """Add a member. Raises SettingError if its name is taken; the message names both modules."""
        place = script_name(module or getattr(thing, "__module__", None) or "__main__")
        chosen = name or self._name(thing)
        key = thing.__name__ if isinstance(thing, type) else chosen
        if not is_ours(place):
            key = f"{place.partition('.')[0]}:{key}"
            if self.named and not NAME.fullmatch(chosen):
                raise SettingError(
                    f"{chosen!r} cannot be the name of a {self.kind}: use small letters, digits, '-', '_', '+' and "
                    "'.', because it is used on command lines"
                )
        entry = Entry(chosen if self.named else key, key, thing, place)
        old = self.entries.get(entry.name)
        if entry.name in self.reserved:
            old = Entry(entry.name, key, entry.name, self.reserved[entry.name])
        self._make_room(entry, old, f"the {self.kind} name {chosen!r}", "another `name`")
        for one in families.values() if self.in_files else ():
            if one.in_files:
                taken = next((other for other in one.entries.values() if other.key == key), None)
                one._make_room(entry, taken, f"the name {key!r} in files", "another class name")
        self.entries[entry.name] = entry
        _changed()

    def _make_room(self, entry: Entry, other: Entry | None, what: str, way_out: str) -> None:
        """Remove an older definition of the same thing. Raises SettingError if another thing has the name."""
        if other is None or other.thing is entry.thing:
            return
        if not _redefines(entry, other):
            raise SettingError(
                f"{what} is used twice, by {title_of(other.thing)} in {other.module} and by {title_of(entry.thing)} "
                f"in {entry.module}: use {way_out} for one of them"
            )
        del self.entries[other.name]

    def get(self, name: str) -> Any:
        """The member of this name. Raises SettingError with the available names."""
        if name not in self.table:
            raise SettingError(unknown(self.kind, name, self.table) + hint())
        return self.table[name]

    def classes(self) -> tuple[Any, ...]:
        """All members: those of transpike first, then those of plug-ins by name."""
        return tuple(entry.thing for entry in self._sorted())

    def _sorted(self) -> list[Entry]:
        load_plugins()
        ours = [entry for entry in self.entries.values() if is_ours(entry.module)]
        return ours + sorted((e for e in self.entries.values() if not is_ours(e.module)), key=lambda e: (e.name, e.key))

    def _name(self, thing: Any) -> str:
        """Its own ``name``, an inherited one only if the contract defines names; else its class name with dashes."""
        if not isinstance(thing, type):
            return str(getattr(thing, "name", None) or getattr(thing, "__name__", ""))
        asked = "name" in getattr(self.contract, "__annotations__", {})
        found = getattr(thing, "name", None) if asked else vars(thing).get("name")
        return found if isinstance(found, str) else dashed(thing.__name__)


class Table(Mapping[str, Any]):
    """A family by name; it includes members that are registered later."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def __getitem__(self, name: str) -> Any:
        load_plugins()
        return self._family.entries[name].thing

    def __iter__(self) -> Iterator[str]:
        return iter([entry.name for entry in self._family._sorted()])

    def __len__(self) -> int:
        load_plugins()
        return len(self._family.entries)

    def __repr__(self) -> str:
        return f"<{self._family.kind}: {', '.join(self)}>"


families: dict[str, Family] = {}
_plugins: list[Plugin] | None = None
_loading = False
_generation = 0


def family(kind: str, contract: type | None = None, **settings: Any) -> Family:
    """The family of this kind, created on the first call; a later call may set fields that are still empty."""
    found = families.setdefault(kind, Family(kind))
    found.contract = contract or found.contract
    for name, value in settings.items():
        setattr(found, name, value)
    return found


family("part", in_files=True, named=False)


@overload
def register(thing: Thing, /) -> Thing: ...
@overload
def register(*, kind: str | None = None, name: str | None = None, **details: Any) -> Callable[[Thing], Thing]: ...


def register(thing: Any = None, /, *, kind: str | None = None, name: str | None = None, **details: Any) -> Any:
    """Add a custom class, function or object to transpike: it appears in tables and on the command line.

    As a bare decorator on a class; its base class determines the family: a recipe, neuron (any cell), op, source
    activation, pass, energy model, encoder, readout, schedule, exit score, exporter or task. Chips
    (``transpike.chips.Chip``) and networks (``transpike.models.Model``) are objects: ``register(Chip(...))``.
    With ``kind`` and ``name`` on a function::

        @transpike.register
        @dataclass(frozen=True)
        class MyECC(transpike.recipes.ECC):
            name: ClassVar[str] = "my-ecc"

        @transpike.register(kind="data", name="my-set")
        def load(path: str) -> transpike.data.Dataset: ...

        @transpike.register(kind="network", name="my-net", input_shape=(1, 28, 28))
        def build(num_classes: int, in_channels: int) -> nn.Module: ...

    The name of a class is its ``name``, or its class name with dashes. ``kind="part"`` is for a frozen dataclass that
    is a field of others, so that files may contain it. Files refer to a class as ``package:ClassName``. Defining the
    same class again, as a notebook does, replaces it.

    Raises SettingError for anything that belongs to no family, and for a name that is taken; the message names both
    modules.
    """
    if thing is None:
        return lambda given: _register(given, kind, name, details)
    return _register(thing, kind, name, details)


def _register(thing: Any, kind: str | None, name: str | None, details: dict[str, Any]) -> Any:
    home = _home(thing, kind)
    module = script_name(getattr(thing, "__module__", None) or "__main__")
    if not isinstance(thing, type) and not inspect.isroutine(thing):
        module = script_name(sys._getframe(2).f_globals.get("__name__", "__main__"))  # of the caller of register()
    if isinstance(thing, type) and home.in_files and not dataclasses.is_dataclass(thing):
        raise SettingError(
            f"{title_of(thing)} in {module} must be a frozen dataclass: put @dataclass(frozen=True) on it"
        )
    if home.takes_functions and not home.takes(thing):
        if not name:
            raise SettingError(f'give {title_of(thing)} a name: @transpike.register(kind="{home.kind}", name="…")')
        home.add(home.wrap(thing, name, **details) if home.wrap is not None else thing, name, module)
        return thing
    if details:
        raise SettingError(f"a {home.kind} is registered without {', '.join(details)}")
    home.add(thing, name, module)
    return thing


def _home(thing: Any, kind: str | None) -> Family:
    """The family of a thing; SettingError if there is none, or more than one."""
    import_folders()
    title = title_of(thing)
    if kind is not None:
        if kind not in families:
            raise SettingError(unknown("kind", kind, families))
        home = families[kind]
        if home.holds == "classes":
            fits = isinstance(thing, type) and (home.contract is None or home.takes(thing))
        else:
            fits = home.takes(thing) or (home.takes_functions and callable(thing))
        if not fits:
            wanted = "function" if home.takes_functions else home.contract.__name__ if home.contract else "class"
            raise SettingError(f"{title} is not a {kind}: it must be a {wanted}")
        return home
    found = [one for one in families.values() if one.takes(thing)]
    if len(found) != 1:
        if inspect.isroutine(thing):
            raise SettingError(
                f'state the kind of {title}: @transpike.register(kind="data", name="…"), or kind="network" for a '
                "function that builds a network"
            )
        contracts = sorted(one.contract.__name__ for one in families.values() if one.contract is not None)
        raise SettingError(
            f"{title} belongs to {'more than one family' if found else 'no family'} of transpike: derive it from one "
            f"of {', '.join(contracts)}"
        )
    return found[0]


def file_name(kind: type) -> str | None:
    """The name of this class in files; None if it is not registered."""
    return _named_classes()[1].get(kind)


def file_class(name: str) -> type | None:
    """The class with this name in files; None if none is registered. Only plug-ins are imported for it."""
    return _named_classes()[0].get(name)


_cache: tuple[int, dict[str, type], dict[type, str]] = (-1, {}, {})


def _named_classes() -> tuple[dict[str, type], dict[type, str]]:
    global _cache
    load_plugins()
    if _cache[0] != _generation:
        entries = [e for one in families.values() if one.in_files for e in one.entries.values()]
        _cache = (_generation, {e.key: e.thing for e in entries}, {e.thing: e.key for e in entries})
    return _cache[1], _cache[2]


def generation() -> int:
    """A number that changes with every registration, for caches of derived tables."""
    load_plugins()
    return _generation


def plugins() -> tuple[Plugin, ...]:
    """The installed plug-ins, loaded or not."""
    load_plugins()
    return tuple(_plugins or ())


def load_plugins() -> None:
    """Load the entry points, once. One that fails is skipped with a PluginWarning that names its distribution."""
    global _plugins, _loading
    if _plugins is not None or _loading:
        return
    _loading, found = True, []
    try:
        import_folders()
        for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda point: point.name):
            title = point.dist.name if point.dist is not None else point.module
            version = point.dist.version if point.dist is not None else ""
            before = {kind: dict(one.entries) for kind, one in families.items()}
            error = ""
            try:
                loaded = point.load()
                if inspect.isfunction(loaded):
                    loaded()
                elif isinstance(loaded, type) and not any(
                    entry.thing is loaded for one in families.values() for entry in one.entries.values()
                ):
                    register(loaded)
            except (Exception, SystemExit) as reason:
                error = f"{type(reason).__name__}: {reason}"
                for kind, entries in before.items():
                    families[kind].entries = entries
                _changed()
            found.append(Plugin(point.name, title, version, error))
    finally:
        _loading, _plugins = False, found
    for plugin in found:
        if plugin.error:
            warnings.warn(
                f"the plug-in {plugin.name!r} of {plugin} could not be loaded and is skipped ({plugin.error}); "
                f"update or uninstall {plugin.distribution}",
                PluginWarning,
                stacklevel=3,
            )


def hint() -> str:
    """The end of a message about an unknown name: the plug-ins that could not be loaded, or nothing."""
    broken = [f"{plugin} ({plugin.error})" for plugin in plugins() if plugin.error]
    return f". Plug-ins that could not be loaded: {'; '.join(broken)}" if broken else ""


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Registrations inside are removed afterwards, but not our own: their modules are imported only once; for tests."""
    before = {kind: dict(one.entries) for kind, one in families.items()}
    try:
        yield
    finally:
        for kind, one in families.items():
            ours = {key: entry for key, entry in one.entries.items() if is_ours(entry.module)}
            one.entries = ours | before.get(kind, {})
        _changed()


def _redefines(new: Entry, old: Entry) -> bool:
    """True for the same definition executed again, as by a notebook cell or a reloaded module."""
    same = (new.module, title_of(new.thing)) == (old.module, title_of(old.thing))
    return same and not is_ours(new.module)


def _changed() -> None:
    global _generation
    _generation += 1
