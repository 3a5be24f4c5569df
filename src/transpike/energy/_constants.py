"""Custom constants of energy models, from a file."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transpike.core.registry import hint
from transpike.core.spelling import nearest
from transpike.core.toml import read_toml
from transpike.energy._base import EnergyModel
from transpike.errors import SettingError
from transpike.results.quantity import Quantity

LARGEST = 1e30


def read_model(path: str | Path, table: Mapping[str, type[EnergyModel]]) -> EnergyModel:
    """The model of a TOML file: ``model = "operations"``, and under ``[constants]`` those that differ, each
    ``add = {value = 0.05, unit = "pJ", source = "…"}``; under ``[settings]`` the other settings.

    Raises FileError for a file that is not TOML, SettingError for unknown names and for a constant without unit or
    source, in another unit than the model's, negative or not finite.
    """
    path = Path(path)
    content = read_toml(path)
    name = content.pop("model", None)
    if not isinstance(name, str) or name not in table:
        known = ", ".join(sorted(table))
        raise SettingError(f"{path}: model must be one of {known}, not {name!r}{nearest(name, table)}{hint()}")
    kind = table[name]
    fields = {field.name: field for field in dataclasses.fields(kind)}
    constants = {n for n, field in fields.items() if isinstance(field.default, Quantity)}
    found: dict[str, Any] = {}
    for key, value in _part(path, content, "constants").items():
        if key not in constants:
            raise SettingError(f"{path}: {name} has no constant {key!r}; it has {', '.join(sorted(constants))}")
        found[key] = _quantity(path, key, value, fields[key].default)
    for key, value in _part(path, content, "settings").items():
        if key not in fields or key in constants:
            choices = ", ".join(sorted(fields.keys() - constants)) or "none"
            raise SettingError(f"{path}: {name} has no setting {key!r}; it has {choices}")
        found[key] = value
    if content:
        raise SettingError(
            f"{path}: {', '.join(content)} is unknown; a model file has model, [constants] and [settings]"
        )
    return kind(**found)


def _part(path: Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    part = content.pop(name, {})
    if not isinstance(part, dict):
        raise SettingError(f"{path}: [{name}] must be a table")
    return part


def _quantity(path: Path, key: str, value: Any, default: Any) -> Quantity:
    if not isinstance(value, dict) or value.keys() != {"value", "unit", "source"}:
        raise SettingError(f'{path}: {key} must be {{value = …, unit = "{default.unit}", source = "…"}}')
    if value["unit"] != default.unit:
        raise SettingError(f"{path}: {key} is in {default.unit}, not in {value['unit']!r}")
    number = value["value"]
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 <= number < LARGEST:
        raise SettingError(f"{path}: the value of {key} must be a number from 0 to {LARGEST:g}, not {number!r}")
    if not isinstance(value["source"], str) or not value["source"].strip():
        raise SettingError(f"{path}: {key} needs a source: the publication or measurement")
    return Quantity(float(value["value"]), value["unit"], value["source"])
