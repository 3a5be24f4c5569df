"""Activations of the source network that a neuron can replace, and modules to train with instead of them."""

from collections.abc import Mapping

from torch import nn

from transpike.activations.clips import RateNorm, SlipReLU, ThresholdReLU, TrainableClip
from transpike.activations.cq import ClampQuantise, ExpandedInput, ValueRange
from transpike.activations.first_spike import FirstSpikeStaircase, TimeToFirstSpike
from transpike.activations.function import Function, Unchanged
from transpike.activations.qcfs import QuantisedClip, UniformQuantiser
from transpike.activations.quantiser import Quantiser
from transpike.activations.relu import Clip, LeakyReLU, ReLU
from transpike.activations.staircase import Staircase
from transpike.core.op import Op
from transpike.core.registry import family

members: tuple[type[Op], ...] = family("op", Op, in_files=True, named=False).own(globals())
modules: tuple[type[nn.Module], ...] = family("activation", nn.Module).own(globals())
table: Mapping[str, type[nn.Module]] = family("activation").table
