"""Every recipe that streams runs on event kernels, and the others say what their passes are."""

import re

import pytest

from recipe_kernels import kernels
from transpike import recipes
from transpike.core.recipe import Recipe
from transpike.engines import event_status

WINDOW = "dense: a window is one pass over all its steps"
CYCLE = "dense: a phase cycle is one pass over all its steps"
EARLY = "dense: layers that fire before their window is complete run step by step"
UNIT = "dense: sigma-delta layers have separate kernels"
RECIPROCAL = "dense: differences that are divided by their step number are not on a grid"
WIRE = "dense: a wire does not carry spikes of integer levels"
REASONS = {
    "bsnn": CYCLE, "burst-digits": UNIT, "cat": WINDOW, "ceiling": WINDOW, "cos": EARLY, "dcgs": RECIPROCAL,
    "exact-mapping": WINDOW, "linear-ttfs": WINDOW, "pascal": WINDOW, "rueckauer-liu": EARLY, "s4nn": EARLY,
    "sigma-delta": UNIT, "spikezip": UNIT, "t2fsnn": EARLY, "tsc": WINDOW, "vr": WINDOW, "yoso": WINDOW,
    "srp": "dense: binary spikes of this kind have no kernel",  # its neurons start again after some steps
    "snm": WIRE,  # one spike scale for each neuron
    **dict.fromkeys(("cao", "rmp", "spike-norm"), WIRE),  # Poisson spikes of either sign at the input
}  # fmt: skip


@pytest.mark.skipif(event_status()[0] is None, reason="the native library is not built")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("recipe", recipes.members, ids=lambda recipe: recipe.name)
def test_the_kernels_of_a_recipe(recipe: type[Recipe]) -> None:
    found = {re.sub(r"dense: \S+ does not", "dense: a wire does not", text) for text in kernels(recipe)}
    found = {text for text in found if not text.startswith("event: ")}
    assert found == ({REASONS[recipe.name]} if recipe.name in REASONS else set())
