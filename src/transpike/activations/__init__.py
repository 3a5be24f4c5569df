"""Activations of the source network that a neuron can stand for, and the modules to train with in their place."""

from torch import nn

from transpike.activations.clips import RateNorm, SlipReLU, ThresholdReLU, TrainableClip
from transpike.activations.cq import ClampQuantise, ExpandedInput, ValueRange
from transpike.activations.first_spike import FirstSpikeStaircase, TimeToFirstSpike
from transpike.activations.qcfs import QuantisedClip, UniformQuantiser
from transpike.activations.relu import Clip, ReLU
from transpike.activations.staircase import Staircase
from transpike.core.op import Op

members: tuple[type[Op], ...] = (Clip, FirstSpikeStaircase, ReLU, Staircase)
table: dict[str, type[nn.Module]] = {
    "cq": ClampQuantise,
    "expanded": ExpandedInput,
    "qcfs": QuantisedClip,
    "rnl": RateNorm,
    "slip-relu": SlipReLU,
    "tcl": TrainableClip,
    "threshold-relu": ThresholdReLU,
    "ttfs": TimeToFirstSpike,
    "uniform": UniformQuantiser,
    "vr": ValueRange,
}
