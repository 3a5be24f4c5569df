"""Whether the set of classes that may be right has one member."""

from dataclasses import dataclass

from torch import Tensor

from transpike.core.exit import ExitScore


@dataclass(frozen=True)
class Conformal(ExitScore):
    """``−ln softmax(z)₍₂₎``, the nonconformity of the second likeliest class.

    The conformal set ``{k: −ln softmax(z)_k ≤ q}`` holds one class at most where the score exceeds q. A fit takes each
    checkpoint's q as the ``⌈(n+1)(1 − α/m)⌉``-th smallest nonconformity, among n samples, of the answer after T steps,
    m checkpoints (Bonferroni), so that the set at the stop misses that answer with probability α at most; the threshold
    is the next number above q.
    Source: Chen et al. 2023 (SpikeCP), whose sets are to hold the right class, and may stop with more classes than one.
    """

    def __call__(self, logits: Tensor) -> Tensor:
        top = logits.log_softmax(-1).topk(min(2, logits.shape[-1]), -1).values
        return -top[..., -1]
