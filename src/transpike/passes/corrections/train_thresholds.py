"""Thresholds moved until each channel sends as much as the source network does, their spikes' worth unchanged."""

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
SILENT = 1e-4  # of the threshold: a channel that sends less tells nothing about its threshold


@dataclass(frozen=True)
class TrainThresholds(Calibration):
    """``θ_c ← θ_c √(s̄_c / ā_c)``, ``rounds`` times a layer: s̄ the mean charge sent, ā the source's mean activation.

    Means are over samples and places of channel c, layer by layer on input that is already corrected; a spike's worth
    stays what it was. θ moves by a factor of 2 at most, and the value with the least |s̄ − ā| is kept.
    Source: CQ+ (Yan, Zhou, Wong 2023) and VR-encoding (2022), channel-wise threshold training; their code has
    ``θ_c −= 0.1 (ā_c − s̄_c)`` for every batch of 50: an integral controller with the same fixed point, which takes
    hundreds of rounds to come near it.
    """

    asks: ClassVar[str] = "spikes"
    rounds: int = 6

    def apply(self, graph: Graph, context: Context) -> Graph:
        def visit(heard: LayerInput) -> Graph | None:
            cell = heard.cell
            if not isinstance(cell, IntegrateAndFire):
                return None
            axis, rank = heard.graph.channel_axes[heard.node.name], len(heard.node.shape)
            spike_scale = cell.threshold if cell.spike_scale is None else cell.spike_scale
            wanted = shaped(channel_mean(heard.analogue, axis), axis, rank)
            best = start = cell.threshold.expand(wanted.shape)
            least, error, threshold = SILENT * spike_scale, torch.full_like(wanted, torch.inf), start
            for _ in range(self.rounds + 1):
                tried = dataclasses.replace(cell, threshold=threshold, spike_scale=spike_scale)
                sent = shaped(channel_mean(heard.sent(tried), axis), axis, rank)
                better = (sent - wanted).abs() < error
                best, error = torch.where(better, threshold, best), torch.where(better, (sent - wanted).abs(), error)
                factor = torch.where((wanted > least) & (sent > least), (sent / wanted.clamp(min=1e-30)).sqrt(), 1.0)
                threshold = torch.clamp(threshold * factor, start / FARTHEST, start * FARTHEST)
            new = dataclasses.replace(cell, threshold=best, spike_scale=spike_scale)
            return heard.graph.replaced(dataclasses.replace(heard.node, op=new))

        return sequential(graph, context, self.samples, visit)

    def describe(self) -> str:
        return "thresholds"


@dataclass(frozen=True)
class SlackThresholds(Pass):
    """``θ ← (1 − slack) θ`` with the spikes' worth unchanged: the 0.999 and 0.9999 of CQ's and VR's code.

    There it saves the last spike of an input that lies exactly on the edge of a level; here v(0) does (``tie``), and
    the slack is for repeating published runs: it counts some of the inputs below an edge too.
    """

    slack: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.slack < 1:
            raise SettingError(f"slack must be in [0, 1), not {self.slack}: the share of θ that may be missing")

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not isinstance(node.op, IntegrateAndFire) or not self.slack:
                return None
            spike_scale = node.op.threshold if node.op.spike_scale is None else node.op.spike_scale
            new = dataclasses.replace(node.op, threshold=(1 - self.slack) * node.op.threshold, spike_scale=spike_scale)
            return dataclasses.replace(node, op=new)

        return graph.rewrite(change)
