"""transpike recipes."""

import dataclasses
import inspect
import re
from typing import Any

import click
import torch

from transpike import recipes, schedules
from transpike.activations import ReLU, Staircase
from transpike.cli import _base
from transpike.cli._recipe_help import default_of, title_of
from transpike.cli._recipes import flags_of
from transpike.cli._settings import recipe_kind
from transpike.core.alphabet import Alphabet
from transpike.core.recipe import Recipe, source_of
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import IntegrateAndFire
from transpike.passes import ReplaceNeurons

SPIKES = ("binary", "ternary", "levels", "bits", "switch", "phase", "time")


@dataclasses.dataclass(frozen=True)
class Properties:
    """Properties of a recipe; ``spikes`` is the alphabet of its neurons, None if they differ between layers."""

    name: str
    title: str
    source: str
    year: int | None
    training_free: bool
    spikes: Alphabet | None
    schedule: str
    every_timestep: bool

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        spikes = "levels by layer" if self.spikes is None else str(self.spikes)
        training = "" if self.training_free else "needs training, "
        return f"{self.name:20} {self.source}: {training}{spikes}, {self.schedule}"


def properties(kind: type[Recipe]) -> Properties:
    """The properties of a recipe with its default settings."""
    recipe = kind()
    source = source_of(kind) or kind.__module__.partition(".")[0]  # of a plug-in
    year = re.search(r"\d{4}$", source)
    schedule = next((name for name, one in schedules.table.items() if one is type(recipe.schedule)), "")
    return Properties(
        kind.name, title_of(kind), source, int(year[0]) if year else None, recipe.training_free, _spikes(recipe),
        schedule, not recipe.depends_on_timesteps,
    )  # fmt: skip


def _spikes(recipe: Recipe) -> Alphabet | None:
    """The alphabet of the neuron that the recipe puts in the place of a ReLU, or of a quantised one."""
    for one in recipe.passes:
        if isinstance(one, ReplaceNeurons):
            for source in (ReLU(), Staircase(torch.ones(1), 4)):
                try:
                    cell = one.neuron(IntegrateAndFire(source, torch.ones(()), torch.zeros(())))
                except TypeError:  # it chooses the neuron of each layer by calibration
                    return None
                except UnsupportedModel:  # it needs levels
                    continue
                return cell.output_alphabet(recipe.encoder.alphabet)
    return Alphabet("time", recipe.timesteps) if recipe.schedule.mode == "slots" else None


@click.command("recipes")
@click.argument("name", required=False)
@click.option(
    "--training-free/--needs-training", default=None, help="Only recipes that need no training, or only those that do."
)
@click.option("--spikes", type=click.Choice(SPIKES), help="Only recipes with these spikes.")
@click.option("--signed/--unsigned", default=None, help="Only recipes with negative spikes, or only those without.")
@click.option("--schedule", type=click.Choice(sorted(schedules.table)), help="Only recipes with this schedule.")
@click.option(
    "--every-timestep/--one-timestep", default=None,
    help="Only recipes whose network runs for any number of time steps, or only those converted for one.",
)  # fmt: skip
@click.option("--source", metavar="TEXT", help="Only recipes whose source contains this author or year.")
@click.option("--since", type=int, metavar="YEAR", help="Only recipes published in this year or later.")
@_base.json_option
def command(name: str | None, as_json: bool, **wanted: Any) -> None:
    """List the conversion methods, one line each, or show the settings and the source of one."""
    if name is not None:
        if given := [key for key, value in wanted.items() if value is not None]:
            raise SettingError(
                f"--{given[0].replace('_', '-')} selects recipes, but {name} already names one: omit one"
            )
        _show(recipe_kind(name), as_json)
        return
    found = [one for one in map(properties, recipes.table.values()) if _fits(one, **wanted)]
    if as_json:
        _base.print_json([one.to_json() for one in found])
        return
    for one in found:
        click.echo(str(one))
    click.echo(f"{len(found)} of {len(recipes.table)} recipes; transpike recipes NAME shows one.", err=True)


def _fits(
    one: Properties,
    training_free: bool | None,
    spikes: str | None,
    signed: bool | None,
    schedule: str | None,
    every_timestep: bool | None,
    source: str | None,
    since: int | None,
) -> bool:
    """True for a recipe with all the properties that are asked for."""
    kind = "levels" if one.spikes is None else one.spikes.kind
    return (
        training_free in (None, one.training_free)
        and spikes in (None, kind)
        and signed in (None, one.spikes is not None and one.spikes.signed)
        and schedule in (None, one.schedule)
        and every_timestep in (None, one.every_timestep)
        and (source is None or source.casefold() in one.source.casefold())
        and (since is None or (one.year is not None and one.year >= since))
    )


def _show(kind: type[Recipe], as_json: bool) -> None:
    """Documentation and settings of one recipe."""
    settings = [
        {"flag": f"--{field.replace('_', '-')}", "default": default_of(kind, field) or None, "help": text}
        for field, (_, text) in flags_of(kind).items()
    ]
    text = inspect.getdoc(kind) or ""
    if as_json:
        _base.print_json(properties(kind).to_json() | {"settings": settings, "documentation": text})
        return
    click.echo(properties(kind))
    click.echo(f"\n{text}\n\nSettings of transpike convert --recipe {kind.name}:\n")
    formatter = click.HelpFormatter(width=click.get_current_context().terminal_width)
    lines = [
        (str(one["flag"]), f"{one['help']}" + (f"  [default: {one['default']}]" if one["default"] else ""))
        for one in settings
    ]
    with formatter.indentation():
        formatter.write_dl(lines)
    click.echo(formatter.getvalue(), nl=False)
