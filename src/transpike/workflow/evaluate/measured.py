"""Evaluation by a task that measures its answers."""

import math

import torch
from torch import Tensor

from transpike.core.task import MeasuredTask
from transpike.energy import EnergyModel
from transpike.results.statistics import percentiles, resampled
from transpike.snn import SNN
from transpike.workflow.evaluate.fidelity import finite
from transpike.workflow.evaluate.measurement import Estimate, MeasuredAnswer, Measurement
from transpike.workflow.evaluate.tally import Run, Tally


class MeasuredTally(Tally):
    """Collects the statistics of the samples."""

    task: MeasuredTask

    def __init__(self, snn: SNN, task: MeasuredTask, asked: tuple[int, ...]) -> None:
        super().__init__(snn, task, asked)
        self.ann: list[Tensor] = []
        self.found: dict[int, list[Tensor]] = {}

    def judge_source(self, logits: Tensor, target: Tensor) -> None:
        self.ann.append(self.task.statistics(logits, target).cpu())

    def judge(self, snn: SNN, run: Run, target: Tensor) -> None:
        for place, t in run.kept:
            self.found.setdefault(t, []).append(self.task.statistics(run.trace.logits[place], target).cpu())

    def report(self, snn: SNN, engine: str, models: tuple[EnergyModel, ...] = ()) -> Measurement:
        # (samples, 1 + answers, k), the source network first
        rows = torch.stack([torch.cat(self.ann), *(torch.cat(self.found[t]) for t in self.asked)], 1)
        values, drawn = self.task.values(rows.sum(0)), resampled(rows, self.task.values)
        known = self._named(values, percentiles(drawn))
        changes = self._named(values - values[:1], percentiles(drawn - drawn[:, :1]))
        common = self.common(snn, engine, ())
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
        )

    def _named(self, values: Tensor, bounds: Tensor) -> list[dict[str, Estimate]]:
        """Of (rows, metrics) values and (2, rows, metrics) bounds, each row by the names of the metrics."""
        low, high = bounds if self.samples > 1 else bounds * math.nan
        names = [metric.name for metric in self.task.metrics]
        return [
            {name: Estimate(*map(finite, three)) for name, *three in zip(names, *rows, strict=True)}
            for rows in zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
        ]

    def _recommended(self, curve: tuple[MeasuredAnswer, ...]) -> MeasuredAnswer:
        """The first answer with spikes that is at most the task's room worse than the last one."""
        first, last = self.task.metrics[0], curve[-1]
        best = last.metrics[first.name].value
        if best is None:
            return last
        sign, room = 1 if first.higher_is_better else -1, self.task.room(best)
        for answer in curve:
            value = answer.metrics[first.name].value
            if value is not None and sign * (best - value) <= room + 1e-12 and answer.spike_rate > 0:
                return answer
        return last
