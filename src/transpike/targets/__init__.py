"""What chips take: one TOML file each, every limit with its public source."""

from importlib.resources import files
from pathlib import Path

from transpike.errors import SettingError
from transpike.targets._base import Source, Target, read_target

NAMES = ("akida", "loihi2", "speck", "spinnaker2", "xylo")


def load(name: str | Path) -> Target:
    """The target of this name, or of a TOML file of one's own (anything that ends in .toml)."""
    if str(name).endswith(".toml"):
        return read_target(Path(name))
    if name not in NAMES:
        raise SettingError(f"no target is called {name!r}; choose from {', '.join(NAMES)}, or give a .toml file")
    return read_target(Path(str(files("transpike.targets").joinpath(f"{name}.toml"))))


__all__ = ["NAMES", "Source", "Target", "load", "read_target"]
