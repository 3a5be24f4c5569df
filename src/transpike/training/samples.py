"""Labelled samples of any supported form, accessed by index."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from transpike.core.inputs import InputNames, Inputs
from transpike.data import Batches, Dataset, Split
from transpike.data.batches import labelled_inputs


class Samples(Protocol):
    """``batch(indices)`` returns inputs (n, …), of several inputs ``Inputs``, and labels (n)."""

    @property
    def labels(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def batch(self, indices: Tensor, /) -> tuple[Any, Tensor]: ...


@dataclass(frozen=True, eq=False)
class Pairs:
    """Inputs and labels held in memory."""

    inputs: Tensor | Inputs
    labels: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: Tensor) -> tuple[Any, Tensor]:
        return self.inputs[indices], self.labels[indices]


def samples_of(
    data: Any, names: InputNames | None = None, picked: Callable[[Any], Any] = lambda given: given
) -> Samples:
    """The training samples of a data set, split, loader or pair of tensors; raises DataError without labels.

    ``names`` are those of several inputs, ``picked`` selects the targets of one of several outputs. The labels
    are unchecked: a task checks them, with the output of a network.
    """
    if isinstance(data, Dataset):
        data = data.train
    if isinstance(data, Batches):
        data = data.split.subset(data.indices)
    if isinstance(data, Split) and names is None:
        return data
    return Pairs(*labelled_inputs(data, names, picked))
