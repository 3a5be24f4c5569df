"""Stages of a conversion, Graph to Graph."""

from transpike.core.registry import family
from transpike.core.step import Step
from transpike.steps.bias_shift import BiasShift
from transpike.steps.calibrate_bias import CalibrateBias, CalibratePotential
from transpike.steps.calibrate_weights import CalibrateWeights
from transpike.steps.clean import RemoveDropout
from transpike.steps.first_spikes import FirstSpikeThresholds, SpikesAtInput, TrainKernels, UseFirstSpikes
from transpike.steps.fold_batchnorm import FoldBatchNorm
from transpike.steps.gaussian import GaussianThresholds
from transpike.steps.initial_potential import InitialPotential, LearnedInitialPotential
from transpike.steps.learned import LearnedThresholds
from transpike.steps.local_balancing import LocalThresholdBalancing
from transpike.steps.match_delays import MatchDelays
from transpike.steps.model_based import ModelBasedThresholds
from transpike.steps.percentile import PercentileThresholds
from transpike.steps.percentile_scale import PercentileScaleThresholds
from transpike.steps.pooling import PoolBeforeActivation, PoolInTime
from transpike.steps.quantise_weights import QuantiseWeights
from transpike.steps.refuse import RefuseBiases, RefuseLevels
from transpike.steps.sensitivity import SearchBursts, SearchThresholds
from transpike.steps.share_thresholds import ShareThresholds
from transpike.steps.spike_norm import SpikeNorm
from transpike.steps.spike_times import ExactTimes, FixedThresholds, UseFirstCrossings, UseLatches
from transpike.steps.spiking_average import SpikingAverage
from transpike.steps.squared_error import SquaredErrorThresholds
from transpike.steps.train_thresholds import SlackThresholds, TrainThresholds
from transpike.steps.use_cells import UseGates, UseGroups, UseLadders, UseOffsets, UseSwitches
from transpike.steps.use_neurons import UseNeurons

members: tuple[type[Step], ...] = family("pass", Step, named=False).own(globals())
