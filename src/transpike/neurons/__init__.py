"""Cells, one file for each kind: neurons, and pooling and operators with memory in time."""

from transpike.core.cell import Cell
from transpike.core.registry import family
from transpike.core.renamed import old_names
from transpike.neurons.bistable import Bistable, Synchronous
from transpike.neurons.burst import Burst
from transpike.neurons.differential import DifferentialOperator
from transpike.neurons.exact_relu import ExactReLU
from transpike.neurons.first_crossing import FirstCrossing, Integrator, Latched, PendingInput
from transpike.neurons.first_spike import FirstSpike, Retimed
from transpike.neurons.integrate_and_fire import IntegrateAndFire
from transpike.neurons.masked import Masked
from transpike.neurons.max_pooling import (
    CurrentMaximum,
    GatedMaximum,
    LateralInhibition,
    MaximumOfEstimates,
    OrMaximum,
)
from transpike.neurons.multi_threshold import DifferentialMultiThreshold, MultiThreshold, SignedMultiThreshold
from transpike.neurons.pre_simulated import OffsetCorrected, ResidualGate
from transpike.neurons.rate_product import RateProduct
from transpike.neurons.sigma_delta import SigmaDelta
from transpike.neurons.signed import SignedIntegrateAndFire
from transpike.neurons.signed_encoder import SignedEncoder
from transpike.neurons.spike_product import SpikeProduct
from transpike.neurons.switched import Switched
from transpike.neurons.temporal_difference import TemporalDifference

members: tuple[type[Cell], ...] = family("neuron", Cell, in_files=True, named=False).own(globals())
__getattr__ = old_names(__name__)
