"""Energy models, one file each: counts of a run to joules, every constant with its source."""

from pathlib import Path

from transpike.energy._base import AnnActivity, AnnLayer, EnergyModel, EnergyRow, checked
from transpike.energy._constants import read_model
from transpike.energy.chips import Loihi, Rolls, TrueNorth
from transpike.energy.lemaire import Lemaire
from transpike.energy.movement import Movement
from transpike.energy.operations import Operations, Operations16Float, Operations32, Operations32Float
from transpike.energy.ttfs_processor import TTFSProcessor
from transpike.energy.yan import MemoryHierarchy, SpatialDataflow

members: tuple[type[EnergyModel], ...] = (
    Operations, Operations32, Operations16Float, Operations32Float, Lemaire, MemoryHierarchy, SpatialDataflow, Movement,
    TTFSProcessor, Rolls, Loihi, TrueNorth,
)  # fmt: skip
table: dict[str, type[EnergyModel]] = {member.name: member for member in members}


def load(path: str | Path) -> EnergyModel:
    """A model with a user's own constants: see ``energy._constants.read_model`` for the file."""
    return read_model(path, table)
