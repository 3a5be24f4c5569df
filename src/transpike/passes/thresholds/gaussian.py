"""Thresholds of least squared error for Gaussian currents."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.op import Op
from transpike.core.pass_ import Context, Watch
from transpike.errors import SettingError
from transpike.passes._base import Axes, Thresholds, is_activation
from transpike.passes.thresholds._features import feature_axes
from transpike.passes.thresholds._quantile import percentiles

STARTS = tuple(k / 32 for k in range(31, 1, -1))
PERCENTILE = 99.9
"""Percentile of the absolute values of activations that are not ReLUs."""
TOLERANCE = 1e-7
"""Relative change of a threshold below which Lloyd's iteration stops."""


def gaussian_threshold(mean: Tensor, deviation: Tensor, levels: int, iterations: int = 100) -> Tensor:
    """``argmin_θ E (relu(z) − θ/n clip(⌊z n/θ + ½⌋, 0, n))²`` for ``z ~ N(mean, deviation²)``, n = ``levels``.

    The fixed point of Lloyd's ``g(θ) = n E[z q] / E[q²]``, q the level of z, with sums over the edges
    ``e_i = (2i − 1) θ / 2n``

    ``E[z q] = Σ_i mean P(z > e_i) + deviation φ(e_i)``,  ``E[q²] = Σ_i (2i − 1) P(z > e_i)``,

    which is ``θ ← θ k(θ)`` of Huang et al. 2025 (DCGS) in another notation. Theirs stops after a hundred rounds, far
    from the least error for large n. Here the iteration starts from the best of ``STARTS`` shares of mean + 4
    deviations, because there may be several fixed points. Each of at most ``iterations`` iterations is two rounds and
    Aitken's ``θ − (g − θ)² / (g(g) − 2g + θ)``; it ends when no θ moves by more than the share ``TOLERANCE``. 0 where
    nothing is positive. Returns float64 values in the shape of ``mean``.
    """
    mean, deviation = mean.double(), deviation.double().clamp(min=1e-12)
    odd = 2 * torch.arange(1, levels + 1, dtype=torch.float64, device=mean.device) - 1

    def sums(theta: Tensor) -> tuple[Tensor, Tensor]:
        """E[z q] and E[q²]."""
        edges = (odd * theta[..., None] / (2 * levels) - mean[..., None]) / deviation[..., None]
        above = torch.special.ndtr(-edges)
        density = torch.exp(-edges.square() / 2) / math.sqrt(2 * math.pi)
        return (mean[..., None] * above + deviation[..., None] * density).sum(-1), (odd * above).sum(-1)

    def lloyd(theta: Tensor) -> Tensor:
        product, square = sums(theta)
        return torch.where(square > 1e-30, levels * product / square.clamp(min=1e-30), 0.0).clamp(min=0)

    def error(theta: Tensor) -> Tensor:
        """The squared error without its terms that do not depend on θ."""
        product, square = sums(theta)
        return theta / levels * (theta / levels * square - 2 * product)

    theta = top = (mean + 4 * deviation).clamp(min=0)
    least = error(theta)
    for share in STARTS:
        found = error(share * top)
        theta, least = torch.where(found < least, share * top, theta), torch.minimum(found, least)
    for _ in range(iterations):
        first = lloyd(theta)
        second = lloyd(first)
        bend = second - 2 * first + theta
        leap = theta - (first - theta).square() / torch.where(bend == 0, 1.0, bend)
        sane = (bend != 0) & (leap > second / 2) & (leap < 2 * second)  # otherwise only the two rounds
        theta = torch.where(sane, leap, second)
        if bool(((second - first).abs() <= TOLERANCE * second).all()):
            break
    return theta


@dataclass(frozen=True)
class GaussianThresholds(Thresholds):
    """``θ`` of least squared error for ``levels`` n level steps on [0, θ], assuming Gaussian currents in each channel.

    Mean and variance of the currents (before the activation) over all calibration data; ``gaussian_threshold`` has the
    equations. One threshold per layer or channel; SettingError for one per neuron.
    Source: Huang et al. 2025 (DCGS, ICML), threshold iteration; Zhang et al. 2026 (H-MT), eq. 11, for whole ranges.
    """

    levels: int = 64
    iterations: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("levels", "iterations"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
                raise SettingError(f"{name} must be an integer from 1 to 65535, not {value!r}")
        if self.granularity == "neuron":
            raise SettingError("one neuron has too few values for a variance: use granularity='channel'")

    def watch(self, graph: Graph, context: Context) -> Watch:
        moments: dict[str, Tensor] = {}

        def read(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self.fires(graph, node):
                return None
            behind = node.name == graph.output.name and self.spiking_output
            rows = self.rows(output if behind else inputs[0], graph.channel_axes[node.name]).double()
            return torch.stack([torch.full((len(rows),), float(rows.shape[1])), rows.sum(1), rows.square().sum(1)])

        def add(name: str, found: Tensor) -> None:
            moments[name] = moments.get(name, 0) + found

        def result() -> dict[str, Tensor]:
            found = {}
            for name, (count, first, second) in moments.items():
                mean = first / count
                deviation = (second / count - mean.square()).clamp(min=0).sqrt()
                found[name] = gaussian_threshold(mean, deviation, self.levels, self.iterations).float()
            return found | self._others(graph, context)

        return Watch(read, add, result)

    def _others(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        """Percentiles for the activations that are not ReLUs, for which the Gaussian gives no threshold."""
        names = {
            node.name for node in graph if is_activation(node) and isinstance(node.op, Op) and not node.op.rectifies
        }
        if not names:
            return {}
        relus = [node.name for node in graph if is_activation(node) and node.name not in names]
        context.remark(
            f"no ReLUs, so that thresholds are percentiles of the absolute activations: {', '.join(sorted(names))}"
            + (f"; as ReLUs: {', '.join(relus)}" if relus else "")
        )
        watch = percentiles(self, graph, context, PERCENTILE, torch.abs)
        context.measure(graph, watch)
        measured = watch.result()
        return {name: value for name, value in measured.items() if name in names}

    def axes(self, graph: Graph) -> Mapping[str, Axes]:
        """Activations that are not ReLUs have a threshold for each feature, as of MagnitudeThresholds."""
        features, channels = feature_axes(graph), graph.channel_axes
        return {
            node.name: channels[node.name] if getattr(node.op, "rectifies", True) else features[node.name]
            for node in graph
        }

    def describe(self) -> str:
        return f"least squared error with {self.levels} levels under a Gaussian, per {self.granularity}"
