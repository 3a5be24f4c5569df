"""Passes of a conversion, from Graph to Graph."""

from transpike.core.pass_ import Pass
from transpike.core.registry import family
from transpike.core.renamed import old_names
from transpike.passes._base import Granularity as Granularity
from transpike.passes._base import ReplaceNeurons as ReplaceNeurons
from transpike.passes.corrections.bias_shift import BiasShift
from transpike.passes.corrections.calibrate_bias import CalibrateBias, CalibratePotential
from transpike.passes.corrections.calibrate_weights import CalibrateWeights
from transpike.passes.corrections.initial_potential import InitialPotential, LearnedInitialPotential
from transpike.passes.corrections.train_thresholds import SlackThresholds, TrainThresholds
from transpike.passes.neurons.first_spikes import FirstSpikeThresholds, SpikesAtInput, TrainKernels, UseFirstSpikes
from transpike.passes.neurons.products import ProductsOfWires
from transpike.passes.neurons.quantised_levels import UseQuantisedLevels
from transpike.passes.neurons.sigma_delta import EncodeWires, NeuronsForFunctions, UseSigmaDelta
from transpike.passes.neurons.spike_times import ExactTimes, FixedThresholds, UseFirstCrossings, UseLatches
from transpike.passes.neurons.use_cells import UseGates, UseGroups, UseMultiThresholds, UseOffsets, UseSwitches
from transpike.passes.neurons.use_neuron import UseNeuron
from transpike.passes.neurons.use_neurons import UseNeurons
from transpike.passes.neurons.use_signed_encoders import UseSignedEncoders
from transpike.passes.rewrites.clean import RemoveDropout
from transpike.passes.rewrites.fold_batchnorm import FoldBatchNorm
from transpike.passes.rewrites.fold_factors import FoldFactors
from transpike.passes.rewrites.fold_layernorm import FoldLayerNorm
from transpike.passes.rewrites.hand_written import RecogniseFunctions
from transpike.passes.rewrites.hand_written_norms import RecogniseNorms
from transpike.passes.rewrites.masks import JoinMasks, MaskProducts
from transpike.passes.rewrites.match_delays import MatchDelays
from transpike.passes.rewrites.merge_weights import MergeWeights
from transpike.passes.rewrites.pooling import PoolBeforeActivation, PoolInTime
from transpike.passes.rewrites.quantise_weights import QuantiseWeights
from transpike.passes.rewrites.quantisers import JoinQuantisers, RefuseUnquantised
from transpike.passes.rewrites.rectify import Rectify
from transpike.passes.rewrites.refuse import RefuseBiases, RefuseLevels
from transpike.passes.rewrites.spiking_average import SpikingAverage
from transpike.passes.thresholds.gaussian import GaussianThresholds
from transpike.passes.thresholds.learned import LearnedThresholds
from transpike.passes.thresholds.local_balancing import LocalThresholdBalancing
from transpike.passes.thresholds.model_based import ModelBasedThresholds
from transpike.passes.thresholds.percentile import CeilingThresholds, MagnitudeThresholds, PercentileThresholds
from transpike.passes.thresholds.percentile_scale import PercentileScaleThresholds
from transpike.passes.thresholds.sensitivity import SearchBursts, SearchThresholds
from transpike.passes.thresholds.share_thresholds import ShareThresholds
from transpike.passes.thresholds.spike_norm import SpikeNorm
from transpike.passes.thresholds.squared_error import SquaredErrorThresholds

members: tuple[type[Pass], ...] = family("pass", Pass, named=False).own(globals())
__getattr__ = old_names(__name__)
