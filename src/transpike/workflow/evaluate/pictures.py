"""The first inputs of an evaluation as pictures, with what both networks mark in them."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from transpike.core.inputs import Inputs
from transpike.core.marks import Marks
from transpike.core.task import Task

SAMPLES, ANSWERS = 4, 6
"""Pictures in a result, and numbers of time steps of each, at most."""


@dataclass(frozen=True, eq=False)
class Picture:
    """``input``: (1 or 3 channels, height, width) real values. ``target`` is None where the task does not draw it.

    ``answers``: timesteps → marks of the spiking network.
    """

    input: Tensor
    target: Marks | None
    ann: Marks
    answers: dict[int, Marks] = field(default_factory=dict)


def shown_steps(asked: tuple[int, ...]) -> tuple[int, ...]:
    """Powers of two from the first one on, and the last answer."""
    powers = [t for t in asked[:-1] if t & (t - 1) == 0]
    return (*powers[: ANSWERS - 1], asked[-1])


class PictureTally:
    """Collects the pictures of the first samples, where the task draws answers and inputs are pictures."""

    def __init__(self, task: Task, asked: tuple[int, ...]) -> None:
        self.task, self.steps = task, shown_steps(asked)
        self.found: list[Picture] = []
        self.open, self.first = True, 0

    def add_source(self, x: Tensor | Inputs, answers: Tensor, targets: Tensor) -> None:
        """A batch, and the answers (batch, *shape) of the source network; ``targets`` as from ``Task.check``."""
        self.first = len(self.found)
        for k in range(min(len(x), SAMPLES - self.first) if self.open else 0):
            one = self._picture(x, k)
            size = (0, 0) if one is None else (int(one.shape[1]), int(one.shape[2]))
            ann = None if one is None else self.task.marks(answers[k], size)
            if one is None or ann is None:
                self.open = False
                return
            target = self.task.target_marks(targets[k], size) if self.task.needs_targets else None
            self.found.append(Picture(one, target, ann))

    def add(self, timesteps: int, answers: Tensor) -> None:
        """The answers (batch, *shape) of the spiking network for the batch of the last ``add_source``."""
        if timesteps in self.steps:
            for one, answer in zip(self.found[self.first :], answers, strict=False):
                marks = self.task.marks(answer, (int(one.input.shape[1]), int(one.input.shape[2])))
                if marks is not None:
                    one.answers[timesteps] = marks

    def merge(self, part: "PictureTally") -> None:
        """Add the pictures of the next batch, as long as there are too few."""
        if self.open:
            self.found += part.found[: SAMPLES - len(self.found)]
            self.open = part.open

    def state(self) -> tuple[bool, tuple[Any, ...]]:
        """Whether pictures are collected, and those that were found."""
        return self.open, tuple((p.input, p.target, p.ann, tuple(p.answers.items())) for p in self.found)

    def restore(self, state: tuple[bool, tuple[Any, ...]]) -> None:
        """Take what ``state`` gave."""
        self.open, found = state
        self.found = [Picture(input_, target, ann, dict(answers)) for input_, target, ann, answers in found]

    def _picture(self, x: Tensor | Inputs, index: int) -> Tensor | None:
        """The first of several inputs that is an image."""
        parts = [value[index] for value in x.values.values()] if isinstance(x, Inputs) else [x[index]]
        return next((one for one in map(self.task.picture, parts) if one is not None), None)
