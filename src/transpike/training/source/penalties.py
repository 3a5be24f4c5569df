"""What source activations add to the loss."""

import torch
from torch import Tensor, nn

from transpike.errors import DataError


class Penalised(nn.Module):
    """``network`` with the sum of its submodules' penalties as a second answer, None where there is none.

    A submodule has a penalty when a forward in training mode has set its attribute ``penalty``, a tensor of one
    element. They are answers and no side effect, so that DistributedDataParallel sees all that a gradient comes from.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        forget(self.network)
        logits = self.network(x)
        return logits, total(self.network)


def total(module: nn.Module) -> Tensor | None:
    """The sum of the penalties. Raises DataError for one that is no scalar, with the name of its place."""
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
    """Drop penalties of an earlier forward: their graph is used up, and holds a module back from being copied."""
    for part in module.modules():
        if isinstance(vars(part).get("penalty"), Tensor):
            vars(part)["penalty"] = None
