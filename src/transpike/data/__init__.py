"""Data sets by name. A new source: one file with a ``load``, one line in ``sources``."""

import difflib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transpike.data import digits, idx, imagefolder, named, npz, torchvision_sets
from transpike.data._base import Batches, Dataset, Split
from transpike.errors import DataError, SettingError

__all__ = ["Batches", "Dataset", "Split", "load", "names", "sources"]

sources: dict[str, Callable[..., Dataset]] = {
    "digits": digits.load,
    "idx": idx.load,
    "imagefolder": imagefolder.load,
    "npz": npz.load,
    "torchvision": torchvision_sets.load,
}
names = ("digits", *named.sets, "npz:FILE", "imagefolder:DIR")


def load(name: str | Path = "digits", data_dir: str | Path | None = None, **options: Any) -> Dataset:
    """The data set ``name``: digits, one of the well-known names, ``npz:FILE``, ``imagefolder:DIR``, or FILE.npz.

    Well-known sets are looked for in ``data_dir``, else in the directory TRANSPIKE_DATA. Options: ``size`` and
    ``resize`` for folders of pictures. Raises DataError (unknown name, data not there or damaged), SettingError for an
    option that the data set does not have, or MissingExtra.
    """
    name = str(name)
    kind, _, place = name.partition(":")
    if name in named.sets:
        location = named.locate(name, data_dir, options)
        return _call(location.source, name, location.arguments)
    if name == "digits":
        return _call("digits", name, options)
    if kind == "npz" and place:
        return _call("npz", name, {"paths": place, **options})
    if kind == "imagefolder" and place:
        return _call("imagefolder", name, {"directory": place, **options})
    if name.endswith(".npz"):
        return _call("npz", name, {"paths": name, **options})
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise DataError(f"unknown data set {name!r}{hint}; known: {', '.join(names)}")


def _call(source: str, name: str, arguments: dict[str, Any]) -> Dataset:
    reader = sources[source]
    unknown = sorted(set(arguments) - set(inspect.signature(reader).parameters))
    if unknown:
        raise SettingError(f"{name} has no option {', '.join(unknown)}")
    return reader(**arguments)
