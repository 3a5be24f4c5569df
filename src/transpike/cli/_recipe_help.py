"""Help about recipes: of a command with their flags, the settings of that which the command line names."""

import dataclasses
import inspect
import textwrap
from collections import Counter
from collections.abc import Sequence

import click

from transpike import recipes
from transpike.cli._parts import TABLES
from transpike.cli._recipes import flags_of
from transpike.core.recipe import Recipe


class WithRecipes(click.Command):
    """A command with recipe_options. Its help shows the settings of the recipe named before or after --help.

    Without a recipe it describes the settings that most recipes have, and lists the names of the others.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        name = _recipe_in(ctx.meta.get("transpike.typed", ()))
        uses = Counter(field for kind in recipes.table.values() for field in flags_of(kind))
        general, settings = [], {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and param.name in uses:
                settings[param.name] = record
            elif record is not None:
                general.append(record)
        with formatter.section("Options"):
            formatter.write_dl(general)
        kinds = recipes.table.values() if name is None else [recipes.table[name]]
        common = {field for field in uses if name is not None or uses[field] > len(recipes.table) / 2}
        texts = {field: (kind, text) for kind in kinds for field, (_, text) in reversed(flags_of(kind).items())}
        shown = [
            (record[0], texts[field][1] if name is None else _with_default(texts[field][0], field, texts[field][1]))
            for field, record in settings.items()
            if field in texts and field in common
        ]
        title = "that most recipes have" if name is None else f"of {name}: {title_of(recipes.table[name])}"
        with formatter.section(f"Settings {title}"):
            formatter.write_dl(shown)
        if name is None:
            with formatter.section("Settings of some recipes"):
                flags = ", ".join(sorted(f"--{field.replace('_', '-')}" for field in uses if field not in common))
                indent = " " * formatter.current_indent
                formatter.write(
                    textwrap.fill(
                        flags, formatter.width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False
                    )
                    + "\n"
                )
            formatter.write_paragraph()
            with formatter.indentation():
                formatter.write_text(
                    f"{ctx.command_path} --recipe NAME --help shows the settings of one recipe with their defaults, "
                    "'transpike recipes NAME' its source, 'transpike recipes' a list."
                )


def _recipe_in(words: Sequence[str]) -> str | None:
    """The known recipe of the last --recipe among the words of a command line."""
    found = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--recipe"]
    found += [word.partition("=")[2] for word in words if word.startswith("--recipe=")]
    return found[-1] if found and found[-1] in recipes.table else None


def title_of(kind: type[Recipe]) -> str:
    """The first sentence of the docstring, without its period."""
    return (inspect.getdoc(kind) or kind.name).split("\n\n")[0].replace("\n", " ").strip().rstrip(".")


def default_of(kind: type[Recipe], name: str) -> str:
    """The default of a setting as its flag takes it; "" for None."""
    value = next(field.default for field in dataclasses.fields(kind) if field.name == name)  # type: ignore[arg-type]
    if value is None or value is dataclasses.MISSING:
        return ""
    if name in TABLES:
        return next((key for key, member in TABLES[name].items() if member is type(value)), repr(value))
    return str(value)


def _with_default(kind: type[Recipe], name: str, text: str) -> str:
    default = default_of(kind, name)
    return f"{text}  [default: {default}]" if default else text
