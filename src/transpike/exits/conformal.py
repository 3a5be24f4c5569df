"""Exit score with a guaranteed bound: the conformal set has one member."""

from dataclasses import dataclass

from torch import Tensor

from transpike.core.exit import ExitScore


@dataclass(frozen=True)
class Conformal(ExitScore):
    """``−ln softmax(z)₍₂₎``, the nonconformity of the second most likely class.

    The conformal set ``{k: −ln softmax(z)_k ≤ q}`` has at most one class if the score exceeds q. For m checkpoints and
    n samples the fitted q of a checkpoint is the ``⌈(n+1)(1 − α/m)⌉``-th smallest nonconformity of the answer after T
    steps (Bonferroni), so that the set at the exit excludes that answer with probability at most α; the threshold is
    the next number above q.
    Source: Chen et al. 2023 (SpikeCP), whose sets contain the correct class, and may have several classes at the exit.
    """

    def __call__(self, logits: Tensor) -> Tensor:
        top = logits.log_softmax(-1).topk(min(2, logits.shape[-1]), -1).values
        return -top[..., -1]
