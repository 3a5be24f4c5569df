"""Penalties that source activations add to the loss."""

import torch
from torch import Tensor, nn

from transpike.errors import DataError


class Penalised(nn.Module):
    """``network`` with the sum of its submodules' penalties as a second output, None without penalties.

    A submodule has a penalty if its forward in training mode sets its attribute ``penalty``, a tensor of one element.
    Penalties are outputs, so that DistributedDataParallel finds all parameters with a gradient.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        forget(self.network)
        logits = self.network(x)
        return logits, total(self.network)


def total(module: nn.Module) -> Tensor | None:
    """The sum of the penalties; raises DataError for a penalty that is not a scalar, with its path."""
    found: list[Tensor] = []
    for name, part in module.named_modules():
        value = vars(part).get("penalty")
        if not isinstance(value, Tensor):
            continue
        if value.numel() != 1:
            raise DataError(f"the penalty of {name or 'the network'} must be one number, not {tuple(value.shape)}")
        found.append(value.reshape(()).float())
    return torch.stack(found).sum() if found else None


def forget(module: nn.Module) -> None:
    """Drop penalties of an earlier forward: their graph is used up and prevents copies of the module."""
    for part in module.modules():
        if isinstance(vars(part).get("penalty"), Tensor):
            vars(part)["penalty"] = None
