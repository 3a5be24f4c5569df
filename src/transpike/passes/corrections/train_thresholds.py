"""Moves thresholds until each channel's mean output equals the source network's; spike scales do not change."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from transpike.core.channels import shaped
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.errors import SettingError
from transpike.lowering.layerwise import LayerInput, sequential
from transpike.neurons import IntegrateAndFire
from transpike.passes._base import Calibration
from transpike.passes.shift import channel_mean

FARTHEST = 2.0
SILENT = 1e-4  # share of the threshold: a channel with less mean output gives no estimate of its threshold


@dataclass(frozen=True)
class TrainThresholds(Calibration):
    """``θ_c ← θ_c √(s̄_c / ā_c)``, ``rounds`` times per layer: s̄ the mean charge sent, ā the source's mean activation.

    Means are over samples and positions of channel c, layer by layer on already corrected input; the spike scale does
    not change. θ moves by a factor of 2 at most; the value with the smallest |s̄ − ā| is kept.
    Source: CQ+ (Yan, Zhou, Wong 2023) and VR-encoding (2022), channel-wise threshold training; their code has
    ``θ_c −= 0.1 (ā_c − s̄_c)`` for every batch of 50: an integral controller with the same fixed point, which needs
    hundreds of rounds to approach it.
    """

    asks: ClassVar[str] = "spikes"
    rounds: int = 6

    def apply(self, graph: Graph, context: Context) -> Graph:
        def visit(layer: LayerInput) -> Graph | None:
            cell = layer.cell
            if not isinstance(cell, IntegrateAndFire):
                return None
            axis, rank = layer.graph.channel_axes[layer.node.name], len(layer.node.shape)
            spike_scale = cell.threshold if cell.spike_scale is None else cell.spike_scale
            wanted = shaped(channel_mean(layer.analogue, axis), axis, rank)
            best = start = cell.threshold.expand(wanted.shape)
            least, error, threshold = SILENT * spike_scale, torch.full_like(wanted, torch.inf), start
            for _ in range(self.rounds + 1):
                tried = dataclasses.replace(cell, threshold=threshold, spike_scale=spike_scale)
                sent = shaped(channel_mean(layer.sent(tried), axis), axis, rank)
                better = (sent - wanted).abs() < error
                best, error = torch.where(better, threshold, best), torch.where(better, (sent - wanted).abs(), error)
                factor = torch.where((wanted > least) & (sent > least), (sent / wanted.clamp(min=1e-30)).sqrt(), 1.0)
                threshold = torch.clamp(threshold * factor, start / FARTHEST, start * FARTHEST)
            new = dataclasses.replace(cell, threshold=best, spike_scale=spike_scale)
            return layer.graph.replaced(dataclasses.replace(layer.node, op=new))

        return sequential(graph, context, self.samples, visit)

    def describe(self) -> str:
        return "thresholds"


@dataclass(frozen=True)
class SlackThresholds(Pass):
    """``θ ← (1 − slack) θ`` with unchanged spike scale: the factors 0.999 and 0.9999 in the code of CQ and VR.

    There the slack keeps the last spike of an input that lies exactly on the edge of a level; here v(0) does (``tie``).
    The slack reproduces published runs: it also raises some inputs just below an edge by one level.
    """

    slack: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.slack < 1:
            raise SettingError(f"slack must be in [0, 1), not {self.slack}: it is the share by which θ is lowered")

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not isinstance(node.op, IntegrateAndFire) or not self.slack:
                return None
            spike_scale = node.op.threshold if node.op.spike_scale is None else node.op.spike_scale
            new = dataclasses.replace(node.op, threshold=(1 - self.slack) * node.op.threshold, spike_scale=spike_scale)
            return dataclasses.replace(node, op=new)

        return graph.rewrite(change)
