"""Activations of the source network that a neuron can stand for."""

from transpike.activations.quantised_clip import QuantisedClip, QuantisedClipOp
from transpike.activations.relu import Clip, ReLU
from transpike.core.op import Op

members: tuple[type[Op], ...] = (Clip, QuantisedClipOp, ReLU)
