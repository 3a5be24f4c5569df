"""Thresholds and spike scales that make the expected error of each layer vanish."""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context
from transpike.errors import SettingError
from transpike.neurons import IntegrateAndFire
from transpike.passes._base import Granularity, Thresholds, behind, is_activation, note_ranges, with_neurons
from transpike.passes._sides import silent_sides

BETAS = torch.arange(1, 201, dtype=torch.float64) / 100
"""Candidate factors β of the spike scale: 0.01 … 2."""
CLOSE = 0.01
"""Expected errors below this share of the mean activation count as zero."""
KEPT = 200_000
"""Number of currents of a layer that are evaluated."""


@dataclass(frozen=True)
class PercentileScaleThresholds(Thresholds):
    """``θ = α μ`` and spike scale ``β θ``, so that ``|E[a − s]|`` vanishes over the three segments of the current z:

    ``a − s = z`` below α μ/T, ``z − β α μ ⌊z T/(α μ)⌋/T`` up to α μ, ``min(z, μ) − β α μ`` above.

    μ is the trained clip of the layer, or its largest activation; α runs over the percentiles of the positive
    currents, as shares of μ, β over 0.01 … 2. Among the pairs whose expected error is below a hundredth of the mean
    activation (or minimal), the one with the least mean square error is used; the expectation alone does not determine
    it. One threshold per layer, on ``samples`` calibration inputs.
    Source: Datta and Beerel 2021 (DATE), algorithm 1, **from memory**.
    """

    granularity: Granularity = "layer"
    samples: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.granularity != "layer":
            raise SettingError(f"α and β are set per layer: granularity must be 'layer', not {self.granularity!r}")
        if isinstance(self.samples, bool) or not isinstance(self.samples, int) or self.samples < 1:
            raise SettingError(f"samples must be an integer of at least 1, not {self.samples!r}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        note_ranges(graph, context, self.spiking_output)
        parts: dict[str, list[Tensor]] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self.fires(graph, node):
                parts.setdefault(node.name, []).append(torch.relu(output).flatten())

        for batch in context.first(self.samples):
            graph.run(batch, observe=see)
        joined = {name: torch.cat(values) for name, values in parts.items()}
        silent = silent_sides(graph, context, {name: bool(values.any()) for name, values in joined.items()})
        found = {}
        for name in joined:
            values, ceiling = joined[silent.get(name, name)], getattr(graph[name].op, "ceiling", None)
            self.threshold(graph[name], values.max()[None], graph.channel_axes[name])  # DataError for a silent layer
            top = values.max() if ceiling is None else torch.as_tensor(ceiling).max()
            found[name] = percentile_and_scale(values, float(top), context.timesteps)
        spiking = with_neurons(graph, {n: torch.tensor(a * m) for n, (a, _, m) in found.items()})
        scales = {n if is_activation(graph[n]) else behind(graph[n]): b for n, (_, b, _) in found.items()}

        def change(node: Node) -> Node | None:
            cell = node.op
            if node.name not in scales or not isinstance(cell, IntegrateAndFire):
                return None
            return dataclasses.replace(
                node, op=dataclasses.replace(cell, spike_scale=scales[node.name] * cell.threshold)
            )

        return spiking.rewrite(change)

    def describe(self) -> str:
        return f"percentile α and spike scale β without mean error at T, per {self.granularity}"


def percentile_and_scale(values: Tensor, top: float, timesteps: int) -> tuple[float, float, float]:
    """(α, β, μ) for activations a ≥ 0 of a layer whose clip μ is ``top``, in ``timesteps`` steps T."""
    values = values[:: max(1, len(values) // KEPT)].double().clamp(max=top)
    positive = values[values > 0]
    shares = torch.quantile(positive[:: max(1, len(positive) // KEPT)], torch.arange(1, 101).double() / 100) / top
    best, found = (float("inf"), float("inf")), (1.0, 1.0)
    enough = CLOSE * float(values.mean())
    for alpha in dict.fromkeys([*shares.tolist(), 1.0]):
        step = alpha * top / timesteps
        floor_clip = torch.floor(values / step + 1e-9).clamp(0, timesteps) * step
        bias = (values.mean() - BETAS * floor_clip.mean()).abs()
        square = (
            values.square().mean()
            - 2 * BETAS * (values * floor_clip).mean()
            + BETAS.square() * floor_clip.square().mean()
        )
        for error, spread, beta in zip(bias.tolist(), square.tolist(), BETAS.tolist(), strict=True):
            key = (max(error, enough), spread)
            if key < best:
                best, found = key, (alpha, beta)
    return found[0], found[1], top
