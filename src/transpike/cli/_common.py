"""The options of every command: --config, --quiet, --verbose."""

import contextlib
import functools
import os
import shlex
import time
import tomllib
from pathlib import Path
from typing import Any

import click

from transpike.cli._errors import Choice, State
from transpike.core.renamed import FLAGS
from transpike.core.spelling import nearest
from transpike.errors import FileError

LARGEST = 2**20
"""Bytes of a configuration file."""


def add_common(command: click.Command) -> click.Command:
    """The command with the common options, with suggestions for wrong words."""
    command.params += [
        click.Option(
            ["--config"], type=click.Path(path_type=Path, dir_okay=False), is_eager=True, expose_value=False,
            callback=_configure, metavar="FILE.toml", help="Read options from a TOML file; flags win.",
        ),
        click.Option(
            ["-q", "--quiet"], is_flag=True, expose_value=False, callback=_note,
            help="Print only errors, and the output of --json.",
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, expose_value=False, callback=_note,
            help="Also print versions, the duration of each stage, and the traceback of errors.",
        ),
    ]  # fmt: skip
    for param in command.params:
        if type(param.type) is click.Choice:
            param.type = Choice(param.type.choices)
    assert command.callback is not None
    command.callback = _told(command.callback)
    return command


def state() -> State:
    """The values of the common options."""
    context = click.get_current_context(silent=True)
    found = None if context is None else context.find_root().obj
    return found if isinstance(found, State) else State()


def typed() -> str:
    """The command line and the versions of transpike and torch, for reports."""
    import torch  # a command has imported it

    from transpike.core.version import __version__

    words = click.get_current_context().meta.get("transpike.typed", ())
    return f"# transpike {__version__}, torch {torch.__version__}\n{shlex.join(['transpike', *words])}"


def _note(context: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        setattr(state(), str(param.name), True)


def _told(callback: Any) -> Any:
    """``callback`` under --json of a configuration, --quiet and --verbose."""

    @functools.wraps(callback)
    def run(*values: Any, **options: Any) -> Any:
        told = state()
        told.json = bool(options.get("as_json"))
        if told.quiet and told.verbose:
            raise click.UsageError("--quiet and --verbose contradict each other", click.get_current_context())
        with contextlib.ExitStack() as stack:
            if told.quiet:
                nothing = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stderr(nothing))
                if not told.json:
                    stack.enter_context(contextlib.redirect_stdout(nothing))
            if told.verbose:
                click.echo(typed(), err=True)
            with timed("in total"):
                return callback(*values, **options)

    return run


@contextlib.contextmanager
def timed(what: str) -> Any:
    """Prints the duration on stderr, with --verbose."""
    start = time.monotonic()
    yield
    if state().verbose:
        click.echo(f"{what}: {time.monotonic() - start:.1f} s", err=True)


def _configure(context: click.Context, param: click.Parameter, path: Path | None) -> None:
    """Read the file's options as the defaults of this command."""
    if path is None or context.resilient_parsing:
        return
    options = {key: param for param in context.command.params if param.name for key in _names(param)}
    commands = set(getattr(context.find_root().command, "list_commands", lambda _: [])(context))
    content = read(path)
    given = {key: value for key, value in content.items() if not isinstance(value, dict)}
    for table, value in content.items():
        if isinstance(value, dict) and table not in commands:
            _unknown(path, table, commands, f"table [{table}] is not a command of transpike", context)
    found: dict[str, Any] = {}
    for key, value in {**given, **content.get(str(context.info_name), {})}.items():
        option = options.get(key.replace("_", "-"))
        if option is None:
            _unknown(path, key, options, f"{key!r} is not an option of {context.command_path}", context)
        else:
            found[str(option.name)] = _value(path, key, value, option, context)
    context.default_map = found


def read(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises FileError."""
    try:
        if path.stat().st_size > LARGEST:
            raise FileError(f"{path} has more than {LARGEST:,} bytes, too many for a configuration")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise FileError(f"{path} is nested too deeply") from error
    except ValueError as error:  # bad TOML, bad UTF-8, numbers of thousands of digits
        raise FileError(f"{path} is not valid TOML: {error}") from error


def _names(param: click.Parameter) -> list[str]:
    """The keys of an option in a file: its long flags, or the name of an argument."""
    if isinstance(param, click.Argument):
        return [str(param.name).replace("_", "-")]
    if param.name in ("help", "config"):
        return []
    return [flag.removeprefix("--") for flag in param.opts if flag.startswith("--")]


def _unknown(path: Path, key: str, words: Any, message: str, context: click.Context) -> None:
    new = FLAGS.get(key.replace("_", "-"))
    hint = f": it has been renamed to {new!r}" if new else nearest(key.replace("_", "-"), words)
    raise click.UsageError(f"{path}: {message}{hint}", context)


def _value(path: Path, key: str, value: Any, param: click.Parameter, context: click.Context) -> Any:
    """A value of the file as the option takes it: a switch as it is, other values as the text of a flag."""
    flag = isinstance(param, click.Option) and param.is_flag
    if flag != isinstance(value, bool):
        takes = "true or false" if flag else "a value"
        raise click.UsageError(f"{path}: {key} takes {takes}, not {_shown(value)}", context)
    if flag:
        return value
    many = value if isinstance(value, list) else [value]
    if not many or not all(isinstance(one, (str, int, float)) and not isinstance(one, bool) for one in many):
        raise click.UsageError(f"{path}: {key} takes text, a number or a list of them, not {_shown(value)}", context)
    texts = [str(one) for one in many]
    if param.multiple:
        return texts
    return ",".join(texts)


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) < 60 else f"{text[:57]}…"
