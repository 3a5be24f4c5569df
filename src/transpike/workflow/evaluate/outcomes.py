"""Evaluation by a task whose answers are correct or wrong."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from transpike.core.exit import ExitPolicy
from transpike.core.task import OutcomeTask
from transpike.energy import EnergyModel
from transpike.results.statistics import wilson
from transpike.snn import SNN
from transpike.workflow.evaluate.exit_report import ExitTally
from transpike.workflow.evaluate.report import Answer, Report
from transpike.workflow.evaluate.tally import Run, Tally, rows_of
from transpike.workflow.judged import Judged

CHANCE_SAMPLES = 20
"""Fewer samples do not distinguish an accuracy from chance."""


class OutcomeTally(Tally):
    """Adds up which samples are answered correctly."""

    task: OutcomeTask

    def __init__(
        self, snn: SNN, task: OutcomeTask, judged: Judged, asked: tuple[int, ...], policy: ExitPolicy | None
    ) -> None:
        super().__init__(snn, task, judged, asked)
        self.exits = None if policy is None else ExitTally(policy, task)
        self.ann_correct: list[Tensor] = []
        self.correct: dict[int, list[Tensor]] = {}
        self.agree: dict[int, int] = {}

    def judge_source(self, logits: Tensor, target: Tensor) -> None:
        self.ann_correct.append(self.task.outcomes(logits, target).cpu())

    def judge(self, snn: SNN, run: Run, target: Tensor) -> None:
        logits = run.trace.logits
        right, same = self.task.outcomes(logits, target).cpu(), self.task.agrees(logits, run.reference).sum(-1)
        for place, t in run.kept:
            self.correct.setdefault(t, []).append(right[place].clone())  # alone in its memory, as it may be sent
            self.agree[t] = self.agree.get(t, 0) + int(same[place])
        if self.exits is not None:
            self.exits.add(snn, run.prepared, target, run.ids, logits, run.reference, run.engine)

    def merge_judged(self, part: "OutcomeTally") -> None:
        self.ann_correct += part.ann_correct
        for t, rows in part.correct.items():
            self.correct.setdefault(t, []).extend(rows)
            self.agree[t] = self.agree.get(t, 0) + part.agree[t]
        if self.exits is not None and part.exits is not None:
            self.exits.merge(part.exits)

    def state_judged(self) -> tuple[Any, ...]:
        found = tuple((t, torch.cat(rows), self.agree[t]) for t, rows in self.correct.items())
        return torch.cat(self.ann_correct), found, None if self.exits is None else self.exits.state()

    def restore_judged(self, state: tuple[Any, ...]) -> Iterable[int]:
        ann, found, exits = state
        self.ann_correct = [rows_of(ann, self.samples, torch.bool)]
        self.correct = {t: [rows_of(rows, self.samples, torch.bool)] for t, rows, _ in found}
        self.agree = {t: int(same) for t, _, same in found}
        if self.exits is not None:
            self.exits.restore(exits)
        return self.correct

    def report(self, snn: SNN, engine: str, models: tuple[EnergyModel, ...] = ()) -> Report:
        common = self.common(snn, engine, self._judged(snn), models)
        outcomes = {t: torch.cat(self.correct[t]) for t in self.asked}
        ann_outcomes = torch.cat(self.ann_correct)
        ann_correct = int(ann_outcomes.sum())
        curve = []
        for t in self.asked:
            correct = int(outcomes[t].sum())
            low, high = wilson(correct, self.samples)
            counts = self.per_answer(snn, t, common["activities"][t], models)
            curve.append(
                Answer(
                    accuracy=correct / self.samples, low=low, high=high, agreement=self.agree[t] / self.samples,
                    **counts,
                )
            )  # fmt: skip
        return Report(
            **common,
            ann_accuracy=ann_correct / self.samples,
            ann_low=wilson(ann_correct, self.samples)[0],
            ann_high=wilson(ann_correct, self.samples)[1],
            curve=tuple(curve),
            outcomes=outcomes,
            ann_outcomes=ann_outcomes,
            exit=None if self.exits is None else self.exits.report(snn, models),
            exit_outcomes=None if self.exits is None else torch.cat(self.exits.early),
        )

    def _judged(self, snn: SNN) -> tuple[str, ...]:
        """Remarks about the accuracy of the source network and about the exit."""
        found = []
        shape = self.judged.shape(snn.source.output.shape)
        right, chance = int(torch.cat(self.ann_correct).sum()), self.task.chance(shape)
        if chance is not None and self.samples >= CHANCE_SAMPLES and wilson(right, self.samples)[0] <= chance:
            found.append(
                f"the ANN is not significantly more accurate than chance ({chance:.1%}): use the classes and the "
                "preprocessing of its training"
            )
        if snn.exit is not None and self.exits is None and snn.exit.output != (self.judged.name or ""):
            found.append(f"the exit was ignored, because it is about the output {snn.exit.output}")
        elif snn.exit is not None and self.exits is None:
            found.append(
                f"the exit was ignored, because it was fitted for T={snn.exit.timesteps} and this run is shorter: use "
                f"timesteps={snn.exit.timesteps}"
            )
        if self.exits is not None and self.exits.policy.task != str(self.task):
            found.append(
                f"the exit was fitted for {self.exits.policy.task}, and its guaranteed bound does not apply to "
                f"{self.task}: fit it again for this task"
            )
        return tuple(found)
