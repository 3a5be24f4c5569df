# %% [markdown]
# # A detector: boxes from spikes, whole or hybrid
#
# **Goal.** Convert a network that finds objects, judge it by your own measure, and let only its backbone spike.
#
# **At the end you have** a detector whose boxes you can compare step by step with those of the ANN, and a hybrid network with a
# spiking backbone and an analogue head. Reading takes about 12 minutes, running one to three.
#
# A classifier forgives small errors: only the largest logit counts. A detector does not: a box is wrong if its numbers are a
# little wrong. So the choice of the code matters more here. A real detector (FastestDet with its COCO weights) is measured on
# [its own page](../detector.md). Here everything is generated, so that the notebook needs no download.

# %%
import os

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts

torch.manual_seed(0)
QUICK = os.environ.get("TRANSPIKE_TUTORIAL_QUICK") == "1"  # fewer pictures, short training
CLASSES = ("square", "disc")
SIZE, CELLS = 64, 8  # pixels and grid cells along each side

# %% [markdown]
# ## 1. Pictures and targets
#
# Each picture has one to three squares or discs on noise. The targets of a picture are three rows of
# (class, centre x, centre y, width, height) in shares of the picture; class −1 marks an empty row.


# %%
def pictures(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pictures (count, 1, 64, 64) and targets (count, 3, 5)."""
    generator = torch.Generator().manual_seed(seed)
    images = 0.25 * torch.rand(count, 1, SIZE, SIZE, generator=generator)
    targets = torch.full((count, 3, 5), -1.0)
    row, column = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    for image, target in zip(images, targets, strict=True):
        for k in range(int(torch.randint(1, 4, (), generator=generator))):
            radius, kind = torch.randint(5, 10, (), generator=generator), torch.randint(2, (), generator=generator)
            y, x = torch.randint(10, SIZE - 10, (2,), generator=generator)
            near = torch.maximum((row - y).abs(), (column - x).abs()) if kind == 0 else torch.hypot(row - y, column - x)
            image[0][near <= radius] = 0.6 + 0.4 * torch.rand((), generator=generator)
            target[k] = torch.tensor([kind, (x + 0.5) / SIZE, (y + 0.5) / SIZE, *[(2 * radius + 1) / SIZE] * 2])
    return images, targets


train_images, train_targets = pictures(64 if QUICK else 1_500, seed=0)
test_images, test_targets = pictures(16 if QUICK else 100, seed=1)

# %% [markdown]
# ## 2. A small detector
#
# A backbone reduces the picture to 8 × 8 cells; a head answers for each cell: is an object's centre here, where exactly,
# how large, which class? The activation is SiLU, as in current detectors.


# %%
def layer(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.SiLU())


class Detector(nn.Module):
    """Pictures (batch, 1, 64, 64) → (batch, 5 + classes, 8, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(layer(1, 12, 2), layer(12, 24, 2), layer(24, 32, 2), layer(32, 32, 1))
        self.head = nn.Sequential(layer(32, 32, 1), nn.Conv2d(32, 5 + len(CLASSES), 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def loss(answer: Tensor, targets: Tensor) -> Tensor:
    """Objectness of all cells; box and class of the cells with a centre."""
    wanted = torch.zeros(len(answer), CELLS, CELLS)
    sample, place = (targets[..., 0] >= 0).nonzero(as_tuple=True)
    kind, x, y, width, height = targets[sample, place].T
    column, row = (CELLS * x).long(), (CELLS * y).long()
    wanted[sample, row, column] = 1
    found = answer[sample, :, row, column]
    box = torch.stack([CELLS * x - column, CELLS * y - row, width, height], 1)
    objectness = F.binary_cross_entropy_with_logits(answer[:, 0], wanted, pos_weight=torch.tensor(8.0))
    return objectness + 5 * F.l1_loss(found[:, 1:5].sigmoid(), box) + F.cross_entropy(found[:, 5:], kind.long())


model = Detector()
epochs, batch = (3, 16) if QUICK else (14, 32)
optimiser = torch.optim.Adam(model.parameters(), 0.004)
batches = -(-len(train_images) // batch)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.008, total_steps=epochs * batches)
for _ in range(epochs):
    for chosen in torch.randperm(len(train_images)).split(batch):
        optimiser.zero_grad()
        current = loss(model(train_images[chosen]), train_targets[chosen])
        current.backward()
        optimiser.step()
        schedule.step()
model.eval()
print(f"last training loss {current.item():.2f}")

# %% [markdown]
# ## 3. Decode outside the network
#
# The network answers numbers per cell. The functions that make boxes of them (sigmoid, grid offsets, removal of duplicates)
# stay in your own code, for the ANN and for the spiking network alike.


# %%
def decode(answer: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each picture the boxes (n, 4) as centre and size, and their classes, the most certain first."""
    row, column = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    x, y, width, height = answer[:, 1:5].sigmoid().unbind(1)
    boxes = torch.stack([(column + x) / CELLS, (row + y) / CELLS, width, height], -1).flatten(1, 2)
    scores, kinds = answer[:, 0].sigmoid().flatten(1), answer[:, 5:].argmax(1).flatten(1)
    results = []
    for box, score, kind in zip(boxes, scores, kinds, strict=True):
        kept: list[int] = []
        for k in score.argsort(descending=True)[: int((score > 0.5).sum())].tolist():
            if not kept or not bool((overlap(box[k, None], box[kept]) > 0.4).any()):
                kept.append(k)
        results.append((box[kept], kind[kept]))
    return results


def overlap(left: Tensor, right: Tensor) -> Tensor:
    """Intersection over union of each pair of boxes, (n, m)."""
    low = torch.maximum((left[:, :2] - left[:, 2:] / 2)[:, None], (right[:, :2] - right[:, 2:] / 2)[None])
    high = torch.minimum((left[:, :2] + left[:, 2:] / 2)[:, None], (right[:, :2] + right[:, 2:] / 2)[None])
    common = (high - low).clamp(min=0).prod(-1)
    return common / (left[:, 2:].prod(-1)[:, None] + right[:, 2:].prod(-1)[None] - common).clamp(min=1e-9)


def f1(answer: Tensor, targets: Tensor) -> Tensor:
    """``2 hits / (boxes found + objects)`` for each picture; a hit has the right class and an overlap of at least 0.5."""
    rows = []
    for (boxes, kinds), target in zip(decode(answer), targets, strict=True):
        target = target[target[:, 0] >= 0]
        close = (overlap(boxes, target[:, 1:]) >= 0.5) & (kinds[:, None] == target[None, :, 0])
        hits = min(int(close.any(0).sum()), int(close.any(1).sum()))
        rows.append(2 * hits / (len(boxes) + len(target)))
    return torch.tensor(rows)


with torch.no_grad():
    ann = model(test_images)
print(f"F1 of the ANN: {f1(ann, test_targets).mean():.3f} on {len(test_images)} pictures")

# %% [markdown]
# Any function of (answer, target) that gives one number per sample is a *task* for transpike. With
# `pip install 'transpike[detection]'` there is also `ts.tasks.Detection(decode)`, the mean average precision.
#
# ## 4. Convert the whole network
#
# SiLU has negative values and no ceiling, so binary rates do not fit. `sigma-delta` neurons send signed corrections and
# reach any precision in a few steps.

# %%
calibration = train_images[:64]
snn = ts.convert(model, ts.recipes.StreamingSigmaDelta(timesteps=8), calibration)
task = ts.tasks.Function(f1, higher_is_better=True, metric="F1")
report = ts.evaluate(snn, [(test_images, test_targets)], task=task)
print("T   F1     change   error of the outputs   additions per MAC of the ANN")
for answer, closeness in zip(report.curve, report.fidelity, strict=True):
    values = answer.metrics["F1"].value, answer.changes["F1"].value, closeness.relative_error
    ratio = answer.synaptic_operations / report.ann_macs
    print(f"{answer.timesteps:<3} {values[0]:.3f}  {values[1]:+.3f}   {values[2]:<20.4f}   {ratio:.2f}")

# %% [markdown]
# The same pictures, with the boxes of the ANN in the first column and those of the spiking network after 1, 2, 4 and 8 steps:

# %%
over_time = snn(test_images[:3], return_all=True)
columns = {"ANN": ann[:3], **{f"T = {t}": over_time[t - 1] for t in (1, 2, 4, 8)}}
figure, axes = plt.subplots(3, len(columns), figsize=(9, 5.4))
for column_axes, (title, answer) in zip(axes.T, columns.items(), strict=True):
    column_axes[0].set_title(title, fontsize=9)
    for axis, image, (boxes, kinds) in zip(column_axes, test_images[:3], decode(answer), strict=True):
        axis.imshow(image[0], cmap="gray", vmin=0, vmax=1)
        axis.axis("off")
        for (x, y, width, height), kind in zip((boxes * SIZE).tolist(), kinds.tolist(), strict=True):
            colour = ("tab:orange", "tab:cyan")[kind]
            corner = (x - width / 2 - 0.5, y - height / 2 - 0.5)
            axis.add_patch(plt.Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=2))
plt.tight_layout()
plt.show()
print("orange: square, cyan: disc")

# %% [markdown]
# ## 5. Only the backbone spikes
#
# The head is a few per cent of the work, and its numbers must be precise. `spiking="backbone.*"` selects the modules that spike.
# The rest runs as in PyTorch, once for each answer.

# %%
hybrid = ts.convert(model, ts.recipes.StreamingSigmaDelta(timesteps=8), calibration, spiking="backbone.*")
mixed = ts.evaluate(hybrid, [(test_images, test_targets)], task=task)
sides = mixed.hybrid
print(f"F1 {mixed.final.metrics['F1'].value:.3f} at T=8")
print(
    f"spiking part: {sides.synaptic_operations / 1e6:.2f} M additions, {sides.spiking_macs / 1e6:.2f} M multiplications"
)
print(
    f"analogue part: {sides.analogue_macs / 1e6:.2f} M multiplications; {sides.bits / 1e3:.0f} kbit cross between them"
)

# %% [markdown]
# Where should one cut? `ts.cuts` measures every place at once. The energy is that of additions and multiplications:

# %%
found = ts.cuts(snn, [(test_images, test_targets)], answers=(4, 8), task=task)
for row in found.rows:
    joule = 1e6 * (row.joule(found.models[0]) or 0)
    print(f"{row.title:34} F1 {row.value:.3f}   {joule:6.2f} µJ by the model {found.models[0]!r}")
proposed = found.proposed()
print("cheapest among those nearly as good as the ANN:", proposed.title if proposed else "none")

# %% [markdown]
# Read the table with care: this model prices neither memory nor the transport of spikes, and its ANN multiplies all zeros.
# `ts.cost` compares with the *quantised* ANN that skips zeros, under all models:

# %%
print(ts.cost(snn, [(test_images, test_targets)], task=task, limit=50).verdict)

# %% [markdown]
# Know what the verdict is about: the first T at which the metric is at most 5 % worse than at the last T, and an ANN with as
# many levels as the spikes can express. F1 hides that the boxes of T = 1 are visibly worse (see the pictures); a task that
# asks for an overlap of 0.75 may choose another T. So choose the measure first, then read verdicts.
#
# Spikes also pay when the camera looks at a scene that changes little; a sigma-delta network is silent where nothing
# moves (see the tutorial on the vision transformer).
#
# ## What can go wrong
#
# | symptom | cause | remedy |
# |---|---|---|
# | boxes everywhere at T = 1 | the first step sends only the largest digit of each value | use more steps; look at the error column, not only at F1 |
# | `UnsupportedOperator` for SiLU | a recipe of binary spikes | `sigma-delta` or `burst-digits`, or train with ReLU |
# | decoding inside the model is refused | sorting and loops depend on data | decode outside, as above |
# | *task* raises an error about shapes | it must return one number per picture | average over boxes in the function |
#
# ## Where to go on
#
# - [A detector](../detector.md): FastestDet on COCO pictures, with lost and added boxes for several recipes.
# - [Hybrid networks](../hybrid.md): what may be cut, what is counted, measurements.
# - [Tasks](../interface.md): segmentation, regression, several outputs.
