"""The trained networks that come with the package, in the folder ``zoo``, and their catalogue.

``benchmarks/zoo.py`` trains, converts and measures them, and writes the folder.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike.core.preprocessing import Preprocessing
from transpike.core.spelling import nearest
from transpike.errors import CheckpointError, FileError, SettingError, TranspikeError
from transpike.results.statistics import wilson

PRETRAINED = "pretrained"
"""In place of a file of weights: those that come with the package."""
FOLDER = Path(__file__).with_name("zoo")
CATALOGUE = "catalogue.json"


@dataclass(frozen=True)
class Measured:
    """Number of ``correct`` answers to ``samples`` test samples."""

    correct: int
    samples: int

    @property
    def accuracy(self) -> float:
        """From 0 to 1."""
        return self.correct / self.samples

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % bounds of the accuracy."""
        return wilson(self.correct, self.samples)


@dataclass(frozen=True)
class Packaged:
    """A file of the package, with its size in bytes and its SHA-256."""

    file: str
    bytes: int
    sha256: str

    def path(self, error: type[TranspikeError]) -> Path:
        """Where the file is. Raises ``error`` if it is missing or is not the one of the catalogue."""
        path = FOLDER / self.file
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as failed:
            raise error(f"{path} cannot be read ({failed.strerror or failed}): install transpike again") from failed
        if found != self.sha256:
            raise error(
                f"{path} is not the file that came with transpike: its SHA-256 is {found}, in the catalogue it is "
                f"{self.sha256}; install transpike again"
            )
        return path


@dataclass(frozen=True)
class Pretrained:
    """A trained network of the zoo and its conversion, with what was measured of both.

    ``name``: for ``build("zoo:NAME", weights="pretrained")`` and ``load("zoo:NAME")``. ``data``: name of the data set,
    read with ``data_options`` by ``transpike.data.load``; ``test_set``: which of its samples ``ann`` and ``snn`` were
    measured on. ``licence``: of the weights; ``source``: their origin. ``training`` and ``conversion``: settings, cost
    and other numbers (docs/zoo.md). ``weights`` and ``converted``: the two files; no ``converted`` where it is
    too large for the package.
    """

    name: str
    title: str
    data: str
    data_options: Mapping[str, Any]
    test_set: str
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    preprocessing: Preprocessing
    parameters: int
    licence: str
    data_licence: str
    source: str
    training: Mapping[str, Any]
    conversion: Mapping[str, Any]
    ann: Measured
    snn: Measured
    weights: Packaged
    converted: Packaged | None

    def weights_path(self) -> Path:
        """The file of weights, for ``load_weights``. Raises CheckpointError if it is missing or damaged."""
        return self.weights.path(CheckpointError)

    def converted_path(self) -> Path:
        """The file of the spiking network, for ``transpike.load``.

        Raises SettingError if the package has none, FileError if it is missing or damaged.
        """
        if self.converted is None:
            raise SettingError(
                f"zoo:{self.name} comes with weights alone, because its converted file is large; make it with "
                f"transpike convert --model zoo:{self.name} --weights {PRETRAINED} --data {self.data} "
                f"{self.conversion['options']} --output {self.name}.transpike"
            )
        return self.converted.path(FileError)


def _entry(name: str, content: dict[str, Any]) -> Pretrained:
    fields = {key: value for key, value in content.items() if key != "check"}  # for the tests
    mean, std = (tuple(fields["preprocessing"][key]) for key in ("mean", "std"))
    made = {
        "name": name,
        "classes": tuple(fields["classes"]),
        "input_shape": tuple(fields["input_shape"]),
        "preprocessing": Preprocessing(mean, std),
        **{key: Measured(**fields[key]) for key in ("ann", "snn")},
        "weights": Packaged(**fields["weights"]),
        "converted": Packaged(**fields["converted"]) if fields["converted"] else None,
    }
    return Pretrained(**{**fields, **made})


def pretrained() -> dict[str, Pretrained]:
    """The trained networks that come with transpike, by the name of their network in the zoo.

    Raises FileError if the catalogue is missing or damaged.
    """
    path = FOLDER / CATALOGUE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: _entry(name, entry) for name, entry in content.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is missing or damaged ({error}): install transpike again") from error


def trained(spec: str) -> Pretrained:
    """The trained network of ``zoo:NAME``, or NAME. Raises SettingError, which lists those that there are."""
    kind, colon, name = spec.partition(":")
    if not colon:
        kind, name = "zoo", spec
    known = pretrained()
    if kind != "zoo":
        published = '; for its published weights use "default"' if kind in ("torchvision", "timm") else ""
        raise SettingError(f"only networks of the zoo come with weights, and not {spec}{published}")
    if name not in known:
        raise SettingError(f"no trained {name!r} comes with transpike{nearest(name, known)}; known: {', '.join(known)}")
    return known[name]
