"""A planned comparison: its units, those that the store already holds, and the table of all."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.fingerprint import Code
from transpike.core.graph import Graph
from transpike.core.recipe import Recipe
from transpike.data.batches import without_targets
from transpike.errors import DataError, FileError, SettingError
from transpike.ops.pack import structure_of
from transpike.snn import SNN
from transpike.tasks import remarks as task_remarks
from transpike.training.source.loop import using_threads
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.compare.entered import Checked, Entered
from transpike.workflow.compare.executors import Executor, ranges
from transpike.workflow.compare.inputs import inputs_path, write_inputs
from transpike.workflow.compare.kept import keep, kept, rows
from transpike.workflow.compare.progress import Progress, Samples
from transpike.workflow.compare.rows import Refusal, Scored
from transpike.workflow.compare.settings import ComparisonSettings
from transpike.workflow.compare.store import Store
from transpike.workflow.compare.units import Unit, Work, outside_code, plan
from transpike.workflow.convert import convert
from transpike.workflow.cut import Selection
from transpike.workflow.entrance import PreprocessingGiven
from transpike.workflow.judged import asked as judgement

NAMED = 10
"""Missing units whose recipes an error names; of all of them it gives the numbers."""


@dataclass(frozen=True, eq=False)
class Sweep:
    """``units`` in the order of the recipes, each with the name of its recipe; ``inputs``: the file of all of them."""

    work: Work
    inputs: Path
    store: Store | None
    chosen: ComparisonSettings
    by_name: dict[str, Recipe]
    codes: dict[str, Code]
    units: tuple[tuple[str, Unit], ...]
    impossible: tuple[tuple[str, int, str], ...]
    samples: int
    calibration_samples: int
    warnings: tuple[str, ...]
    convert: Callable[[Recipe], SNN]

    @classmethod
    def of(
        cls, model: nn.Module | Graph, by_name: dict[str, Recipe], calibration: Any, chosen: ComparisonSettings,
        data: Any, preprocessing: PreprocessingGiven, exit_data: Any, store: Store | None, folder: Path,
    ) -> "Sweep":  # fmt: skip
        """Checks inputs as ``compare`` does, and writes them to ``folder``."""
        encoder = next(iter(by_name.values())).encoder
        entered = Entered.of(
            model, calibration, chosen.calibration_samples, encoder, preprocessing, chosen.any_input,
            output=chosen.output, on_unsupported=chosen.on_unsupported,
            spikes=Selection.of(chosen.spiking or None).spikes,
        )  # fmt: skip
        source, raw = entered.source, entered.raw
        task, judged = judgement(structure_of(source.output.op), chosen.task, chosen.judged_output)
        if chosen.exits and exit_data is None:
            raise DataError("exits are fitted on separate samples: pass exit_data, labelled and not in data")

        def judge(where: str) -> Callable[[Any, Tensor], object]:  # else every recipe would be refused
            return lambda x, y: task.check(judged.shape(source.output.shape), len(x), y, f"a batch of {where}")

        def enough(samples: int) -> None:
            for wish in chosen.exits:
                wish.check_samples(samples)

        tests = Checked(entered, entered.labelled(data, chosen.limit, judged, task.needs_targets), judge("data"))
        fitting = entered.labelled(exit_data, None, judged) if chosen.exits else iter(())
        inputs = write_inputs(folder, source, raw, tests, Checked(entered, fitting, judge("exit_data"), enough))
        work = Work(
            inputs, preprocessing, chosen.exact_grid, chosen.engine, chosen.memory, chosen.seed, chosen.energy,
            chosen.exits, task, chosen.any_input, judged.name, chosen.spiking, "" if store is None else str(store),
        )  # fmt: skip
        codes = {
            name: outside_code(recipe, source, preprocessing, chosen.energy, chosen.exits, task)
            for name, recipe in by_name.items()
        }
        units: list[tuple[str, Unit]] = []
        impossible: list[tuple[str, int, str]] = []
        for name, recipe in by_name.items():
            digest = codes[name].digest
            parts, refused = plan(recipe, chosen.timesteps, name if digest is None else digest, digest is not None)
            units += [(name, unit) for unit in parts]
            impossible += [(name, t, reason) for t, reason in refused]
        how = (preprocessing, chosen.exact_grid, chosen.seed, chosen.any_input, chosen.spiking)
        return cls(
            work, inputs_path(folder, inputs), store, chosen, by_name, codes, tuple(units), tuple(impossible),
            tests.samples, sum(len(x) for x in raw), tests.warnings,
            functools.partial(_convert, source, raw, *how),
        )  # fmt: skip

    def stored(self, indices: Iterable[int]) -> tuple[dict[int, dict[str, Any]], list[str]]:
        """Results that the store holds, and remarks about damaged ones."""
        found, remarks = {}, []
        for index in indices:
            name, unit = self.units[index]
            try:
                content = kept(self.store, self.work, unit) if self.store is not None and unit.kept else None
            except FileError as error:
                remarks.append(f"the store's {error}, so {name} was measured again")
            else:
                if content is not None:
                    found[index] = content
        return found, remarks

    def measured(self, executor: Executor, progress: Progress, part: tuple[int, int] | None = None) -> Comparison:
        """Measure the missing units, all or those of part (K, N), and the table of them.

        In a part, failures are stored too: they belong to the table that is collected later.
        """
        indices = range(len(self.units)) if part is None else range(part[0] - 1, len(self.units), part[1])
        found, remarks = self.stored(indices)
        found = {index: content for index, content in found.items() if "failed" not in content}
        missing = [index for index in indices if index not in found]
        counted = Samples(progress, len(indices), self.samples)
        counted.ended(*found)
        with contextlib.ExitStack() as stack:
            if missing:
                units = [self.units[index][1] for index in missing]
                told = lambda place, samples: counted.told(missing[place], samples)  # noqa: E731
                running = executor.run(self.work, units, self.inputs, told)
                stack.callback(getattr(running, "close", lambda: None))
                for one in running:
                    index = missing[one.index]
                    name, unit = self.units[index]
                    content = {"failed": one.reason} if one.content is None else one.content
                    if self.store is not None and unit.kept and (one.content is not None or part is not None):
                        keep(self.store, self.work, unit, content)
                    found[index] = content
                    if one.remark:
                        remarks.append(f"{_named(name, unit)}: {one.remark}")
                    counted.ended(index)
        return self._table({index: found[index] for index in indices}, remarks, whole=part is None)

    def collected(self) -> Comparison:
        """The table of a store that all parts have written to. Raises DataError that names missing units."""
        found, remarks = self.stored(range(len(self.units)))
        if missing := [index for index in range(len(self.units)) if index not in found]:
            names = ", ".join(f"{index + 1} is {_named(*self.units[index])}" for index in missing[:NAMED])
            more = f", and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
            damaged = "".join(f"; {remark.replace('was measured again', 'is missing')}" for remark in remarks)
            count = len(self.units)
            raise DataError(
                f"{len(missing)} of {count} units are missing in the store {self.store}: {ranges(missing)} "
                f"({names}{more}){damaged}. Run them with the same settings and --unit K/{count}, then collect again"
            )
        return self._table(found, remarks)

    def missing(self) -> list[int]:
        """The units, from 0, without results in the store, or with a failure."""
        found, _ = self.stored(range(len(self.units)))
        return [index for index in range(len(self.units)) if "failed" in found.get(index, {"failed": ""})]

    def check_parts(self) -> None:
        """Raises SettingError for recipes whose results cannot be stored, so that no other run can read them."""
        for name, code in self.codes.items():
            if code.digest is None:
                raise SettingError(
                    f"{name} cannot be measured in parts, because its code cannot be read: {code.reason}; "
                    "define it in a separate module"
                )

    def _table(self, found: Mapping[int, dict[str, Any]], remarks: Sequence[str], whole: bool = True) -> Comparison:
        entries: list[Scored | Refusal] = [
            Refusal(name, t, self.by_name[name], reason, series=name) for name, t, reason in self.impossible if whole
        ]
        for index, content in found.items():
            entries += rows(*self.units[index], content)
        order = {name: position for position, name in enumerate(self.by_name)}  # rows with exits follow their recipe
        entries.sort(key=lambda entry: (order[entry.series], entry.recipe, entry.timesteps))
        unread = [
            f"{name} was measured again and is not stored, because its code cannot be read: {code.reason}; "
            "define it in a separate module"
            for name, code in self.codes.items()
            if code.digest is None and self.store is not None
        ]
        work = self.work
        return Comparison(
            rows=tuple(entries),
            samples=self.samples,
            timesteps=self.chosen.timesteps,
            engine=work.engine,
            remarks=(*task_remarks(work.task), *remarks, *unread),
            provenance={
                "inputs_sha256": work.inputs,
                "calibration_samples": self.calibration_samples,
                "seed": work.seed,
                "task": str(work.task),
                "exact_grid": work.exact_grid,
                "versions": {"torch": torch.__version__},
            },
            convert=self.convert,
            warnings=self.warnings,
            task=work.task,
        )


def _named(name: str, unit: Unit) -> str:
    return f"{name} at T={','.join(map(str, unit.answers))}"


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
    with using_threads(1):  # sums off the grid, as in calibration, depend on the number of threads
        data = without_targets(calibration)
        how: dict[str, Any] = {"preprocessing": preprocessing, "exact_grid": exact_grid, "seed": seed}
        snn = convert(source, recipe, data, spiking=spiking or None, **how)
    return snn.accepting_any_input() if any_input else snn
