"""Key figures of what an answer costs, which pages of all tasks show."""

from transpike.report._numbers import short
from transpike.report._section import Tile
from transpike.workflow.evaluate.measurement import MeasuredAnswer
from transpike.workflow.evaluate.report import Answer


def activity_tiles(best: Answer | MeasuredAnswer, ann_macs: float) -> tuple[Tile, Tile]:
    """Spike rate, and synaptic operations next to the MACs of the ANN, per sample."""
    return (
        Tile(
            f"spike rate at T={best.timesteps}",
            f"{best.spike_rate:.1%}",
            f"per neuron and step; {best.spikes:,.0f} spikes per sample",
        ),
        Tile(
            f"synaptic operations at T={best.timesteps}",
            f"{short(best.synaptic_operations / 1e6)} M",
            f"plus {short(best.macs / 1e6)} M remaining MACs; ANN: {short(ann_macs / 1e6)} M MACs",
        ),
    )
