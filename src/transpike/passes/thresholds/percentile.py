"""Thresholds from a percentile of the source network's activations."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from transpike.core.graph import Graph
from transpike.core.pass_ import Context, Watch
from transpike.errors import SettingError
from transpike.passes._base import Axes, Thresholds
from transpike.passes.thresholds._features import feature_axes
from transpike.passes.thresholds._quantile import percentiles


@dataclass(frozen=True)
class PercentileThresholds(Thresholds):
    """``θ = percentile of the activations``; 100 is the maximum (the ECC and Diehl papers).

    ``of`` selects the values: "all", zeros included, or "non-zero" ones only (Rueckauer et al. 2017, section
    2.2.3, as in snn_toolbox). Statistics run over all calibration data, per layer, channel or neuron.
    """

    percentile: float = 99.9
    of: Literal["all", "non-zero"] = "all"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.percentile <= 100:
            raise SettingError(f"percentile must be in (0, 100], not {self.percentile}")
        if self.of not in ("all", "non-zero"):
            raise SettingError(f"of must be 'all' or 'non-zero', not {self.of!r}")

    def values(self, output: Tensor) -> Tensor:
        """The values of an activation's output that count; negative ones do not."""
        return torch.relu(output)

    def watch(self, graph: Graph, context: Context) -> Watch:
        return percentiles(self, graph, context, self.percentile, self.values, self.of == "non-zero")

    def describe(self) -> str:
        name = "maximum" if self.percentile == 100 else f"percentile {self.percentile:g}"
        return f"{name}{' of non-zero' if self.of == 'non-zero' else ''}, per {self.granularity}"


@dataclass(frozen=True)
class CeilingThresholds(PercentileThresholds):
    """``θ`` = the ceiling of an activation that has one (ReLU6, clips), so that nothing below it is cut off; else the
    percentile.
    """

    def watch(self, graph: Graph, context: Context) -> Watch:
        watch, axes = super().watch(graph, context), graph.channel_axes

        def result() -> dict[str, Tensor]:
            found = watch.result()
            for name, values in found.items():
                ceiling = getattr(graph[name].op, "ceiling", None)
                if ceiling is not None:
                    everywhere = torch.as_tensor(ceiling).to(values).expand(1, *graph[name].shape)
                    found[name] = self.rows(everywhere, axes[name]).amax(1)
            return found

        return dataclasses.replace(watch, result=result)

    def describe(self) -> str:
        return f"the ceiling where there is one, else {super().describe()}"


@dataclass(frozen=True)
class MagnitudeThresholds(PercentileThresholds):
    """``θ = percentile of |activation|``, for neurons with spikes of either sign.

    A channel is a feature: of (batch, heads, tokens, d) each pair of a head and one of its d features, and of the
    output of an attention's softmax, (batch, heads, queries, keys), a head.
    """

    def axes(self, graph: Graph) -> Mapping[str, Axes]:
        return feature_axes(graph)

    def values(self, output: Tensor) -> Tensor:
        return output.abs()

    def describe(self) -> str:
        return super().describe().replace(",", " of absolute values,", 1)
