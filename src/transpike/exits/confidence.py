"""Exit score: the probability of the most likely class."""

from dataclasses import dataclass

from torch import Tensor

from transpike.core.exit import ExitScore


@dataclass(frozen=True)
class Confidence(ExitScore):
    """``max_k softmax(z)_k``. Source: Li et al. 2023 (SEENN-I), on means and with a fitted temperature here."""

    def __call__(self, logits: Tensor) -> Tensor:
        return logits.softmax(-1).amax(-1)
