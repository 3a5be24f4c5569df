"""Whether the inputs of a run look like those of the calibration."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from transpike.core.encoder import Encoder
from transpike.core.graph import Node, PackedInput
from transpike.core.input_statistics import InputStatistics, Observed, Values, by_channel, parts
from transpike.core.preprocessing import Preprocessing
from transpike.errors import DataError

# Bounds, from the digits, MNIST, Fashion-MNIST, CIFAR-10, Tiny-ImageNet, EEG and ECG data (docs: preprocessing).
FAR = 8.0
"""Calibrated ranges between a far value and the calibrated range. Bytes are 60 ranges away from normalised values, and
255 from 0..1; noise, or an image that is only bright or dark, stays within one."""
FAR_VALUES = 0.01  # share of the values of a far sample: a single broken pixel or an artefact is not a wrong scale
MOST, HALF = 0.9, 0.5
"""Share of samples beyond a 1 % bound of the calibration samples. At ``MOST``, a class that holds 1.1 % of the
calibration samples or more never counts as different, even if a run has samples of this class only."""
FEW, SOME, ENOUGH = 8, 32, 64
"""Samples for an error at the end of a run, for a remark about a slight difference, and for an error before the end.
One image in twenty of CIFAR-10 is unlike 99 % of the others in some way, so a single sample decides nothing."""
CLEAR, SLIGHT = 2.5, 1.5
"""Ratio of the deviations. Usual normalisations have a ratio of 2.8 to 4.5 (Fashion-MNIST to ImageNet). Deviations of
single classes of these data sets have a ratio of 0.6 to 1.4."""
MOVED_CLEAR, MOVED_SLIGHT, STRETCHED = 0.8, 0.5, 1.6
"""Shift of the mean in deviations of the calibration; for −1..1 against 0..1 it is 0.9 to 2.8, at a ratio of 2."""
UNEXPLAINED = "Apply the preprocessing of the calibration inputs"
CALIBRATED = 100  # calibration samples for a remark about slight differences: a few do not show what is usual


class InputCheck:
    """Collects the inputs of one run, batch by batch; a single sample or a small batch does not decide.

    An input is *clearly* different if its values are far outside of the calibrated range, or if nine of ten samples
    are unlike 99 % of the calibration samples and their scale is another one: a DataError that names the probable
    preprocessing. A smaller difference, one of the mean within the calibrated range that no usual preprocessing
    explains (another patient or sensor), and one of ``any_input`` or of recordings, is a warning.
    """

    def __init__(
        self, calibrated: InputStatistics | None, preprocessing: Preprocessing | None, encoder: Encoder
    ) -> None:
        self.calibrated, self.preprocessing, self.encoder = calibrated, preprocessing, encoder
        self.values, self.far = Values(), 0
        self.beyond = torch.zeros(6, 0)

    def add(self, prepared: Tensor) -> None:
        """Count a preprocessed batch; DataError where enough samples are clearly different."""
        self.count(self.observe(prepared))

    def observe(self, prepared: Tensor) -> list[Observed]:
        """The statistics of a preprocessed batch, for ``count``, also of another process."""
        known = self.calibrated
        if known is None:
            return []
        return [self._observed(known, part) for part in parts(self.encoder.accumulate(prepared))]

    def count(self, observed: list[Any]) -> None:
        """Count the batch of ``observe``; DataError where enough samples are clearly different."""
        known = self.calibrated
        if known is None:
            return
        for one in observed:
            self._count(known, one)
        count = self.values.samples
        if (count >= FEW and self._is_far) or (count >= ENOUGH and self._is_clear):
            self._refuse()

    def state(self) -> tuple[Any, ...]:
        """What was counted, as plain data."""
        return self.values.state(), self.far, self.beyond

    def restore(self, state: tuple[Any, ...]) -> None:
        """Take what ``state`` gave."""
        values, self.far, self.beyond = state
        self.values.restore(values)

    def single(self, prepared: Tensor) -> tuple[str, ...]:
        """The warnings of a run on this batch only; DataError where it is clearly different.

        Fewer than ``FEW`` samples show nothing but values far outside, so that one call of a small network asks for
        their range only.
        """
        known = self.calibrated
        if known is None:
            return ()
        if len(prepared) < FEW:
            low, high = self.encoder.accumulate(prepared).aminmax()
            least, most = known.within(FAR)
            if float(low) >= least and float(high) <= most:
                return ()
        self.add(prepared)
        return self.finished()

    @staticmethod
    def _observed(known: InputStatistics, x: Tensor) -> Observed:
        seen = Observed.of(x)
        if seen.features.shape[2] != len(known.low):
            raise DataError(
                f"the statistics of the calibration inputs are of {len(known.low)} channels, but the inputs have "
                f"{seen.features.shape[2]}: convert the network again"
            )
        width = _floored(b - a for a, b in zip(known.low, known.high, strict=True))
        values, reach = by_channel(x), FAR * width
        low, high = torch.tensor(known.low) - reach, torch.tensor(known.high) + reach
        low, high = (bound.to(values.device)[:, None] for bound in (low, high))
        far = ((values < low) | (values > high)).double().mean(2) >= FAR_VALUES
        return dataclasses.replace(seen, far=int(far.any(1).sum()))

    def _count(self, known: InputStatistics, seen: Observed) -> None:
        self.values.count_observed(seen)
        std, counts = _floored(known.std), []
        for feature, bounds in zip(seen.features, (known.smallest, known.average, known.largest), strict=True):
            low, high = torch.tensor(bounds, dtype=torch.float64).T
            # float32 preprocessing rounds differently in another program
            counts += [(feature < low - 1e-3 * std).sum(0), (feature > high + 1e-3 * std).sum(0)]
        self.beyond = torch.stack(counts) + (self.beyond if self.beyond.shape[1] else 0)
        self.far += seen.far

    def finished(self) -> tuple[str, ...]:
        """The warnings of the whole run, one or none; DataError where its samples are clearly different."""
        known, count = self.calibrated, self.values.samples
        if known is None or not count:
            return ()
        if self._is_far or (count >= FEW and self._is_clear):
            self._refuse()
        slight = count >= SOME and known.samples >= CALIBRATED and self._is_slight
        if self._is_far or (count >= FEW and self._is_clear) or slight:
            return (f"the inputs differ from those of the calibration: {self._described()}",)
        return ()

    def _refuse(self) -> None:
        """DataError, except where no preprocessing explains values within the calibrated range: other patients, say."""
        assert self.calibrated is not None
        natural = not self._is_scaled and self._is_inside and self._advice() == UNEXPLAINED
        if not natural and not self.calibrated.any_input and not self.encoder.has_frames:
            raise DataError(
                f"the inputs do not look like those of the calibration: {self._described()}. To run the network on "
                "them anyway, use snn.accepting_any_input(), on the command line --any-input"
            )

    @property
    def _is_inside(self) -> bool:
        """Whether no value is farther from the calibrated range than half of it."""
        assert self.calibrated is not None
        low, high = (torch.tensor(row, dtype=torch.float64) for row in (self.calibrated.low, self.calibrated.high))
        reach = (high - low) / 2
        return bool(((self.values.low >= low - reach) & (self.values.high <= high + reach)).all())

    @property
    def _is_far(self) -> bool:
        return self.far >= MOST * self.values.samples

    @property
    def _is_scaled(self) -> bool:
        """Whether the deviation of a channel is clearly another one."""
        ratio, _ = self._change()
        other = (ratio >= CLEAR) | (ratio <= 1 / CLEAR)
        return bool((other & (self._share() >= MOST)).any())

    @property
    def _is_clear(self) -> bool:
        ratio, shift = self._change()
        stretched = (ratio >= STRETCHED) | (ratio <= 1 / STRETCHED)
        moved = stretched & (shift.abs() >= MOVED_CLEAR)
        return self._is_scaled or bool((moved & (self._share() >= MOST)).any())

    @property
    def _is_slight(self) -> bool:
        ratio, shift = self._change()
        other = (ratio >= SLIGHT) | (ratio <= 1 / SLIGHT) | (shift.abs() >= MOVED_SLIGHT)
        return bool((other & (self._share() >= HALF)).any())

    def _share(self) -> Tensor:
        """(channels,): the largest share of samples that are beyond one of the bounds."""
        return self.beyond.amax(0) / self.values.samples

    def _change(self) -> tuple[Tensor, Tensor]:
        """Ratio of the deviations, and shift of the mean in deviations of the calibration, of each channel."""
        assert self.calibrated is not None
        std, mean = _floored(self.calibrated.std), torch.tensor(self.calibrated.mean, dtype=torch.float64)
        return self.values.std / std, (self.values.mean - mean) / std

    def _described(self) -> str:
        known, values = self.calibrated, self.values
        assert known is not None
        ratio, shift = self._change()
        worst = int((ratio.clamp(min=1e-6).log().abs() + shift.abs()).argmax())
        where = "" if len(known.low) == 1 else f" in channel {worst}"
        here = _row(values.low[worst], values.high[worst], values.mean[worst], values.std[worst])
        there = _row(known.low[worst], known.high[worst], known.mean[worst], known.std[worst])
        return f"they have {here}{where}, but the calibration had {there}. {self._advice()}"

    def _advice(self) -> str:
        """The preprocessing that is probably missing, or applied twice."""
        known, own = self.calibrated, self.preprocessing
        assert known is not None
        low, high = float(self.values.low.min()), float(self.values.high.max())
        if low == high:
            return f"All values are {low:g}: check how the inputs are read"
        before, after = min(known.low), max(known.high)
        if own is not None and not own.is_identity:
            mean, std = torch.tensor(own.mean).double(), torch.tensor(own.std).double()
            if self._matches(std, mean):
                return f"They look preprocessed already, but the network applies {own} itself: pass raw inputs"
            if self._matches(1 / 255, (mean / std) * (1 / 255 - 1)):
                return "They look like 0..255 in floating point: pass uint8 images, or divide by 255"
        if self._matches(1 / 255, 0):
            return (
                "They look like raw 0..255: divide by 255; images in bytes: ts.Preprocessing(), or --preprocessing unit"
            )
        if self._matches(255, 0):
            return "They look divided by 255 once too often"
        if low >= 0 and high <= 255 and before < 0 and high > 2 * after:
            return f"They look like raw 0..255: divide by 255, then normalise them, {self._estimate(255)}"
        if low >= -0.01 and high <= 1.01 and before < 0:
            return f"They look like 0..1 without normalisation: normalise them, {self._estimate(1)}"
        if low < 0 and before >= 0:
            return "They look normalised, but the calibration inputs were not: omit mean and standard deviation"
        if low < before < 0 and bool((self._change()[0] >= CLEAR).all()):
            return "They look normalised twice: apply the preprocessing of the calibration inputs once"
        return UNEXPLAINED

    def _matches(self, scale: Tensor | float, shift: Tensor | float) -> bool:
        """Whether ``scale · x + shift`` has mean and deviation of the calibration inputs."""
        known, values = self.calibrated, self.values
        assert known is not None
        std, mean = _floored(known.std), torch.tensor(known.mean, dtype=torch.float64)
        scale, shift = (torch.as_tensor(value, dtype=torch.float64) for value in (scale, shift))
        if max(scale.numel(), shift.numel()) not in (1, len(std)):
            return False
        ratio, moved = values.std * scale / std, (values.mean * scale + shift - mean) / std
        near = (ratio <= STRETCHED) & (ratio >= 1 / STRETCHED) & (moved.abs() <= MOVED_SLIGHT)
        return bool(near.all())

    def _estimate(self, divisor: float) -> str:
        """Mean and deviation that would give these inputs the statistics of the calibration inputs."""
        known, values = self.calibrated, self.values
        assert known is not None
        std = values.std / _floored(known.std) / divisor
        mean = values.mean / divisor - std * torch.tensor(known.mean, dtype=torch.float64)
        texts = (",".join(f"{value:.2g}" for value in row.tolist()) for row in (mean, std))
        return "(x - mean) / std, with --mean and --std of the training (about --mean {} --std {})".format(*texts)


class InputChecks:
    """The checks of several inputs, each by the statistics in its node of the network."""

    def __init__(self, nodes: Iterable[Node], encoder: Encoder) -> None:
        parts = [(node, node.op) for node in nodes if isinstance(node.op, PackedInput)]
        self.parts = [(node.name, op, InputCheck(op.statistics, op.preprocessing, encoder)) for node, op in parts]

    def add(self, prepared: Tensor) -> None:
        """As that of ``InputCheck``, of a packed batch."""
        self._each(lambda check, part: check.add(part), prepared)

    def observe(self, prepared: Tensor) -> list[list[Observed]]:
        """As that of ``InputCheck``, of a packed batch."""
        found: list[list[Observed]] = []
        self._each(lambda check, part: found.append(check.observe(part)), prepared)
        return found

    def count(self, observed: list[Any]) -> None:
        """As that of ``InputCheck``, of all inputs."""
        waiting = iter(observed)
        self._each(lambda check, _: check.count(next(waiting)), None)

    def state(self) -> tuple[Any, ...]:
        """As that of ``InputCheck``, of all inputs."""
        return tuple(check.state() for _, _, check in self.parts)

    def restore(self, state: tuple[Any, ...]) -> None:
        """As that of ``InputCheck``, of all inputs."""
        for (_, _, check), one in zip(self.parts, state, strict=True):
            check.restore(one)

    def single(self, prepared: Tensor) -> tuple[str, ...]:
        """As that of ``InputCheck``, of a packed batch."""
        return self._each(lambda check, part: check.single(part), prepared)

    def finished(self) -> tuple[str, ...]:
        """The warnings of all inputs."""
        return self._each(lambda check, part: check.finished(), None)

    def _each(self, ask: Callable[[InputCheck, Any], Any], prepared: Tensor | None) -> tuple[str, ...]:
        found: list[str] = []
        for name, op, check in self.parts:
            try:
                warnings = ask(check, None if prepared is None else op.part(prepared))
            except DataError as error:
                raise DataError(f"the input {name}: {error}") from error
            found += [f"the input {name}: {warning}" for warning in warnings or ()]
        return tuple(found)


def _floored(values: object) -> Tensor:
    """Deviations or ranges by channel; of a channel that is (almost) constant, a tenth of the largest."""
    found = torch.tensor(list(values), dtype=torch.float64)  # type: ignore[call-overload]
    return found.clamp(min=0.1 * float(found.max()) or 1e-12)


def _row(low: object, high: object, mean: object, std: object) -> str:
    low, high, mean, std = (f"{float(value):.3g}" for value in (low, high, mean, std))  # type: ignore[arg-type]
    return f"values from {low} to {high}, mean {mean} and deviation {std}"
