"""Base of source activations: threshold, training stage and penalty."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from transpike.activations.staircase import staircase
from transpike.errors import SettingError

Stage = Literal["relu", "clip", "quantise"]


class SourceActivation(nn.Module):
    """An activation to train with instead of a ReLU. Input z and output are (batch, *shape).

    ``thresh`` λ is its ceiling: a parameter if it is learned, else a buffer. ``stage`` selects how much of the
    activation is active, so that training can begin with a ReLU or a plain clip; ``penalty`` is the term that the last
    forward pass in training adds to the loss, None without a regulariser.
    """

    thresh: Tensor
    shift: float = 0.0
    locked = False
    """True freezes the values measured during training, as for training with ``learn="activations"``."""

    def __init__(self, threshold: float, *, trainable: bool, levels: int = 1) -> None:
        super().__init__()
        if isinstance(levels, bool) or not isinstance(levels, int) or levels < 1:
            raise SettingError(f"levels must be an integer of at least 1, not {levels!r}")
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 < threshold < math.inf:
            raise SettingError(f"the threshold must be positive, not {threshold!r}")
        self.levels = levels
        self.penalty: Tensor | None = None
        self._stage: Stage = "quantise"
        value = torch.tensor([float(threshold)])
        if trainable:
            self.thresh = nn.Parameter(value)
        else:
            self.register_buffer("thresh", value)

    @property
    def stage(self) -> Stage:
        return self._stage

    @stage.setter
    def stage(self, value: Stage) -> None:
        if value not in get_args(Stage):
            raise SettingError(f"stage must be one of {', '.join(get_args(Stage))}, not {value!r}")
        self._stage = value

    def forward(self, x: Tensor) -> Tensor:
        self.penalty = None
        if self._stage == "relu":
            return torch.relu(x)
        if self._stage == "clip":
            return self.clipped(x)
        output = self.quantised(x)
        if self.training:
            self.penalty = self.regulariser(x, output)
        return output

    def calibrate(self, largest: float) -> None:
        """Set λ for an activation that replaces a ReLU with values up to ``largest``."""
        with torch.no_grad():
            self.thresh.fill_(largest)

    def clipped(self, x: Tensor) -> Tensor:
        """``min(max(z, 0), λ)``."""
        return staircase(x, self.thresh, 1, 0.0, 1.0)

    def quantised(self, x: Tensor) -> Tensor:
        """The complete activation."""
        return staircase(x, self.thresh, self.levels, self.shift)

    def regulariser(self, x: Tensor, output: Tensor) -> Tensor | None:
        """A scalar to add to the loss, or None."""
        return None

    def extra_repr(self) -> str:
        return f"levels={self.levels}, threshold={float(self.thresh.detach()):g}"
