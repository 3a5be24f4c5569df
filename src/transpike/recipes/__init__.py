"""Papers' methods, one file each, by the name that the command line uses."""

from transpike.core.recipe import Recipe
from transpike.recipes.bsnn import BSNN
from transpike.recipes.burst import BurstLIP
from transpike.recipes.cat import CAT, YOSO, LinearTTFS
from transpike.recipes.cq import CQ, VR, CQPlus
from transpike.recipes.deng_gu import DengGu
from transpike.recipes.ecc import ECC
from transpike.recipes.few_steps import FewSteps
from transpike.recipes.learned import OPI, QCFS
from transpike.recipes.local_balancing import LTB
from transpike.recipes.rueckauer import Rueckauer
from transpike.recipes.signed import SNM
from transpike.recipes.snn_calibration import SNNCalibration
from transpike.recipes.spike_norm import RMP, SpikeNorm
from transpike.recipes.spike_times import S4NN, ExactMapping, RueckauerLiu
from transpike.recipes.t2fsnn import T2FSNN
from transpike.recipes.threshold_balancing import ThresholdBalancing
from transpike.recipes.weight_normalisation import WeightNormalisation

members: tuple[type[Recipe], ...] = (
    BSNN,
    CAT,
    CQ,
    BurstLIP,
    CQPlus,
    DengGu,
    ExactMapping,
    ECC,
    FewSteps,
    LTB,
    S4NN,
    LinearTTFS,
    OPI,
    QCFS,
    RMP,
    Rueckauer,
    RueckauerLiu,
    SNM,
    SNNCalibration,
    SpikeNorm,
    T2FSNN,
    ThresholdBalancing,
    VR,
    WeightNormalisation,
    YOSO,
)
table: dict[str, type[Recipe]] = {recipe.name: recipe for recipe in members}
