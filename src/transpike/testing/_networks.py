"""The small networks that recipes and energy models are tried on."""

import torch
from torch import Tensor, nn

from transpike.activations import QuantisedClip
from transpike.recipes import ECC
from transpike.snn import SNN
from transpike.workflow.convert import convert


def network(training_free: bool) -> tuple[nn.Module, Tensor]:
    """Two convolutions with an average pooling between them and a linear layer, and inputs (32, 1, 8, 8) from 0 to 1.

    Its activations are ReLUs, or quantised clips of 4 levels for a method that needs a trained network. The weights are
    drawn with a fixed seed, in proportion to the inputs of a layer, so that neurons spike.
    """
    state = torch.get_rng_state()
    torch.manual_seed(0)
    try:
        activations = [nn.ReLU() if training_free else QuantisedClip(4, threshold) for threshold in (1.5, 0.5)]
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), activations[0], nn.AvgPool2d(2), nn.Conv2d(4, 6, 3), activations[1],
            nn.Flatten(), nn.Linear(24, 3),
        )  # fmt: skip
        x = torch.rand(32, 1, 8, 8)
    finally:
        torch.set_rng_state(state)
    return model.eval(), x


def small() -> SNN:
    """A spiking network of binary spikes in 8 steps."""
    model, x = network(True)
    return convert(model, ECC(timesteps=8), x)
