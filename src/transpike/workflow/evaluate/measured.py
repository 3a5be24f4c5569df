"""Evaluation by a task that measures its answers."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from transpike.core.task import MeasuredTask, finite
from transpike.energy import EnergyModel
from transpike.results.statistics import percentiles
from transpike.snn import SNN
from transpike.workflow.evaluate.measurement import Estimate, MeasuredAnswer, Measurement
from transpike.workflow.evaluate.tally import Run, Tally, rows_of
from transpike.workflow.judged import Judged


class MeasuredTally(Tally):
    """Collects the statistics of the samples."""

    task: MeasuredTask

    def __init__(self, snn: SNN, task: MeasuredTask, judged: Judged, asked: tuple[int, ...]) -> None:
        super().__init__(snn, task, judged, asked)
        self.ann: list[Tensor] = []
        self.found: dict[int, list[Tensor]] = {}

    def judge_source(self, logits: Tensor, target: Tensor) -> None:
        self.ann.append(self.task.statistics(logits, target).cpu())

    def judge(self, snn: SNN, run: Run, target: Tensor) -> None:
        for place, t in run.kept:
            self.found.setdefault(t, []).append(self.task.statistics(run.trace.logits[place], target).cpu())

    def merge_judged(self, part: "MeasuredTally") -> None:
        self.ann += part.ann
        for t, rows in part.found.items():
            self.found.setdefault(t, []).extend(rows)

    def state_judged(self) -> tuple[Any, ...]:
        return torch.cat(self.ann), tuple((t, torch.cat(rows)) for t, rows in self.found.items())

    def restore_judged(self, state: tuple[Any, ...]) -> Iterable[int]:
        ann, found = state
        self.ann = [rows_of(ann, self.samples, ann.dtype)]
        self.found = {t: [rows_of(rows, self.samples, ann.dtype)] for t, rows in found}
        return self.found

    def report(self, snn: SNN, engine: str, models: tuple[EnergyModel, ...] = ()) -> Measurement:
        # (samples, 1 + answers, k), the source network first
        rows = torch.stack([torch.cat(self.ann), *(torch.cat(self.found[t]) for t in self.asked)], 1)
        values, drawn = self.task.from_rows(rows), self.task.draws(rows) if self.samples > 1 else None
        known = self._named(values, drawn)
        changes = self._named(values - values[:1], None if drawn is None else drawn - drawn[:, :1])
        ignored = (f"the exit was ignored, because it is about correct answers, but {self.task} has none",)
        common = self.common(snn, engine, () if snn.exit is None else ignored, models)
        curve = tuple(
            MeasuredAnswer(
                metrics=known[place],
                changes=changes[place] if self.task.needs_targets else {},
                **self.per_answer(snn, t, common["activities"][t], models),
            )
            for place, t in enumerate(self.asked, 1)
        )
        return Measurement(
            **common,
            metrics=self.task.metrics,
            ann=known[0] if self.task.needs_targets else {},
            curve=curve,
            recommended=self._recommended(curve),
            room=self.task.room_in_words,
            rows={t: rows[:, place] for place, t in enumerate(self.asked, 1)},
            ann_rows=rows[:, 0],
        )

    def _named(self, values: Tensor, drawn: Tensor | None) -> list[dict[str, Estimate]]:
        """(rows, metrics) values and resampled ones as rows of estimates with intervals, by metric name."""
        low, high = torch.full_like(values, math.nan).expand(2, *values.shape) if drawn is None else percentiles(drawn)
        names = [metric.name for metric in self.task.metrics]
        return [
            {name: Estimate(*map(finite, three)) for name, *three in zip(names, *rows, strict=True)}
            for rows in zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
        ]

    def _recommended(self, curve: tuple[MeasuredAnswer, ...]) -> MeasuredAnswer:
        """The first answer with spikes that is at most the task's room worse than the last one."""
        first, last = self.task.first, curve[-1]
        best = last.metrics[first.name].value
        if best is None:
            return last
        least = first.rank(best) - self.task.room(best) - 1e-12
        near = (a for a in curve if first.rank(a.metrics[first.name].value) >= least and a.spike_rate > 0)
        return next(near, last)
