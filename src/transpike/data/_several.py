"""Data of networks with several inputs: which parts of a batch are inputs, and which are targets."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset as TorchDataset

from transpike.core.inputs import InputNames, Inputs, named
from transpike.data._forms import TARGETS, is_array, is_scalar
from transpike.errors import DataError

PART = 256  # samples per batch of arrays


def batches(data: Any, names: InputNames) -> Iterator[tuple[Inputs, Any]]:
    """(inputs, target) of data for a network with the inputs ``names``; target None where there is none.

    A batch, or all data in arrays, is (inputs, target), where the inputs are a tuple in the order of the model's
    arguments or a dictionary by name; all in one dictionary; or all in one tuple, inputs first. A single input may also
    be given as it is, or with its target. A torch Dataset gives
    single samples in these forms, other iterables give batches. Raises DataError for other forms.
    """
    whole = _taken(data, names) or (None if isinstance(data, list) else _single(data, names))
    if whole is not None:
        inputs, target = _inputs(whole[0], names), whole[1]
        for start in range(0, len(inputs), PART):
            part = slice(start, start + PART)
            yield inputs[part], part_of(target, part, len(inputs))
        return
    if is_array(data) or isinstance(data, (str, bytes)):
        raise _unclear(data, names)
    indexed = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if indexed and (isinstance(data, TorchDataset) or not isinstance(data, Iterable)):
        count = len(data)  # type: ignore[arg-type]
        yield from _collated((data[index] for index in range(count)), names)
        return
    if not isinstance(data, Iterable):
        raise _unclear(data, names)
    for batch in data:
        taken = _taken(batch, names) or _single(batch, names)
        if taken is None:
            raise _unclear(batch, names)
        yield _inputs(taken[0], names), taken[1]


def _inputs(given: Any, names: InputNames) -> Inputs:
    found = Inputs.of(given)
    if any(value.ndim == 0 for value in found.values.values()) or not len(found):
        raise DataError("every input has the samples as its first axis; pass at least one")
    return found.ordered(names.places) if names.shapes is not None else found


def _taken(batch: Any, names: InputNames) -> tuple[Any, Any] | None:
    """The inputs and the target of one batch, or of all data; None if it is neither."""
    count = len(names.arguments)
    if isinstance(batch, Mapping):
        if not names.in_batch(batch):
            return None
        labels = [batch[key] for key in batch if isinstance(key, str) and key.lower() in TARGETS]
        return {name: batch[name] for name in names.arguments}, labels[0] if labels else None
    if not isinstance(batch, (tuple, list)) or not batch:
        return None
    first, rest = batch[0], batch[1:]
    if isinstance(first, Inputs):
        return first, rest[0] if rest else None
    if count > 1 and len(batch) >= count and all(map(_is_value, batch[:count])):
        return tuple(batch[:count]), batch[count] if len(batch) > count else None
    structure = isinstance(first, (tuple, list, Mapping)) and _holds(first, names)
    if structure and len(batch) <= 2 and not (isinstance(batch, list) and rest and _is_batch(rest[0], names)):
        return first, rest[0] if rest else None
    return None


def _is_batch(value: Any, names: InputNames) -> bool:
    """Whether the second of two values is another batch, and not the target of the first."""
    return bool(_taken(value, names) or (isinstance(value, (tuple, list)) and _single(value, names)))


def _single(batch: Any, names: InputNames) -> tuple[Any, Any] | None:
    """The input and the target of a network of one input, such as token ids, given as for other networks."""
    if len(names.places) > 1:
        return None
    parts = batch if isinstance(batch, (tuple, list)) else (batch,)
    if len(parts) not in (1, 2) or not is_array(parts[0]):
        return None
    return (parts[0],), parts[1] if len(parts) > 1 else None


def _holds(first: Any, names: InputNames) -> bool:
    """Whether a structure holds the inputs: by name, in order, or those of a single argument."""
    if isinstance(first, Mapping):
        keys = {place[1] for place in names.places if len(place) > 1}
        return names.in_batch(first) or (len(names.arguments) == 1 and keys.issubset(first))
    return all(map(is_array, first)) and len(first) == max(len(names.arguments), len(names.places))


def _is_value(value: Any) -> bool:
    return is_array(value) or is_scalar(value)


def part_of(target: Any, part: slice, samples: int) -> Any:
    """The targets of a part, also in a dictionary, tuple or list of targets."""
    if target is None:
        return None
    if isinstance(target, Mapping):
        return {key: part_of(value, part, samples) for key, value in target.items()}
    if isinstance(target, (tuple, list)) and target and all(map(is_array, target)) and len(target) != samples:
        return type(target)(part_of(value, part, samples) for value in target)
    if len(target) != samples:
        raise DataError(f"there are {samples} inputs and {len(target)} targets; pass one target per input")
    return target[part]


def _collated(samples: Iterable[Any], names: InputNames) -> Iterator[tuple[Inputs, Any]]:
    """Single samples of a Dataset as batches, by torch's own rules."""
    waiting: list[Any] = []

    def batch() -> tuple[Inputs, Any]:
        try:
            joined = torch.utils.data.default_collate(waiting)
        except (TypeError, RuntimeError) as error:
            raise DataError(f"the samples of the data cannot be joined to a batch: {error}") from error
        taken = _taken(joined, names) or _single(joined, names)
        if taken is None:
            raise _unclear(joined, names)
        return _inputs(taken[0], names), taken[1]

    for sample in samples:
        waiting.append(sample)
        if len(waiting) == PART:
            yield batch()
            waiting = []
    if waiting:
        yield batch()


def _unclear(batch: Any, names: InputNames) -> DataError:
    listed = ", ".join(map(named, names.places))
    line = ", ".join(str(name) for name in names.arguments)
    keys = f" with the keys {', '.join(map(repr, batch))}" if isinstance(batch, Mapping) else ""
    what = f"{type(batch).__name__}{keys}"
    return DataError(
        f"the network takes the inputs {listed}, but a batch of the data is a {what}: pass (({line}), target), a "
        'dictionary by these names, or one with the target as "labels"'
    )
