"""Where the metrics of every epoch go: CSV files, TensorBoard, Weights & Biases, loggers of Lightning and of users."""

import csv
import io
import re
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from transpike.errors import MissingExtra, SettingError
from transpike.results.writing import check_folder, check_writable, write_atomically
from transpike.training.checkpoint import Row, State

FORMS = "csv:FILE, tensorboard:FOLDER or wandb:PROJECT"
_RUN = re.compile(r"[\w-]{1,64}", re.ASCII)


@runtime_checkable
class Logger(Protocol):
    """What ``log_to`` takes besides text; the loggers of Lightning are of this form.

    ``log_metrics`` gets the numbers of an epoch by name, and the epoch as ``step``. If the logger has ``finalize``, it
    is called at the end with "success" or "failed".
    """

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None: ...


LogTo = str | Logger | Sequence[str | Logger] | None


def numbers(row: Row) -> dict[str, float]:
    """The metrics of an epoch by name; without those that were not measured."""
    found = asdict(row)
    return {name: found[name] for name in found if name not in ("epoch", "metric") and found[name] is not None}


class Log(ABC):
    """One place that epochs are written to; ``path`` is its file, if it is one."""

    path: Path | None = None

    @abstractmethod
    def check(self) -> None:
        """Raise before the work where it cannot be written."""

    @abstractmethod
    def begin(self, state: State, settings: Mapping[str, Any]) -> None:
        """Open it. The epochs of ``state.history`` are done, by an earlier run that may have ended before it logged the
        last one; ``state.logs`` is stored in the checkpoint.
        """

    @abstractmethod
    def write(self, row: Row) -> None: ...

    def close(self, failed: bool) -> None:  # noqa: B027 (most have nothing to do)
        """The end of the run, also after an error."""


class CsvLog(Log):
    """A line for each epoch, with a heading; the file is replaced as a whole."""

    def __init__(self, path: str) -> None:
        self.path: Path = Path(path)
        self.rows: list[Row] = []

    def check(self) -> None:
        check_writable(self.path, make_folder=True)

    def begin(self, state: State, settings: Mapping[str, Any]) -> None:
        self.rows = list(state.history)
        if self.rows:
            self._replace()

    def write(self, row: Row) -> None:
        self.rows.append(row)
        self._replace()

    def _replace(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, [field.name for field in fields(self.rows[0])], lineterminator="\n")
        table.writeheader()
        table.writerows(map(asdict, self.rows))  # None is an empty cell
        write_atomically(self.path, text.getvalue().encode(), make_folder=True)


class TensorBoardLog(Log):
    """Scalars in a folder; those of a run that resumes replace what was written after its checkpoint."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.writer: Any = None

    def _writer(self) -> Any:
        if self.folder.is_file():
            raise SettingError(f"tensorboard must be a folder, and {self.folder} is a file")
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra(
                "writing for TensorBoard needs its package: pip install tensorboard, or 'transpike[tensorboard]' "
                f"({error})"
            ) from error
        return SummaryWriter

    def check(self) -> None:
        self._writer()
        check_folder(self.folder)

    def begin(self, state: State, settings: Mapping[str, Any]) -> None:
        self.writer = self._writer()(str(self.folder), purge_step=max(1, len(state.history)))
        for row in state.history[-1:]:
            self.write(row)

    def write(self, row: Row) -> None:
        for name, value in numbers(row).items():
            part, _, what = name.partition("_") if name.startswith(("train", "validation")) else (name, "", "")
            self.writer.add_scalar(f"{what}/{part}" if what else part, value, row.epoch)
        self.writer.flush()

    def close(self, failed: bool) -> None:
        if self.writer is not None:
            self.writer.close()


class WandbLog(Log):
    """A run of Weights & Biases in ``[entity/]project``. Its number is in the checkpoint, so that it resumes."""

    def __init__(self, project: str) -> None:
        self.entity, _, self.project = project.rpartition("/")
        self.run: Any = None

    def _library(self) -> Any:
        try:
            import wandb
        except ImportError as error:
            raise MissingExtra(
                f"Weights & Biases needs its package: pip install wandb, or 'transpike[wandb]' ({error})"
            ) from error
        return wandb

    def check(self) -> None:
        self._library()

    def begin(self, state: State, settings: Mapping[str, Any]) -> None:
        known = state.logs.get("wandb", "")
        if not state.history or not _RUN.fullmatch(known):
            known = secrets.token_hex(4)
        state.logs["wandb"] = known
        self.run = self._library().init(
            project=self.project, entity=self.entity or None, id=known, resume="allow", config=dict(settings)
        )
        for row in state.history[-1:]:
            if row.epoch >= self.run.step:  # its steps only increase
                self.write(row)

    def write(self, row: Row) -> None:
        self.run.log(numbers(row), step=row.epoch)

    def close(self, failed: bool) -> None:
        if self.run is not None:
            self.run.finish(exit_code=int(failed))


class OtherLog(Log):
    """A logger of Lightning, or an object of the user."""

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def check(self) -> None: ...

    def begin(self, state: State, settings: Mapping[str, Any]) -> None: ...

    def write(self, row: Row) -> None:
        self.logger.log_metrics(numbers(row), step=row.epoch)

    def close(self, failed: bool) -> None:
        if callable(finalize := getattr(self.logger, "finalize", None)):
            finalize("failed" if failed else "success")


KINDS: dict[str, type[CsvLog] | type[TensorBoardLog] | type[WandbLog]] = {
    "csv": CsvLog,
    "tensorboard": TensorBoardLog,
    "wandb": WandbLog,
}


class Logs:
    """Every place that ``log_to`` names; as a context it closes them. Raises SettingError for what names none."""

    def __init__(self, log_to: LogTo) -> None:
        given = [] if log_to is None else [log_to] if isinstance(log_to, str | Logger) else list(log_to)
        self.logs = tuple(map(_log, given))
        self.begun: list[Log] = []

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files among them."""
        return tuple(log.path for log in self.logs if log.path is not None)

    def check(self) -> None:
        """Raise before the work where one cannot be written: SettingError, FileError, MissingExtra."""
        for log in self.logs:
            log.check()

    def begin(self, state: State, settings: Mapping[str, Any]) -> None:
        """Open all, for a run that continues from ``state``."""
        for log in self.logs:
            log.begin(state, settings)
            self.begun.append(log)

    def write(self, row: Row) -> None:
        """Log one epoch."""
        for log in self.logs:
            log.write(row)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self.begun:
            self.begun.pop().close(kind is not None)


def _log(given: Any) -> Log:
    if isinstance(given, str):
        kind, _, place = given.partition(":")
        if kind not in KINDS or not place:
            raise SettingError(f"{given!r} is not a place for logs: write {FORMS}")
        return KINDS[kind](place)
    if not isinstance(given, Logger):
        raise SettingError(f"a logger has log_metrics(metrics, step), and a {type(given).__name__} has not: or {FORMS}")
    return OtherLog(given)
