"""The examples on the pages of the commands: their options exist, and they run, in their order in one folder."""

import contextlib
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from transpike import cli

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from sitepages.commands import Example, examples, output_of  # noqa: E402

EXAMPLES = examples()


def test_every_command_has_one_example() -> None:
    assert {*EXAMPLES} == {*cli.COMMANDS}
    for name, example in EXAMPLES.items():
        assert example.words[-1][0] == name and all(line.startswith("transpike ") for line in example.lines)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda example: example.command)
def test_the_output_on_a_page_is_that_of_its_example(example: Example) -> None:
    lines = output_of(example.command).splitlines()
    assert [line[2:] for line in lines if line.startswith("$ ")] == [*example.lines], (
        "run python docs/build.py --outputs"
    )
    assert len(lines) > len(example.lines)


@pytest.mark.parametrize("example", EXAMPLES.values(), ids=lambda example: example.command)
def test_the_options_of_an_example_exist(example: Example) -> None:
    for words in example.words:
        command = cli.main.get_command(None, words[0])
        assert command is not None
        with click.Context(command, info_name=words[0]) as context, contextlib.suppress(click.exceptions.Exit):
            command.make_parser(context).parse_args(words[1:])  # raises for unknown options


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the words of ``quick``, which make them faster and change nothing else."""
    monkeypatch.chdir(tmp_path)
    for example in EXAMPLES.values():
        *first, last = example.words
        for words in (*first, [*last, *example.quick]):
            result = CliRunner().invoke(cli.main, words)
            assert result.exit_code in example.codes, f"{words}: {result.output}{result.exception!r}"
    assert Path("report.html").is_file() and Path("firmware").is_dir() and Path("tuned.transpike").is_file()
