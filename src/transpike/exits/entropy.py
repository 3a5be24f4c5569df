"""Exit score: one minus the normalised entropy."""

import math
from dataclasses import dataclass

from torch import Tensor

from transpike.core.exit import ExitScore


@dataclass(frozen=True)
class Entropy(ExitScore):
    """``1 − H(softmax(z)) / ln K`` with H in nats and K classes. Source: Li et al. 2023 (DT-SNN)."""

    def __call__(self, logits: Tensor) -> Tensor:
        logs = logits.log_softmax(-1)
        return 1 + (logs.exp() * logs).sum(-1) / math.log(max(2, logits.shape[-1]))
