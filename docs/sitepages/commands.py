"""A page for each command: what it does, an example that runs, its options as click has them."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import click

from sitepages.measurements import cell, plain, table
from sitepages.staging import ROOT, Site, fence
from transpike import cli, recipes
from transpike.cli._recipes import flags_of

EXAMPLES = ROOT / "docs/sitepages/examples.toml"
OUTPUTS = ROOT / "docs/sitepages/outputs"
LONGEST = 40
"""Lines of an output that are shown."""
PLUGIN = re.compile(r"transpike_example|transpike-example-plugin|^registered from outside")
"""The example plug-in, which only developers have installed."""
COMMON = ("config", "quiet", "verbose", "help")


@dataclass(frozen=True)
class Example:
    """``lines`` are typed in the folder of the examples before; ``text`` and ``after`` explain them.

    ``quick`` are words that make the last line fast in a test, ``codes`` the exit codes that are an answer.
    """

    command: str
    text: str
    lines: tuple[str, ...]
    after: str
    pages: tuple[tuple[str, str], ...]
    needs: str
    quick: tuple[str, ...]
    codes: tuple[int, ...]

    @property
    def words(self) -> list[list[str]]:
        """Each line as the words of a command line, without ``transpike``."""
        joined = "\n".join(self.lines).replace("\\\n", " ")
        return [shlex.split(line, comments=True)[1:] for line in joined.splitlines() if line.strip()]


def examples() -> dict[str, Example]:
    """Command → its example, in the order in which they run."""
    found = tomllib.loads(EXAMPLES.read_text(encoding="utf-8"))
    return {
        name: Example(
            name, content["text"].strip(), tuple(content["lines"].strip().splitlines()), content.get("after", "").strip(),
            tuple((title, page) for title, page in content.get("pages", {}).items()), content.get("needs", ""),
            tuple(shlex.split(content.get("quick", ""))), tuple(content.get("codes", [0])),
        )
        for name, content in found.items()
    }  # fmt: skip


def record(only: Sequence[str] = ()) -> None:
    """Run the examples as they are printed, and store what they print (`python docs/build.py --outputs`).

    ``only``: these commands, which have to include those that write the files of the others.
    """
    outside = {key: value for key, value in os.environ.items() if not key.startswith("TRANSPIKE_")}
    environment = {**outside, "COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    OUTPUTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, example in examples().items():
            if only and name not in only:
                continue
            parts = []
            for line, words in zip(example.lines, example.words, strict=True):
                command = [sys.executable, "-m", "transpike", *words]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
                if done.returncode not in example.codes:
                    raise RuntimeError(f"{line}\n{done.stdout}{done.stderr}")
                printed = done.stdout.replace(sys.executable, "python").replace(f"{folder}/", "")
                said = [one for one in printed.rstrip().splitlines() if not PLUGIN.search(one)]
                if done.returncode:
                    said += [*done.stderr.rstrip().splitlines()[-1:], f"(exit code {done.returncode})"]
                if len(said) > LONGEST:
                    said = [*said[: LONGEST - 1], f"… {len(said) - LONGEST + 1} more lines"]
                parts.append("\n".join([f"$ {line}", *(one.rstrip() for one in said)]))
            (OUTPUTS / f"{name}.txt").write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def output_of(name: str) -> str:
    """What the example of this command printed when it was recorded; its first line is the command."""
    return (OUTPUTS / f"{name}.txt").read_text(encoding="utf-8").strip()


def command_of(name: str) -> click.Command:
    found = cli.main.get_command(None, name)  # type: ignore[arg-type]
    assert found is not None, name
    return found


def add(site: Site) -> list[str]:
    """The pages of all commands; returns their places."""
    known = examples()
    if missing := [name for name in cli.COMMANDS if name not in known]:
        raise ValueError(f"{EXAMPLES.name} has no example of {', '.join(missing)}")
    for name in cli.COMMANDS:
        site.add(f"commands/{name}.md", page(name, known[name]))
    site.add("commands/index.md", overview())
    return [f"commands/{name}.md" for name in cli.COMMANDS]


def overview() -> str:
    rows = [[f"[`transpike {name}`]({name}.md)", text] for name, text in cli.COMMANDS.items()]
    common = [param for param in command_of("doctor").params if param.name in COMMON]
    return (
        "# The command line\n\nOne page for each command: an example that runs, and every option.\n\n"
        f"{table(['command', 'what it does'], rows)}\n"
        "Options of every command:\n\n"
        f"{_options(common)}\n"
        "Configuration files, errors with their exit codes, and completion in a shell: "
        "[the interface](../interface.md#the-command-line).\n"
    )


def page(name: str, example: Example) -> str:
    command = command_of(name)
    context = click.Context(command, info_name=f"transpike {name}")
    usage = " ".join([context.info_name or "", *command.collect_usage_pieces(context)])
    of_recipes = {field for kind in recipes.table.values() for field in flags_of(kind)}
    selects = any(param.name == "recipe_name" for param in command.params)
    own = [
        param for param in command.params
        if param.name not in COMMON and not (selects and param.name in of_recipes) and not getattr(param, "hidden", False)
    ]  # fmt: skip
    title, _, rest = (command.help or "").partition("\n\n")
    parts = [f"# transpike {name}", " ".join(title.split())]
    parts += [" ".join(paragraph.split()) for paragraph in rest.split("\n\n") if paragraph.strip()]
    parts += ["## Example", example.text, f"```bash\n{chr(10).join(example.lines)}\n```"]
    parts += [f"It prints, on the machine where this page was written:\n\n{fence(output_of(name), 'text')}"]
    parts += [example.after] if example.after else []
    parts += [f"This needs {example.needs}."] if example.needs else []
    parts += [f"More: {', '.join(f'[{title}](../{page})' for title, page in example.pages)}."] if example.pages else []
    parts += ["## Usage", f"```text\n{usage}\n```", "## Options", _options(own)]
    if selects:
        parts += [
            "The settings of the recipe are flags too, for example `--timesteps`: each [method](../methods.md) has a page with "
            f"its own, and `transpike {name} --recipe NAME --help` lists them."
        ]
    parts += ["Every command also has `--config`, `--quiet` and `--verbose` ([all commands](index.md))."]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _options(params: list[click.Parameter]) -> str:
    return table(["option", "values", "default", "meaning"], list(_rows(params)))


def _rows(params: list[click.Parameter]) -> Iterator[list[str]]:
    for param in params:
        if isinstance(param, click.Argument):
            name = param.make_metavar(click.Context(click.Command("x")))
            yield [f"`{cell(name)}`", "", "needed" if param.required else "", ""]
            continue
        assert isinstance(param, click.Option)
        names = "<br>".join(f"`{flag}`" for flag in [*param.opts, *param.secondary_opts])
        yield [names, _values(param), _default(param), plain(param.help or "")]


def _values(param: click.Option) -> str:
    many = ", repeatable" if param.multiple else ""
    if param.is_flag or param.count:
        return "switch"
    if isinstance(param.type, click.Choice):
        return ", ".join(f"`{cell(str(one))}`" for one in param.type.choices) + many
    name = param.metavar or param.make_metavar(click.Context(click.Command("x")))
    return f"`{cell(name)}`{many}"


def _default(param: click.Option) -> str:
    value: Any = param.default
    if param.required:
        return "needed"
    shown = value is not None and param.show_default and not callable(value) and value not in ((), [], False)
    return f"`{cell(str(value))}`" if shown else ""
