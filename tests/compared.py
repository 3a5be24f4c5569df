"""Recipes for the tests of ``compare``: they write down that they ran, wait for a file, refuse, break or die, as told."""

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.graph import Graph
from transpike.core.pass_ import Context, Pass
from transpike.errors import SettingError
from transpike.recipes import ECC
from transpike.tasks import Classification
from transpike.workflow.resumable import run
from waiting import wait_until

LOG = "TRANSPIKE_TEST_LOG"
"""Names the file that gets one line, process and threads, for each conversion."""
GATE = "TRANSPIKE_TEST_GATE"
"""Names a file without which the conversion of every recipe from the third on does not end."""


@dataclass(frozen=True)
class Tell(Pass):
    number: int
    ending: str

    def apply(self, graph: Graph, context: Context) -> Graph:
        if LOG in os.environ:
            with Path(os.environ[LOG]).open("a") as file:
                file.write(f"{os.getpid()} {torch.get_num_threads()}\n")
        while self.number >= 2 and GATE in os.environ and not Path(os.environ[GATE]).exists():
            time.sleep(0.02)
        if self.ending == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.ending == "break":
            raise RuntimeError("told to break")
        if self.ending == "refuse":
            raise SettingError("told to refuse")
        return graph


@dataclass(frozen=True)
class Told(ECC):
    name: ClassVar[str] = "told"
    number: int = field(default=0)
    ending: str = field(default="")
    multiple: int = field(default=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.timesteps % self.multiple:
            raise SettingError(f"timesteps must be a multiple of {self.multiple}")

    @property
    def training_free(self) -> bool:
        return False

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (*super().passes, Tell(self.number, self.ending))


@dataclass(frozen=True)
class ToldForEach(Told):
    """Another network for every number of steps."""

    name: ClassVar[str] = "told-for-each"

    @property
    def depends_on_timesteps(self) -> bool:
        return True


@dataclass(frozen=True)
class Waiting(Classification):
    """Judges batches of fewer than 20 samples when the gate is there, which a test that fails may never open."""

    name: ClassVar[str] = "waiting"

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if samples < 20 and where == "a batch":
            wait_until(Path(os.environ[GATE]).exists)
        return super().check(shape, samples, target, where)


@dataclass(frozen=True)
class Noted(Waiting):
    """Writes down the process and the samples of each batch that it judges."""

    name: ClassVar[str] = "noted"

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        if where == "a batch":
            with Path(os.environ[LOG]).open("a") as file:
                file.write(f"{os.getpid()} {samples}\n")
        return super().check(shape, samples, target, where)


@dataclass(frozen=True)
class KeepEveryBatch(Pass):
    def apply(self, graph: Graph, context: Context) -> Graph:
        checkpoint = run._checkpoint.get()
        assert checkpoint is not None
        checkpoint.every, run.SHARE = 0.0, 0
        return graph


@dataclass(frozen=True)
class Often(ECC):
    """Its units keep what each batch adds, in whatever process they run."""

    name: ClassVar[str] = "often"

    @property
    def training_free(self) -> bool:
        return False

    @property
    def passes(self) -> tuple[Pass, ...]:
        return (*super().passes, KeepEveryBatch())
