"""The forms of users' data: arrays, labels, and the keys of dictionaries."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from transpike.errors import DataError

INPUTS = ("pixel_values", "input_values", "input_features", "image", "images", "img", "inputs", "input", "x", "data")
TARGETS = ("labels", "label", "targets", "target", "y", "class", "classes")
"""Keys of dictionaries, as Hugging Face, torchvision and Lightning name inputs and targets."""


def is_array(data: Any) -> bool:
    """A tensor, a NumPy array, or another object that is one, like a data frame."""
    return isinstance(data, (Tensor, np.ndarray)) or (hasattr(data, "__array__") and hasattr(data, "shape"))


def is_scalar(value: Any) -> bool:
    """One label: a number, text, or an array without axes."""
    return isinstance(value, (int, float, str, bytes, np.generic)) or (is_array(value) and not rank(value))


def is_whole(data: Any) -> bool:
    """A number or an array of integers."""
    return not data.is_floating_point() if isinstance(data, Tensor) else np.asarray(data).dtype.kind in "biu"


def rank(data: Any) -> int:
    """The number of axes of an array; 0 for everything else."""
    return len(data.shape) if is_array(data) else 0


def tensor(data: Any) -> Tensor:
    """A tensor, or a copy of an array; DataError for arrays that do not hold numbers."""
    if isinstance(data, Tensor):
        return data.detach()  # nothing here is trained through the data
    array = np.asarray(data)
    if array.dtype.kind not in "biuf":
        raise DataError(f"an array must contain real numbers, not {array.dtype}")
    # torch needs the byte order of the machine, and may write into the result
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=True))


def stacked(samples: list[Tensor]) -> Tensor:
    """Samples as a batch; DataError for different shapes."""
    if len(shapes := {tuple(x.shape) for x in samples}) > 1:
        raise DataError(f"samples have different shapes, like {' and '.join(map(str, sorted(shapes)[:2]))}")
    return torch.stack(samples)


def as_targets(target: Any) -> Tensor:
    """Targets as a tensor with at least one axis; DataError for text and other objects.

    Dictionaries of ``boxes`` (n, 4) and ``labels`` (n,) per sample: (samples, n, 5) of label and box, padded with NaN.
    """
    if (
        isinstance(target, (list, tuple))
        and target
        and all(isinstance(one, Mapping) and "boxes" in one for one in target)
    ):
        return _boxes(target)
    if isinstance(target, (list, tuple)) and target and all(map(is_array, target)):
        target = stacked([tensor(one) for one in target])
    if not isinstance(target, Tensor):
        flat = np.asarray(target, dtype=object).reshape(-1)
        first = flat[0] if len(flat) else 0
        if isinstance(first, (str, bytes)):
            raise DataError(
                f"targets are text, like {first!r}; pass class indices, counted in the order of the network's outputs: "
                f"classes = [{first!r}, …], and data = [(x, torch.tensor([classes.index(t) for t in y])) for x, y in "
                "data]"
            )
        try:
            target = tensor(np.asarray(target))
        except (DataError, ValueError, TypeError) as error:
            raise DataError(f"targets must be numbers, not {named(first)}") from error
    return torch.atleast_1d(target)


def _boxes(target: Sequence[Mapping]) -> Tensor:
    rows = []
    for one in target:
        if not is_array(one.get("boxes")) or not is_array(one.get("labels")):
            raise DataError(
                f"targets must be numbers, not {named(one)}; those of detections are dictionaries of the tensors "
                "'boxes' and 'labels'"
            )
        boxes, labels = tensor(one["boxes"]).double().reshape(-1, 4), tensor(one["labels"]).double().reshape(-1)
        if len(boxes) != len(labels):
            raise DataError(f"a sample has {len(boxes)} boxes and {len(labels)} labels; pass one label per box")
        rows.append(torch.cat([labels[:, None], boxes], 1))
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=torch.nan)


def keys(batch: Mapping) -> tuple[str, str]:
    """The keys of input and target; "" for none, or for several."""
    found = []
    for names in (INPUTS, TARGETS):
        there = [key for key in batch if isinstance(key, str) and key.lower() in names]
        found.append(there[0] if len(there) == 1 else "")
    return found[0], found[1]


def named(value: Any) -> str:
    """The kind of a value, for messages."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def line_for(value: Any) -> str:
    """The line to write for known kinds of objects, for messages."""
    if type(value).__module__.startswith("PIL"):
        return ": write torchvision.transforms.functional.to_tensor(image)"
    return ""
