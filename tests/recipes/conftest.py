"""A residual network that knows the embedded digits, once for all tests of recipes."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from stored import stored
from transpike.core.recipe import Recipe


@dataclass(frozen=True, eq=False)
class Trained:
    model: nn.Module
    calibration: Tensor
    images: Tensor
    labels: Tensor

    def converted(self, recipe: Recipe) -> ts.SNN:
        return ts.convert(self.model, recipe, self.calibration)

    def accuracy(self, recipe: Recipe) -> float:
        return float((self.converted(recipe)(self.images).argmax(1) == self.labels).float().mean())


@pytest.fixture(scope="session")
def digits() -> Trained:
    """535 of 540 right. Images come preprocessed."""
    data = ts.data.load("digits")
    calibration, images = (
        data.preprocessing(split.batch(torch.arange(n))[0]) for split, n in ((data.train, 256), (data.test, 540))
    )
    return Trained(stored("residual"), calibration, images, data.test.batch(torch.arange(540))[1])
