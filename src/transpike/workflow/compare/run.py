"""Many recipes on one network: one table of accuracy, latency and cost."""

import contextlib
import dataclasses
import functools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transpike import engines
from transpike import exits as known_exits
from transpike import recipes as known
from transpike.core.codec import decode
from transpike.core.constraints import check_settings, setting, settings_given, takes_settings
from transpike.core.exit import Exit
from transpike.core.graph import Graph
from transpike.core.naming import dashed
from transpike.core.precision import without_autocast
from transpike.core.recipe import Recipe
from transpike.core.registry import hint
from transpike.core.schedule import check_timesteps
from transpike.core.spelling import NamedSettings, unknown
from transpike.core.task import Metric, Task
from transpike.data.batches import without_targets
from transpike.energy import EnergyModel, checked
from transpike.engines import engine_named
from transpike.errors import DataError, FileError, SettingError
from transpike.ops.pack import structure_of
from transpike.results.notebook import Shown
from transpike.results.statistics import wilson
from transpike.results.writing import check_folder, scratch_folder, write_atomically
from transpike.snn import SNN
from transpike.tasks import Classification, exit_task, metrics_json, metrics_of, task_given
from transpike.tasks import remarks as task_remarks
from transpike.workflow.capture import OnUnsupported
from transpike.workflow.compare.entered import Entered
from transpike.workflow.compare.inputs import write_inputs
from transpike.workflow.compare.pick import pick
from transpike.workflow.compare.pool import check_jobs, one_thread, run_units
from transpike.workflow.compare.rows import Cost, Difference, Entry, MeasuredRow, Refusal, Row, Scored, front
from transpike.workflow.compare.units import Unit, Work, named, outside_code, plan, rows
from transpike.workflow.convert import convert
from transpike.workflow.cut import Selection
from transpike.workflow.entrance import PreprocessingGiven
from transpike.workflow.judged import asked as judgement

SCHEMA = 2
"""Version of the comparison's JSON, documented in docs/report-schema.md."""


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """``rows``: one for each recipe and number of steps, in the requested order, measured or not (Refusal).

    Measured rows are a Row each, or a MeasuredRow where the ``task`` has metrics. ``remarks`` about
    stored results; ``provenance``: origin of the numbers; ``warnings``: differences between these inputs and those of
    the calibration.
    """

    rows: tuple[Scored | Refusal, ...]
    samples: int
    timesteps: tuple[int, ...]
    engine: str
    remarks: tuple[str, ...]
    provenance: dict[str, Any]
    convert: Callable[[Recipe], SNN] = field(repr=False)
    """Converts the network of a recipe again, as for the rows."""
    warnings: tuple[str, ...] = ()
    task: Task = field(default_factory=Classification)

    @property
    def metric(self) -> Metric:
        """The first metric of the task, which rows are compared by."""
        return self.task.first

    @property
    def measured(self) -> tuple[Scored, ...]:
        return tuple(row for row in self.rows if isinstance(row, Scored))

    @property
    def refused(self) -> tuple[Refusal, ...]:
        return tuple(row for row in self.rows if isinstance(row, Refusal))

    @property
    def ann(self) -> dict[str, Any] | None:
        """``accuracy`` of the source network with its 95 % bounds ``low`` and ``high``, or ``metrics``; ``macs``."""
        if not self.measured:
            return None
        first = self.measured[0]
        if isinstance(first, MeasuredRow):
            return {"metrics": {n: dataclasses.asdict(one) for n, one in first.ann.items()}, "macs": first.ann_macs}
        assert isinstance(first, Row)
        low, high = wilson(round(first.ann_accuracy * self.samples), self.samples)
        return {"accuracy": first.ann_accuracy, "low": low, "high": high, "macs": first.ann_macs}

    def front(self, cost: Cost = "total_steps") -> tuple[Scored, ...]:
        """The Pareto front of the first metric and ``cost`` (or "synaptic_operations"), cheapest first."""
        return front(self.measured, cost)

    def pick(self, text: str) -> Scored:
        """The row selected by text like ``"drop<=1 steps<=32 min=synops"``.

        Conditions ``accuracy`` (%), ``drop`` (percentage points), ``steps`` (total), ``synops``, ``spikes``, ``macs``,
        ``rate`` with ``<=`` or ``>=``; ``alphabet=binary|ternary|levels|phase|graded`` (of every neuron),
        ``signed=yes|no``, ``training-free=yes|no``; and one objective, ``min=`` one of them or ``max=accuracy``. A task
        with metrics has its metrics in place of the accuracy, like ``mean-iou>=60``, ``min=mse``; ``drop`` is how much
        worse than the source network the first one is, in points of a share or in its unit. Ties are resolved by fewer
        total steps, fewer synaptic operations, a better first metric, and order.

        Raises SettingError for unknown words, GateFailed with the closest rows where none satisfies the conditions.
        """
        return pick(self.measured, text, metrics_of(self.task))

    def snn(self, row: Scored) -> SNN:
        """The network of a row, converted again, for the row's number of steps: ``evaluate`` reproduces the row.

        A network converted for a longer run keeps the grid of that run.
        """
        recipe = dataclasses.replace(row.made_by, timesteps=row.timesteps)  # type: ignore[type-var]
        policy = decode(row.policy, {}) if isinstance(row, Row) and row.policy is not None else None
        made = self.convert(row.made_by)
        return dataclasses.replace(made, recipe=recipe, grid_timesteps=row.made_by.timesteps, exit=policy)

    def difference(self, first: str, second: str, total_steps: int) -> Difference:
        """How much better one recipe is than another in the first metric, of their answers by ``total_steps``.

        Recipes are named as in the rows. The interval is paired on the same samples (``Task.gain``).
        Raises DataError for an unknown recipe, or one without an answer after that time.
        """
        one, other = (self._by_then(name, total_steps).judged for name in (first, second))
        gained, low, high = map(self.metric.shown_or_none, self.task.gain(one, other))
        return Difference(gained, low, high, self.samples)

    def _by_then(self, recipe: str, total_steps: int) -> Scored:
        found = [row for row in self.measured if row.recipe == recipe and row.total_steps <= total_steps]
        if not found:
            names = ", ".join(dict.fromkeys(f"{r.recipe} (from {r.total_steps} steps)" for r in self.measured[::-1]))
            raise DataError(f"{recipe!r} has no answer within {total_steps} steps; available are {names}")
        return max(found, key=lambda row: row.total_steps)

    def to_json(self) -> dict[str, Any]:
        """The comparison as plain data, schema version ``SCHEMA``."""
        fronts = {"total_steps": self.front(), "synaptic_operations": self.front("synaptic_operations")}

        def row(entry: Entry) -> dict[str, Any]:
            names = [name for name, members in fronts.items() if entry in members]
            return entry.to_json() | ({"front": names} if isinstance(entry, Scored) else {})

        return {
            "schema": SCHEMA,
            "kind": "comparison",
            "samples": self.samples,
            "timesteps": list(self.timesteps),
            "engine": self.engine,
            **metrics_json(self.task),
            "ann": self.ann,
            "rows": [row(entry) for entry in self.rows],
            "warnings": list(self.warnings),
            "remarks": list(self.remarks),
            "provenance": self.provenance,
        }

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json(), indent=1).encode())


@dataclass(frozen=True)
class ComparisonSettings(NamedSettings):
    """Settings of ``transpike.compare``; printable, hashable; each is a flag of ``transpike compare``.

    ``output``, ``spiking``, ``on_unsupported``, ``exact_grid``, ``calibration_samples`` and ``seed`` are those of
    ``convert``, ``judged_output`` is the ``output`` of ``evaluate``, ``engine``, ``memory`` (in bytes, of a process),
    ``energy``, ``task`` and ``limit`` are its settings too.
    ``exits`` (transpike.exits.Exit) add rows: each network that answers step by step, at its largest T, with an early
    exit fitted on ``exit_data``, labelled samples that are in neither ``data`` nor the training set.
    ``any_input``: see ``SNN.accepting_any_input``.
    ``jobs``: number of processes (a script then needs ``if __name__ == "__main__":``). Every conversion and evaluation
    runs with one thread, so that results do not depend on ``jobs``, except ``seconds``. Raises SettingError.
    """

    timesteps: tuple[int, ...] = setting((4, 8, 16, 32, 64), "Time-step counts, comma-separated.")
    limit: int | None = setting(None, "Only the first N test samples.", low=1)
    calibration_samples: int | None = setting(None, "Only the first N calibration samples.", low=1)
    seed: int = setting(0, "Random seed of calibration samples and input spikes.")
    exact_grid: bool = setting(True, "Bit-identical spikes on every engine.")
    engine: str = setting("auto", "Simulation engine.", choices=sorted(engines.table))
    memory: int | None = setting(None, "Memory limit per process, like 2GiB.", low=1, unit="bytes")
    output: str | int | None = setting(None, "Output to use, for models with several.", flag="output-name")
    spiking: tuple[str, ...] = setting((), "Modules that spike, of a hybrid network; repeatable (default: all).")
    on_unsupported: OnUnsupported = setting("error", "Unsupported layers: stop with an error, or keep them analogue.")
    energy: tuple[EnergyModel, ...] = setting((), "Energy model, for joules per sample; repeatable.")
    exits: tuple[Exit, ...] = setting(
        # built-in names only: a look-up in the table would load plug-ins while transpike is imported
        (), f"Add rows with an early exit: score ({', '.join(dashed(kind.__name__) for kind in known_exits.members)}) "
        "and largest drop; repeatable.", flag="exit",
    )  # fmt: skip
    task: Task | None = setting(None, "Task that defines good answers.")
    judged_output: str | int | None = setting(
        None, "Output that the task judges, of several that are all converted (default: all, by their fidelity)."
    )
    any_input: bool = setting(False, "Also run on inputs that do not look like those of the calibration.")
    jobs: int = setting(1, "Number of processes, of one thread each.", low=1)

    def __post_init__(self) -> None:
        if isinstance(self.timesteps, int):
            raise SettingError(f"timesteps must be a tuple or a list, not {self.timesteps!r}")
        object.__setattr__(self, "timesteps", tuple(sorted({check_timesteps(t) for t in self.timesteps})))
        object.__setattr__(self, "spiking", Selection.of(self.spiking or None).patterns)
        if not self.timesteps:
            raise SettingError("a comparison needs at least one time-step count")
        if self.task is not None:
            object.__setattr__(self, "task", task_given(self.task))
        check_settings(self)
        engine_named(self.engine, self.memory)
        object.__setattr__(self, "energy", checked(self.energy))
        wishes = (self.exits,) if isinstance(self.exits, Exit) else tuple(self.exits)
        if any(not isinstance(wish, Exit) for wish in wishes):
            raise SettingError(f"exits must be transpike.exits.Exit, like Exit('gap', 0.5), not {self.exits!r}")
        for wish in wishes:
            if wish.score not in known_exits.table:
                raise SettingError(unknown("exit score", wish.score, known_exits.table) + hint())
        object.__setattr__(self, "exits", tuple(dict.fromkeys(wishes)))
        if self.exits:
            exit_task(self.task)


@takes_settings(ComparisonSettings)
@without_autocast
def compare(
    model: nn.Module | Graph,
    recipes: Iterable[Recipe | str] | None = None,
    calibration: Any = None,
    settings: ComparisonSettings | None = None,
    *,
    data: Any,
    preprocessing: PreprocessingGiven = None,
    exit_data: Any = None,
    store: str | Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> Comparison:
    """Every recipe (default: all of ours with default settings) at every time-step count, on the same samples.

    ``recipes``: objects or names, like ``[ECC(percentile=99.9), "bsnn"]``. ``settings``: a ``ComparisonSettings``, by
    default ``ComparisonSettings()``. ``model``, ``calibration`` and ``preprocessing`` are those of ``convert``,
    ``data`` that of ``evaluate``. The time steps of a recipe are ignored: it is converted for each of
    ``settings.timesteps``, or once for the largest where that run gives all answers. A recipe that does not support a
    time-step count, or fails, has a row with the reason. Compare rows by ``total_steps``, not by T. ``exit_data``:
    labelled samples for fitting exits.

    ``store`` is a directory for the results of each conversion: the same call, also after an interruption, only adds
    missing results. Results depend on settings, network, samples, versions of transpike and torch, and the code of
    custom recipes, neurons and energy models. Where that code cannot be read, as in a notebook or for a class made by
    a function, nothing is stored, and a remark states it. ``progress(done, total)`` counts conversions.

    Raises what ``convert`` raises before a recipe's passes, DataError for data without targets, SettingError.
    """
    chosen = settings_given(ComparisonSettings, settings)
    if isinstance(recipes, (Recipe, str)):
        raise SettingError(f"recipes must be a tuple or a list, not {recipes!r}: write [{recipes!r}]")
    asked = chosen.timesteps
    check_jobs(chosen.task, chosen.jobs)
    by_name = named([kind() for kind in known.members] if recipes is None else list(recipes))
    if not by_name:
        raise SettingError("a comparison needs at least one recipe")
    if store is not None:
        check_folder(store)  # before the work
    encoder = next(iter(by_name.values())).encoder
    entered = Entered.of(
        model, calibration, chosen.calibration_samples, encoder, preprocessing, chosen.any_input,
        output=chosen.output, on_unsupported=chosen.on_unsupported,
        spikes=Selection.of(chosen.spiking or None).spikes,
    )  # fmt: skip
    source, raw = entered.source, entered.raw
    task, judged = judgement(structure_of(source.output.op), chosen.task, chosen.judged_output)
    batches = entered.labelled(data, chosen.limit, judged, task.needs_targets)
    if chosen.exits and exit_data is None:
        raise DataError("exits are fitted on separate samples: pass exit_data, labelled and not in data")
    fitting = entered.labelled(exit_data, None, judged) if chosen.exits else []
    for wish in chosen.exits:  # before the work: later every recipe would be refused
        wish.check_samples(sum(len(x) for x, _ in fitting))
    warnings = entered.warnings(batches)
    entered.warnings(fitting)
    for where, found in (("data", batches), ("exit_data", fitting)):  # else every recipe would be refused
        for x, y in found:
            task.check(judged.shape(source.output.shape), len(x), y, f"a batch of {where}")
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(scratch_folder())
        folder = scratch if store is None else Path(store)
        inputs = write_inputs(folder, source, raw, batches, fitting)
        work = Work(
            folder, scratch, inputs, preprocessing, chosen.exact_grid, chosen.engine, chosen.memory, chosen.seed,
            chosen.energy, chosen.exits, task, chosen.any_input, judged.name, chosen.spiking,
        )  # fmt: skip
        codes = {
            name: outside_code(recipe, source, preprocessing, chosen.energy, chosen.exits, task)
            for name, recipe in by_name.items()
        }
        plans = {
            name: plan(recipe, asked, name if code.digest is None else code.digest, code.digest is not None)
            for (name, recipe), code in zip(by_name.items(), codes.values(), strict=True)
        }
        entries, remarks = _entries(work, by_name, plans, chosen.jobs, progress)
        if store is not None:
            remarks += [
                f"{name} was measured again and is not stored, because its code cannot be read: {code.reason}; "
                "define it in a separate module"
                for name, code in codes.items()
                if code.digest is None
            ]
    order = {name: position for position, name in enumerate(by_name)}  # rows with exits follow their recipe
    entries.sort(key=lambda entry: (order[entry.series], entry.recipe, entry.timesteps))
    return Comparison(
        rows=tuple(entries),
        samples=sum(len(x) for x, _ in batches),
        timesteps=asked,
        engine=chosen.engine,
        remarks=(*task_remarks(task), *remarks),
        provenance={
            "inputs_sha256": inputs,
            "calibration_samples": sum(len(x) for x in raw),
            "seed": chosen.seed,
            "task": str(task),
            "exact_grid": chosen.exact_grid,
            "versions": {"torch": torch.__version__},
        },
        convert=functools.partial(
            _convert, source, raw, preprocessing, chosen.exact_grid, chosen.seed, chosen.any_input, chosen.spiking
        ),
        warnings=warnings,
        task=task,
    )


def _entries(
    work: Work,
    chosen: dict[str, Recipe],
    plans: dict[str, tuple[list[Unit], list[tuple[int, str]]]],
    jobs: int,
    progress: Callable[[int, int | None], None] | None,
) -> tuple[list[Scored | Refusal], list[str]]:
    """The rows of all recipes: read from the store, or measured where missing."""
    units = [(name, unit) for name, (found, _) in plans.items() for unit in found]
    remarks: list[str] = []
    missing = []
    for name, unit in units:
        try:
            if work.read(unit) is None:
                missing.append((name, unit))
        except FileError as error:
            remarks.append(f"the store's {error}, so {name} was measured again")
            missing.append((name, unit))
    count = len(units) - len(missing)

    def done() -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count, len(units))

    if progress is not None:
        progress(count, len(units))
    broken = run_units(work, [unit for _, unit in missing], jobs, done)
    failed = {id(missing[index][1]): reason for index, reason in broken.items()}
    entries: list[Scored | Refusal] = [
        Refusal(name, t, chosen[name], reason, series=name)
        for name, (_, refused) in plans.items()
        for t, reason in refused
    ]
    for name, unit in units:
        if id(unit) in failed:
            entries += [Refusal(name, t, unit.recipe, failed[id(unit)], failed=True, series=name) for t in unit.answers]
            continue
        content = work.read(unit)
        assert content is not None  # it was read before, or has just been written
        entries += rows(name, unit, content)
    return entries, remarks


def _convert(
    source: Graph,
    calibration: tuple[Any, ...],
    preprocessing: PreprocessingGiven,
    exact_grid: bool,
    seed: int,
    any_input: bool,
    spiking: tuple[str, ...],
    recipe: Recipe,
) -> SNN:
    with one_thread():
        data = without_targets(calibration)
        how: dict[str, Any] = {"preprocessing": preprocessing, "exact_grid": exact_grid, "seed": seed}
        snn = convert(source, recipe, data, spiking=spiking or None, **how)
    return snn.accepting_any_input() if any_input else snn
