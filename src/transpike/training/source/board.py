"""Metrics of every epoch for TensorBoard."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from transpike.errors import MissingExtra, SettingError
from transpike.results.writing import check_folder
from transpike.training.checkpoint import Row


class Board:
    """Writes rows as scalars into ``folder``; epochs after ``done`` replace those of an earlier run."""

    def __init__(self, folder: str | Path, done: int = 0) -> None:
        self.writer: Any = writer(folder)(str(folder), purge_step=done + 1)

    def write(self, row: Row) -> None:
        for name, value in asdict(row).items():
            if name not in ("epoch", "metric") and value is not None:
                part, _, what = name.partition("_") if name.startswith(("train", "validation")) else (name, "", "")
                self.writer.add_scalar(f"{what}/{part}" if what else part, value, row.epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def check_logs(folder: str | Path) -> None:
    """Raise before the work where logs cannot be written: what ``writer`` raises, or FileError."""
    writer(folder)
    check_folder(folder)


def writer(folder: str | Path) -> Any:
    """torch's SummaryWriter class; raises SettingError if ``folder`` is a file, MissingExtra without the package."""
    if Path(folder).is_file():
        raise SettingError(f"tensorboard must be a folder, but {folder} is a file")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra(
            f"writing for TensorBoard needs its package: pip install tensorboard, or 'transpike[tensorboard]' ({error})"
        ) from error
    return SummaryWriter
