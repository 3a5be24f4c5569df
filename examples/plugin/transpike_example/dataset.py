"""A data set: stripes that lie or stand."""

import torch

import transpike as ts


@ts.register(kind="data", name="stripes")
def stripes(size: int | str = 64) -> ts.data.Dataset:
    """``size`` images of 8 × 8 pixels for training and as many for testing; ``stripes:128`` has 128 of each."""
    count = int(size)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(2 * count) % 2
    images = 0.3 * torch.rand((2 * count, 1, 8, 8), generator=generator)
    images[labels == 0, :, ::2] += 0.7
    images[labels == 1, :, :, ::2] += 0.7
    train, test = (ts.data.Split(images[part], labels[part], "stripes") for part in (slice(count), slice(count, None)))
    return ts.data.Dataset("stripes", train, test, ("lying", "standing"), ts.Preprocessing())
