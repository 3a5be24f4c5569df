"""Flags for the fields of recipes, with those of plug-ins."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any

import click

from transpike import recipes
from transpike.cli._parts import click_type, is_simple
from transpike.core.naming import is_ours
from transpike.core.recipe import Recipe

RESERVED = {
    "seed", "output", "data", "data_dir", "model", "weights", "mean", "std", "recipe", "bins", "span", "frames", "json",
    "threads", "exact_grid", "calibration_samples", "output_name", "on_unsupported",
    "allow_no_neurons", "config", "quiet", "verbose", "model_name", "data_name", "recipe_name", "as_json",
}  # fmt: skip
"""Names of flags of the commands; recipe fields with these names have no flag, but ``compare`` can set them."""


def recipe_options(function: Callable) -> Callable:
    """--recipe, and one flag for each field of all recipes."""
    fields: dict[str, tuple[list[Any], list[str]]] = {}
    helps: dict[str, str] = {}
    for name, kind in recipes.table.items():
        for field_name, (wanted, text) in flags_of(kind).items():
            hints, names = fields.setdefault(field_name, ([], []))
            names.append(name)
            hints += [wanted] if wanted not in hints else []
            helps.setdefault(field_name, text)
    for field_name, (hints, names) in reversed(fields.items()):
        text = helps[field_name] + ("" if len(names) == len(recipes.table) else f" For {', '.join(names)}.")
        # where recipes have different types for a name, the selected recipe converts the text
        read = click_type(field_name, hints[0]) if len(hints) == 1 else str
        function = click.option(f"--{field_name.replace('_', '-')}", field_name, type=read, help=text)(function)
    return click.option(
        "--recipe",
        "recipe_name",
        default="ecc",
        show_default=True,
        type=click.Choice(sorted(recipes.table)),
        metavar="NAME",
        help="Conversion method; transpike recipes lists all.",
    )(function)


def flags_of(kind: type[Recipe]) -> dict[str, tuple[Any, str]]:
    """Field → (annotation, help) of fields with a flag."""
    try:
        hints = typing.get_type_hints(kind)
    except Exception as error:
        if is_ours(kind.__module__):
            raise
        click.echo(
            f"warning: {kind.__module__}.{kind.__name__} has no flags, because its annotations are invalid: {error}",
            err=True,
        )
        return {}
    return {
        field.name: (hints[field.name], field.metadata.get("help", ""))
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]
        if field.init and field.name not in RESERVED and (is_ours(kind.__module__) or is_simple(hints[field.name]))
    }
