"""Run the reproduction of a paper: its stages, each in its own process, and the results next to what was published."""

import hashlib
import json
import os
import shlex
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike.core.version import __version__
from transpike.errors import FileError
from transpike.results.writing import check_folder, write_atomically
from transpike.workflow.reproduce.calibration import calibration_seconds
from transpike.workflow.reproduce.plans import Needs, Paper, Plans, Stage, Weights, needs, plans
from transpike.workflow.reproduce.result import Reproduction, compared

PROGRESS, LOG, STAGES, REGISTER = "progress.json", "log.txt", "stages", "papers.toml"
MEASURES = "run.py"
"""The script that writes result.json."""
SHOWN = 8  # last lines of a stage that failed


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its ``command``; ``minutes`` of CPU estimated here; ``done``: an earlier run has finished it."""

    name: str
    command: tuple[str, ...]
    minutes: float
    measured: bool
    done: bool
    key: str


@dataclass(frozen=True)
class Planned:
    """The plan of ``reproduce`` for a paper in ``folder``.

    ``scale``: CPU time of this machine as a multiple of that of the machine whose minutes are stored.
    """

    paper: Paper
    folder: Path
    needs: Needs
    stages: tuple[PlannedStage, ...]
    scale: float

    @property
    def minutes(self) -> float:
        """CPU minutes of the stages that are not done."""
        return sum(stage.minutes for stage in self.stages if not stage.done)

    def to_json(self) -> dict[str, Any]:
        """The plan as plain data."""
        stages = [
            {k: v for k, v in vars(one).items() if k != "key"} | {"command": list(one.command)} for one in self.stages
        ]
        paper, missing = self.paper, [str(error) for error in self.needs.missing]
        return {
            "paper": paper.name, "title": paper.title, "differs": paper.differs, "folder": str(self.folder),
            "data": list(paper.data), "missing": missing, "notes": list(self.needs.notes), "scale": self.scale,
            "cpu_minutes": self.minutes, "stages": stages,
        }  # fmt: skip


def reproduce(
    paper: str,
    output_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    models_dir: str | Path | None = None,
    threads: int | None = None,
    restart: bool = False,
    scale: float | None = None,
    begins: Callable[[PlannedStage, int, int], None] | None = None,
    line: Callable[[str], None] | None = None,
) -> Reproduction:
    """Reproduce the numbers of ``paper``, and compare them with the published ones.

    ``paper``: a name of ``transpike reproduce --list``. Its scripts run in ``output_dir``, in a separate folder that
    also holds what is trained on the way, log.txt, result.json and tables.md of the scripts, and the comparison,
    report-PAPER.json and .md. An interrupted run resumes after its last finished stage, and inside a training
    after its last epoch; ``restart`` runs finished stages again, with the networks that were trained. ``models_dir``
    has files of weights; those that are missing are trained. ``threads`` is the number of each process; ``scale`` as
    for ``planned``.
    ``begins(stage, number, of)`` is called before each stage, ``line(text)`` with each line that it prints.
    Raises DataError for missing data and MissingExtra for a missing package, before the work; SettingError for an
    unknown paper; FileError for a stage that fails, with its last lines.
    """
    found = plans()
    places: dict[str, Any] = {"data_dir": data_dir, "models_dir": models_dir}
    plan = planned(found.named(paper), output_dir, **places, restart=restart, scale=scale, found=found)
    for error in plan.needs.missing:
        raise error
    check_folder(plan.folder / STAGES)
    _copy(found.folder / plan.paper.folder, plan.folder)
    progress = {} if restart else _progress(plan.folder)
    waiting = [stage for stage in plan.stages if not stage.done]
    for number, stage in enumerate(waiting, 1):
        if begins is not None:
            begins(stage, number, len(waiting))
        seconds, cpu = _run(stage, plan.folder / LOG, threads, line)
        progress[stage.name] = {"key": stage.key, "seconds": seconds, "cpu_seconds": cpu}
        write_atomically(plan.folder / PROGRESS, json.dumps({"stages": progress}, indent=1).encode())
    spent = [progress[stage.name]["cpu_seconds"] for stage in plan.stages if stage.name in progress]
    result = compared(plan.paper, plan.folder, found.folder / REGISTER, sum(spent))
    for kind in ("json", "md"):
        result.save(plan.folder / f"report-{plan.paper.name}.{kind}")
    return result


def planned(
    paper: Paper,
    output_dir: str | Path,
    *,
    data_dir: str | Path | None = None,
    models_dir: str | Path | None = None,
    restart: bool = False,
    scale: float | None = None,
    found: Plans | None = None,
) -> Planned:
    """The plan of ``reproduce``; ``scale`` saves the second of calibration where it is known."""
    found = found or plans()
    folder = Path(output_dir).absolute() / paper.folder
    here = needs(paper, data_dir, None if models_dir is None else Path(models_dir).absolute(), folder / STAGES)
    places = {"data": here.data.absolute(), "stages": folder / STAGES, **here.weights}
    before = {} if restart else _progress(folder)
    there = (folder / "result.json").exists()
    if scale is None:
        scale = calibration_seconds() / found.calibration_seconds
    made_from = [__version__, _digest(found.folder / paper.folder), {name: _of(path) for name, path in _given(here)}]
    stages = []
    for stage in (*map(_training, here.trained), *paper.stages):
        key = hashlib.sha256(json.dumps([made_from, stage.words]).encode()).hexdigest()[:16]
        old = before.get(stage.name)
        done = old is not None and old["key"] == key and (there or stage.words[0] != MEASURES)
        minutes = stage.minutes * scale if old is None else old["cpu_seconds"] / 60
        command = _program(tuple(_filled(word, places) for word in stage.words), folder)
        stages.append(PlannedStage(stage.name, command, minutes, stage.measured or old is not None, done, key))
    return Planned(paper, folder, here, tuple(stages), scale)


def published(paper: Paper, found: Plans) -> Reproduction:
    """The comparison with the numbers that come with this installation; nothing is run."""
    return compared(paper, found.folder / paper.folder, found.folder / REGISTER)


def _given(here: Needs) -> list[tuple[str, Path]]:
    """The weights that were found, not trained, by name."""
    trained = {one.name for one in here.trained}
    return [(name, path) for name, path in here.weights.items() if name not in trained]


def _training(weights: Weights) -> Stage:
    words = ("transpike", *shlex.split(weights.train.replace("{file}", "{" + weights.name + "}")))
    return Stage(f"train {weights.file}", words, weights.minutes)


def _of(path: Path) -> str:
    """The digest of a file: other weights are measured again."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _filled(word: str, places: dict[str, Path]) -> str:
    for name, path in places.items():
        word = word.replace("{" + name + "}", str(path))
    return word


def _program(command: tuple[str, ...], folder: Path) -> tuple[str, ...]:
    """The words of a process: a script of the folder, or transpike itself."""
    first, *rest = command
    program = ("-m", "transpike") if first == "transpike" else (str(folder / first),)
    return (sys.executable, *program, *rest)


def _digest(folder: Path) -> str:
    """Digest of the scripts: results of other versions are measured again."""
    parts = b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))
    return hashlib.sha256(parts).hexdigest()


def _copy(source: Path, folder: Path) -> None:
    """Scripts and claims, to where they may write: scripts write next to themselves. What folders share lies above."""
    for path in (*source.parent.glob("*.py"), *source.glob("*.py"), source / "claims.toml"):
        target = (folder if path.parent == source else folder.parent) / path.name
        content = path.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            write_atomically(target, content)


def _progress(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / PROGRESS
    if not path.exists():
        return {}
    try:
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"]
        return {
            str(name): {"key": str(one["key"])} | {kind: float(one[kind]) for kind in ("seconds", "cpu_seconds")}
            for name, one in stages.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(f"{path} is damaged ({error!r}): run with restart=True (--restart), or delete it") from error


def _run(
    stage: PlannedStage, log: Path, threads: int | None, line: Callable[[str], None] | None
) -> tuple[float, float]:
    """Run a stage; returns its seconds, and those of CPU. Its output goes to the log and to ``line``."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "TRANSPIKE_THREADS": str(threads)}
    last: deque[str] = deque(maxlen=SHOWN)
    start, cpu = time.perf_counter(), _cpu_of_children()
    with log.open("a", encoding="utf-8") as file:
        file.write(f"# {stage.name}: {' '.join(stage.command)}\n")
        with subprocess.Popen(
            stage.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            env=environment, encoding="utf-8", errors="replace",
        ) as process:  # fmt: skip
            try:
                assert process.stdout is not None
                for text in process.stdout:
                    file.write(text)
                    file.flush()
                    last.append(text.rstrip())
                    if line is not None:
                        line(text.rstrip("\n"))
                code = process.wait()
            except BaseException:
                process.terminate()
                raise
    if code:
        raise FileError(
            f"stage {stage.name!r} ended with exit code {code}: {' | '.join(last)}. The full output is in {log}. Rerun "
            "the same command to resume after the finished stages"
        )
    seconds = time.perf_counter() - start
    spent = _cpu_of_children() - cpu
    return seconds, spent if spent > 0 else seconds


def _cpu_of_children() -> float:
    """CPU seconds of finished child processes; 0 where the system does not tell."""
    if sys.platform == "win32":
        return 0.0
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
