"""Units of work of a comparison: a conversion and an evaluation, and the file with their results."""

import base64
import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike import errors
from transpike.core.cell import Neuron
from transpike.core.codec import encode
from transpike.core.exit import Exit
from transpike.core.fingerprint import Code, code_of
from transpike.core.graph import Graph
from transpike.core.naming import qualified
from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.core.task import Metric, Task
from transpike.data.batches import without_targets
from transpike.energy import EnergyModel
from transpike.errors import DataError, FileError, NotExact, SettingError, TranspikeError, UnsupportedModel
from transpike.exits import table
from transpike.recipes import recipe_given
from transpike.results.statistics import paired_difference
from transpike.results.writing import write_atomically
from transpike.snn import SNN
from transpike.tasks import Classification
from transpike.workflow.compare.inputs import Stored, inputs_path, open_inputs, sha256
from transpike.workflow.compare.rows import MeasuredRow, Refusal, Row, Scored, check_rows
from transpike.workflow.convert import convert
from transpike.workflow.early_exit import fit_exit
from transpike.workflow.entrance import PreprocessingGiven
from transpike.workflow.evaluate.measurement import Estimate, Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.evaluate.run import evaluate

FORMAT = 5
REFUSALS = (SettingError, UnsupportedModel, DataError, NotExact)
"""Errors that recur for a recipe, and are stored; others may be temporary."""


@dataclass(frozen=True)
class Unit:
    """One conversion and one evaluation: ``recipe`` with its number of steps, and the requested answers.

    ``code``: digest of the code from outside the package (core.fingerprint), "" where there is none. Where the code
    cannot be read, results are not ``kept`` in the store, and ``code`` is a distinct text for each recipe.
    """

    recipe: Recipe
    answers: tuple[int, ...]
    code: str = ""
    kept: bool = True


@dataclass(frozen=True)
class Work:
    """Shared by all units of a comparison; ``inputs`` is the SHA-256 of the file with network and data.

    ``scratch``: a temporary folder for results that are not stored.
    """

    store: Path
    scratch: Path
    inputs: str
    preprocessing: PreprocessingGiven
    exact_grid: bool
    engine: str
    memory: int | None
    seed: int
    energy: tuple[EnergyModel, ...] = ()
    exits: tuple[Exit, ...] = ()
    task: Task = field(default_factory=Classification)
    any_input: bool = False
    output: str | None = None
    spiking: tuple[str, ...] = ()

    def key(self, unit: Unit) -> dict[str, Any]:
        """Everything that the results of the unit depend on."""
        kind = type(unit.recipe)
        return {
            "format": FORMAT,
            "inputs": self.inputs,
            "preprocessing": repr(_in_order(self.preprocessing)),
            "exact_grid": self.exact_grid,
            "engine": self.engine,
            "memory": self.memory,
            "seed": self.seed,
            "recipe": f"{qualified(kind)} {kind.__qualname__}",
            "code": unit.code,
            "settings": encode(unit.recipe, {}, "recipe"),
            "answers": list(unit.answers),
            "energy": [repr(model) for model in self.energy],
            "exits": [repr(wish) for wish in self.exits],
            "task": repr(self.task),
            "any_input": self.any_input,
            "output": self.output,
            "spiking": list(self.spiking),
            "torch": torch.__version__,
            "transpike": code_digest(),
        }

    def path(self, unit: Unit) -> Path:
        folder = self.store if unit.kept else self.scratch
        return folder / f"{unit.recipe.name}-{sha256(_text(self.key(unit)).encode())[:24]}.json"

    def write(self, unit: Unit, content: dict[str, Any]) -> None:
        body = {"key": self.key(unit), **content}
        write_atomically(
            self.path(unit), json.dumps({"sha256": sha256(_text(body).encode()), **body}, indent=1).encode()
        )

    def read(self, unit: Unit) -> dict[str, Any] | None:
        """Results of an earlier run; None where there are none, FileError where the file is damaged."""
        path = self.path(unit)
        try:
            content = json.loads(path.read_bytes())
            checksum = content.pop("sha256")
            if checksum != sha256(_text(content).encode()):
                raise FileError("its checksum does not match")
            check_rows(rows("", unit, content), unit.answers)
        except FileNotFoundError:
            return None
        except Exception as error:  # the content may be of any form
            text = str(error) if isinstance(error, TranspikeError) else type(error).__name__
            raise FileError(f"{path.name} is damaged ({text[:200]})") from error
        return content


def measure(work: Work, unit: Unit) -> None:
    """Convert and evaluate, and write the results, or the reason of a refusal, to the store."""
    source, calibration, data, fitting = open_inputs(inputs_path(work.store, work.inputs))
    start = time.perf_counter()
    try:
        snn = convert(
            source,
            unit.recipe,
            without_targets(calibration),
            preprocessing=work.preprocessing,
            spiking=work.spiking or None,
            exact_grid=work.exact_grid,
            seed=work.seed,
        )
        snn = snn.accepting_any_input() if work.any_input else snn
        report = evaluate(
            snn,
            data,
            timesteps=max(unit.answers),
            answers=unit.answers,
            engine=work.engine,
            memory=work.memory,
            energy=work.energy,
            output=work.output,
            task=work.task,
        )
        content = _found(snn, report, work.task)
        if snn.schedule.every_step and max(unit.answers) > 1:
            for wish in work.exits:
                try:
                    content["cells"].append(_early(work, unit, snn, data, fitting, wish))
                except SettingError as error:
                    content["common"]["remarks"].append(f"no {wish}: {error}")
        elif work.exits:
            content["common"]["remarks"].append("no early exit: a run gives only one answer")
    except REFUSALS as error:
        content = {"refused": str(error)}
    work.write(unit, {**content, "seconds": round(time.perf_counter() - start, 3)})


def _found(snn: SNN, report: Report | Measurement, task: Task) -> dict[str, Any]:
    lowered = snn.program.lowered
    alphabets = [lowered.alphabets[node.name] for node in lowered.nodes if isinstance(node.op, Neuron)]
    common = {
        "ann_macs": report.ann_macs,
        "alphabets": sorted({str(alphabet) for alphabet in alphabets}),
        "signed": any(alphabet.signed for alphabet in alphabets),
        "schedule": report.schedule,
        "exact": report.exact,
        "exact_why": report.exact_why,
        "remarks": [*report.warnings, *report.remarks],
    }
    if isinstance(report, Measurement):
        return {"samples": report.samples, "common": common | _known(report), "cells": _measured(report, task)}
    common["ann_accuracy"] = report.ann_accuracy
    cells = []
    for answer in report.curve:
        right = report.outcomes[answer.timesteps]
        drop, low, high = paired_difference(report.ann_outcomes, right)
        paired = {"drop": drop, "drop_low": low, "drop_high": high, "outcomes": _packed(right)}
        cells.append(dataclasses.asdict(answer) | paired)
    return {"samples": report.samples, "common": common, "cells": cells}


def _known(report: Measurement) -> dict[str, Any]:
    """The metrics and those of the source network."""
    return {
        "measured": [dataclasses.asdict(metric) for metric in report.metrics],
        "ann": {name: dataclasses.asdict(one) for name, one in report.ann.items()},
    }


def _measured(report: Measurement, task: Task) -> list[dict[str, Any]]:
    """One cell per answer, with the statistics of the samples as float64."""
    cells = []
    for answer in report.curve:
        statistics = report.rows[answer.timesteps]
        worse = Estimate(*task.gain(report.ann_rows, statistics))
        packed = {"shape": list(statistics.shape), "data": base64.b64encode(statistics.numpy().tobytes()).decode()}
        cells.append(dataclasses.asdict(answer) | {"worse": dataclasses.asdict(worse), "statistics": packed})
    return cells


def _early(work: Work, unit: Unit, snn: SNN, data: Stored, fitting: Stored, wish: Exit) -> dict[str, Any]:
    """The same network with an exit, fitted on other samples, as an additional answer of its longest run."""
    steps = max(unit.answers)
    fitted = fit_exit(
        snn, fitting, score=wish.score, drop=wish.drop, confidence=wish.confidence, timesteps=steps, engine=work.engine,
        output=work.output, task=work.task,
    )  # fmt: skip
    report = evaluate(
        fitted, data, timesteps=steps, answers=(steps,), engine=work.engine, memory=work.memory, energy=work.energy,
        output=work.output, task=work.task,
    )  # fmt: skip
    assert isinstance(report, Report)  # else the exit was refused
    found, right = report.exit, report.exit_outcomes
    assert found is not None and right is not None
    drop, low, high = paired_difference(report.ann_outcomes, right)
    return {
        "timesteps": steps, "total_steps": found.mean_steps, "accuracy": found.accuracy, "low": found.low,
        "high": found.high, "agreement": found.agreement, "synaptic_operations": found.synaptic_operations,
        "spikes": found.spikes, "spike_rate": found.spike_rate, "macs": round(found.macs),
        "energy_joule": found.energy_joule, "drop": drop, "drop_low": low, "drop_high": high,
        "outcomes": _packed(right), "exit": str(wish), "policy": encode(fitted.exit, {}, "exit"),
    }  # fmt: skip


def rows(recipe: str, unit: Unit, content: dict[str, Any]) -> list[Scored | Refusal]:
    """Stored results of a unit, as rows."""
    if "refused" in content:
        return [Refusal(recipe, t, unit.recipe, content["refused"], series=recipe) for t in unit.answers]
    samples, common = content["samples"], content["common"]
    common = common | {"alphabets": tuple(common["alphabets"]), "remarks": tuple(common["remarks"])}
    shared = {"made_by": unit.recipe, "seconds": content["seconds"], "series": recipe}
    if "measured" in common:
        common |= {"measured": tuple(Metric(**one) for one in common["measured"]), "ann": _estimates(common["ann"])}
        return [MeasuredRow(recipe, **shared, **common, **_cell(cell, samples)) for cell in content["cells"]]
    return [
        Row(
            f"{recipe} + {cell['exit']}" if cell.get("exit") else recipe,
            **shared,
            **common,
            **(cell | {"outcomes": _unpacked(cell["outcomes"], samples)}),
        )
        for cell in content["cells"]
    ]


def _cell(cell: dict[str, Any], samples: int) -> dict[str, Any]:
    """The fields of a row with metrics."""
    shape, data = cell["statistics"]["shape"], base64.b64decode(cell["statistics"]["data"])
    statistics = torch.from_numpy(np.frombuffer(data).reshape(shape).copy())
    if len(statistics) != samples:
        raise FileError(f"{samples} samples have no statistics of {len(statistics)}")
    estimates = {name: _estimates(cell[name]) for name in ("metrics", "changes")}
    return cell | estimates | {"worse": Estimate(**cell["worse"]), "statistics": statistics}


def _estimates(found: dict[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**one) for name, one in found.items()}


def plan(
    recipe: Recipe, timesteps: tuple[int, ...], code: str = "", kept: bool = True
) -> tuple[list[Unit], list[tuple[int, str]]]:
    """The units for the answers at ``timesteps``, and (T, reason) where the recipe's settings do not allow T.

    One run gives all answers where neither network nor simulation depends on the number of steps.
    """
    possible: dict[int, Recipe] = {}
    refused: list[tuple[int, str]] = []
    for t in timesteps:
        try:
            possible[t] = dataclasses.replace(recipe, timesteps=t)  # type: ignore[type-var]
        except TranspikeError as error:
            refused.append((t, str(error)))
    if not possible:
        return [], refused
    longest = possible[max(possible)]
    together = longest.schedule.every_step and not longest.depends_on_timesteps
    if together and set(possible) <= set(longest.schedule.answers(longest.timesteps)):
        return [Unit(longest, tuple(possible), code, kept)], refused
    return [Unit(with_steps, (t,), code, kept) for t, with_steps in possible.items()], refused


def outside_code(
    recipe: Recipe,
    source: Graph,
    preprocessing: PreprocessingGiven,
    energy: tuple[EnergyModel, ...],
    exits: tuple[Exit, ...],
    task: Task,
) -> Code:
    """Code outside transpike that results depend on: that of the recipe, its passes, the network, …"""
    scores = [table[wish.score] for wish in exits]
    try:
        passes = recipe.passes
    except Exception:  # the conversion reports it
        passes = ()
    return code_of(recipe, *passes, *(type(node.op) for node in source), *_each(preprocessing), *energy, *scores, task)


def _in_order(given: PreprocessingGiven) -> Any:
    """Those of several inputs by name, in the order of their names."""
    return dict(sorted(given.items())) if isinstance(given, Mapping) else given


def _each(given: PreprocessingGiven) -> tuple[Preprocessing | None, ...]:
    return tuple(given.values()) if isinstance(given, Mapping) else (given,)


def sources() -> dict[str, Path]:
    """The package's Python sources by their path in it, except those that only show results."""
    root = Path(errors.__file__).parent
    found = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*.py"))}
    return {name: path for name, path in found.items() if not name.startswith(("cli/", "report/"))}


@functools.cache
def code_digest() -> str:
    """Digest of the package's sources: results depend on the code."""
    digest = hashlib.sha256()
    for name, path in sources().items():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _packed(outcomes: Tensor) -> str:
    """Eight samples per byte, the first in the highest bit, in base64."""
    return base64.b64encode(np.packbits(outcomes.numpy()).tobytes()).decode()


def _unpacked(text: str, samples: int) -> Tensor:
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    if len(packed) != -(-samples // 8):
        raise FileError(f"{samples} samples have no outcomes of {len(packed)} bytes")
    bits = np.unpackbits(packed, count=samples)
    return torch.from_numpy(bits.astype(bool))


def _text(value: dict[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)


def named(recipes: Iterable[Recipe | str]) -> dict[str, Recipe]:
    """Recipes, given as objects or names, by their text without the number of steps; SettingError for duplicates."""
    found: dict[str, Recipe] = {}
    for recipe in map(recipe_given, recipes):
        same = [other for other in found.values() if type(other) is type(recipe)]
        if any(_settings(recipe) == _settings(other) for other in same):
            raise SettingError(f"{recipe} is given twice; the number of steps is set by timesteps=")
        text = name = _series(recipe)
        number = 1
        while name in found:  # a custom class that kept its parent's name
            name = f"{text} #{(number := number + 1)}"
        found[name] = recipe
    return found


def _series(recipe: Recipe) -> str:
    default = next(f.default for f in dataclasses.fields(recipe) if f.name == "timesteps")  # type: ignore[arg-type]
    try:
        return str(dataclasses.replace(recipe, timesteps=default))  # type: ignore[type-var]
    except SettingError:  # the other settings are not valid with the default
        return str(recipe)


def _settings(recipe: Recipe) -> dict[str, Any]:
    """All settings except the number of steps."""
    encoded = encode(recipe, {}, "recipe")
    return encoded | {"fields": {key: value for key, value in encoded["fields"].items() if key != "timesteps"}}
