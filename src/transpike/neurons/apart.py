"""Steps of cells whose output estimate is a function of the sums of what they received: computed where these change."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from transpike.core.op import Op

Update = Callable[[Sequence[Tensor], Tensor, Tensor], None]
"""(sums, values, changes): writes the values of the function of ``sums``, and by how much they differ from before."""


def steps_apart(
    op: Op, sums: Sequence[Tensor], value: Tensor, trains: Sequence[Tensor], update: Update, everything: bool
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """(sums, value, what is sent (time, batch, *shape)) after the steps of ``trains``, (time, batch, *shape) each.

    In each step ``update`` gets those places of ``op.apart`` where a message arrived, (places, 1 …, *rest) without
    gaps; where nothing changed, nothing is computed. ``everything``: in the first step all places are computed.
    ``sums`` and ``value`` (batch, *shape) are copied.
    """
    axes = op.apart(*(tuple(one.shape[1:]) for one in sums))
    sums = tuple(one.clone(memory_format=torch.contiguous_format) for one in sums)
    value = value.clone(memory_format=torch.contiguous_format)
    sent = value.new_empty((len(trains[0]), *value.shape))
    states, values = [_places(one, axes) for one in sums], _places(value, axes)
    for k, now in enumerate(zip(*trains, strict=True)):
        messages, changes = [_places(x, axes) for x in now], _places(sent[k], axes)
        heard = _heard(messages)
        count = len(heard) if everything and not k else int(heard.sum())
        if not count:
            changes.zero_()
            continue
        if 2 * count > len(heard):  # a selection would copy most of it
            for state, message in zip(states, messages, strict=True):
                state += message
            update(states, values, changes)
            continue
        chosen = heard.nonzero()[:, 0]
        here = [state[chosen] + message[chosen] for state, message in zip(states, messages, strict=True)]
        some, changed = values[chosen], torch.empty_like(values[:count])
        update(here, some, changed)
        changes.zero_()
        for whole, part in zip((*states, values, changes), (*here, some, changed), strict=True):
            whole[chosen] = part
    return sums, value, sent


def updates(function: Callable[..., Tensor]) -> Update:
    """In torch."""

    def update(sums: Sequence[Tensor], values: Tensor, changes: Tensor) -> None:
        new = function(*sums)
        torch.sub(new, values, out=changes)
        values.copy_(new)

    return update


def _places(x: Tensor, axes: int) -> Tensor:
    """(batch, *shape) → (places on the first ``axes`` axes, 1 …, *rest), a view if x has no gaps."""
    return x.reshape(x.shape[:axes].numel(), *(1,) * (axes - 1), *x.shape[axes:])


def _heard(messages: Sequence[Tensor]) -> Tensor:
    """(places,): where any message is not 0."""
    found = [one.reshape(len(one), -1) for one in messages]
    found = [one.abs().amax(1) > 0 if one.numel() else one.any(1) for one in found]  # a maximum is faster than ``any``
    return found[0] if len(found) == 1 else torch.stack(found).any(0)
