"""Networks that know the embedded digits, from weights that are stored: the same on every machine.

A training ends elsewhere on another CPU, with other vector instructions, threads or another torch, so a number that is
expected of a network cannot stand on weights that a fixture trains. ``tests/weights/make.py`` trained these once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

import transpike as ts
from faults import small_network
from networks import Residual
from vision_transformer import VisionTransformer

FOLDER = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Stored:
    """A network's architecture, and the settings of ``ts.train`` that its weights come from."""

    build: Callable[[], nn.Module]
    training: Mapping[str, object] = field(default_factory=dict)


def residual() -> nn.Module:
    """Its shortcuts pass by a neuron."""

    def block() -> Residual:
        body = [
            nn.Conv2d(12, 12, 3, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1),
            nn.BatchNorm2d(12),
        ]
        return Residual(nn.Sequential(*body), nn.Identity())

    return nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), block(), nn.MaxPool2d(2), block(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(48, 10),
    )  # fmt: skip


def small_cnn() -> nn.Module:
    return ts.models.build("zoo:small-cnn", num_classes=10, in_channels=1)[0]


def fully_connected() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(),
        nn.Linear(48, 10),
    )  # fmt: skip


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def three_neuron_layers() -> nn.Module:
    """Convolutions with and without batch normalisation, an average pool, two linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(),
        nn.Linear(32, 10),
    )  # fmt: skip


def without_norms() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(128, 32), nn.ReLU(),
        nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip


FAST = {"learning_rate": 0.05, "batch_size": 64, "validation_fraction": 0.0}
NETWORKS = {
    "residual": Stored(residual, {"epochs": 5, **FAST}),
    "small-cnn": Stored(small_cnn, {"epochs": 12}),
    "fully-connected": Stored(fully_connected, {"epochs": 10}),
    "two-layers": Stored(two_layers, {"epochs": 3, **FAST, "learning_rate": 0.1}),
    "three-neuron-layers": Stored(three_neuron_layers, {"epochs": 6, **FAST, "learning_rate": 0.1}),
    "without-norms": Stored(without_norms, {"epochs": 8, **FAST, "learning_rate": 0.1}),
    "vgg": Stored(small_network, {"epochs": 12}),
    "vision-transformer": Stored(
        VisionTransformer, {"epochs": 30, **FAST, "optimiser": "adam", "learning_rate": 0.004, "weight_decay": 0.0}
    ),
}


def stored(name: str) -> nn.Module:
    """The network with its weights, in eval mode. Its weights are float16 values in float32."""
    model = NETWORKS[name].build()
    tensors = load_file(FOLDER / f"{name}.safetensors")
    model.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    )
    return model.eval()


def narrowed(model: nn.Module) -> dict[str, torch.Tensor]:
    """What is stored of a network: floats in 16 bits."""
    state = model.state_dict().items()
    return {key: value.half().contiguous() if value.is_floating_point() else value for key, value in state}
