"""What chips take: one TOML file each, every limit with its public source."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from transpike.chips._base import Chip, Source, read_chip
from transpike.core.registry import family, hint
from transpike.errors import SettingError

chips: dict[str, Path] = {
    Path(file.name).stem: Path(str(file)) for file in files("transpike.chips").iterdir() if file.name.endswith(".toml")
}
NAMES = tuple(sorted(chips))
table: Mapping[str, Chip] = family("chip", Chip, holds="instances").table
"""Chips from outside; our own are read from their files when they are asked for."""


def names() -> tuple[str, ...]:
    """The chips that there are: our own, and those from outside."""
    return (*NAMES, *table)


def load(name: str | Path) -> Chip:
    """The target of this name, or of a TOML file of one's own (anything that ends in .toml)."""
    if str(name).endswith(".toml"):
        return read_chip(Path(name))
    if name in chips:
        return read_chip(chips[str(name)])
    if name in table:
        return table[str(name)]
    raise SettingError(f"no target is called {name!r}; choose from {', '.join(names())}, or give a .toml file{hint()}")


__all__ = ["NAMES", "Chip", "Source", "load", "names", "read_chip"]
