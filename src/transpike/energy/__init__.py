# ruff: noqa: I001 (energy models are imported in the order in which reports list them)
"""Energy models, which convert counts of a run to joules; every constant has a source."""

from collections.abc import Mapping
from pathlib import Path

from transpike.core.registry import family
from transpike.energy._base import AnnActivity, AnnLayer, EnergyModel, EnergyRow, checked
from transpike.energy._constants import read_model
from transpike.energy.operations import Operations, Operations32, Operations16Float, Operations32Float
from transpike.energy.lemaire import Lemaire
from transpike.energy.yan import MemoryHierarchy, SpatialDataflow
from transpike.energy.movement import Movement
from transpike.energy.ttfs_processor import TTFSProcessor
from transpike.energy.chips import Rolls, Loihi, TrueNorth

members: tuple[type[EnergyModel], ...] = family("energy", EnergyModel).own(globals(), as_written=True)
table: Mapping[str, type[EnergyModel]] = family("energy").table


def load(path: str | Path) -> EnergyModel:
    """A model with custom constants: see ``energy._constants.read_model`` for the file."""
    return read_model(path, table)
