"""Contract of early exits: when the answer to a sample is certain enough to stop."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.spelling import NamedSettings
from transpike.errors import DataError, SettingError

FIT_SHARE = 0.2  # share of the samples that fits temperatures and candidates; the others test them


def class_logits(logits: Tensor) -> Tensor:
    """``logits`` (batch, classes); of one logit z (batch, 1) those of two classes, (0, z), which scores compare."""
    return torch.cat([torch.zeros_like(logits), logits], -1) if logits.shape[-1] == 1 else logits


@dataclass(frozen=True)
class ExitScore:
    """The confidence of an answer: (batch,) for logits (batch, classes); larger is more certain."""

    def __call__(self, logits: Tensor) -> Tensor:
        raise TypeError(f"{type(self).__name__} must define __call__")


@dataclass(frozen=True)
class Exit(NamedSettings):
    """An early exit to be fitted: its score, the largest accuracy drop in percentage points, and the confidence."""

    score: str = "confidence"
    drop: float = 0.5
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name, value, most in (("drop", self.drop, 100), ("confidence", self.confidence, 1)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < most:
                raise SettingError(f"{name} must lie between 0 and {most}, not {value!r}")

    def check_samples(self, samples: int, fit_share: float = FIT_SHARE) -> None:
        """Raises DataError if ``samples`` are too few to guarantee the bound, even for a policy that loses nothing.

        n tests without a loss suffice if ``(1 − drop)ⁿ ≤ 1 − confidence``; ``fit_share`` of the samples is not tested.
        """
        tested = math.ceil(math.log1p(-self.confidence) / math.log1p(-self.drop / 100))
        warming = round(fit_share * samples)
        if samples and not warming:
            raise DataError(f"fit_share={fit_share:g} selects none of {samples} samples: pass more samples")
        if samples - warming < tested or not warming:
            raise DataError(
                f"a guaranteed drop of at most {self.drop:g} points with confidence {self.confidence:g} needs at least "
                f"{math.ceil(tested / (1 - fit_share))} samples, but there are {samples}: pass more samples, or allow "
                "a larger drop"
            )

    def __str__(self) -> str:
        sure = "" if self.confidence == 0.95 else f", {self.confidence:.0%} sure"
        return f"exit by {self.score} ({self.drop:g} points{sure})"


@dataclass(frozen=True)
class ExitPolicy:
    """Stop at the first of ``checkpoints`` (steps) where ``score(logits / temperature) ≥ threshold``, else at T.

    Logits are means over the steps so far, in the source network's units, so that they do not grow with time;
    ``temperatures`` and ``thresholds`` have one number per checkpoint. ``drop`` and ``confidence`` are the guaranteed
    bound: the largest share of samples with a correct answer that stopping may lose, and the confidence of that bound
    over the ``samples`` that it was fitted on; ``task`` defines which answers are correct. ``output``: which one of
    several outputs it is about, "" where there is one.
    """

    score: ExitScore
    timesteps: int
    checkpoints: tuple[int, ...]
    temperatures: tuple[float, ...]
    thresholds: tuple[float, ...]
    drop: float
    confidence: float
    samples: int
    task: str = "classification"
    output: str = ""

    def __post_init__(self) -> None:
        count = len(self.checkpoints)
        if not count:
            raise SettingError(f"in a run of {self.timesteps} steps there is no checkpoint before the last step")
        if any(isinstance(step, bool) or not isinstance(step, int) for step in self.checkpoints):
            raise SettingError(f"checkpoints must be integers, not {self.checkpoints}")
        if not all(isinstance(t, (int, float)) and t > 0 for t in self.temperatures):
            raise SettingError(f"temperatures must be positive, not {self.temperatures}")
        if any(not isinstance(t, (int, float)) or math.isnan(t) for t in self.thresholds):
            raise SettingError(f"thresholds must be numbers, not {self.thresholds}")
        if not isinstance(self.score, ExitScore):
            raise SettingError(f"score must be an exit score (transpike.exits), not {self.score!r}")
        if len(self.temperatures) != count or len(self.thresholds) != count:
            raise SettingError("an exit needs a temperature and a threshold for each of its checkpoints")
        if list(self.checkpoints) != sorted(set(self.checkpoints)) or self.checkpoints[0] < 1:
            raise SettingError(f"checkpoints must be increasing steps of at least 1, not {self.checkpoints}")
        if self.checkpoints[-1] >= self.timesteps:
            raise SettingError(f"checkpoints must be before the last step, {self.timesteps}, not {self.checkpoints}")

    def __str__(self) -> str:
        places = "after " + ", ".join(map(str, self.checkpoints))
        if min(self.thresholds) == math.inf:
            places = "never before the end, because no candidate met the bound,"
        name = f" of {self.output}" if self.output else ""
        return (
            f"by {type(self.score).__name__.lower()}{name} {places} of {self.timesteps} steps, at most "
            f"{100 * self.drop:g} points of right answers lost ({self.confidence:.0%} sure, {self.samples} samples)"
        )

    def ready(self, logits: Tensor, place: int) -> Tensor:
        """(batch,) bool: the samples that stop at checkpoint number ``place``, for their logits (batch, classes)."""
        return self.score(class_logits(logits).double() / self.temperatures[place]) >= self.thresholds[place]

    def stops(self, logits: Tensor) -> Tensor:
        """(batch,): the step at which each sample stops; ``logits`` are (timesteps, batch, classes), one per step."""
        found = torch.full((logits.shape[1],), self.timesteps, device=logits.device)
        for place in reversed(range(len(self.checkpoints))):
            found[self.ready(logits[self.checkpoints[place] - 1], place)] = self.checkpoints[place]
        return found
