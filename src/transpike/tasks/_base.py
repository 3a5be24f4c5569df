"""Common checks of tasks with classes."""

import torch
from torch import Tensor

from transpike.errors import DataError


def class_numbers(y: Tensor, samples: int, classes: int, where: str = "a batch") -> Tensor:
    """``y`` as (samples,) int64; raises DataError unless it holds one class number per sample."""
    flat = y.reshape(-1)
    if len(flat) != samples:
        raise DataError(f"{where} holds {samples} inputs and {len(flat)} targets; give one class number per input")
    whole = flat.long()
    if flat.dtype == torch.bool or not bool((whole == flat).all()) or flat.is_complex():
        raise DataError(f"the targets of {where} are {flat.dtype}; they must be class numbers (whole numbers)")
    if samples and not (int(whole.min()) >= 0 and int(whole.max()) < classes):
        raise DataError(
            f"the targets of {where} are {int(whole.min())} to {int(whole.max())}, and the network has {classes} "
            f"classes, 0 to {classes - 1}"
        )
    return whole
