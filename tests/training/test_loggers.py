"""Logs of epochs: CSV, TensorBoard, Weights & Biases, loggers of others; a resumed run has every epoch once."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import transpike as ts
from commands import run
from transpike.errors import FileError, MissingExtra, SettingError
from transpike.training.checkpoint import Row, State
from transpike.training.loggers import Logs, numbers

DIGITS = ts.data.load("digits")


class Interrupted(Exception):
    pass


def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))


def trained(log_to: Any, path: Path | None = None, until: int | None = None, **settings: Any) -> tuple:
    """The history of three epochs, or of those until an interruption."""

    def progress(where: Any) -> None:
        if isinstance(where, Row) and where.epoch == until:
            raise Interrupted

    chosen = ts.Training(epochs=3, learning_rate=0.05, batch_size=250)
    data = (DIGITS.train.images[:500], DIGITS.train.labels[:500])
    return ts.train(net(), data, chosen, log_to=log_to, checkpoint=path, progress=progress, **settings).history


class Wandb:
    """A module ``wandb`` that keeps what it is told; a run resumes with the next step, as the real one does."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[int, dict[str, float]]] = {}
        self.inits: list[dict[str, Any]] = []
        self.codes: list[int] = []

    def init(self, **settings: Any) -> Any:
        self.inits.append(settings)
        rows = self.runs.setdefault(settings["id"], {})

        def log(values: dict[str, float], step: int) -> None:
            assert step >= max(rows, default=0) and step not in rows
            rows[step] = values

        return SimpleNamespace(
            step=max(rows, default=-1) + 1, log=log, finish=lambda exit_code: self.codes.append(exit_code)
        )


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wandb]:
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    yield module


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_file_has_a_line_for_each_epoch(tmp_path: Path) -> None:
    history = trained(f"csv:{tmp_path / 'new' / 'log.csv'}")
    rows = table(tmp_path / "new" / "log.csv")
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    for row, line in zip(history, rows, strict=True):
        assert float(line["train_loss"]) == row.train_loss
        assert float(line["validation_accuracy"]) == row.validation_accuracy


def test_an_interrupted_training_logs_every_epoch_once(tmp_path: Path, wandb: Wandb) -> None:
    logs = [f"csv:{tmp_path / 'log.csv'}", "wandb:team/project"]
    with pytest.raises(Interrupted):
        trained(logs, tmp_path / "net.safetensors", until=2)
    assert len(table(tmp_path / "log.csv")) == 2 and wandb.codes == [1]
    history = trained(logs, tmp_path / "net.safetensors")
    assert [float(row["train_loss"]) for row in table(tmp_path / "log.csv")] == [row.train_loss for row in history]
    (rows,) = wandb.runs.values()
    assert rows == {row.epoch: numbers(row) for row in history} and wandb.codes == [1, 0]
    first, second = wandb.inits
    assert first["id"] == second["id"] and first["project"] == "project" and first["entity"] == "team"
    assert first["config"]["learning_rate"] == 0.05


def test_an_epoch_that_was_saved_and_not_logged_is_logged_by_the_next_run(tmp_path: Path, wandb: Wandb) -> None:
    history = trained([f"csv:{tmp_path / 'a.csv'}", "wandb:project"], tmp_path / "net.safetensors")
    wandb.runs[wandb.inits[0]["id"]].popitem()
    (tmp_path / "a.csv").unlink()
    trained([f"csv:{tmp_path / 'a.csv'}", "wandb:project"], tmp_path / "net.safetensors")
    assert len(table(tmp_path / "a.csv")) == 3
    assert wandb.runs[wandb.inits[0]["id"]] == {row.epoch: numbers(row) for row in history}


def test_a_new_training_is_a_new_run(tmp_path: Path, wandb: Wandb) -> None:
    for _ in range(2):
        trained("wandb:project", tmp_path / "net.safetensors", resume=False)
    assert len(wandb.runs) == 2 and {len(rows) for rows in wandb.runs.values()} == {3}


def test_a_checkpoint_without_loggers_has_no_trace_of_them(tmp_path: Path) -> None:
    from safetensors import safe_open

    trained(f"csv:{tmp_path / 'log.csv'}", tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        assert "logs" not in file.metadata()


def test_a_number_of_a_run_that_somebody_wrote_into_a_checkpoint_is_not_used(wandb: Wandb) -> None:
    state = State([Row(1, 0.1, 1.0, 0.5, None, None, 1.0)], 1, {}, logs={"wandb": "../../etc"})
    Logs("wandb:project").begin(state, {})
    assert wandb.inits[0]["id"] == state.logs["wandb"] != "../../etc"


def test_any_object_with_log_metrics_is_a_logger() -> None:
    class Mine:
        def __init__(self) -> None:
            self.seen: list[tuple[int, dict]] = []
            self.end = ""

        def log_metrics(self, metrics: dict, step: int) -> None:
            self.seen.append((step, dict(metrics)))

        def finalize(self, status: str) -> None:
            self.end = status

    mine = Mine()
    history = trained(mine)
    assert mine.seen == [(row.epoch, numbers(row)) for row in history] and mine.end == "success"
    with pytest.raises(Interrupted):
        trained(mine, until=1)
    assert mine.end == "failed"


def test_what_is_open_is_closed_if_another_log_cannot_begin(tmp_path: Path, wandb: Wandb) -> None:
    logs = Logs(["wandb:project", f"csv:{tmp_path}"])
    with pytest.raises(FileError), logs:
        logs.begin(State([Row(1, 0.1, 1.0, 0.5, None, None, 1.0)], 1, {}), {})
    assert wandb.codes == [1]


def test_fine_tuning_logs_too_and_resumes(tmp_path: Path, wandb: Wandb) -> None:
    snn = ts.convert(net(), ts.recipes.ECC(timesteps=2), DIGITS.train.images[:100].float() / 255)
    data, logs = (
        (DIGITS.train.images[:100].float() / 255, DIGITS.train.labels[:100]),
        [f"csv:{tmp_path / 'l.csv'}", "wandb:p"],
    )

    def progress(where: Any) -> None:
        if isinstance(where, Row) and where.epoch == 1:
            raise Interrupted

    how: dict[str, Any] = {"epochs": 2, "checkpoint": tmp_path / "c.safetensors", "log_to": logs}
    with pytest.raises(Interrupted):
        ts.finetune(snn, data, progress=progress, **how)
    tuned = ts.finetune(snn, data, **how)
    history = tuned.provenance["fine_tuning"][-1]["history"]
    assert [float(row["train_loss"]) for row in table(tmp_path / "l.csv")] == [row["train_loss"] for row in history]
    (rows,) = wandb.runs.values()
    assert [*rows] == [1, 2]


def test_missing_packages_and_folders_are_told_before_the_work(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match="'transpike\\[wandb\\]'"):
        trained("wandb:project", tmp_path / "net.safetensors")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        trained(f"csv:{tmp_path / 'file' / 'log.csv'}", tmp_path / "net.safetensors")
    with pytest.raises(SettingError, match="is given for two outputs"):
        trained([f"csv:{tmp_path / 'a'}", f"csv:{tmp_path / 'a'}"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_line_logs(tmp_path: Path) -> None:
    output, log = tmp_path / "net.safetensors", tmp_path / "log.csv"
    run("train", "--epochs", 1, "--output", output, "--log", f"csv:{log}", "--threads", 1)
    assert len(table(log)) == 1
    words = ("train", "--epochs", 1, "--output", output)
    assert "--tensorboard has been renamed to --log" in run(*words, "--tensorboard", tmp_path, code=2).output
    assert "is not a place for logs" in run(*words, "--log", "mlflow:x", code=2).output


def test_tensorboard_has_every_epoch_once_after_an_interruption(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'transpike[tensorboard]'")
    code = """
import json, torch, transpike as ts
from transpike.training.checkpoint import Row
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

class Interrupted(Exception): pass
def stop(where):
    if isinstance(where, Row) and where.epoch == until: raise Interrupted

data = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(100) % 10
for until in (2, 0):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    try:
        done = ts.train(net, data, ts.Training(epochs=3, batch_size=50), log_to="tensorboard:board",
                        checkpoint="c.safetensors", progress=stop)
    except Interrupted:
        pass
found = EventAccumulator("board").Reload().Scalars("loss/train")
print(json.dumps([[[one.step, one.value] for one in found], [[r.epoch, r.train_loss] for r in done.history]]))
"""
    command = [sys.executable, "-c", code]  # its import warns of its own code
    told = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    found, history = json.loads(told.splitlines()[-1])
    assert found == [[epoch, pytest.approx(loss)] for epoch, loss in history] and len(history) == 3


@pytest.mark.slow
def test_weights_and_biases_itself_takes_the_epochs_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="needs wandb: pip install 'transpike[wandb]'")
    code = """
import sys, torch, transpike as ts
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
x, y = torch.rand(100, 1, 8, 8), torch.arange(100) % 10
for epochs in (1, 2):
    ts.train(net, (x, y), ts.Training(epochs=2, batch_size=50), log_to="wandb:p", checkpoint="c.safetensors")
"""
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, **quiet}, check=True, timeout=600)
    folders = sorted(path.name for path in (tmp_path / "wandb").glob("offline-run-*"))
    assert len(folders) == 2 and len({name.rpartition("-")[2] for name in folders}) == 1  # one run, in two parts
