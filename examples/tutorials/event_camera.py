# %% [markdown]
# # An event camera: recordings, frames, and answers while they arrive
#
# **Goal.** Convert a network for the recordings of an event camera, and run it as a stream that answers after every frame.
#
# **At the end you have** a spiking network whose input is spikes too, a loop that feeds it frame by frame, and a measurement
# of what each frame costs. Reading takes about 12 minutes, running one to three.
#
# An event camera has no pictures. Each pixel reports *events*: "at this microsecond I became brighter" (or darker). Where
# nothing moves, nothing is sent. That suits a spiking network, in which a neuron that receives nothing costs nothing.

# %%
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

import transpike as ts

torch.manual_seed(0)
QUICK = os.environ.get("TRANSPIKE_TUTORIAL_QUICK") == "1"  # small sizes, simulated recordings
BINS = 10  # frames of a recording

# %% [markdown]
# ## 1. Recordings
#
# The real data are from N-MNIST: handwritten digits that a camera recorded while it moved three times. They are read
# from the archive `nmnist_small.npz` in the folder `TRANSPIKE_DATA` (arrays `train_t`, `train_x`, `train_y`, `train_p`,
# `train_offsets`, `train_labels`, and the same for `test`). `events:FOLDER` reads the original files.
#
# Without them we simulate a camera: a shape moves along a circle, and each pixel that changes sends an event. This also
# shows what a recording consists of: four arrays of equal length.


# %%
def recording(shape: str, generator: np.random.Generator) -> tuple[np.ndarray, ...]:
    """The events t (µs), x, y and p (1 brighter, 0 darker) of a 34 × 34 sensor; 300 ms."""
    row, column = np.mgrid[:34, :34] - 17 + generator.integers(-3, 4, (2, 1, 1))
    before, events = None, []
    for t in range(0, 300_000, 5_000):
        angle = 2 * np.pi * t / 300_000
        y, x = row - 5 * np.sin(angle), column - 5 * np.cos(angle)
        now = {
            "bar": (abs(x) < 3) & (abs(y) < 9),
            "cross": (abs(x) < 9) & (abs(y) < 9) & ((abs(x) < 2) | (abs(y) < 2)),
            "ring": abs(np.hypot(x, y) - 7) < 2,
        }[shape]
        if before is not None:
            rows, columns = np.nonzero(now != before)
            events.append(np.stack([np.full(len(rows), t), columns, rows, now[rows, columns]]))
        before = now
    return tuple(np.concatenate(events, 1).astype(np.int64))


def simulated(count: int, seed: int) -> ts.data.Split:
    """``count`` labelled recordings, binned into frames (count, BINS, 2, 34, 34)."""
    generator = np.random.default_rng(seed)
    labels = torch.arange(count) % 3
    parts = [recording(SHAPES[label], generator) for label in labels.tolist()]
    offsets = np.cumsum([0, *(len(part[0]) for part in parts)])
    events = ts.data.Events(*np.concatenate(parts, 1), width=34, height=34)
    return ts.data.Split(ts.data.Frames(ts.data.Recordings(events, offsets), BINS), labels, "simulated recordings")


SHAPES = ("bar", "cross", "ring")
archive = Path(os.environ.get("TRANSPIKE_DATA", ".")) / "nmnist_small.npz"
if archive.is_file() and not QUICK:
    data = ts.data.load(f"npz:{archive}", bins=BINS)
    print(f"N-MNIST: {len(data.train):,} recordings for training, {len(data.test)} for testing")
else:
    train, test = (simulated(count, seed) for count, seed in ((45, 0), (15, 1)))
    data = ts.data.Dataset("shapes", train, test, SHAPES, ts.Preprocessing(), encoder="event-frames")
    print(f"nmnist_small.npz is not used: {len(train)} and {len(test)} simulated recordings of {', '.join(SHAPES)}")

# %% [markdown]
# A network has time steps, not microseconds, so events are *binned* into frames: frame k has a 1 where a pixel had an event of
# that polarity in the k-th tenth of the recording. Below: all frames of one recording, brighter in red, darker in blue.

# %%
frames, labels = data.test.batch(range(5))  # (recordings, frames, polarities, height, width), zeros and ones
figure, axes = plt.subplots(1, BINS, figsize=(10, 1.3))
for k, (axis, frame) in enumerate(zip(axes, frames[0], strict=True), 1):
    picture = torch.ones(34, 34, 3)
    picture[frame[1] > 0] = torch.tensor([0.84, 0.15, 0.16])
    picture[frame[0] > 0] = torch.tensor([0.12, 0.47, 0.71])
    axis.imshow(picture)
    axis.set_title(f"frame {k}", fontsize=8)
    axis.axis("off")
plt.show()
print(f"class {data.classes[labels[0]]!r}; {float(frames.mean()):.1%} of all pixels and frames have an event")

# %% [markdown]
# ## 2. An ordinary network for the mean of the frames
#
# The source network has no time. It is trained on the *mean* of the frames, which is what the spikes of a recording add up
# to. `ts.train` does this by itself for recordings. Do not normalise them: a silent pixel must remain exactly 0.

# %%
model, _ = ts.models.build("zoo:events-cnn", num_classes=len(data.classes), input_shape=data.image_shape)
settings = ts.Training(epochs=2 if QUICK else 20, learning_rate=0.05, batch_size=15 if QUICK else 50, augment="none")
trained = ts.train(model, data, settings)
print(f"the ANN recognises {trained.test_accuracy:.1%} of {trained.test_images} test recordings")

# %% [markdown]
# ## 3. Three conversions
#
# The encoder `EventFrames` lets frame t enter in step t, as spikes. A recording then takes as many steps as it has frames,
# and the network must decide *while* the input changes. That is harder than a still image: a neuron may fire because of the
# first frames, and later frames may say the opposite.
#
# - `streaming`: binary spikes that cannot be taken back;
# - `signed`: a neuron can send a negative spike to take one back;
# - `windows`: a layer first collects all frames, then fires. Accurate, but the answer comes after all windows.

# %%
encoder = ts.encoders.EventFrames()
recipes = {
    "streaming": ts.recipes.ECC(timesteps=BINS, encoder=encoder),
    "signed": ts.recipes.FewSteps(
        timesteps=BINS, encoder=encoder, neuron="signed", readout=ts.readouts.AccumulatedMembrane()
    ),
    "windows": ts.recipes.ECC(timesteps=BINS, encoder=encoder, schedule=ts.schedules.LayerSynchronous()),
}
calibration = data.train.batches(50, limit=45 if QUICK else 300)
networks = {name: ts.convert(model, recipe, calibration) for name, recipe in recipes.items()}
reports = {}
for name, network in networks.items():
    reports[name] = ts.evaluate(network, data.test.batches(25), answers=(2, 4, 6, 8, 10))

figure, axis = plt.subplots(figsize=(7, 3))
for name, report in reports.items():
    accuracies = [100 * answer.accuracy for answer in report.curve]
    axis.plot([answer.timesteps for answer in report.curve], accuracies, "o-", label=name)
axis.axhline(100 * report.ann_accuracy, color="0.5", linestyle="--", label="ANN, whole recording")
axis.set(xlabel="frames received", ylabel="accuracy (%)")
axis.legend(frameon=False)
plt.show()
for name, report in reports.items():
    last = report.final
    print(f"{name:10} {last.accuracy:6.1%} after {last.total_steps} steps ({last.low:.0%} to {last.high:.0%})")

# %% [markdown]
# With 100 recordings an accuracy of 95 % is known to about ±5 points only. Still, plain streaming usually loses much
# here, and signed neurons do not. So the stream below uses `signed`.
#
# ## 4. A stream
#
# `snn.start(1)` begins a run of one sample that has no input yet. Each `step(frame)` takes the spikes of one step and
# returns the logits after it: an answer at any time.

# %%
snn = networks["signed"]
run = snn.start(1, count=True)
answers = []
for frame in frames[0]:  # your camera here
    answers.append(run.step(frame[None])[0])
answers = torch.stack(answers)  # (frames, classes)

figure, axis = plt.subplots(figsize=(7, 3))
for k, line in enumerate(answers.T):
    chosen = k == int(labels[0])
    style = {"color": "tab:red", "label": data.classes[k]} if chosen else {"color": "0.7"}
    axis.plot(range(1, BINS + 1), line, **style)
axis.set(xlabel="frames received", ylabel="logit", title="One recording: evidence as it arrives")
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# The stream gives exactly what a run of the whole recording gives, bit for bit. This is a test that you can copy:

# %%
whole = snn(frames[:1], return_all=True)[:, 0]
assert torch.equal(answers, whole)
print("streamed and whole runs are equal after each of", len(whole), "frames")

# %% [markdown]
# ## 5. What a frame costs
#
# Synaptic operations are additions of a weight to a potential, one for each spike and each of its targets. Here we let the
# recording end after half of its frames, as if the object stopped: empty frames follow.

# %%
run = snn.start(1, count=True)
for k in range(2 * BINS):
    run.step(frames[0, k][None] if k < BINS // 2 else torch.zeros_like(frames[0, :1]))
layers = run.finish().activity.layers
camera = sum(layer.synaptic_operations for layer in layers if layer.role == "input") / 1e6
neurons = sum(layer.synaptic_operations for layer in layers if layer.role != "input") / 1e6

figure, axis = plt.subplots(figsize=(7, 3))
axis.bar(range(1, 2 * BINS + 1), camera.tolist(), color="tab:orange", label="of events")
axis.bar(range(1, 2 * BINS + 1), neurons.tolist(), bottom=camera.tolist(), color="tab:blue", label="of neurons")
axis.axvline(BINS // 2 + 0.5, color="0.3", linestyle="--")
axis.set(xlabel="step (no events right of the line)", ylabel="million synaptic operations")
axis.legend(frameon=False, ncol=2)
plt.show()
total, macs = float((camera + neurons)[:BINS].sum()), reports["signed"].ann_macs / 1e6
print(f"{total:.1f} M additions in {BINS} steps; the ANN takes {macs:.1f} M multiplications for the whole recording")

# %% [markdown]
# The operations of the events are few, and stop with them. Those of the neurons do not! Each layer has a bias, left by
# batch normalisation: a constant current that enters in every step, whether anything moves or not, and neurons turn it into
# spikes. A silent camera alone does not make a silent network.
#
# Measure before you promise savings. Here additions outnumber the multiplications of an ANN that looks once, and `ts.cost`
# would say so. What helps: a network trained without biases (`nn.Conv2d(..., bias=False)` and no batch normalisation), fewer
# frames, or a hybrid network in which only the first layers, whose inputs are really sparse, spike.
#
# ## What can go wrong
#
# | symptom | cause | remedy |
# |---|---|---|
# | `DataError` about frames that are not 0 and 1 | counts or normalised values | let `ts.data` bin the events; no preprocessing |
# | accuracy falls with more frames | streaming binary spikes | signed neurons, or `LayerSynchronous` |
# | a live stream has another rate of events than the training data | bins of another length | `span=` in `ts.data.load` fixes the microseconds of a bin |
# | `start() is for networks that stream` | windows or phases wait for whole inputs | convert with a streaming schedule |
#
# ## Where to go on
#
# - [Export](../export.md): the stream as C code, one call for each frame.
# - [Hybrid networks](../hybrid.md): only the first layers spike, the rest runs as the ANN.
# - `transpike inspect net.transpike --fit speck` asks whether the network fits a chip that an event camera feeds.
