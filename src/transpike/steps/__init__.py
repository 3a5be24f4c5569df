"""Stages of a conversion, Graph to Graph."""

from transpike.core.step import Step
from transpike.steps.clean import RemoveDropout
from transpike.steps.fold_batchnorm import FoldBatchNorm
from transpike.steps.pooling import PoolBeforeActivation, PoolInTime
from transpike.steps.quantise_weights import QuantiseWeights
from transpike.steps.thresholds import ToSpiking

members: tuple[type[Step], ...] = (
    FoldBatchNorm,
    PoolBeforeActivation,
    PoolInTime,
    QuantiseWeights,
    RemoveDropout,
    ToSpiking,
)
