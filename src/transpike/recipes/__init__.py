"""Papers' methods, one file each, by the name that the command line uses."""

from transpike.core.recipe import Recipe
from transpike.recipes.ecc import ECC
from transpike.recipes.threshold_balancing import ThresholdBalancing
from transpike.recipes.weight_normalisation import WeightNormalisation

table: dict[str, type[Recipe]] = {
    "ecc": ECC,
    "threshold-balancing": ThresholdBalancing,
    "weight-normalisation": WeightNormalisation,
}
members: tuple[type[Recipe], ...] = tuple(table.values())
