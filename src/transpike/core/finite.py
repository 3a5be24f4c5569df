"""Values that a network must not have: NaN and infinite ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from transpike.errors import DataError

WHY = (
    "a row of zeros has no normalised form with eps=0, a softmax needs a finite value in every row, and a mask of "
    "-inf is supported directly before a softmax only"
)


class NotFinite(ValueError):
    """A function gave NaN or infinite values; engines add the place to the text."""


def finite(value: Tensor, what: Any) -> Tensor:
    """``value`` (batch, *shape), the output of the op ``what``. Raises NotFinite for NaN and infinite values."""
    if value.device.type == "meta" or bool(torch.isfinite(value.sum())):  # a sum is much faster
        return value
    if not bool(torch.isfinite(value).all()):  # else the sum of large values was infinite
        raise NotFinite(described(value, what.describe()))
    return value


def described(value: Tensor, what: str) -> str:
    """How many samples of ``value`` have NaN or infinite values."""
    wrong = ~torch.isfinite(value).flatten(1).all(1)
    return f"{what} gives NaN or infinite values for {int(wrong.sum())} of {len(wrong)} samples"


@contextmanager
def at(name: str, t: int | None = None) -> Iterator[None]:
    """Turns NotFinite into a DataError that names the layer, and the step if there is one."""
    try:
        yield
    except NotFinite as error:
        step = "" if t is None else f" in step {t}"
        raise DataError(f"{name}: {error}{step}; {WHY}") from None
