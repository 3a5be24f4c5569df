"""The laws of encoders and data sets."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from transpike import data
from transpike.core.encoder import Encoder
from transpike.testing._law import Law, check_member, outside, random


def check_encoder(encoder: Encoder, x: Tensor | None = None) -> None:
    """An encoder sends what its alphabet allows, for each sample alone, and its ``counts`` are the sum of its steps.

    ``x``: inputs (batch, *shape); with frames (batch, frames, *shape). By default −1, 0 and 1, and halves where there
    are not frames.
    """
    check_member(encoder)
    law = Law(encoder)
    if x is None:
        x = torch.sign(random(6, 9, 4)) * (random(6, 9, 4).flip(0) > 0)
        x = x if encoder.has_frames else x * torch.where(random(6, 9, 4).flip(1) > 0, 0.5, 1.0)
    x = x if encoder.alphabet.signed else x.clamp(min=0)
    ready, ids, before = encoder.calibrated(float(x.abs().max())), torch.arange(len(x)), x.clone()
    steps = min(7, ready.most_steps(x) or 7)
    ready.check(x)
    train = torch.stack([ready.encode(x, ids, t) for t in range(1, steps + 1)])
    law("encode() leaves the input as it is", torch.equal(x, before))
    law("encode() gives the same again", torch.equal(train[-1], ready.encode(x, ids, steps)))
    alone = torch.cat([ready.encode(x[i : i + 1], ids[i : i + 1], 1) for i in range(len(x))])
    law("each sample is encoded alone, by its number", torch.equal(train[0], alone))
    law.close("counts() is the sum of the steps", ready.counts(x, ids, steps), train.sum(0))
    law("accumulate() has the shape of a step", ready.accumulate(x).shape == train[0].shape)
    law("a constant encoder sends the same in each step", not encoder.is_constant or bool((train == train[:1]).all()))
    wrong = outside(dataclasses.replace(ready.alphabet, levels=ready.alphabet.levels or 1), train)
    phases = ready.alphabet.kind == "phase" and ready.alphabet.levels == 1
    law("what it sends is in its alphabet", not ready.alphabet.is_spiking or phases or not wrong, wrong[:5])
    law("a spiking encoder has a spike scale", not ready.alphabet.is_spiking or bool(ready.spike_scale))


def check_dataset(dataset: str | data.Dataset, **options: Any) -> None:
    """A data set has finite inputs, labels of its classes, and is the same whenever it is read; a name is loaded."""
    one = data.load(dataset, **options) if isinstance(dataset, str) else dataset
    again = data.load(dataset, **options) if isinstance(dataset, str) else dataset
    law = Law(one)
    law("it holds samples", len(one.train) + len(one.test) > 0)
    law("classes have different names", len(set(one.classes)) == len(one.classes), one.classes)
    for name, split, other in (("train", one.train, again.train), ("test", one.test, again.test)):
        chosen = torch.arange(min(len(split), 16))
        (x, y), (x2, y2) = split.batch(chosen), other.batch(chosen)
        law(f"{name} is the same whenever it is read", torch.equal(x, x2) and torch.equal(y, y2))
        law(f"{name} is finite", bool(torch.isfinite(x.float()).all()))
        law(f"{name} has an input for each label", len(x) == len(y) and len(split.labels) == len(split))
        law(f"the labels of {name} are those of classes", bool((split.labels < len(one.classes)).all()))
        law(
            f"a reversed choice of {name} gives reversed inputs", torch.equal(split.batch(chosen.flip(0))[0], x.flip(0))
        )
