"""Conversion methods of papers, by their command-line names."""

from collections.abc import Mapping

from transpike.core.recipe import Recipe
from transpike.core.registry import family
from transpike.errors import SettingError
from transpike.recipes.adafire import AdaFire
from transpike.recipes.bsnn import BSNN
from transpike.recipes.burst import BurstLIP
from transpike.recipes.cat import CAT, YOSO, LinearTTFS
from transpike.recipes.ceiling import Ceiling
from transpike.recipes.classics import Cao, DiehlModel
from transpike.recipes.cq import CQ, VR, CQPlus
from transpike.recipes.datta_beerel import DattaBeerel
from transpike.recipes.deng_gu import DengGu
from transpike.recipes.ecc import ECC
from transpike.recipes.ecmt import ECMT
from transpike.recipes.few_steps import FewSteps
from transpike.recipes.learned import OPI, QCFS, RNL, TCL, SlipReLU
from transpike.recipes.local_balancing import LTB
from transpike.recipes.multi_thresholds import DCGS, HMT, GroupNeuron
from transpike.recipes.pre_simulated import COS, SRP
from transpike.recipes.rueckauer import Rueckauer
from transpike.recipes.sigma_delta import BurstDigits, StreamingSigmaDelta
from transpike.recipes.signed import PASCAL, SNM, ErrorCompensation, FastSNN
from transpike.recipes.snn_calibration import SNNCalibration
from transpike.recipes.spike_norm import RMP, SpikeNorm
from transpike.recipes.spike_times import S4NN, ExactMapping, RueckauerLiu
from transpike.recipes.spikezip import SpikeZIP
from transpike.recipes.t2fsnn import T2FSNN
from transpike.recipes.temporal_switch import TSC
from transpike.recipes.threshold_balancing import ThresholdBalancing
from transpike.recipes.weight_normalisation import WeightNormalisation

members: tuple[type[Recipe], ...] = family("recipe", Recipe, in_files=True).own(globals())
table: Mapping[str, type[Recipe]] = family("recipe").table


def recipe_given(recipe: Recipe | str | None) -> Recipe:
    """``recipe``, the one of this name with default settings, or ECC for None.

    Raises SettingError for an unknown name and for anything else.
    """
    if recipe is None:
        return ECC()
    if isinstance(recipe, str):
        return family("recipe").get(recipe)()
    if isinstance(recipe, type) and issubclass(recipe, Recipe):
        raise SettingError(f"{recipe.__name__} is a class: write {recipe.__name__}(), with the settings in parentheses")
    if not isinstance(recipe, Recipe):
        raise SettingError(
            f"a recipe must be one of transpike.recipes, like ECC(timesteps=64), or the name of one, like 'ecc', not "
            f"{type(recipe).__name__}"
        )
    return recipe
