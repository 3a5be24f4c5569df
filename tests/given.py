"""What parts of the pages suppose: ``<!-- given: NAME -->`` above a block adds the names of one of these functions.

They are small and the same on every machine: stored weights, the embedded digits, or seeded numbers.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import transpike as ts
from stored import stored


def digits() -> dict[str, Any]:
    """A trained network, its data, loaders, a converted network, and the file net.transpike."""
    data = ts.data.load("digits")
    model = stored("three-neuron-layers")
    raw, labels = data.train.batch(torch.arange(64))
    spec = ts.models.models["small-cnn"]
    images = data.preprocessing(raw)
    test_images, test_labels = data.test.batch(torch.arange(64))
    snn = ts.convert(model, ts.recipes.ECC(8), raw, preprocessing=data.preprocessing)
    ts.save(snn, "net.transpike")
    return {
        "torch": torch,
        "ts": ts,
        "data": data,
        "model": model,
        "spec": spec,
        "snn": snn,
        "recipe": ts.recipes.ECC(8),
        "recipes": ["ecc", "few-steps"],
        "images": raw,
        "labels": labels,
        "preprocessing": data.preprocessing,
        "calibration": images,
        "loader": DataLoader(TensorDataset(images, labels), batch_size=32),
        "test_loader": DataLoader(TensorDataset(data.preprocessing(test_images), test_labels), batch_size=32),
        "camera": list(torch.rand(4, 1, *raw.shape[1:])),
    }


class Backbone(nn.Module):
    """A network with a part that is called backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU()
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone(x))


def backbone() -> dict[str, Any]:
    """The names of ``digits`` for a network whose first part is called backbone; its weights are seeded."""
    torch.manual_seed(0)
    return {**digits(), "model": Backbone().eval()}


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"digits": digits, "backbone": backbone}
