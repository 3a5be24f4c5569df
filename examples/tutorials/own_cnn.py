# %% [markdown]
# # Your own CNN on Fashion-MNIST: from training to C code
#
# **Goal.** Train a small CNN, convert it into a spiking network, choose a method and a number of time steps by
# measurement, and export C99 code that is proven equal to PyTorch, spike for spike.
#
# **At the end you have** a network file `fashion.transpike`, a report page `fashion.html`, and a folder `firmware` with
# `net.c`, `net.h` and a test program. Reading takes about 12 minutes. The cells run in a few minutes on one CPU core.
#
# You need PyTorch, `pip install 'transpike[report]'` and, for the last step, a C compiler. You do not need to know anything
# about spiking networks.

# %%
import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import transpike as ts

torch.manual_seed(0)
QUICK = os.environ.get("TRANSPIKE_TUTORIAL_QUICK") == "1"  # small sizes, embedded data

# %% [markdown]
# ## 1. Data
#
# transpike reads well-known data sets by name: from the folder that the environment variable `TRANSPIKE_DATA` names, else
# by a download with torchvision. Without either, set `TRANSPIKE_TUTORIAL_QUICK=1`: every step below then uses the small
# digits that come with the package.

# %%
data = ts.data.load("digits" if QUICK else "fashion-mnist")
training_images, test_images = (300, 100) if QUICK else (30_000, 1_000)
data = dataclasses.replace(data, train=data.train.subset(range(training_images)))
images, labels = data.test.batch(range(8))
figure, axes = plt.subplots(1, 8, figsize=(9, 1.6))
for axis, image, label in zip(axes, images, labels.tolist(), strict=True):
    axis.imshow(image[0], cmap="gray")
    axis.set_title(data.classes[label], fontsize=8)
    axis.axis("off")
plt.show()
print(f"{data.name}: {len(data.train):,} training images of shape {data.image_shape}")

# %% [markdown]
# ## 2. The network, as you would write it anyway
#
# Nothing in it knows about spikes. Two habits help later: ReLU activations, because the rate of a spiking neuron is a ReLU,
# and average pooling, because it becomes part of the next weights. Batch normalisation is folded into the weights.


# %%
class Network(nn.Module):
    """Images (batch, 1, height, width) → logits (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((1, 12), (12, 24), (24, 24)):
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU(), nn.AvgPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


model = Network()
settings = ts.Training(epochs=3, learning_rate=0.05, batch_size=64, augment="none")
trained = ts.train(model, data, settings, preprocessing=data.preprocessing)
print(f"the ANN classifies {trained.test_accuracy:.2%} of {trained.test_images:,} test images correctly")

# %% [markdown]
# `ts.train` is a convenience. A network from your own training loop is converted in the same way.
#
# ## 3. The first conversion
#
# A conversion replaces every ReLU by an *integrate-and-fire neuron*. In each time step such a neuron adds its input to a
# potential. When the potential reaches the threshold, the neuron sends a spike and subtracts the threshold. Here is one
# with threshold 1 and an input of 0.375 in every step:

# %%
threshold, current = 1.0, 0.375
potential, potentials, spikes = 0.5, [], []  # it starts half full, so that the mean error is zero
for _ in range(16):
    potential += current
    spikes.append(potential >= threshold)
    potential -= threshold * spikes[-1]
    potentials.append(potential)
figure, axis = plt.subplots(figsize=(7, 2.2))
axis.step(range(1, 17), potentials, where="mid", color="0.4", label="potential")
axis.plot([t for t, spike in enumerate(spikes, 1) if spike], [1.1] * sum(spikes), "|", markersize=14, label="spikes")
axis.axhline(threshold, color="0.7", linestyle="--", label="threshold")
axis.set(xlabel="time steps", ylim=(-0.1, 1.25), xticks=range(2, 17, 2))
axis.legend(frameon=False, ncol=3, fontsize=8, loc="lower right")
plt.show()
print(f"{sum(spikes)} spikes in 16 steps: a mean of {threshold * sum(spikes) / 16:.3f}")

# %% [markdown]
# A negative input never reaches the threshold. So over T steps the number of spikes, times the threshold, divided by T,
# approaches the ReLU of the input, with an error of at most threshold / T. The next weights meet zeros and ones
# only: multiplications become additions, and a neuron without a spike costs nothing downstream.
#
# The thresholds come from *calibration data*: a few hundred training images, without labels.

# %%
calibration = data.train.batches(250, limit=500)
first = ts.convert(model, ts.recipes.ECC(timesteps=32), calibration, preprocessing=data.preprocessing)
print(first)

# %% [markdown]
# The table has a line for each layer. *Spike rate* is the share of neurons that send a spike in one step.
#
# Called like the model, the network gives the logits after the last step. `return_all=True` gives those after *every* step,
# which shows how the answer builds up:

# %%
over_time = first(images, return_all=True)  # (steps, batch, classes)
ann = model(data.preprocessing(images)).detach()
number = 2
figure, axis = plt.subplots(figsize=(7, 3))
steps = range(1, len(over_time) + 1)
for k, line in enumerate(over_time[:, number].T):
    is_answer = k == int(labels[number])
    axis.plot(steps, line, color="tab:red" if is_answer else "0.7", label=data.classes[k] if is_answer else None)
    axis.plot(steps[-1] + 1, float(ann[number, k]), "o", color="tab:red" if is_answer else "0.7", markersize=4)
axis.set(xlabel="time steps", ylabel="logit", title="One image: evidence over time; dots: the ANN")
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# After a few steps the lines are noise, after 32 they are near the dots. The question of every conversion is how many steps
# are enough, because time and energy grow with them.
#
# ## 4. Which method, and how many steps?
#
# transpike has more than thirty methods, called *recipes*. `compare` runs several on the same network and images.
# We try three:
#
# - `ecc` sets thresholds from percentiles of the activations;
# - `few-steps` also corrects biases and potentials on simulated spikes;
# - `ecc` in *layer-synchronous* windows lets a layer collect its whole input before it fires. Its answers are more
#   accurate, but come later: after (layers + 1) · T steps. Compare methods by *total steps*, not by T.

# %%
recipes = [
    ts.recipes.ECC(),
    ts.recipes.FewSteps(),
    ts.recipes.ECC(schedule=ts.schedules.LayerSynchronous()),
]
times = (4, 8) if QUICK else (4, 8, 16, 32)
comparison = ts.compare(
    model,
    recipes,
    calibration,
    ts.ComparisonSettings(timesteps=times, limit=test_images),
    data=data.test.batches(100),
    preprocessing=data.preprocessing,
)
ann_accuracy = comparison.measured[0].ann_accuracy
figure, axis = plt.subplots(figsize=(7, 3))
for name in dict.fromkeys(row.recipe for row in comparison.measured):
    rows = [row for row in comparison.measured if row.recipe == name]
    axis.plot([row.total_steps for row in rows], [100 * row.accuracy for row in rows], "o-", label=name)
axis.axhline(100 * ann_accuracy, color="0.5", linestyle="--", label="ANN")
axis.set(xlabel="total steps until the answer", ylabel="accuracy (%)", xscale="log")
axis.legend(frameon=False, fontsize=8)
plt.show()
for row in comparison.measured:
    print(f"{row.recipe:55} T={row.timesteps:<3} {row.total_steps:4.0f} steps  {row.accuracy:7.2%}")

# %% [markdown]
# Do not pick by eye: state what you need, and let `pick` find it. Here: among all rows that lose at most two percentage
# points, the one with the fewest additions (*synops*, synaptic operations). If no row satisfies the condition, `pick` raises
# an error that names the closest ones. With 1,000 images an accuracy is known to about ±2 points, so do not believe smaller
# differences; `comparison.difference` gives paired intervals.

# %%
best = comparison.pick("max=accuracy" if QUICK else "drop<=2 min=synops")
recipe = dataclasses.replace(best.made_by, timesteps=best.timesteps)
print(f"chosen: {best.recipe} at T={best.timesteps}")

# %% [markdown]
# ## 5. The network to ship, and its report
#
# Convert again with the chosen recipe, now with `input_bits=8`: the network then takes the *bytes* of a picture, and the
# exported code needs no floating point at all.

# %%
snn = ts.convert(model, recipe, calibration, preprocessing=data.preprocessing, input_bits=8)
report = ts.evaluate(snn, data.test.batches(100, limit=test_images))
ts.save(snn, "fashion.transpike")
ts.report.save(report, "fashion.html")
print(ts.report.text(report))

# %% [markdown]
# Is this cheaper than the 8-bit ANN? `ts.cost` compares the spiking network with the *quantised* ANN of equal accuracy under
# several published energy models. It says so when the answer is no.

# %%
cost = ts.cost(snn, data.test.batches(100, limit=min(test_images, 200)))
print(cost.verdict)

# %% [markdown]
# ## 6. C code, proven
#
# `ts.export` writes integers only: weights, thresholds and potentials are multiples of powers of two, so nothing is rounded
# on the way. It then compiles and runs what it wrote, and compares **every spike of every layer and step** with transpike's
# reference engine. Equal classes alone would prove little: most faults change many spikes and no class.

# %%
proof = ts.export(snn, "firmware", format="c", samples=data.test.batches(10), limit=10)
print(proof)

# %% [markdown]
# The folder holds `test.c` with the samples inside. Compile it as a colleague would who has neither Python nor transpike:

# %%
compiler = shutil.which("gcc") or shutil.which("clang")
if compiler is None:
    print("no C compiler here: install gcc, and run this cell again")
else:
    command = [compiler, "-std=c99", "-O2", "-DNET_WATCH", "net.c", "test.c", "-o", "check"]
    subprocess.run(command, cwd="firmware", check=True)
    found = subprocess.run(["./check"], cwd="firmware", capture_output=True, text=True)
    print(found.stdout + f"exit code {found.returncode}")

# %% [markdown]
# Your firmware needs four functions of `net.h`: start a sample, run a step, read a total, read the answer.

# %%
print(*[line for line in Path("firmware/net.h").read_text().splitlines() if "net_" in line and "(" in line], sep="\n")

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | remedy |
# |---|---|---|
# | accuracy near chance at every T | the inputs are not preprocessed as in training | give `preprocessing=`; transpike refuses inputs that look unlike the calibration |
# | accuracy rises slowly with T | a few large activations set the thresholds | `few-steps`, or a lower `percentile` |
# | `UnsupportedOperator` | an activation that binary spikes cannot represent | the message names the line; use ReLU, or the recipe `sigma-delta` |
# | the export refuses the network | maximum pooling of analogue values, leaks, phase codes | the message names the layer and the change |
#
# ## Where to go on
#
# - Fewer steps by training: [training for conversion](../training.md) and [few time steps](../few-steps.md).
# - Stop early when the answer is certain: [early exit](../early-exit.md).
# - What the numbers of the report mean: [report](../report.md), [energy](../energy.md).
# - Other formats, microcontrollers: [export](../export.md), and the tutorial *ECG on a microcontroller*.
