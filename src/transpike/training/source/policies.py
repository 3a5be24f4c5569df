"""Learned and random image policies, from torchvision."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from transpike.errors import DataError, MissingExtra

POLICIES = ("auto-augment", "rand-augment", "trivial-augment")
GREY = 128


def apply(images: Tensor, policy: str, seeds: Tensor) -> Tensor:
    """Each image (channels, height, width) after operations drawn from its seed; same shape and type.

    "auto-augment": the policy learned on CIFAR-10, "rand-augment": two operations of strength 9 of 30,
    "trivial-augment": one of any strength. Rotations and shifts fill with grey, as in the papers' code.
    Source: Cubuk et al. 2019 (AutoAugment) and 2020 (RandAugment), Müller and Hutter 2021 (TrivialAugment).
    Raises MissingExtra, or DataError for floating images outside of 0..1.
    """
    floating = images.is_floating_point()
    if floating and len(images) and not (float(images.min()) >= 0 and float(images.max()) <= 1):
        raise DataError(f"{policy} needs floating images within 0..1, not {images.min():g} to {images.max():g}")
    transform = operations(policy, GREY / 255 if floating else GREY, images.shape[1])
    generator = torch.default_generator  # used by torchvision
    before = generator.get_state()
    changed = torch.empty_like(images)
    try:
        for n, seed in enumerate(seeds.tolist()):
            generator.manual_seed(seed)
            changed[n] = transform(images[n])
    finally:
        generator.set_state(before)
    return changed


def seeds(count: int, generator: Generator) -> Tensor:
    """One seed per image of a batch, int64 (count,)."""
    return torch.randint(2**62, (count,), generator=generator)


def operations(policy: str, fill: float, channels: int) -> Callable[[Tensor], Tensor]:
    """torchvision's transform of this name, for one image. Raises MissingExtra."""
    library = _library()
    settings = {"fill": [fill] * channels}
    if policy == "auto-augment":
        return library.AutoAugment(library.AutoAugmentPolicy.CIFAR10, **settings)
    return {"rand-augment": library.RandAugment, "trivial-augment": library.TrivialAugmentWide}[policy](**settings)


def _library() -> Any:
    try:
        from torchvision.transforms import v2
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision built for another torch
        raise MissingExtra(
            f"this augmentation needs torchvision: pip install 'transpike[vision]', or augment='crop' ({error})"
        ) from error
    return v2
