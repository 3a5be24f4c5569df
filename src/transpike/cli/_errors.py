"""How errors leave the command line: one line on stderr, or JSON with --json, and an exit code.

An error with --json is the last line of stderr, ``{"error": {"type": …, "message": …, "exit_code": …}}``; stdout then
holds the result or nothing.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from transpike.core.renamed import ENGINES, FLAGS
from transpike.core.spelling import nearest
from transpike.errors import TranspikeError

USAGE, FILE = 2, 5
INTERRUPTED, CLOSED_PIPE = 130, 141
"""128 + the number of the signal, as shells count: SIGINT, SIGPIPE."""


@dataclass
class State:
    """The values of the flags that every command has."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False


class ClosedPipe(Exception):
    """The reader of stdout closed it: a BrokenPipeError that click does not see, which would exit with 1."""


class Choice(click.Choice):
    """One of several words; a wrong word gets the closest one as a suggestion, an old name the new one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        words = [str(choice) for choice in self.choices]
        if isinstance(value, str) and value not in words:
            new = ENGINES.get(value)
            if new in words:
                self.fail(f"{value!r} has been renamed to {new!r}", param, ctx)
            hint = nearest(value, words)  # before the list, where a long one does not hide it
            self.fail(f"{value!r} is not one of the {len(words)} choices{hint}: {', '.join(words)}", param, ctx)
        return super().convert(value, param, ctx)


def outcome(run: Callable[[], Any], state: State) -> int:
    """The exit code of ``run``, whose error is printed."""
    try:
        code = run()
        sys.stdout.flush()  # a closed pipe is seen here, not while the interpreter ends
        return code if isinstance(code, int) else 0
    except (click.Abort, KeyboardInterrupt):
        return _told("Interrupted", "interrupted", INTERRUPTED, state)
    except click.ClickException as error:
        return _told("UsageError", _usage(error), USAGE, state)
    except TranspikeError as error:
        return _told(type(error).__name__, str(error), error.exit_code, state)
    except (ClosedPipe, BrokenPipeError):
        return _closed()
    except OSError as error:
        return _told(type(error).__name__, str(error), FILE, state)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich saw it first
            return _closed()
        raise
    except Exception as error:
        if not state.json:
            raise  # not foreseen: the traceback is needed
        traceback.print_exc()
        return _told(type(error).__name__, str(error), 1, State(json=True))


def _told(kind: str, message: str, code: int, state: State) -> int:
    if state.verbose and kind not in ("UsageError", "Interrupted"):
        traceback.print_exc()
    if state.json:
        text = json.dumps({"error": {"type": kind, "message": message, "exit_code": code}})
    else:
        text = message if kind == "Interrupted" else f"error{_place()}: {message}"
    click.echo(text, err=True)
    return code


def _place() -> str:
    """The rank of this process among those that torchrun has started."""
    count = os.environ.get("WORLD_SIZE", "1")
    return "" if count == "1" else f" in process {os.environ.get('RANK', '0')} of {count}"


def _usage(error: click.ClickException) -> str:
    """The message of a usage error, with the place to look."""
    message = error.format_message()
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and context is not None:
        message = _no_option(error.option_name, context)
    message = message.rstrip(".")
    return message if context is None else f"{message} (see {context.command_path} --help)"


def _no_option(name: str, context: click.Context) -> str:
    options = [flag for param in context.command.params for flag in (*param.opts, *param.secondary_opts)]
    new = FLAGS.get(name.lstrip("-"))
    if new is not None:
        where = "" if f"--{new}" in options else f", which {context.command_path} does not have"
        return f"{name} has been renamed to --{new}{where}"
    names = [flag.removeprefix("--") for flag in options if flag.startswith("--")]
    return f"no such option: {name}" + nearest(name.lstrip("-"), names).replace("'", "'--", 1)


def _closed() -> int:
    """The reader of stdout closed it: no more output is wanted, and nothing is wrong."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left in the buffer goes nowhere
    except (OSError, ValueError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 (stdout is no file, as in a notebook)
    return CLOSED_PIPE
