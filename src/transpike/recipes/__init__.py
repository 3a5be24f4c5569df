"""Papers' methods, one file each, by the name that the command line uses."""

from transpike.core.recipe import Recipe
from transpike.recipes.adafire import AdaFire
from transpike.recipes.bsnn import BSNN
from transpike.recipes.burst import BurstLIP
from transpike.recipes.cat import CAT, YOSO, LinearTTFS
from transpike.recipes.classics import Cao, DiehlModel
from transpike.recipes.cq import CQ, VR, CQPlus
from transpike.recipes.datta_beerel import DattaBeerel
from transpike.recipes.deng_gu import DengGu
from transpike.recipes.ecc import ECC
from transpike.recipes.few_steps import FewSteps
from transpike.recipes.ladders import DCGS, HMT, GroupNeuron
from transpike.recipes.learned import OPI, QCFS, RNL, TCL, SlipReLU
from transpike.recipes.local_balancing import LTB
from transpike.recipes.pre_simulated import COS, SRP
from transpike.recipes.rueckauer import Rueckauer
from transpike.recipes.signed import PASCAL, SNM, ErrorCompensation, FastSNN
from transpike.recipes.snn_calibration import SNNCalibration
from transpike.recipes.spike_norm import RMP, SpikeNorm
from transpike.recipes.spike_times import S4NN, ExactMapping, RueckauerLiu
from transpike.recipes.t2fsnn import T2FSNN
from transpike.recipes.temporal_switch import TSC
from transpike.recipes.threshold_balancing import ThresholdBalancing
from transpike.recipes.weight_normalisation import WeightNormalisation

members: tuple[type[Recipe], ...] = (
    AdaFire,
    BSNN,
    BurstLIP,
    Cao,
    CAT,
    COS,
    CQ,
    CQPlus,
    DattaBeerel,
    DCGS,
    DengGu,
    DiehlModel,
    ECC,
    ErrorCompensation,
    ExactMapping,
    FastSNN,
    FewSteps,
    GroupNeuron,
    HMT,
    LinearTTFS,
    LTB,
    OPI,
    PASCAL,
    QCFS,
    RMP,
    RNL,
    Rueckauer,
    RueckauerLiu,
    S4NN,
    SlipReLU,
    SNM,
    SNNCalibration,
    SpikeNorm,
    SRP,
    T2FSNN,
    TCL,
    ThresholdBalancing,
    TSC,
    VR,
    WeightNormalisation,
    YOSO,
)
table: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in members}
