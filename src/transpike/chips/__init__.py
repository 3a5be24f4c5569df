"""Limits of chips: one TOML file each, every limit with its public source."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from transpike.chips._base import Chip, Source, read_chip
from transpike.core.registry import family, hint
from transpike.core.renamed import old_names
from transpike.core.spelling import unknown
from transpike.errors import SettingError

chips: dict[str, Path] = {
    Path(file.name).stem: Path(str(file)) for file in files("transpike.chips").iterdir() if file.name.endswith(".toml")
}
NAMES = tuple(sorted(chips))
table: Mapping[str, Chip] = family("chip", Chip, holds="instances", reserved=dict.fromkeys(NAMES, __name__)).table
"""Registered chips of plug-ins; the built-in ones are read from their files on demand."""


def names() -> tuple[str, ...]:
    """The names of built-in and registered chips."""
    return (*NAMES, *table)


def load(name: str | Path) -> Chip:
    """The chip of this name, or of a custom TOML file (a path that ends in .toml); raises SettingError."""
    if str(name).endswith(".toml"):
        return read_chip(Path(name))
    if name in chips:
        return read_chip(chips[str(name)])
    if name in table:
        return table[str(name)]
    raise SettingError(f"{unknown('chip', name, names())}, or pass a .toml file{hint()}")


__all__ = ["NAMES", "Chip", "Source", "load", "names", "read_chip"]
__getattr__ = old_names(__name__)
