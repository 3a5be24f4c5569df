"""Contract of exporters: write a whole-number network to a file or folder, and run what was written."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from transpike.core.spelling import NamedSettings
from transpike.lowering.whole import Samples, Trains, Whole


@dataclass(frozen=True)
class Exporter(NamedSettings, ABC):
    """Settings of one format; its fields are keywords of ``ts.export``."""

    name: ClassVar[str]
    suffix: ClassVar[str]
    """The ending of the file that it writes, e.g. ".onnx"; "" for a folder."""

    reads_late: ClassVar[bool] = False
    """True if it keeps ``Layer.start`` of the readout; networks with another start than 0 are else refused."""

    def refuse(self, whole: Whole) -> None:
        """Raises UnsupportedModel, naming layer, reason and way out, for what this format cannot hold."""

    @abstractmethod
    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        """Write the network and, where the format has a place for them, the samples and their expected trains."""

    @abstractmethod
    def missing(self) -> str:
        """What is not installed that ``run`` needs, with the command that installs it; "" if nothing."""

    @abstractmethod
    def run(self, path: Path, samples: Samples) -> Trains:
        """Run what ``write`` wrote, from its files alone."""
