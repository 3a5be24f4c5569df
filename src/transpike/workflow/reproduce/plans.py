"""The stages of a paper's reproduction and their requirements, read from ``reproductions/plans.toml``."""

import importlib.util
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transpike.core.spelling import nearest
from transpike.data.named import directory, locate
from transpike.errors import DataError, FileError, MissingExtra, SettingError

FILE = "plans.toml"


@dataclass(frozen=True)
class Weights:
    """A file of weights, and the command of transpike that trains it where it is missing, with its CPU ``minutes``."""

    name: str
    file: str
    what: str
    train: str
    minutes: float


@dataclass(frozen=True)
class Stage:
    """A part of a reproduction that is done as a whole: ``words`` of a command, with places like {data} in them."""

    name: str
    words: tuple[str, ...]
    minutes: float
    measured: bool = False


@dataclass(frozen=True)
class Paper:
    """A paper: ``folder`` has its scripts, ``claims`` are the patterns of those of the folder's that are its own.

    ``files``: files of the data folder → how to get them; ``optional`` data sets leave claims unmeasured where they
    are missing; ``modules``: packages → the extra that installs them; ``register``: how the names of papers begin
    whose published numbers no run measures.
    """

    name: str
    title: str
    differs: str
    folder: str
    stages: tuple[Stage, ...]
    names: tuple[str, ...] = ()
    claims: tuple[str, ...] = ("*",)
    data: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    weights: tuple[Weights, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict)
    register: str = ""


@dataclass(frozen=True)
class Plans:
    """All papers, in the order of the file; ``calibration_seconds`` are those of the machine of their minutes."""

    folder: Path
    papers: Mapping[str, Paper]
    calibration_seconds: float

    def named(self, name: str) -> Paper:
        """The paper of a name; raises SettingError with the closest one."""
        known = {other: paper for paper in self.papers.values() for other in (paper.name, *paper.names)}
        if name not in known:
            raise SettingError(
                f"there is no reproduction {name!r}{nearest(name, known)}; there are {', '.join(self.papers)}"
            )
        return known[name]


def source_folder() -> Path:
    """The folder ``reproductions``: of the installed package, or of the source tree. Raises FileError without one."""
    package = Path(__file__).parents[2]
    for folder in (package / "reproductions", package.parents[1] / "reproductions"):
        if (folder / FILE).is_file():
            return folder
    raise FileError(
        f"this installation has no reproductions: neither {package} nor the source tree around it contains {FILE}; "
        "install transpike from a wheel, or run from a clone of the repository"
    )


def plans(folder: Path | None = None) -> Plans:
    """The plans of ``folder``, by default of this installation."""
    folder = folder or source_folder()
    content = tomllib.loads((folder / FILE).read_text(encoding="utf-8"))
    weights = {name: Weights(name, **values) for name, values in content["weights"].items()}
    papers = {name: _paper(name, values, weights) for name, values in content["papers"].items()}
    return Plans(folder, papers, float(content["calibration_seconds"]))


def _paper(name: str, values: dict[str, Any], weights: Mapping[str, Weights]) -> Paper:
    stages = tuple(stage for one in values["stages"] for stage in _stages(one))
    lists: dict[str, Any] = {
        key: tuple(values[key]) for key in ("names", "claims", "data", "optional") if key in values
    }
    others = {key: values[key] for key in ("title", "differs", "files", "modules", "register") if key in values}
    needed = tuple(weights[one] for one in values.get("weights", ()))
    return Paper(name=name, folder=values.get("folder", name), stages=stages, weights=needed, **lists, **others)


def _stages(values: dict[str, Any]) -> list[Stage]:
    words, minutes, measured = tuple(shlex.split(values["command"])), values["minutes"], values.get("measured", False)
    if "each" not in values:
        return [Stage(values["name"], words, minutes, measured)]
    return [
        Stage(f"{values['name']} {one}", tuple(word.replace("{each}", one) for word in words), minutes, measured)
        for one in values["each"]
    ]


@dataclass(frozen=True)
class Needs:
    """The files of a paper on this machine: ``weights`` → file; ``missing``: the errors that stop it, one line each.

    ``trained``: weights that are not there and are trained first. ``notes``: what is left out or downloaded.
    """

    data: Path
    weights: Mapping[str, Path]
    trained: tuple[Weights, ...]
    missing: tuple[Exception, ...]
    notes: tuple[str, ...]


def needs(paper: Paper, data_dir: str | Path | None, models_dir: Path | None, work: Path) -> Needs:
    """Look for data, weights and packages; nothing is read or downloaded. Weights are looked up in ``models_dir``."""
    missing: list[Exception] = []
    notes: list[str] = []
    root = directory(data_dir)
    for name in paper.data:
        try:
            if locate(name, data_dir, {}).arguments.get("download"):
                notes.append(f"{name} is not in {root}, and torchvision will download it")
        except DataError as error:
            missing.append(error)
    for name in paper.optional:
        try:
            locate(name, data_dir, {})
        except DataError as error:
            notes.append(f"claims on {name} stay unmeasured: {error}")
    for file, how in paper.files.items():
        if not (root / file).is_file():
            missing.append(
                DataError(f"{file} is not in {root}. {how}. Set TRANSPIKE_DATA or --data-dir to the folder that has it")
            )
    for module, extra in paper.modules.items():
        if importlib.util.find_spec(module) is None:
            missing.append(MissingExtra(f"{paper.name} needs {module}: pip install 'transpike[{extra}]'"))
    found, trained = {}, []
    for one in paper.weights:
        given = None if models_dir is None else models_dir / one.file
        there = given is not None and given.is_file()
        found[one.name] = given if given is not None and there else work / one.file
        if not there:
            where = "no --models-dir was given" if models_dir is None else f"it is not in {models_dir}"
            notes.append(f"{one.file} ({one.what}) is trained first, because {where}; numbers differ with its weights")
            trained.append(one)
    return Needs(root, found, tuple(trained), tuple(missing), tuple(notes))
