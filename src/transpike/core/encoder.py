"""Contract of encoders: how an input enters a spiking network."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.core.alphabet import GRADED, Alphabet
from transpike.core.graph import Graph
from transpike.core.plain import Plain
from transpike.errors import SettingError


@dataclass(frozen=True)
class Encoder(Plain):
    """Turns an input (batch, *shape) into one step of input; ``largest`` is the largest |x| on calibration data.

    An analogue encoder gives charge; a spiking one gives levels scaled by ``largest``. Random encoders use a counter
    hash of (seed, sample, element, t), so that their output does not depend on batches and chunks.
    """

    behaviour: ClassVar[tuple[str, ...]] = ("encode",)
    claims: ClassVar[tuple[str, ...]] = ("counts", "spikes", "is_constant")
    free: ClassVar[tuple[str, ...]] = (
        "accumulate", "beyond", "check", "most_steps", "check_steps", "suited", "calibrated", "spike_scale", "withdraw"
    )  # fmt: skip
    alphabet: ClassVar[Alphabet] = GRADED
    is_constant: ClassVar[bool] = False
    has_frames: ClassVar[bool] = False
    """True if an input has a time axis: (batch, frames, *shape), one frame per step."""
    largest: float | None = None

    @classmethod
    def withdraw(cls, name: str, parent: type) -> None:
        """An altered encoder is called in every step; a window is the sum of its steps."""
        if name == "spikes" and getattr(parent, name) is not Encoder.spikes:
            setattr(cls, name, _unknown_spikes)
        else:
            setattr(cls, name, Encoder.__dict__[name])

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        """The input of step t (from 1), (batch, *shape); ``sample_ids`` (batch,) are integers that name the samples."""
        raise TypeError(f"{type(self).__name__} must define encode()")

    def counts(self, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        """The sum over all steps of a window, (batch, *shape)."""
        total = self.encode(x, sample_ids, 1)
        for t in range(2, timesteps + 1):
            total = total + self.encode(x, sample_ids, t)
        return total

    def spikes(self, x: Tensor, timesteps: int) -> Tensor | None:
        """The number of spikes, of either sign, of each element in a window; None if it equals |counts|."""
        return None

    def accumulate(self, x: Tensor) -> Tensor:
        """The input of the source network, (batch, *shape)."""
        return x

    def beyond(self, x: Tensor) -> int:
        """The number of values of an input that are clipped, because they exceed the largest level."""
        if self.spike_scale is None or self.largest is None or self.has_frames:
            return 0
        return int((x.abs() > self.largest * (1 + 1e-6)).sum())

    def check(self, x: Tensor) -> None:
        """Raises DataError for an input that the encoder cannot represent."""

    def most_steps(self, x: Tensor) -> int | None:
        """The longest run that these inputs allow; None without a limit."""
        return None

    def check_steps(self, x: Tensor, timesteps: int) -> None:
        """Raises SettingError if these inputs have fewer frames than ``timesteps``."""
        most = self.most_steps(x)
        if most is not None and timesteps > most:
            raise SettingError(
                f"{timesteps} time steps of an input with {most} frames: one step uses one frame. Use timesteps={most} "
                f"(in the recipe too), or bin the recordings into bins={timesteps} frames"
            )

    def suited(self, source: Graph) -> "Encoder":
        """The encoder for ``source``, whose first layer may define how its input was coded in training."""
        return self

    def calibrated(self, largest: float) -> "Encoder":
        return self if self.largest is not None else dataclasses.replace(self, largest=largest)

    @property
    def spike_scale(self) -> float | None:
        """The charge of one level; None for an analogue encoder."""
        return self.largest if self.alphabet.is_spiking else None

    def shares(self, x: Tensor) -> Tensor:
        """|x| / largest, at most 1, in float64: the values that a spiking encoder can represent."""
        assert self.largest is not None
        return (x.double().abs() / self.largest).clamp(max=1.0)


def _unknown_spikes(self: Encoder, x: Tensor, timesteps: int) -> Tensor | None:
    raise SettingError(
        f"{type(self).__name__} overrides {' and '.join(type(self).altered)}() and not spikes(), so the number of "
        "spikes in its windows is unknown; define spikes() too, or use the streaming schedule"
    )


def uniform(seed: int, sample_ids: Tensor, elements: int, t: int) -> Tensor:
    """Numbers in [0, 1) for (batch, elements), by a counter hash: murmur3's finaliser on 32 bits, mixed four times."""
    mask = 0xFFFFFFFF
    key = _mix(torch.tensor(seed & mask)) ^ t
    rows = _mix((sample_ids.long() & mask) ^ _mix(key).to(sample_ids.device))
    columns = torch.arange(elements, device=sample_ids.device)
    return _mix(_mix(rows[:, None] ^ (columns * 0x9E3779B1 & mask)) + 0x7F4A7C15 & mask).double() / 2**32


def _mix(h: Tensor) -> Tensor:
    h = (h ^ (h >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return h ^ (h >> 16)
