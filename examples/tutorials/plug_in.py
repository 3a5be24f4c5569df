# %% [markdown]
# # A plug-in: your own neuron and recipe in 40 lines
#
# **Goal.** Add a neuron with a refractory period and a recipe that uses it, let transpike check both, and compare them with a
# built-in method.
#
# **At the end you have** a recipe that converts, is evaluated and compared, can be saved, and has a name on the command line.
# Reading takes about 10 minutes, running one.
#
# The neuron: after a spike it *rests* for some steps, as biological neurons do. On hardware this bounds the rate of a neuron,
# and with it the traffic.

# %%
import os
from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import torch
from torch import Tensor

import transpike as ts
from transpike.testing import check_neuron, check_recipe

torch.manual_seed(0)
QUICK = os.environ.get("TRANSPIKE_TUTORIAL_QUICK") == "1"  # short training

# %% [markdown]
# ## 1. A first attempt
#
# A neuron is a frozen dataclass with two pure functions. `init` gives the state before the first step. `step` takes the state
# and the input current, and returns the new state and the spikes; it must not change its arguments. We derive from
# `IntegrateAndFire`, which brings the fields `source` (the activation that it replaces), `threshold` and `initial`.
#
# Here is a plausible step with a mistake. Can you see it?


# %%
@ts.register
@dataclass(frozen=True, eq=False)
class Resting(ts.neurons.IntegrateAndFire):
    """Integrate and fire; ignores its input for ``rest`` steps after a spike."""

    rest: int = 1

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return super().init(*inputs), torch.zeros_like(inputs[0])

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        potential, waits = state
        potential = torch.where(waits > 0, potential, potential + inputs[0])
        spikes = ((potential >= self.threshold) & (waits <= 0)).to(potential.dtype)
        waits = torch.where(spikes > 0, torch.full_like(waits, float(self.rest)), (waits - 1).clamp(min=0))
        return (potential - spikes * self.threshold, waits), spikes


# %% [markdown]
# `transpike.testing` has the laws that all neurons keep. An AssertionError names the class and the broken law.

# %%
one, half = torch.tensor(1.0), torch.tensor(0.5)
try:
    check_neuron(Resting(ts.activations.ReLU(), one, half), (3,))
    message = ""
except AssertionError as error:
    message = str(error).splitlines()[0]
print(message)

# %% [markdown]
# The neuron throws its input away while it rests. Charge that is lost never arrives at the next layer: the mean output would
# not be the ReLU that the neuron represents. A resting neuron must *listen* and only keep silent.
#
# ## 2. The neuron
#
# Two changes: the potential always integrates, and `peak` tells transpike the largest mean output, since a neuron that
# rests after each spike sends at most one spike in 1 + rest steps. A class that is defined again replaces the older one.


# %%
@ts.register
@dataclass(frozen=True, eq=False)
class Resting(ts.neurons.IntegrateAndFire):
    """``v += x;  s = 1 if v ≥ θ and no spike came in the last ``rest`` steps;  v −= θ s``."""

    rest: int = 1

    def init(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        return super().init(*inputs), torch.zeros_like(inputs[0])

    def step(self, state: tuple[Tensor, Tensor], *inputs: Tensor, t: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        potential, waits = state[0] + inputs[0], state[1]
        spikes = ((potential >= self.threshold) & (waits <= 0)).to(potential.dtype)
        waits = torch.where(spikes > 0, torch.full_like(waits, float(self.rest)), (waits - 1).clamp(min=0))
        return (potential - spikes * self.threshold, waits), spikes

    @property
    def peak(self) -> Tensor | None:
        most = super().peak
        return None if most is None else most / (1 + self.rest)


check_neuron(Resting(ts.activations.ReLU(), one, half), (3,))
train = Resting(ts.activations.ReLU(), one, half).window(torch.full((8, 1, 1), 0.9)).flatten()
print("spikes under a constant current of 0.9:", [int(spike) for spike in train])

# %% [markdown]
# ## 3. A recipe
#
# A recipe is a frozen dataclass, too; its fields become flags of the command line. We derive from `ECC` and exchange its
# neurons. `UseNeuron` puts our class where integrate-and-fire neurons were, with the same thresholds.


# %%
@ts.register
@dataclass(frozen=True)
class RestingECC(ts.recipes.ECC):
    """ECC with neurons that rest for ``rest`` steps after a spike."""

    name: ClassVar[str] = "resting-ecc"
    rest: int = 1

    @property
    def neurons(self) -> ts.passes.UseNeuron:
        return ts.passes.UseNeuron(Resting, (("rest", self.rest),))


check_recipe(RestingECC(timesteps=8))
print("all laws hold:", ts.recipes.table["resting-ecc"].name)

# %% [markdown]
# `check_recipe` has converted a small network, compared the spikes of all engines bit for bit, saved the network, and read it
# back.
#
# ## 4. Does it work well?
#
# The laws say that the recipe is *correct*, not that it is good. So measure, on the embedded digits.

# %%
data = ts.data.load("digits")
model, spec = ts.models.build("zoo:small-cnn", input_shape=data.image_shape)
settings = ts.Training(epochs=2 if QUICK else 15, learning_rate=0.05, batch_size=64)
ts.train(model, data, settings, preprocessing=spec.preprocessing)
calibration = data.train.batches(250, limit=500)
limit = 60 if QUICK else 540


def measured(recipe: ts.recipes.ECC) -> ts.Report:
    snn = ts.convert(model, recipe, calibration, preprocessing=spec.preprocessing)
    return ts.evaluate(snn, data.test.batches(60, limit=limit))


timesteps = 16 if QUICK else 64
reports = {str(recipe): measured(recipe) for recipe in (ts.recipes.ECC(timesteps), RestingECC(timesteps))}
for name, report in reports.items():
    print(f"{name:32} {report.final.accuracy:.2%} (ANN {report.ann_accuracy:.2%})")

# %% [markdown]
# Active neurons want to send a spike in more than half of the steps, and may not: large activations are cut at `peak`. The
# remedy follows from the formula: with thresholds (1 + rest) times as large, the peak is where it was. That needs a
# custom pass, because the threshold changes.


# %%
@ts.register
@dataclass(frozen=True)
class UseResting(ts.passes.ReplaceNeurons):
    """Resting neurons whose threshold is (1 + rest) times as large, so that their peak is that of the old neuron."""

    rest: int = 1

    def neuron(self, old: ts.neurons.IntegrateAndFire) -> Resting:
        factor = 1 + self.rest
        return Resting(old.source, old.threshold * factor, old.initial * factor, rest=self.rest)


@ts.register
@dataclass(frozen=True)
class WideRestingECC(RestingECC):
    """Resting ECC with thresholds that keep the peak."""

    name: ClassVar[str] = "wide-resting-ecc"

    @property
    def neurons(self) -> UseResting:
        return UseResting(self.rest)


check_recipe(WideRestingECC(timesteps=8))
wide = WideRestingECC(timesteps)
reports[str(wide)] = measured(wide)
figure, axis = plt.subplots(figsize=(7, 3))
for name, report in reports.items():
    axis.plot([a.timesteps for a in report.curve], [100 * a.accuracy for a in report.curve], label=name)
axis.axhline(100 * report.ann_accuracy, color="0.5", linestyle="--", label="ANN")
axis.set(xlabel="time steps", ylabel="accuracy (%)")
axis.legend(frameon=False, fontsize=8)
plt.show()
for name, report in reports.items():
    print(f"{name:32} {report.final.accuracy:.2%}, {report.final.spikes:,.0f} spikes per image")

# %% [markdown]
# Larger thresholds mean fewer spikes and a coarser code, so that it takes more steps to reach the accuracy of plain ECC. That is the
# price of a rest, now measured.
#
# ## 5. Save it, and share it
#
# A file stores the *name* of a class from another package, never code. Whoever loads it needs your plug-in; without it, the error
# names what is missing.

# %%
snn = ts.convert(model, wide, calibration, preprocessing=spec.preprocessing)
ts.save(snn, "resting.transpike")
images = data.test.batch(range(4))[0]
assert torch.equal(ts.load("resting.transpike")(images), snn(images))
print("the loaded network gives the same logits")

# %% [markdown]
# To share the classes, put them into a package and name its module in `pyproject.toml`:
#
# ```toml
# [project.entry-points."transpike.plugins"]
# resting = "my_package.resting"
# ```
#
# After `pip install`, `transpike doctor` lists the plug-in, and
# `transpike convert --recipe wide-resting-ecc --rest 2 …` works on the command line.
#
# ## What can go wrong
#
# | symptom | cause | remedy |
# |---|---|---|
# | *step() changes neither its state nor its inputs* | an operation in place, such as `potential += x` | write `potential = potential + x` |
# | *it is registered* | the decorator is missing, or below `@dataclass` | `@ts.register` is the first line |
# | a name that is already in use | another plug-in has it | choose another `name` |
# | slow runs | an own `step` has no compiled kernel, and every engine calls it | correct first; a kernel only if it matters |
#
# ## Where to go on
#
# - [Plug-ins](../plugins.md): all families, their checks, what files contain.
# - `examples/plugin` in the repository: an installable package with one of each kind, and its tests.
# - [Methods](../methods.md): what exists already.
