"""Energy models, one file each: counts of a run to joules, every constant with its source."""

from transpike.energy._base import EnergyModel, EnergyRow, checked
from transpike.energy.operations import Operations
from transpike.energy.ttfs_processor import TTFSProcessor

table: dict[str, type[EnergyModel]] = {"operations": Operations, "ttfs-processor": TTFSProcessor}
members: tuple[type[EnergyModel], ...] = tuple(table.values())
