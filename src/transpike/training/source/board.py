"""Numbers of every epoch for TensorBoard."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from transpike.errors import MissingExtra, SettingError
from transpike.training.checkpoint import Row


class Board:
    """Writes rows as scalars into ``folder``; those of epochs after ``done`` take the place of an earlier run's."""

    def __init__(self, folder: str | Path, done: int = 0) -> None:
        self.writer: Any = writer(folder)(str(folder), purge_step=done + 1)

    def write(self, row: Row) -> None:
        for name, value in asdict(row).items():
            if name != "epoch" and value is not None:
                part, _, what = name.partition("_") if name.startswith(("train", "validation")) else (name, "", "")
                self.writer.add_scalar(f"{what}/{part}" if what else part, value, row.epoch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def writer(folder: str | Path) -> Any:
    """torch's SummaryWriter for ``folder``. Raises SettingError where that is a file, MissingExtra."""
    if Path(folder).is_file():
        raise SettingError(f"tensorboard is the folder to write into, and {folder} is a file")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingExtra(
            f"writing for TensorBoard needs its package: pip install tensorboard, or 'transpike[tensorboard]' ({error})"
        ) from error
    return SummaryWriter
