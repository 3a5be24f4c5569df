"""Mixed precision: products in 16 bits."""

import contextlib
from typing import Any

import torch
from torch import Tensor

from transpike.errors import SettingError

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check(precision: str, device: torch.device) -> None:
    """Raises SettingError for an unknown name, or for float16 without a GPU."""
    if precision not in TYPES:
        raise SettingError(f"precision is one of {tuple(TYPES)}, not {precision!r}")
    if precision == "float16" and device.type != "cuda":
        raise SettingError(f"float16 needs a GPU; on {device} use bfloat16, or pass device='cuda'")


class Precision:
    """The type of products; weights and sums remain float32.

    In float16 small gradients would vanish: the loss is multiplied by a scale, the gradients are divided by it, and
    steps with infinite gradients are skipped (torch's GradScaler, whose state is part of a checkpoint).
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type) if name == "float16" else None

    def products(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, TYPES[self.name], enabled=self.name != "float32")

    def step(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Compute the gradients of ``loss`` and make one optimiser step."""
        optimiser.zero_grad()
        if self.scaler is None:
            loss.backward()
            optimiser.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(optimiser)
            self.scaler.update()

    def state(self) -> dict[str, Any]:
        """The state of the scaler, numbers only; empty without scaling."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a result of ``state``; raises KeyError or RuntimeError if it does not fit."""
        if self.scaler is not None:
            self.scaler.load_state_dict(state)
