"""Data sets by name. A new source: one file with a ``load``, imported here."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transpike.core import registry
from transpike.core.naming import dashed, is_own_module
from transpike.core.registry import family
from transpike.core.spelling import nearest
from transpike.data import (
    deap,
    digits,
    event_archive,
    event_folder,
    eye_state,
    idx,
    imagefolder,
    mitbih,
    named,
    npz,
    torchvision_sets,
    webdataset,
)
from transpike.data._base import Batches, Dataset, Split
from transpike.data._named_arrays import NamedSplit
from transpike.data._recordings import Events, Frames, Recordings, recording_options
from transpike.errors import DataError, SettingError

__all__ = [
    "Batches",
    "Dataset",
    "Events",
    "Frames",
    "NamedSplit",
    "Recordings",
    "Split",
    "load",
    "names",
    "recording_options",
    "sources",
]

sources: dict[str, Callable[..., Dataset]] = {
    dashed(name): module.load
    for name, module in [*globals().items()]
    if is_own_module(module) and hasattr(module, "load")
}
"""Name of a module of this folder, with dashes → its ``load``."""
names = ("digits", *named.sets, "npz:FILE", "imagefolder:DIR", "webdataset:SHARDS", "events:DIR")
PLACES = frozenset({"path", "paths", "directory", "files", "root", "kind", "download"})
"""Arguments of readers that the name of a data set determines; they are not options."""
table: Mapping[str, Callable[..., Dataset]] = family(
    "data", holds="functions", reserved={name.partition(":")[0]: __name__ for name in names}
).table
"""Registered data sets of plug-ins, by name."""


def load(name: str | Path = "digits", data_dir: str | Path | None = None, **options: Any) -> Dataset:
    """The data set ``name``: digits, a well-known name, ``npz:FILE``, ``imagefolder:DIR``, ``webdataset:SHARDS``,
    ``events:DIR``, FILE.npz or SHARDS.tar, like shards/{000..099}.tar.

    Well-known sets are searched in ``data_dir``, else in the directory TRANSPIKE_DATA. Archives may contain images or
    recordings of event cameras. Options: ``size`` and ``resize`` for image folders and shards, ``index`` for shards;
    ``bins``, ``span`` and ``frames`` for recordings; ``test_fraction`` and ``split_seed`` if recordings or shards have
    no official split; the options of mitbih, deap and
    eeg-eye-state are the arguments of their ``load`` (docs/biosignals.md).
    A data set of a plug-in (``@transpike.register(kind="data", name="my-set")``) is a function that returns a Dataset;
    in ``my-set:PLACE`` its first argument is PLACE, and it gets ``data_dir`` if it has such an argument.
    Raises DataError (unknown name, data missing or damaged), SettingError for an unknown option, or MissingExtra.
    """
    name = str(name)
    kind, _, place = name.partition(":")
    if kind not in table and (taken := sorted(PLACES & options.keys())):
        raise SettingError(f"{name} has no option {', '.join(taken)}")
    if name in named.sets:
        location = named.locate(name, data_dir, options)
        return _call(location.source, name, location.arguments)
    if name == "digits":
        return _call("digits", name, options)
    if name.endswith(".npz") or (kind == "npz" and place):
        file = Path(place if kind in ("npz", "events") else name).expanduser()
        if kind == "events" or event_archive.is_event_archive(file):
            return _call("event-archive", name, {"path": file, **options})
        return _call("npz", name, {"paths": file, **options})
    if (name.endswith(".tar") and kind not in table) or (kind == "webdataset" and place):
        return _call("webdataset", name, {"paths": place if kind == "webdataset" else name, **options})
    if kind == "events" and place:
        return _call("event-folder", name, {"path": place, **options})
    if kind == "imagefolder" and place:
        return _call("imagefolder", name, {"directory": place, **options})
    if kind in table:
        return _from_outside(kind, place, data_dir, options)
    known = (*names, *table)
    raise SettingError(f"unknown data set {name!r}{nearest(name, known)}; known: {', '.join(known)}{registry.hint()}")


def _call(source: str, name: str, arguments: dict[str, Any]) -> Dataset:
    return _read(sources[source], name, arguments)


def _read(reader: Callable[..., Dataset], name: str, arguments: dict[str, Any]) -> Dataset:
    options = inspect.signature(reader).parameters
    if wrong := [option for option in sorted(arguments) if option not in options]:
        raise SettingError(f"{name} has no option {', '.join(option + nearest(option, options) for option in wrong)}")
    return reader(**arguments)


def _from_outside(name: str, place: str, data_dir: str | Path | None, options: dict[str, Any]) -> Dataset:
    """The data set of a plug-in; raises SettingError for an unused place, DataError if it returns no Dataset."""
    reader = table[name]
    parameters = list(inspect.signature(reader).parameters)
    arguments = dict(options)
    if place:
        if not parameters:
            raise SettingError(f"{name} takes no path; write it without a colon")
        arguments[parameters[0]] = place
    if data_dir is not None and "data_dir" in parameters:
        arguments.setdefault("data_dir", data_dir)
    found = _read(reader, name, arguments)
    if not isinstance(found, Dataset):
        raise DataError(
            f"{name} returned a {type(found).__name__}; a registered data set returns a transpike.data.Dataset"
        )
    return found
