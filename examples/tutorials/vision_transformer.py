# %% [markdown]
# # A vision transformer in spikes that fall silent
#
# **Goal.** Convert a transformer without retraining, see after how many steps it gives the answers of the ANN, and see when it
# stops sending spikes.
#
# **At the end you have** a spiking transformer, a measurement of agreement and activity in every step, and a stream in which
# only what changes costs anything. Reading takes about 12 minutes, running one to three.

# %%
import dataclasses
import math
import os

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

import transpike as ts

torch.manual_seed(0)
QUICK = os.environ.get("TRANSPIKE_TUTORIAL_QUICK") == "1"  # small sizes, embedded data

# %% [markdown]
# ## 1. A small transformer
#
# Patches become tokens, and blocks of attention and two linear layers follow. There is not a single ReLU: the functions
# are softmax, GELU and layer normalisation. Transformers of torchvision, timm and Hugging Face are converted in the same way
# ([list](../transformers.md)).


# %%
class Attention(nn.Module):
    """``softmax(q kᵀ / √d) v`` for every head; (batch, tokens, features)."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (features // heads) ** -0.5
        self.query, self.key, self.value = (nn.Linear(features, features) for _ in range(3))
        self.output = nn.Linear(features, features)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        return self.output((weights @ v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then two linear layers with GELU between them, each with a normalisation and a shortcut."""

    def __init__(self, features: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(features), Attention(features, heads)
        self.norm2 = nn.LayerNorm(features)
        self.mlp = nn.Sequential(nn.Linear(features, 2 * features), nn.GELU(), nn.Linear(2 * features, features))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Images (batch, 1, size, size) → logits (batch, 10); the mean over the tokens is classified."""

    def __init__(self, size: int, patch: int, features: int, blocks: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, features, patch, patch)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2, features) * 0.02)
        self.blocks = nn.Sequential(*(Block(features, 4) for _ in range(blocks)))
        self.norm, self.classifier = nn.LayerNorm(features), nn.Linear(features, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.positions
        return self.classifier(self.norm(self.blocks(tokens)).mean(1))


data = ts.data.load("digits" if QUICK else "fashion-mnist")
data = dataclasses.replace(data, train=data.train.subset(range(300 if QUICK else 12_000)))
model = Transformer(8, 2, 16, 1) if QUICK else Transformer(28, 4, 48, 2)
settings = ts.Training(
    epochs=2 if QUICK else 4, optimiser="adam", learning_rate=0.003, weight_decay=1e-5, augment="none"
)
trained = ts.train(model, data, settings, preprocessing=data.preprocessing)
print(f"{data.name}: the ANN classifies {trained.test_accuracy:.2%} of {trained.test_images:,} test images correctly")

# %% [markdown]
# Longer training gives a better network, and changes nothing below: a conversion is judged by how well it keeps the answers of
# *its* ANN.
#
# ## 2. Convert
#
# A GELU is not the rate of any integrate-and-fire neuron. The recipe `sigma-delta` uses another code: each neuron remembers
# what it has already told the next layers about its value, and sends a *correction* when the difference is large enough.
# A spike carries a sign and one of a few powers of two. For a value of 0.83 and 8 thresholds from 1 to 1/128:

# %%
value, known, sent = 0.83, 0.0, []
for _ in range(5):
    error = value - known
    fitting = [2.0**-k for k in range(8) if abs(error) >= 0.75 * 2.0**-k]  # thresholds that bring it closer
    sent.append(math.copysign(fitting[0], error) if fitting else 0.0)
    known += sent[-1]
    print(f"sends {sent[-1]:+.5f}, the receivers know {known:.5f}")

# %% [markdown]
# When every receiver knows enough, nothing is sent. Weights are added, scaled by a shift. In the products of attention
# (queries · keys) each spike adds the stored state of the other side.
#
# Calibration images give the sizes of the thresholds; no label and no gradient is involved.

# %%
calibration = data.train.batches(64, limit=128)
steps = 10
snn = ts.convert(model, ts.recipes.StreamingSigmaDelta(timesteps=steps), calibration, preprocessing=data.preprocessing)
print(f"{sum(layer.role == 'neuron' for layer in snn.program.layers)} layers of neurons")
print(*snn.remarks, sep="\n")

# %% [markdown]
# ## 3. Agreement, step by step
#
# *Agreement* is the share of images on which the spiking network gives the class of the ANN. It needs no labels, and it is
# stricter than accuracy, because errors in both directions count.

# %%
report = ts.evaluate(snn, data.test.batches(50, limit=50 if QUICK else 200))
layers = [layer for layer in report.activities[steps].layers if layer.role == "neuron"]
spikes = sum(layer.spikes for layer in layers) / report.samples  # in each step, per image
silent_after = int(spikes.nonzero().max()) + 1

figure, axes = plt.subplots(1, 2, figsize=(9, 3))
times = [answer.timesteps for answer in report.curve]
axes[0].plot(times, [100 * answer.agreement for answer in report.curve], "o-")
axes[0].set(xlabel="time steps", ylabel="agreement with the ANN (%)")
axes[1].bar(range(1, steps + 1), spikes.tolist(), color="tab:orange")
axes[1].set(xlabel="time steps", ylabel="spikes per image and step", title=f"silent after step {silent_after}")
plt.tight_layout()
plt.show()
for answer, closeness in zip(report.curve, report.fidelity, strict=True):
    ratio = answer.synaptic_operations / report.ann_macs
    print(
        f"T={answer.timesteps:<2} agreement {answer.agreement:6.1%}  error of the logits {closeness.relative_error:.4f}  "
        f"{ratio:.2f} additions per multiplication of the ANN"
    )

# %% [markdown]
# The first step gives most of the answer: every neuron sends its largest binary digit. Each later step adds about one digit.
# The error ends where the smallest threshold is reached. Then the network is silent, and further steps are free and
# change nothing.
#
# ## 4. An honest comparison
#
# The same digits can be sent in *one* step: `burst-digits`. That is a quantised network. If you need one answer for one image,
# it is the better choice; the stream pays where answers are needed early, or where the input changes little by little.

# %%
burst = ts.convert(model, ts.recipes.BurstDigits(), calibration, preprocessing=data.preprocessing)
other = ts.evaluate(burst, data.test.batches(50, limit=report.samples))
for name, found in (("sigma-delta", report), ("burst-digits", other)):
    print(
        f"{name:12} T={found.final.timesteps:<2} agreement {found.final.agreement:.1%}, "
        f"{found.final.synaptic_operations / found.ann_macs:.2f} additions per multiplication of the ANN"
    )

# %% [markdown]
# ## 5. Where silence pays: an input that changes a little
#
# We show one image for a while, then change a small part of it, then replace it by another image. `start` begins a
# stream with an input, and `step(frame)` replaces the input; without a frame the last one continues.

# %%
images = data.test.batch(range(2))[0]
images = images / 255 if images.dtype == torch.uint8 else images
changed = images[:1].clone()
side = images.shape[-1] // 4
changed[..., :side, :side] = 1 - changed[..., :side, :side]  # one corner
phase = 16

run = snn.start(images[:1], count=True)
for t in range(3 * phase):
    run.step({phase: changed, 2 * phase: images[1:]}.get(t))
trace = run.finish()
sent = sum(layer.spikes for layer in trace.activity.layers if layer.role == "neuron")

figure, axis = plt.subplots(figsize=(8, 3))
axis.bar(range(1, 3 * phase + 1), sent.tolist(), color="tab:orange")
for t, text in ((0, "first image"), (phase, "one corner changes"), (2 * phase, "another image")):
    axis.annotate(text, (t + 0.6, 1.05 * float(sent.max())), fontsize=8)
axis.set(xlabel="step", ylabel="spikes in this step", ylim=(0, 1.15 * float(sent.max())))
plt.show()
parts = sent.unflatten(0, (3, phase)).sum(1).tolist()
print("spikes: first image {:,.0f}, changed corner {:,.0f}, another image {:,.0f}".format(*parts))

# %% [markdown]
# The small change costs less than a new image, because tokens that did not change receive corrections only through
# attention. At the end of each phase the network is silent, and its answer is that of a network which saw the new image
# from the start, up to the smallest threshold:

# %%
fresh = snn(images[1:], phase)
streamed = trace.logits[-1]
print(f"largest difference of a logit {float((fresh - streamed).abs().max()):.3f}, of {float(fresh.abs().max()):.2f}")
assert float(sent[phase - 1]) == float(sent[-1]) == 0

# %% [markdown]
# ## What can go wrong
#
# | symptom | cause | remedy |
# |---|---|---|
# | the network never falls silent | a layer that oscillates between two levels; very few thresholds | look at `report.layers`; raise `threshold_count` |
# | a low agreement that does not rise | inputs larger than those of the calibration: neurons follow slowly | more calibration images |
# | an operator is named as *analogue* in the remarks | no neuron represents it (softmax, norms) | nothing to do: it is computed where an input changed, and counted |
# | a long run time | transformers run in the dense engine | fewer samples; the count of operations does not depend on the engine |
#
# ## Where to go on
#
# - [Transformers](../transformers.md): measurements on ViT, MiniLM and GPT-2, and which networks are known.
# - [Decoders](../decoders.md): `ts.generate` continues sequences, and a new token costs its own position.
# - [Any activation](../any-activation.md): SiLU, gates and norms in convolutional networks.
