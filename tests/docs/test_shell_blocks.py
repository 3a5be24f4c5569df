"""Every command of README and of the pages has options that exist; blocks marked ``run`` are executed."""

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

import transpike as ts
from blocks import PAGES, ROOT, Block, blocks_of, commands_of, spans_of, words_of
from commands import run as run_command
from given import GIVEN
from transpike.cli import COMMANDS, main
from transpike.core import registry

SHELL = [block for page in PAGES for block in blocks_of(page) if block.language == "bash"]
SPANS = [span for page in PAGES for span in spans_of(page)]
PROGRAMS = {
    "arm-none-eabi-gcc", "cc", "cd", "cibuildwheel", "gcc", "git", "ray", "uv", "mkdocs", "ctest", "cmake", "export",
}  # fmt: skip
"""Programs of others, whose options are not ours."""
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
EXTRAS = set(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])

DATA = {*ts.data.names, *ts.data.table}


def wrong_command(command: str, made: set[str] | None = None) -> str:
    """What is wrong with a command of a page, or "". ``made``: folders that earlier commands of the block wrote."""
    words = words_of(command)
    while words and re.match(r"[A-Z_]+=", words[0]):  # variables of the environment
        del words[0]
    if not words:
        return ""
    program, *rest = words
    if program == "transpike":
        return wrong_words(rest, made)
    if program == "torchrun":
        return wrong_words(rest[rest.index("transpike") + 1 :], made) if "transpike" in rest else "runs no transpike"
    if program == "make":
        targets = [word for word in rest if "=" not in word]
        return "; ".join(f"make has no target {word}" for word in targets if word not in TARGETS)
    if program == "pip" or (program == "python" and rest[:2] == ["-m", "pip"]):
        named = [extra for word in rest for part in re.findall(r"\[([a-z,]+)\]", word) for extra in part.split(",")]
        return "; ".join(f"there is no extra {extra}" for extra in named if extra not in EXTRAS)
    if program == "python":
        return wrong_script(rest, made or set())
    if (ROOT / program).is_file() or program in PROGRAMS or program.startswith("./"):
        return ""
    return f"nobody knows the program {program!r}"


def wrong_script(rest: list[str], made: set[str]) -> str:
    if rest[:1] == ["-m"]:
        return "" if rest[1] in ("build", "pytest", "transpike", "venv") else f"nobody knows the module {rest[1]}"
    if rest[0].split("/")[0] in made:
        return ""
    path = ROOT / rest[0]
    if not path.is_file():
        return f"there is no {rest[0]}"
    text = path.read_text(encoding="utf-8")
    flags = [word.split("=")[0] for word in rest if word.startswith("--")]
    return "; ".join(f"{rest[0]} has no {flag}" for flag in flags if f'"{flag}"' not in text)


def wrong_words(words: list[str], made: set[str] | None = None) -> str:
    """What is wrong with the words behind ``transpike``, or ""."""
    name, *rest = words
    if name in ("--help", "--version"):
        return ""
    context = click.Context(main, info_name="transpike")
    command = main.get_command(context, name) if name in COMMANDS else None
    if command is None:
        return f"no command is called {name!r}"
    inner = click.Context(command, info_name=name, parent=context)
    try:
        values, left, _ = command.make_parser(inner).parse_args(list(rest))
        for param in command.params:
            _check(param, values.get(str(param.name)), inner, made)
    except click.UsageError as error:
        return error.format_message()
    return f"{left} are too many words" if left else ""


def _check(param: click.Parameter, value: Any, context: click.Context, made: set[str] | None) -> None:
    """Raise UsageError for a word that the option does not take. Files and folders need not be there."""
    values = [one for one in (value if isinstance(value, (list, tuple)) else [value]) if isinstance(one, str)]
    for one in values:
        if made is not None and param.name in ("output", "output_dir"):
            made.add(one.split("/")[0])
        if param.name == "data_name" and re.fullmatch(r"[a-z0-9-]+", one) and one not in DATA:
            raise click.UsageError(f"no data set is called {one!r}")
        if param.name == "model_name" and one.startswith("zoo:") and one[4:] not in ts.models.models:
            raise click.UsageError(f"no network is called {one!r}")
        if not isinstance(param.type, (click.Path, click.File)) and not one.isupper():  # NAME stands for a name
            param.type.convert(one, param, context)


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_the_commands_of_a_block_exist(block: Block) -> None:
    made: set[str] = set()
    wrong = [f"{command}: {why}" for command in commands_of(block) if (why := wrong_command(command, made))]
    assert commands_of(block) and not wrong, f"{block.name}\n" + "\n".join(wrong)


def test_the_commands_in_the_text_exist() -> None:
    ours = [(place, command) for place, command in SPANS if "half-ecc" not in command]  # the plug-in that a page makes
    wrong = [f"{place}: {command}: {why}" for place, command in ours if (why := wrong_command(command))]
    assert len(SPANS) > 20 and not wrong, "\n".join(wrong)


@pytest.mark.parametrize("block", [b for b in SHELL if "run" in b.marks], ids=lambda block: block.name)
def test_the_commands_of_a_block_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with registry.restored():
        for name in block.marked("given"):
            GIVEN[name]()
        for command in commands_of(block):
            program, *words = words_of(command)
            assert program == "transpike", f"{block.name}: only commands of transpike are run, not {program}"
            run_command(*words)


def test_a_wrong_command_is_found() -> None:
    assert wrong_command("transpike convrt net") == "no command is called 'convrt'"
    assert "--recip" in wrong_command("transpike convert --model zoo:vgg7 --recip ecc --output a.transpike")
    assert "eccc" in wrong_command("transpike convert --model zoo:vgg7 --recipe eccc --output a.transpike")
    assert "abc" in wrong_command("transpike evaluate net.transpike --limit abc")
    assert wrong_command("transpike evaluate net.transpike --data cifr10") == "no data set is called 'cifr10'"
    assert wrong_command("transpike inspect --model zoo:vgg77") == "no network is called 'zoo:vgg77'"
    assert wrong_command("make tests") == "make has no target tests"
    assert wrong_command("pip install 'transpike[onx]'") == "there is no extra onx"
    assert wrong_command("python benchmarks/spede.py") == "there is no benchmarks/spede.py"
    assert wrong_command("python benchmarks/tables.py --fast") == "benchmarks/tables.py has no --fast"
    assert wrong_command("nmp install") == "nobody knows the program 'nmp'"
    assert not wrong_command("transpike convert --model zoo:vgg7 --recipe ecc --timesteps 8 --output a.transpike")
