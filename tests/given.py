"""What parts of the pages suppose: ``<!-- given: NAME -->`` above a block adds the names of one of these functions.

They are small and the same on every machine: stored weights, the embedded digits, or seeded numbers.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import transpike as ts
from stored import stored


def digits() -> dict[str, Any]:
    """A trained network, its data, loaders, a converted network, and the file net.transpike."""
    return _names(stored("three-neuron-layers"))


class Backbone(nn.Module):
    """The same network in two parts with names."""

    def __init__(self) -> None:
        super().__init__()
        layers = stored("three-neuron-layers")
        self.backbone, self.head = layers[:6], layers[6:]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def backbone() -> dict[str, Any]:
    """The names of ``digits`` for a network whose first part is called backbone."""
    return _names(Backbone().eval())


def _names(model: nn.Module) -> dict[str, Any]:
    data = ts.data.load("digits")
    images, labels = data.train.batch(torch.arange(64))
    test_images, test_labels = data.test.batch(torch.arange(64))
    snn = ts.convert(model, ts.recipes.ECC(16), images, preprocessing=data.preprocessing)
    ts.save(snn, "net.transpike")
    return {
        "torch": torch,
        "ts": ts,
        "data": data,
        "model": model,
        "spec": dataclasses.replace(ts.models.models["small-cnn"], preprocessing=data.preprocessing),
        "snn": snn,
        "recipe": ts.recipes.ECC(16),
        "recipes": ["ecc", "few-steps"],
        "images": images[:32],
        "labels": labels[:32],
        "preprocessing": data.preprocessing,
        "loader": DataLoader(TensorDataset(data.preprocessing(images), labels), batch_size=32),
        "test_loader": DataLoader(TensorDataset(data.preprocessing(test_images), test_labels), batch_size=32),
        "camera": list(torch.rand(4, 1, *images.shape[1:])),
    }


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"digits": digits, "backbone": backbone}
