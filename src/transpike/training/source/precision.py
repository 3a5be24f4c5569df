"""Products in 16 bits."""

import contextlib
from typing import Any

import torch
from torch import Tensor

from transpike.errors import SettingError

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def check(precision: str, device: torch.device) -> None:
    """Raises SettingError for another name, or for float16 where there is no GPU."""
    if precision not in TYPES:
        raise SettingError(f"precision is one of {tuple(TYPES)}, not {precision!r}")
    if precision == "float16" and device.type != "cuda":
        raise SettingError(f"float16 is for GPUs; on {device} use bfloat16, or give device='cuda'")


class Precision:
    """The type of the products; weights and sums stay float32.

    float16 has no room for small gradients: there the loss is multiplied by a scale before them, the gradients divided
    by it afterwards, and a step with infinite ones left out (torch's GradScaler, whose state a checkpoint keeps).
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type) if name == "float16" else None

    def products(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, TYPES[self.name], enabled=self.name != "float32")

    def step(self, loss: Tensor, optimiser: torch.optim.Optimizer) -> None:
        """Gradients of ``loss``, and a step."""
        optimiser.zero_grad()
        if self.scaler is None:
            loss.backward()
            optimiser.step()
        else:
            self.scaler.scale(loss).backward()
            self.scaler.step(optimiser)
            self.scaler.update()

    def state(self) -> dict[str, Any]:
        """Numbers only; empty where nothing is scaled."""
        return {} if self.scaler is None else self.scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what ``state`` gave. Raises KeyError or RuntimeError for another one's."""
        if self.scaler is not None:
            self.scaler.load_state_dict(state)
