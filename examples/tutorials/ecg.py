# %% [markdown]
# # ECG on a microcontroller: convert, price, check, export
#
# **Goal.** A network that separates normal from abnormal heartbeats, as integer C code with known memory needs.
#
# **At the end you have** a spiking network of 8 steps with 8-bit weights, its sensitivity, a statement about its energy, a
# list of chips that it fits or does not fit, and a folder `monitor` with C99 code. Reading takes about 12 minutes, running
# one to three.
#
# This is an exercise in engineering, not a medical device.

# %%
import json
import os
import shutil
import subprocess
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import transpike as ts

torch.manual_seed(0)
QUICK = os.environ.get("TRANSPIKE_TUTORIAL_QUICK") == "1"  # small sizes, drawn beats

# %% [markdown]
# ## 1. Heartbeats
#
# `mitbih` reads the MIT-BIH arrhythmia database from the folder `TRANSPIKE_DATA` ([how to make the archive](../biosignals.md)).
# A sample is one beat: half a second of one lead, 180 values. Patients of the test set are never in the training set. That
# matters more than any choice of network: beats of one patient resemble each other.
#
# Without the database we draw beats: a normal one has a small P wave and a narrow main peak, an abnormal one has no P wave and
# a wide peak.


# %%
def drawn(count: int, seed: int) -> ts.data.Split:
    """``count`` beats (1, 180) with values near 0..1: class 0 normal, class 1 abnormal."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    shift = 4 * torch.randn(count, 1, generator=generator)
    t = torch.arange(180.0) - 90 + shift
    width = torch.where(labels == 1, 14.0, 4.0)[:, None]
    beat = 0.75 * torch.exp(-((t / width) ** 2)) + 0.2 * torch.exp(-(((t - 60) / 18) ** 2))
    beat = beat + torch.where(labels == 0, 0.12, 0.0)[:, None] * torch.exp(-(((t + 45) / 8) ** 2))
    noise = 0.03 * torch.randn(count, 180, generator=generator)
    return ts.data.Split((beat + noise).clamp(0, 1)[:, None], labels, "drawn beats")


database = Path(os.environ.get("TRANSPIKE_DATA", ".")) / "mitbih_arrhythmia.npz"
if database.is_file() and not QUICK:
    data = ts.data.load("mitbih", task="screen", rhythm="past")
    print(f"MIT-BIH: {len(data.train):,} beats for training, {len(data.test):,} of other patients for testing")
else:
    splits = drawn(256, 0), drawn(128, 1)
    data = ts.data.Dataset("drawn-beats", *splits, ("normal", "abnormal"), ts.Preprocessing(), "drawn, not recorded")
    print("the database is not used: beats are drawn")


def spaced(split: ts.data.Split, count: int) -> torch.Tensor:
    """Indices of ``count`` beats, evenly spaced over all patients."""
    return torch.arange(min(count, len(split))) * len(split) // min(count, len(split))


beats, labels = data.train.batch(spaced(data.train, 2000))
figure, axes = plt.subplots(1, 2, figsize=(8, 2.4), sharey=True)
for axis, label in zip(axes, (0, 1), strict=True):
    axis.plot(beats[labels == label][:20, 0].T, color="tab:blue", alpha=0.3, linewidth=1)
    axis.set(title=data.classes[label], xlabel="samples (360 per second)")
plt.show()

# %% [markdown]
# ## 2. Train for few levels
#
# A microcontroller wants few time steps. So we train the network for the code that the spikes will have: `ts.prepare` replaces
# every ReLU by a *quantised clip* of 8 levels, a staircase from 0 to a threshold that is trained as well. A spiking
# neuron that sums its input over a window and then sends up to 8 spikes gives exactly this staircase.

# %%
model, _ = ts.models.build("zoo:ecg-screen", num_classes=2, input_shape=data.image_shape)
model = ts.prepare(model, ts.activations.QuantisedClip(levels=8, threshold=4.0))
trained = ts.train(model, data, ts.Training(epochs=2, learning_rate=0.05))
print(f"the ANN with 8 levels: {trained.test_accuracy:.2%} of {trained.test_images:,} test beats")

# %% [markdown]
# ## 3. Convert
#
# The recipe `QCFS` takes the trained thresholds as they are. `LayerSynchronous` is the schedule of windows: each layer
# integrates for T steps, then fires for T steps. `weight_bits=8` rounds the weights, and `input_bits=8` lets the network take
# the 8-bit numbers of a converter.
#
# The calibration must look like later inputs. Beats lie in the order of patients, so the first thousand would be those of one
# person: take them evenly from all. With the first thousand, `ts.evaluate` below would warn that the inputs
# differ from those of the calibration.

# %%
recipe = ts.recipes.QCFS(timesteps=8, schedule=ts.schedules.LayerSynchronous(), weight_bits=8)
calibration = data.train.batches(256, indices=spaced(data.train, 1024))
snn = ts.convert(model, recipe, calibration, preprocessing=data.preprocessing, input_bits=8)
print(snn)
tested = spaced(data.test, 10_000)
report = ts.evaluate(snn, data.test.batches(1000, indices=tested), answers=(8,))
print(ts.report.text(report))

# %% [markdown]
# Accuracy hides what matters here: most beats are normal. *Sensitivity* is the share of abnormal beats that are found,
# *specificity* the share of normal beats that are left alone.

# %%
truth = data.test.batch(tested)[1]


def shares(right: torch.Tensor) -> str:
    return f"sensitivity {right[truth == 1].double().mean():.1%}, specificity {right[truth == 0].double().mean():.1%}"


print("ANN:", shares(report.ann_outcomes))
print("SNN:", shares(report.outcomes[8]))

# %% [markdown]
# The two lines are nearly equal, because the code was trained. What remains is the rounding of weights and inputs. If your
# lines differ by more, look at `ts.explain(snn, data)` for the layer that is responsible.
#
# ## 4. What does it cost?
#
# `ts.cost` prices the network and its quantised ANN under published energy models. It takes the fewest steps, and for the ANN
# the fewest bits, that are nearly as accurate. The models disagree, because they count different things (additions
# only, memory traffic, address events), so read the verdict and not one number. Left of the line the spiking network is cheaper.

# %%
cost = ts.cost(snn, data.test.batches(500, indices=spaced(data.test, 2000)))
print(cost.verdict)
shown = [model for model in cost.judged if model.ratio is not None]
figure, axis = plt.subplots(figsize=(7, 0.4 + 0.3 * len(shown)))
axis.barh([one.model for one in shown], [one.ratio for one in shown], color="tab:blue")
axis.axvline(1, color="0.3", linestyle="--")
axis.set(xlabel="energy of the SNN / energy of the quantised ANN")
plt.show()

# %% [markdown]
# ## 5. Does it fit a chip?
#
# `ts.chip_fit` compares sizes, operators and bits with public limits of neuromorphic chips. A misfit names what to change.

# %%
for name in ts.chips.NAMES:
    lines = str(ts.chip_fit(snn, name)).splitlines()
    print(lines[0], *lines[1:2], sep="\n")

# %% [markdown]
# No chip of the list documents one-dimensional convolutions, so each names them first. They could be written as
# two-dimensional ones of height 1; the other lines of a misfit say whether that suffices. A microcontroller takes any layer.
#
# ## 6. C code and its memory
#
# Weights are constants (flash), potentials and spike lists are the state (RAM). Both are known before you buy the part. The
# samples are for the proof; again they come from all patients, and 20 beats of one person would be refused as unlike the
# calibration.

# %%
proof = ts.export(snn, "monitor", format="c", samples=data.test.batches(20, indices=spaced(data.test, 20)))
costs = json.loads(Path("monitor/net.json").read_text())["costs"]
print(proof)
print(f"flash {costs['flash'] / 1024:.1f} KiB, RAM {costs['ram'] / 1024:.1f} KiB")
print(f"one beat: {costs['additions']:,.0f} additions of weights, {costs['updates']:,} updates of neurons")
print(f"the ANN with 8-bit weights: {costs['ann_macs']:,} multiplications")

# %% [markdown]
# Where is the limit? A Cortex-M0+ part often has 64 KiB of flash and 8 KiB of RAM, a Cortex-M4 part 512 and 128 KiB. At 80
# beats per minute a processor has 750 ms for each. Compare the additions above with its clock.
#
# Now test the files where transpike is not installed. For a Cortex-M, `arm-none-eabi-gcc` takes the place of the compiler, and
# `examples/cortex_m/run.sh monitor` runs the test in an emulator.

# %%
compiler = shutil.which("gcc") or shutil.which("clang")
if compiler is None:
    print("no C compiler here: install gcc, and run this cell again")
else:
    command = [compiler, "-std=c99", "-O2", "-DNET_WATCH", "net.c", "test.c", "-o", "check"]
    subprocess.run(command, cwd="monitor", check=True)
    print(subprocess.run(["./check"], cwd="monitor", capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | remedy |
# |---|---|---|
# | excellent accuracy, poor on new patients | beats of one patient in both sets | split by patient, as `mitbih` does |
# | sensitivity far below specificity | rare abnormal beats | `balance=0.5` when loading, or a threshold on the difference of the totals |
# | RAM is too small | state grows with neurons | fewer channels, earlier pooling; T changes RAM little |
# | the exported test fails on the device | another type size or a compiler flag such as `-ffast-math` on your own code | run `test.c` first, alone |
#
# ## Where to go on
#
# - [Heartbeats and EEG](../biosignals.md): a cascade of a screening and a classifying network, and all measurements.
# - [Export](../export.md): 8-bit tables, Cortex-M, ONNX, golden vectors for hardware.
# - [Energy](../energy.md): what each energy model counts.
