"""The description of a built-in network."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from transpike.core.preprocessing import Preprocessing

CIFAR = Preprocessing((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
FASHION = Preprocessing((0.286,), (0.353,))
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Model:
    """A network that can be built, and the input it was designed for.

    ``build(num_classes, in_channels)`` returns an untrained network; ``input_shape`` is (channels, height, width), or
    () if unknown; ``preprocessing`` is applied before the network.
    """

    name: str
    build: Callable[[int, int], nn.Module]
    input_shape: tuple[int, ...]
    preprocessing: Preprocessing
    num_classes: int = 10


def initialise(network: nn.Module) -> None:
    """He initialisation for every convolution and linear layer (in place); biases start at zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
