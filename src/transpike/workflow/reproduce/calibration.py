"""How fast this machine is, next to the one that measured the minutes of the plans."""

import time

import torch
import torch.nn.functional as F

from transpike.training.source.loop import using_threads

RUNS = 5


def calibration_seconds() -> float:
    """CPU seconds of a fixed piece of training and of counting, one thread, the fastest of 5 runs: about a second.

    Forward and backward of a convolution of 64 channels, and additions in memory, as the reproductions do most.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(32, 64, 16, 16, generator=generator)
    weight = torch.randn(64, 64, 3, 3, generator=generator).requires_grad_()
    with using_threads(1):
        return min(_once(x, weight) for _ in range(RUNS))


def _once(x: torch.Tensor, weight: torch.Tensor) -> float:
    start = time.process_time()
    for _ in range(16):
        y = F.conv2d(x, weight, padding=1)
        y.relu().square().mean().backward()
        potential = torch.zeros_like(y)
        for _ in range(8):
            potential.add_(y.detach()).sub_((potential >= 1).float())
    weight.grad = None
    return time.process_time() - start
