"""Exit score: the difference between the two largest logits."""

from dataclasses import dataclass

from torch import Tensor

from transpike.core.exit import ExitScore


@dataclass(frozen=True)
class Gap(ExitScore):
    """``z₍₁₎ − z₍₂₎`` of the two largest logits. Source: Wu et al. 2025 (Top-K cutoff, Frontiers in Neuroscience)."""

    def __call__(self, logits: Tensor) -> Tensor:
        top = logits.topk(min(2, logits.shape[-1]), -1).values
        return top[..., 0] - top[..., -1]
