"""Completion in a shell without the commands' modules, which import torch.

``completion.json`` has the options of every command, without those of plug-ins; ``benchmarks/completion.py`` writes it.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import click

FILE = Path(__file__).with_name("completion.json")


@cache
def _content() -> dict[str, list[dict[str, Any]]]:
    return json.loads(FILE.read_text(encoding="utf-8"))


def stand_in(name: str) -> click.Command:
    """A command with the options of this one, which does nothing."""
    params: list[click.Parameter] = []
    for one in _content()[name]:
        kind: Any = click.Choice(one["words"]) if "words" in one else click.Path() if one.get("path") else None
        if "argument" in one:
            params.append(click.Argument([one["argument"]], type=kind, required=False))
        elif one.get("switch"):
            params.append(click.Option([f"switch{len(params)}", *one["flags"]], is_flag=True, help=one["help"]))
        else:
            params.append(
                click.Option(
                    [f"option{len(params)}", *one["flags"]],
                    type=kind,
                    multiple=one.get("many", False),
                    help=one["help"],
                )
            )
    return click.Command(name, params=params, context_settings={"help_option_names": ["-h", "--help"]})


def described(command: click.Command) -> list[dict[str, Any]]:
    """The options of a command as ``completion.json`` has them."""
    found = []
    for param in command.params:
        one: dict[str, Any] = {}
        if isinstance(param, click.Argument):
            one["argument"] = param.name
        elif isinstance(param, click.Option):
            one |= {"flags": [*param.opts, *param.secondary_opts], "help": param.help or ""}
            one |= {"switch": True} if param.is_flag else {"many": True} if param.multiple else {}
        if isinstance(param.type, click.Choice):
            one["words"] = list(param.type.choices)
        elif isinstance(param.type, click.Path):
            one["path"] = True
        found.append(one)
    return found
