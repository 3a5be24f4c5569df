"""The difference between a neuron layer and its source activation, as a sum of four parts."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.codes.first_spike import first_levels
from transpike.core.cell import Neuron
from transpike.core.channels import rows

KEPT = 2000  # pairs for a picture


@dataclass(frozen=True)
class LayerError:
    """One layer of neurons; errors are means over samples and neurons, relative to the mean activation.

    With u the mean current that the layer receives, φ the mean charge that it sends, a the source's activation:
    ``carried = relu(u) − a``, ``clipping = min(relu(u), θ) − relu(u)``, ``flooring = staircase(u) − min(relu(u), θ)``,
    ``unevenness = φ − staircase(u)``; they add up to φ − a. ``…_size`` are means of absolute values. ``dead``: share of
    neurons that never fire although the activation is positive; ``saturated``: φ at the ceiling; ``inactivated``: share
    of spikes where the activation is 0. ``residual``: mean final potential in θ. ``own``: mean |φ − o| / mean |o|,
    where o is the original's output for the spiking layers before it. ``regained``: accuracy in percentage points that
    is recovered when the original replaces this layer, with a 95 % interval; ``renewed``: the same when its weights
    (with biases and pools) or its neurons are reconverted, the larger of both, which ``fault`` names. ``fits``: (t,
    K(t), 2 Ω / t), the fit of rates r(t), the mean of t steps, to r̂ = a/θ, means over samples:
    ``K(t) = ‖r̂ − r(t)‖² / ‖r̂‖²`` and its estimate ``2 Ω / t, Ω = ‖r̂‖₁ / ‖r̂‖₂²`` (RNL, Ding et al. 2021).
    """

    name: str
    mean_activation: float
    rate: float
    correlation: float
    cosine: float
    carried: float
    clipping: float
    flooring: float
    unevenness: float
    carried_size: float
    clipping_size: float
    flooring_size: float
    unevenness_size: float
    dead: float
    saturated: float
    inactivated: float
    residual: float
    own: float | None = None
    regained: float | None = None
    regained_low: float | None = None
    regained_high: float | None = None
    renewed: float | None = None
    renewed_low: float | None = None
    renewed_high: float | None = None
    fault: str | None = None
    fits: tuple[tuple[int, float, float], ...] = ()

    @property
    def worst(self) -> str:
        """The part of the error with the largest size."""
        parts = ("carried", "clipping", "flooring", "unevenness")
        return max(parts, key=lambda part: getattr(self, f"{part}_size"))


class LayerSums:
    """Adds up one layer over batches, in float64."""

    def __init__(self) -> None:
        self.parts = dict.fromkeys(("carried", "clipping", "flooring", "unevenness"), 0.0)
        self.sizes = dict(self.parts)
        self.count = self.spikes = self.idle = self.residual = self.full = self.active = 0.0
        self.a = self.p = self.aa = self.pp = self.ap = 0.0
        self.strange = self.original = 0.0
        self.fired: Tensor | None = None
        self.wanted: Tensor | None = None
        self.lacking: Tensor | None = None
        self.pairs: list[tuple[Tensor, Tensor]] = []
        self.fitted: dict[int, float] = {}
        self.sparseness, self.active_samples = 0.0, 0

    def add(self, cell: Neuron, u: Tensor, sent: Tensor, a: Tensor, steps: int, axis: int) -> None:
        floor_clip, ceiling, left = _staircase(cell, u, sent, steps)
        u, sent, a, floor_clip = u.double(), sent.double(), torch.relu(a.double()), floor_clip.double()
        relu = torch.relu(u)
        clipped = torch.minimum(relu, ceiling.double())
        errors = {
            "carried": relu - a, "clipping": clipped - relu,
            "flooring": floor_clip - clipped, "unevenness": sent - floor_clip,
        }  # fmt: skip
        for name, error in errors.items():
            self.parts[name] += float(error.sum())
            self.sizes[name] += float(error.abs().sum())
        lacking = rows(a - sent, axis).sum(1)
        self.lacking = lacking if self.lacking is None else self.lacking + lacking
        self.count += a.numel()
        self.a, self.p = self.a + float(a.sum()), self.p + float(sent.sum())
        self.aa, self.pp = self.aa + float((a * a).sum()), self.pp + float((sent * sent).sum())
        self.ap += float((a * sent).sum())
        size = sent.abs()
        self.spikes += float(size.sum())
        self.idle += float((size * (a == 0)).sum())
        self.full += float((sent >= ceiling.double() * (1 - 1e-6)).sum())
        self.residual += float(left.double().sum())
        fired, wanted = (sent > 0).any(0), (a > 0).any(0)
        self.fired = fired if self.fired is None else self.fired | fired
        self.wanted = wanted if self.wanted is None else self.wanted | wanted
        step = max(1, a.numel() // 500)
        self._keep((a.flatten()[::step].float(), sent.flatten()[::step].float()))

    def _keep(self, pair: tuple[Tensor, Tensor]) -> None:
        if sum(len(one[0]) for one in self.pairs) < KEPT:
            self.pairs.append(pair)

    def merge(self, part: "LayerSums") -> None:
        """Add the sums of the next batch: bit for bit as if it had been added here."""
        for name in ("count", "spikes", "idle", "residual", "full", "a", "p", "aa", "pp", "ap", "strange", "original",
                     "sparseness", "active_samples"):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(part, name))
        for own, other in ((self.parts, part.parts), (self.sizes, part.sizes)):
            for key, value in other.items():
                own[key] += value
        for t, value in part.fitted.items():
            self.fitted[t] = self.fitted.get(t, 0.0) + value
        if part.lacking is not None and part.fired is not None and part.wanted is not None:
            self.lacking = part.lacking if self.lacking is None else self.lacking + part.lacking
            self.fired = part.fired if self.fired is None else self.fired | part.fired
            self.wanted = part.wanted if self.wanted is None else self.wanted | part.wanted
        for pair in part.pairs:
            self._keep(pair)

    def state(self) -> dict[str, Any]:
        """What was added, as plain data."""
        return vars(self) | {"pairs": tuple(self.pairs), "fitted": tuple(self.fitted.items())}

    def restore(self, state: dict[str, Any]) -> None:
        """Take what ``state`` gave."""
        if state.keys() != vars(self).keys():
            raise ValueError("it holds other sums of a layer")
        vars(self).update(state | {"pairs": list(state["pairs"]), "fitted": dict(state["fitted"])})

    def compare(self, sent: Tensor, original: Tensor) -> None:
        """Add the difference between the output of the layer and of its original."""
        self.strange += float((sent - original).abs().double().sum())
        self.original += float(original.abs().double().sum())

    def fit(self, cell: Neuron, train: Tensor, a: Tensor, steps: int) -> None:
        """Add the fit of the rates of the first t steps, ``train`` (time, batch, …) in charge, to the activations a."""
        spike_scale = cell.output_scale()
        if spike_scale is None:
            return
        wanted = (a / spike_scale).flatten(1).double()
        there = wanted.square().sum(1) > 0
        wanted = wanted[there]
        if not len(wanted):
            return
        size, total, before = wanted.square().sum(1), torch.zeros_like(wanted), 0
        for t in (t for t in range(1, len(train) + 1) if t == len(train) or not t & (t - 1)):
            total = total + (train[before:t].sum(0, dtype=torch.float64) / spike_scale).flatten(1)[there]
            before, last = t, steps if len(train) == 1 else t
            fit = float(((wanted - total / t).square().sum(1) / size).sum())
            self.fitted[last] = self.fitted.get(last, 0.0) + fit
        self.sparseness += float((wanted.abs().sum(1) / size).sum())
        self.active_samples += len(wanted)

    def layer(self, name: str) -> LayerError:
        n, mean = self.count, self.a / self.count
        scale = mean or 1.0
        variance = (self.aa / n - mean**2) * (self.pp / n - (self.p / n) ** 2)
        covariance = self.ap / n - mean * self.p / n
        assert self.fired is not None and self.wanted is not None
        shares: dict[str, Any] = {part: total / n / scale for part, total in self.parts.items()}
        shares |= {f"{part}_size": total / n / scale for part, total in self.sizes.items()}
        return LayerError(
            name=name,
            mean_activation=mean,
            rate=self.p / n,
            correlation=covariance / math.sqrt(variance) if variance > 0 else 0.0,
            cosine=self.ap / math.sqrt(self.aa * self.pp) if self.aa * self.pp > 0 else 0.0,
            **shares,
            dead=float((self.wanted & ~self.fired).double().mean()),
            saturated=self.full / n,
            inactivated=self.idle / self.spikes if self.spikes else 0.0,
            residual=self.residual / n,
            own=self.strange / self.original if self.original else None,
            fits=tuple(
                (t, total / self.active_samples, 2 * self.sparseness / self.active_samples / t)
                for t, total in self.fitted.items()
            ),
        )

    def missing(self) -> Tensor:
        """mean(a − φ) over samples and places, (channels): the missing bias."""
        assert self.lacking is not None
        return self.lacking * len(self.lacking) / self.count

    def scatter(self) -> tuple[Tensor, Tensor]:
        """(activations, outputs), a few thousand pairs."""
        return torch.cat([pair[0] for pair in self.pairs]), torch.cat([pair[1] for pair in self.pairs])


def _staircase(cell: Neuron, u: Tensor, sent: Tensor, steps: int) -> tuple[Tensor, Tensor, Tensor]:
    """(output for this constant current, largest possible output, final potential in θ)."""
    unit, spike_scale = cell.unit, cell.output_scale()
    if unit is None or spike_scale is None:
        return sent, torch.full_like(sent, math.inf), torch.zeros_like(sent)
    if unit.code is not None:
        code = unit.code.shortened(steps)
        top = spike_scale * float(code.levels[0])
        return first_levels(u, unit.threshold, code) * spike_scale, top.expand_as(u), torch.zeros_like(u)
    most = steps * unit.levels
    level = torch.floor((steps * u + unit.initial) / unit.threshold + 1e-5).clamp(0, most)
    left = (steps * u + unit.initial) / unit.threshold - sent / spike_scale * steps
    return level * spike_scale / steps, (spike_scale * unit.levels).expand_as(u), left
