"""Thresholds that serve a Gaussian current best."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.step import Context
from transpike.errors import SettingError
from transpike.steps._base import Thresholds


def gaussian_threshold(mean: Tensor, deviation: Tensor, levels: int, iterations: int = 100) -> Tensor:
    """``argmin_θ E (relu(z) − θ/n clip(⌊z n/θ + ½⌋, 0, n))²`` for ``z ~ N(mean, deviation²)``, n = ``levels``.

    Lloyd's iteration ``θ ← n E[z q] / E[q²]``, q the level of z, with the sums over the edges ``e_i = (2i − 1) θ / 2n``

    ``E[z q] = Σ_i mean P(z > e_i) + deviation φ(e_i)``,  ``E[q²] = Σ_i (2i − 1) P(z > e_i)``,

    which is ``θ ← θ k(θ)`` of Huang et al. 2025 (DCGS) in other letters. Starts at mean + 4 deviations; 0 where nothing
    is positive. Float64, shapes of ``mean``.
    """
    mean, deviation = mean.double(), deviation.double().clamp(min=1e-12)
    theta = (mean + 4 * deviation).clamp(min=0)
    odd = 2 * torch.arange(1, levels + 1, dtype=torch.float64, device=mean.device) - 1
    for _ in range(iterations):
        edges = (odd * theta[..., None] / (2 * levels) - mean[..., None]) / deviation[..., None]
        above = torch.special.ndtr(-edges)
        density = torch.exp(-edges.square() / 2) / math.sqrt(2 * math.pi)
        product = (mean[..., None] * above + deviation[..., None] * density).sum(-1)
        square = (odd * above).sum(-1)
        theta = torch.where(square > 1e-30, levels * product / square.clamp(min=1e-30), 0.0).clamp(min=0)
    return theta


@dataclass(frozen=True)
class GaussianThresholds(Thresholds):
    """``θ`` of least squared error for ``levels`` n stairs on [0, θ], the current of a channel taken as Gaussian.

    Mean and variance of the currents (before the activation) over all calibration data; ``gaussian_threshold`` has the
    equations. One threshold a layer or channel.
    Source: Huang et al. 2025 (DCGS, ICML), threshold iteration; Zhang et al. 2026 (H-MT), eq. 11, for whole ranges.
    """

    levels: int = 64
    iterations: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("levels", "iterations"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65_535:
                raise SettingError(f"{name} must be a whole number from 1 to 65535, not {value!r}")
        if self.granularity == "neuron":
            raise SettingError("the current of one neuron is too few values for a variance: use granularity 'channel'")

    def measure(self, graph: Graph, context: Context) -> dict[str, Tensor]:
        moments: dict[str, Tensor] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if not self.fires(graph, node):
                return
            behind = node.name == graph.output.name and self.spiking_output
            rows = self.rows(output if behind else inputs[0]).double()
            found = torch.stack([torch.full((len(rows),), float(rows.shape[1])), rows.sum(1), rows.square().sum(1)])
            moments[node.name] = moments.get(node.name, 0) + found

        context.observe(graph, see)
        found = {}
        for name, (count, first, second) in moments.items():
            mean = first / count
            deviation = (second / count - mean.square()).clamp(min=0).sqrt()
            found[name] = gaussian_threshold(mean, deviation, self.levels, self.iterations).float()
        return found
