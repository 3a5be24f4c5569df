"""Contract of exporters: write an integer network to a file or folder, and run what was written."""

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

    every_rule: ClassVar[bool] = False
    """True if it keeps every ``Rule`` and ``Timing`` of layers; networks with others than plain ones are else refused.
    """

    first_spikes: ClassVar[bool] = False
    """True if it writes first-spike networks (``Whole.first_spikes``); they are else refused."""

    def refuse(self, whole: Whole) -> None:
        """Raises UnsupportedModel, naming layer, reason and remedy, for what this format cannot hold."""

    def written(self, whole: Whole) -> Whole:
        """The network that the format writes: ``whole`` itself, or another one where settings ask for it.

        The run of another one takes the place of transpike's in the comparison, and ``ts.export`` says what it costs.
        """
        return whole

    @abstractmethod
    def write(self, whole: Whole, path: Path, samples: Samples, expected: Trains) -> None:
        """Write the network and, where the format has a place for them, the samples and their expected trains."""

    def about(self, path: Path) -> str:
        """A sentence on what was written, such as the memory that it needs; shown with the result."""
        return ""

    @abstractmethod
    def missing(self) -> str:
        """The missing dependency of ``run``, with the command that installs it; "" if there is none."""

    @abstractmethod
    def run(self, path: Path, samples: Samples) -> Trains:
        """Run what ``write`` wrote, from its files alone."""
