"""Units of work of a comparison: a conversion and an evaluation, planned for the requested numbers of steps."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from transpike.core.codec import encode
from transpike.core.exit import Exit
from transpike.core.fingerprint import Code, code_of
from transpike.core.graph import Graph
from transpike.core.installation import code_digest
from transpike.core.naming import qualified
from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.core.task import Task
from transpike.energy import EnergyModel
from transpike.errors import SettingError, TranspikeError
from transpike.exits import table
from transpike.recipes import recipe_given
from transpike.tasks import Classification
from transpike.workflow.entrance import PreprocessingGiven

FORMAT = 5
"""Version of the format of files with the results of a unit."""


@dataclass(frozen=True)
class Unit:
    """One conversion and one evaluation: ``recipe`` with its number of steps, and the requested answers.

    ``code``: digest of the code from outside the package (core.fingerprint), "" where there is none. Where the code
    cannot be read, results are not ``kept`` in the store, and ``code`` is a distinct text for each recipe.
    """

    recipe: Recipe
    answers: tuple[int, ...]
    code: str = ""
    kept: bool = True


@dataclass(frozen=True)
class Work:
    """Shared by all units of a comparison; ``inputs`` is the SHA-256 of the file with network and data.

    ``store``: the place of the store, for files from which units continue; results do not depend on it.
    """

    inputs: str
    preprocessing: PreprocessingGiven
    exact_grid: bool
    engine: str
    memory: int | None
    seed: int
    energy: tuple[EnergyModel, ...] = ()
    exits: tuple[Exit, ...] = ()
    task: Task = field(default_factory=Classification)
    any_input: bool = False
    output: str | None = None
    spiking: tuple[str, ...] = ()
    store: str = ""

    def key(self, unit: Unit) -> dict[str, Any]:
        """Everything that the results of the unit depend on."""
        kind = type(unit.recipe)
        return {
            "format": FORMAT,
            "inputs": self.inputs,
            "preprocessing": repr(_in_order(self.preprocessing)),
            "exact_grid": self.exact_grid,
            "engine": self.engine,
            "memory": self.memory,
            "seed": self.seed,
            "recipe": f"{qualified(kind)} {kind.__qualname__}",
            "code": unit.code,
            "settings": encode(unit.recipe, {}, "recipe"),
            "answers": list(unit.answers),
            "energy": [repr(model) for model in self.energy],
            "exits": [repr(wish) for wish in self.exits],
            "task": repr(self.task),
            "any_input": self.any_input,
            "output": self.output,
            "spiking": list(self.spiking),
            "torch": torch.__version__,
            "transpike": code_digest(),
        }


def plan(
    recipe: Recipe, timesteps: tuple[int, ...], code: str = "", kept: bool = True
) -> tuple[list[Unit], list[tuple[int, str]]]:
    """The units for the answers at ``timesteps``, and (T, reason) where the recipe's settings do not allow T.

    One run gives all answers where neither network nor simulation depends on the number of steps.
    """
    possible: dict[int, Recipe] = {}
    refused: list[tuple[int, str]] = []
    for t in timesteps:
        try:
            possible[t] = dataclasses.replace(recipe, timesteps=t)  # type: ignore[type-var]
        except TranspikeError as error:
            refused.append((t, str(error)))
    if not possible:
        return [], refused
    longest = possible[max(possible)]
    together = longest.schedule.every_step and not longest.depends_on_timesteps
    if together and set(possible) <= set(longest.schedule.answers(longest.timesteps)):
        return [Unit(longest, tuple(possible), code, kept)], refused
    return [Unit(with_steps, (t,), code, kept) for t, with_steps in possible.items()], refused


def outside_code(
    recipe: Recipe,
    source: Graph,
    preprocessing: PreprocessingGiven,
    energy: tuple[EnergyModel, ...],
    exits: tuple[Exit, ...],
    task: Task,
) -> Code:
    """Code outside transpike that results depend on: that of the recipe, its passes, the network, …"""
    scores = [table[wish.score] for wish in exits]
    try:
        passes = recipe.passes
    except Exception:  # the conversion reports it
        passes = ()
    return code_of(recipe, *passes, *(type(node.op) for node in source), *_each(preprocessing), *energy, *scores, task)


def _in_order(given: PreprocessingGiven) -> Any:
    """The samples of several inputs by name, in the order of their names."""
    return dict(sorted(given.items())) if isinstance(given, Mapping) else given


def _each(given: PreprocessingGiven) -> tuple[Preprocessing | None, ...]:
    return tuple(given.values()) if isinstance(given, Mapping) else (given,)


def named(recipes: Iterable[Recipe | str]) -> dict[str, Recipe]:
    """Recipes, given as objects or names, by their text without the number of steps; SettingError for duplicates."""
    found: dict[str, Recipe] = {}
    for recipe in map(recipe_given, recipes):
        same = [other for other in found.values() if type(other) is type(recipe)]
        if any(_settings(recipe) == _settings(other) for other in same):
            raise SettingError(f"{recipe} is given twice; the number of steps is set by timesteps=")
        text = name = _series(recipe)
        number = 1
        while name in found:  # a custom class that kept its parent's name
            name = f"{text} #{(number := number + 1)}"
        found[name] = recipe
    return found


def _series(recipe: Recipe) -> str:
    default = next(f.default for f in dataclasses.fields(recipe) if f.name == "timesteps")  # type: ignore[arg-type]
    try:
        return str(dataclasses.replace(recipe, timesteps=default))  # type: ignore[type-var]
    except SettingError:  # the other settings are not valid with the default
        return str(recipe)


def _settings(recipe: Recipe) -> dict[str, Any]:
    """All settings except the number of steps."""
    encoded = encode(recipe, {}, "recipe")
    return encoded | {"fields": {key: value for key, value in encoded["fields"].items() if key != "timesteps"}}
