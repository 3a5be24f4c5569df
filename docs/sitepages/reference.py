"""A page for each public name: its docstring by mkdocstrings, and the fields of its settings."""

import ast
import dataclasses
import inspect
import re
import typing
from types import ModuleType
from typing import Any

import transpike as ts
from sitepages.docstrings import markdown
from sitepages.measurements import cell, plain, table
from sitepages.staging import Site
from transpike import errors, testing
from transpike.core.constraints import choices_of
from transpike.core.naming import is_ours

MODULES = {"errors": errors, "testing": testing}
"""Modules that are documented although they are not names of ``ts``."""


def names() -> dict[str, list[str]]:
    """The public names by their kind: functions, classes, modules."""
    found: dict[str, list[str]] = {"functions": [], "classes": [], "modules": []}
    for name in ts.__all__:
        thing = getattr(ts, name)
        kind = "modules" if isinstance(thing, ModuleType) else "classes" if isinstance(thing, type) else "functions"
        found[kind].append(name)
    found["modules"] = sorted([*found["modules"], *MODULES])
    return found


def place_of(kind: str, name: str) -> str:
    return f"reference/{kind}/{name}.md"  # folders: Export and export are one file name on some systems


def add(site: Site) -> dict[str, list[str]]:
    """The pages of all public names; returns their places by kind."""
    kinds = names()
    for kind, found in kinds.items():
        for name in found:
            site.add(place_of(kind, name), module_page(name) if kind == "modules" else page(name))
    site.add("reference/index.md", overview(kinds))
    return {kind: [place_of(kind, name) for name in found] for kind, found in kinds.items()}


def overview(kinds: dict[str, list[str]]) -> str:
    titles = {"functions": "Functions", "classes": "Classes", "modules": "Modules"}
    parts = [
        "# Reference",
        "Every public name, with `import transpike as ts`. The order in which functions are usually called, and what belongs "
        "together: [the interface](../interface.md).",
    ]
    for kind, found in kinds.items():
        rows = [[f"[`{_called(name)}`]({kind}/{name}.md)", cell(_summary(name))] for name in found]
        parts += [f"## {titles[kind]}", table(["name", "meaning"], rows)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _called(name: str) -> str:
    return f"transpike.{name}" if name in MODULES else f"ts.{name}"


def _thing(name: str) -> Any:
    return MODULES[name] if name in MODULES else getattr(ts, name)


def _summary(name: str) -> str:
    text = inspect.getdoc(_thing(name)) or ""
    return text.split("\n\n")[0].replace("``", "`")


def page(name: str) -> str:
    thing = getattr(ts, name)
    parts = [f"# `ts.{name}`", _directive(thing)]
    if isinstance(thing, type) and dataclasses.is_dataclass(thing):
        parts += ["## Settings", fields(thing)] if _help(thing) else []
    return "\n\n".join(part for part in parts if part) + "\n"


def module_page(name: str) -> str:
    """The docstring of a module, then each of its public members."""
    module = _thing(name)
    parts = [f"# `{_called(name)}`", markdown(inspect.getdoc(module) or "")]
    if module is ts.recipes:
        from sitepages.methods import place_of as place_of_recipe
        from transpike.cli._recipe_help import title_of

        rows = [
            [f"[`{kind.__name__}`](../../{place_of_recipe(kind)})", cell(title_of(kind))] for kind in module.members
        ]
        parts += [table(["class", "method"], rows), _directive(module.recipe_given)]
        return "\n\n".join(parts) + "\n"
    pages = {id(getattr(ts, one)): f"../{kind}/{one}.md" for kind in ("functions", "classes") for one in names()[kind]}
    for thing in members(module):
        if id(thing) in pages:  # one place for each docstring
            parts += [f"## {_name(thing)}", f"See [`ts.{_name(thing)}`]({pages[id(thing)]})."]
            continue
        parts.append(_directive(thing))
        if isinstance(thing, type) and dataclasses.is_dataclass(thing) and _help(thing):
            parts.append(fields(thing))
    return "\n\n".join(part for part in parts if part) + "\n"


def members(module: ModuleType) -> list[Any]:
    """The public classes, functions and modules of a module: of ``__all__``, else its own and those it exports."""
    listed = getattr(module, "__all__", None)
    found: dict[int, Any] = {}
    for name in listed or [*vars(module)]:
        thing = getattr(module, name)
        kind = isinstance(thing, type) or inspect.isfunction(thing) or (listed and isinstance(thing, ModuleType))
        if name.startswith("_") or not kind:
            continue
        origin = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
        inside = origin == module.__name__ or origin.startswith(f"{module.__name__}.")
        if is_ours(origin) and (listed or inside or name in _exported(module)):
            found.setdefault(id(thing), thing)
    return list(found.values())


def _exported(module: ModuleType) -> set[str]:
    """The names that a module imports as themselves, which makes them public (PEP 484)."""
    tree = ast.parse(inspect.getsource(module))
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.name for line in lines for alias in line.names if alias.asname == alias.name}


def undocumented() -> list[str]:
    """Public things without a separate docstring; a dataclass makes one of its fields, which says nothing."""
    things = [(f"ts.{name}", getattr(ts, name)) for name in ts.__all__]
    for name in names()["modules"]:
        things += [(f"{name}.{_name(thing)}", thing) for thing in members(_thing(name))]
    return [name for name, thing in things if not (text := _own_text(thing)) or text.startswith(f"{_name(thing)}(")]


def _name(thing: Any) -> str:
    return str(thing.__name__).rpartition(".")[2]


def _own_text(thing: Any) -> str:
    return (vars(thing).get("__doc__") if isinstance(thing, type) else inspect.getdoc(thing)) or ""


def _directive(thing: Any) -> str:
    if isinstance(thing, ModuleType):
        return f"::: {thing.__name__}"
    return f"::: {thing.__module__}.{thing.__qualname__}"


def _help(kind: type) -> bool:
    return any(field.metadata.get("help") for field in dataclasses.fields(kind))


def fields(kind: type) -> str:
    """The settings of a class that documents them by help texts: values, default, meaning."""
    hints = typing.get_type_hints(kind)
    body = []
    for field in dataclasses.fields(kind):
        choices = choices_of(field, hints[field.name])
        hint = hints[field.name]
        kind_name = hint.__name__ if isinstance(hint, type) else str(hint)
        allowed = ", ".join(f"`{one}`" for one in choices) or f"`{_short(kind_name)}`"
        default = "needed" if field.default is dataclasses.MISSING else f"`{cell(repr(field.default))}`"
        unit = f" Unit: {field.metadata['unit']}." if field.metadata.get("unit") else ""
        text = plain(field.metadata.get("help", ""))
        body.append([f"`{field.name}`", allowed.replace("|", "\\|"), default, text + unit])
    return table(["setting", "values", "default", "meaning"], body)


def _short(name: str) -> str:
    """A type without the modules that it comes from."""
    return re.sub(r"\b[a-z_][a-z_0-9]*\.", "", name)
