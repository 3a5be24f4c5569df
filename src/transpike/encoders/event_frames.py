"""Recordings of event cameras as the time steps of a network."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from transpike.core.alphabet import BINARY, TERNARY, Alphabet
from transpike.core.encoder import Encoder
from transpike.errors import DataError, SettingError


@dataclass(frozen=True)
class EventFrames(Encoder):
    """``s_t = x[:, t]``: frame t of x (batch, frames, *shape) is the input of step t, with spike scale 1.

    A frame is 1 where a pixel had an event in that part of the recording, else 0. The source network receives the mean
    of the frames, the spikes per step, so that ``Σ_t s_t = frames · accumulate(x)``. Preprocessing is not possible,
    because a silent pixel must be 0. A run of fewer steps receives only the first frames.
    """

    alphabet: ClassVar[Alphabet] = BINARY
    has_frames: ClassVar[bool] = True
    largest: float | None = 1.0

    def __post_init__(self) -> None:
        if self.largest != 1.0:
            raise SettingError(f"an event is a spike of scale 1; largest={self.largest} has no effect, omit it")

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        self.check_steps(x, t)
        return x[:, t - 1]

    def counts(self, x: Tensor, sample_ids: Tensor, timesteps: int) -> Tensor:
        self.check_steps(x, timesteps)
        return x[:, :timesteps].sum(1)

    def accumulate(self, x: Tensor) -> Tensor:
        """The mean of all frames, (batch, *shape)."""
        self.check(x)
        return x.mean(1) if x.is_floating_point() else x.float().mean(1)

    def check(self, x: Tensor) -> None:
        """Raises DataError unless x is (batch, frames, *shape) with values of the alphabet."""
        if x.ndim < 3 or not x.shape[1]:
            raise DataError(f"recordings are (batch, frames, *shape) with at least one frame, not {tuple(x.shape)}")
        lowest = -1 if self.alphabet.signed else 0
        if not bool(((x == 0) | (x == 1) | (x == lowest)).all()):
            values = "-1, 0 and 1" if lowest else "0 and 1"
            raise DataError(
                f"the frames of {type(self).__name__} must be {values}; this batch has values from {float(x.min()):g} "
                f"to {float(x.max()):g}. Bin recordings with transpike.data, without preprocessing"
            )

    def most_steps(self, x: Tensor) -> int:
        return x.shape[1]


@dataclass(frozen=True)
class SignedEventFrames(EventFrames):
    """EventFrames with one channel for both polarities: sign(on − off) of each pixel, signed spikes."""

    alphabet: ClassVar[Alphabet] = TERNARY

    def spikes(self, x: Tensor, timesteps: int) -> Tensor:
        return x[:, :timesteps].abs().sum(1)
