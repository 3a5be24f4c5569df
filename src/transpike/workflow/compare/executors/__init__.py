"""Where the units of a comparison run: one file for each place."""

import dataclasses
import typing
from typing import Any

from transpike.core.constraints import alternatives
from transpike.core.size import bytes_of
from transpike.core.spelling import nearest, unknown
from transpike.errors import SettingError
from transpike.workflow.compare.executors._base import DEATH, Executor, Finished, Told, untold
from transpike.workflow.compare.executors.job_array import SlurmArray, ranges
from transpike.workflow.compare.executors.local import Local
from transpike.workflow.compare.executors.ray_cluster import Ray

table: dict[str, type[Executor]] = {kind.name: kind for kind in (Local, Ray, SlurmArray)}
"""Name → class. The first field of each is what follows the name, like the number of ``local:4``."""


def executor_named(text: str) -> Executor:
    """The executor of ``name``, ``name:first`` or ``name:first;setting=value;…``, like ``ray:10.0.0.1:6379;cpus=2``.

    Raises SettingError for other names, settings and values.
    """
    (name, colon, first), *others = (part.partition(":") for part in text.strip().split(";"))
    if name not in table:
        raise SettingError(unknown("executor", name, table))
    kind = table[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    parts = ["".join(other) for other in others]
    if colon and first.partition("=")[0].strip() in fields:
        parts.insert(0, first)
    elif colon:
        parts.insert(0, f"{next(iter(fields))}={first}")
    found: dict[str, Any] = {}
    for part in parts:
        key, equals, value = (word.strip() for word in part.partition("="))
        if key not in fields:
            raise SettingError(f"{name} has no setting {key!r}{nearest(key, fields)}; it has {', '.join(fields)}")
        if not equals or not value or key in found:
            raise SettingError(f"{name}: {part.strip()!r} must be {key}=value, given once")
        kinds = alternatives(hints[key])
        read = next(one for one in kinds if one is not type(None))
        try:
            found[key] = bytes_of(value) if fields[key].metadata.get("unit") == "bytes" else read(value)
        except SettingError:
            raise
        except ValueError:
            raise SettingError(f"{name}: {key} must be a number, not {value!r}") from None
    return kind(**found)
