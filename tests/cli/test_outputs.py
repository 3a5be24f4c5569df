"""Outputs of every command are checked before its work."""

import builtins
import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import transpike as ts
from stored import stored
from transpike.cli import main, reproduce
from transpike.results import writing


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    images = ts.data.load("digits").train.images[:64]
    return ts.save(
        ts.convert(stored("two-layers"), ts.recipes.ECC(timesteps=4), images),
        tmp_path_factory.mktemp("net") / "net.transpike",
    )


class WorkError(Exception):
    """The command began to work."""


@pytest.fixture(autouse=True)
def no_work(monkeypatch):
    def work(*_: object, **__: object) -> None:
        raise WorkError

    monkeypatch.setattr(ts, "load", work)
    monkeypatch.setattr(ts.data, "load", work)
    monkeypatch.setattr(reproduce, "calibration_seconds", work)


COMMANDS = {name: main.get_command(None, name) for name in main.list_commands(None)}
OUTPUTS = {
    "break-even": ("--output",),
    "compare": ("--report", "--output", "--store"),
    "convert": ("--output", "--checkpoint"),
    "cuts": ("--report",),
    "demo": ("--output-dir",),
    "energy": ("--report", "--checkpoint"),
    "evaluate": ("--report", "--checkpoint"),
    "exit": ("--report", "--output", "--checkpoint"),
    "explain": ("--report", "--checkpoint"),
    "export": ("--output",),
    "finetune": ("--output", "--checkpoint", "--log"),
    "inspect": ("--report",),
    "report": ("--output",),
    "reproduce": ("--output-dir",),
    "train": ("--output", "--checkpoint", "--log"),
}
CASES = [(command, flag) for command, flags in OUTPUTS.items() for flag in flags if command != "inspect"]  # tables
FOLDERS = ("--output-dir", "--store")
REPORTS = [case for case in CASES if case[1] == "--report" or case[0] == "report"]
WRITTEN = ("--output", "--report", "--checkpoint", "--store", "--log", "--output-dir")


def test_every_output_of_every_command_is_listed_here():
    found = {
        name: {flag for option in command.params for flag in option.opts if flag in WRITTEN}
        for name, command in COMMANDS.items()
    }
    assert {name: flags for name, flags in found.items() if flags} == {k: set(v) for k, v in OUTPUTS.items()}
    paths = {
        flag
        for command in COMMANDS.values()
        for option in command.params
        if isinstance(option.type, click.Path) and isinstance(option, click.Option)
        for flag in option.opts
    }
    assert paths <= {*WRITTEN, "--data-dir", "--models-dir", "--weights", "--config"}


def invoked(command: str, flag: str, path: object, file: Path, folder: Path) -> click.testing.Result:
    words = [command] + (
        [str(file)]
        if command in ("evaluate", "cuts", "energy", "explain", "exit", "export", "finetune", "report")
        else []
    )
    words += ["--recipe", "ecc"] if command in ("break-even", "convert") else []
    words += ["energy"] if command == "reproduce" else []
    words += ["--to", "onnx"] if command == "export" else []
    words += ["--pick", "max=accuracy"] if command == "compare" else []
    if command in ("convert", "exit", "train", "finetune") and flag != "--output":
        words += ["--output", str(folder / "out.safetensors")]
    if command == "compare" and flag != "--store":
        words += ["--store", str(folder / "store")]
    return CliRunner().invoke(main, [*words, flag, f"csv:{path}" if flag == "--log" else str(path)])


@pytest.mark.parametrize(("command", "flag"), CASES)
def test_an_output_that_cannot_be_written_is_refused_before_the_work(command, flag, file, tmp_path):
    (tmp_path / "file.html").write_bytes(b"content")
    bad = tmp_path / "file.html" / ("folder" if flag in FOLDERS else "out.html")
    done = invoked(command, flag, bad, file, tmp_path)
    assert not isinstance(done.exception, WorkError), done.exception
    assert done.exit_code in (2, 5) and "cannot be written" in done.stderr and str(bad) in done.stderr
    assert (tmp_path / "file.html").read_bytes() == b"content"


@pytest.mark.parametrize(("command", "flag"), CASES)
def test_an_output_that_can_be_written_begins_the_work_and_leaves_nothing(command, flag, file, tmp_path):
    done = invoked(command, flag, tmp_path / ("folder" if flag in FOLDERS else "out.html"), file, tmp_path)
    assert isinstance(done.exception, WorkError), done.output
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize(("command", "flag"), [case for case in CASES if case[0] in ("convert", "exit", "evaluate")])
def test_a_missing_folder_is_refused_before_the_work(command, flag, file, tmp_path):
    done = invoked(command, flag, tmp_path / "missing" / "out.html", file, tmp_path)
    assert f"there is no folder {tmp_path}/missing" in done.stderr and not (tmp_path / "missing").exists()


SHARED = {"convert", "evaluate", "energy", "explain", "exit", "train", "finetune", "break-even"}
"""Commands of which the first of several processes writes."""


@pytest.mark.parametrize("command", sorted(OUTPUTS.keys() - SHARED))
def test_a_command_that_every_process_would_write_the_files_of_is_refused(command, file, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = invoked(command, OUTPUTS[command][0], tmp_path / "out.html", file, tmp_path)
    assert done.exit_code == 2 and "several processes, which would all write the same files" in done.stderr
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(("command", "flag"), REPORTS)
@pytest.mark.parametrize("name", ["out.doc", "out", ".html"])
def test_an_unknown_extension_is_refused_before_the_work(command, flag, name, file, tmp_path):
    done = invoked(command, flag, tmp_path / name, file, tmp_path)
    assert not isinstance(done.exception, WorkError)
    assert done.exit_code == 2 and "a report is saved as .html, .json" in done.stderr


@pytest.mark.parametrize(("command", "flag"), REPORTS)
def test_what_needs_matplotlib_is_refused_before_the_work_where_it_is_missing(
    command, flag, file, tmp_path, monkeypatch
):
    real = builtins.__import__

    def missing(name: str, *rest: object, **more: object) -> object:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError("no matplotlib here")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    names = ["out.html"] if command == "report" else ["out.html", "out.png", "out.svg", "out.PDF"]
    for name in names:
        done = invoked(command, flag, tmp_path / name, file, tmp_path)
        assert not isinstance(done.exception, WorkError)
        assert "pip install 'transpike[report]'" in done.stderr
    assert isinstance(invoked(command, flag, tmp_path / "out.json", file, tmp_path).exception, WorkError)


def test_pictures_of_several_results_are_refused_before_the_work(file, tmp_path):
    done = invoked("report", "--output", tmp_path / "out.png", file, tmp_path)
    assert (
        done.exit_code == 2
        and "a figure cannot show these results: save them as .html, .json, .txt, .csv, .md or .tex" in done.stderr
    )


@pytest.mark.parametrize(
    ("name", "words"), [("out.html", "tables are saved as .csv"), ("missing/out.csv", "there is no folder")]
)
def test_tables_of_a_chip_that_cannot_be_written_are_refused_before_the_work(name, words, file, tmp_path, monkeypatch):
    monkeypatch.setattr(ts, "load", lambda path: pytest.fail("the command began to work"))
    done = CliRunner().invoke(main, ["inspect", str(file), "--fit", "loihi", "--report", str(tmp_path / name)])
    assert done.exit_code in (2, 5) and words in done.stderr


def test_standard_output_is_not_mixed_with_a_file(file, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "goes_to_stdout", lambda path: Path(path).name == "out.html")
    done = invoked("convert", "--output", tmp_path / "out.html", file, tmp_path)
    assert "also carries the text of this command" in done.stderr and not isinstance(done.exception, WorkError)


def test_a_training_into_the_null_device_needs_a_checkpoint_elsewhere(file, tmp_path):
    done = invoked("train", "--output", os.devnull, file, tmp_path)
    assert done.exit_code == 2 and "/dev/null is not a regular file, so --checkpoint is needed too" in done.stderr
    done = invoked("train", "--checkpoint", os.devnull, file, tmp_path)
    assert "/dev/null is a pipe or a device, but this file is read again" in done.stderr


def test_two_outputs_in_one_file_are_refused(file, tmp_path):
    done = invoked("exit", "--report", tmp_path / "out.safetensors", file, tmp_path)
    assert "a report is saved as" in done.stderr
    words = ["exit", str(file), "--output", str(tmp_path / "a.html"), "--report", str(tmp_path / "a.html")]
    assert "is given for two outputs" in CliRunner().invoke(main, words).stderr
