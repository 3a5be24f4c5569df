"""The rows of docs/coverage.md of networks with trained weights, at the size of their own inputs, on real pictures.

``--models-dir`` and ``--data-dir`` of benchmarks/coverage.py hold the files. Every file of weights there gives rows; one
that cannot be run is named with the reason.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pictures import pictures
from safetensors.torch import load_file
from torch import Tensor, nn

import transpike as ts
from transpike.core.preprocessing import Preprocessing

CALIBRATION, TEST = 128, 32  # pictures; four times as many small ones
COCO = "coco_{}2017_free_licence.npz"
RECIPES = {
    "ecc": ts.recipes.ECC.paper(timesteps=1024, schedule=ts.schedules.LayerSynchronous()),
    "sigma-delta": ts.recipes.StreamingSigmaDelta(timesteps=6, threshold_count=8),
}
SURE = 0.3  # score of a detection


@dataclass(frozen=True)
class Data:
    """Pictures (count, 3, size, size) in 0..1, and the classes of those of the test if there are any."""

    calibration: Tensor
    test: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class Trained:
    """A network whose weights are in ``file``, and the data that it was trained for."""

    file: str
    network: Callable[[Path], tuple[nn.Module, Preprocessing]]
    data: Callable[[Path], Data]
    agrees: Callable[[Tensor, Tensor], Tensor]


def zoo(name: str) -> Callable[[Path], tuple[nn.Module, Preprocessing]]:
    def build(weights: Path) -> tuple[nn.Module, Preprocessing]:
        module, spec = ts.models.build(name, weights=weights)
        return module, spec.preprocessing

    return build


def cifar(folder: Path) -> Data:
    """The pictures whose pixels are exact."""
    archive = np.load(folder / "cifar10_lossless_5k.npz", allow_pickle=False)
    train, test = (
        torch.from_numpy(archive[f"{part}_images"][:count]).permute(0, 3, 1, 2).float() / 255
        for part, count in (("train", 4 * CALIBRATION), ("test", 4 * TEST))
    )
    return Data(train, test, torch.from_numpy(archive["test_labels"][: 4 * TEST]).long())


def cifar_jpeg(folder: Path) -> Data:
    """The JPEG copy."""
    file = folder / "cifar10_jpeg.npz"
    train, test = (
        torch.stack(list(map(pictures(file, part=f"{part}_"), range(count))))
        for part, count in (("train", 4 * CALIBRATION), ("test", 4 * TEST))
    )
    return Data(train, test, torch.from_numpy(np.load(file, allow_pickle=False)["test_labels"][: 4 * TEST]).long())


def imagenet(folder: Path) -> Data:
    """One picture of each class for the test, probably training pictures; thresholds from pictures of COCO."""
    archive = folder / "imagenet_samples_1000_224.npz"
    labels = torch.from_numpy(np.load(archive, allow_pickle=False)["labels"]).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:TEST]
    calibration = torch.cat([_all(folder / COCO.format(part), 256, 224) for part in ("val", "train")])
    return Data(calibration, torch.stack(list(map(pictures(archive), order.tolist()))), labels[order])


def coco(folder: Path) -> Data:
    return Data(_all(folder / COCO.format("train")), _all(folder / COCO.format("val")))


def _all(file: Path, size: int | None = None, cropped: int | None = None) -> Tensor:
    count = len(np.load(file, allow_pickle=False)["offsets"]) - 1
    return torch.stack(list(map(pictures(file, size, cropped), range(count))))


def same_class(answer: Tensor, expected: Tensor) -> Tensor:
    return answer.argmax(1) == expected.argmax(1)


def same_detections(answer: Tensor, expected: Tensor) -> Tensor:
    """For each cell in which the network detects something: the same class is detected there."""
    (ours, mine), (theirs, wanted) = (_detections(one) for one in (answer, expected))
    return ((ours >= SURE) & (mine == wanted))[theirs >= SURE]


def _detections(output: Tensor) -> tuple[Tensor, Tensor]:
    """(score, class) of each cell of FastestDet's output (batch, 85, rows, columns)."""
    surest = output[:, 5:].max(1)
    return output[:, 0].clamp(min=0) ** 0.6 * surest.values.clamp(min=0) ** 0.4, surest.indices


class Shuffled(nn.Module):
    """A block of ShuffleNetV2: half of the channels pass; with a stride both halves are new."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        inner, entering = after // 2, before if stride == 2 else before // 2
        self.branch_main = nn.Sequential(
            nn.Conv2d(entering, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False), nn.BatchNorm2d(inner),
            nn.Conv2d(inner, after - entering, 1, bias=False), nn.BatchNorm2d(after - entering), nn.ReLU(),
        )  # fmt: skip
        self.branch_proj = None if stride == 1 else nn.Sequential(
            nn.Conv2d(before, before, 3, 2, 1, groups=before, bias=False), nn.BatchNorm2d(before),
            nn.Conv2d(before, before, 1, bias=False), nn.BatchNorm2d(before), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.branch_proj is not None:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)
        return torch.cat([x[:, 0::2], self.branch_main(x[:, 1::2])], 1)


def pointwise(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())


def depthwise(channels: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]


class FastestDet(nn.Module):
    """A detector of one stride: ShuffleNetV2, three depths of 5×5 windows, and heads for objects, boxes and classes.

    (batch, 3, 352, 352), BGR in 0..1 → (batch, 5 + classes, 22, 22). Parameter names are those of the published
    weights (github.com/dog-qiuqiu/FastestDet, BSD-3-Clause).
    """

    def __init__(self, classes: int = 80, width: int = 96) -> None:
        super().__init__()
        stages, before = {}, 24
        for name, after, count in (("stage2", 48, 4), ("stage3", 96, 8), ("stage4", 192, 4)):
            blocks = [Shuffled(before, after, 2), *(Shuffled(after, after, 1) for _ in range(count - 1))]
            stages[name], before = nn.Sequential(*blocks), after
        stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU())
        self.backbone = nn.ModuleDict({"first_conv": stem, **stages})
        self.SPP = nn.ModuleDict(
            {
                "Conv1x1": nn.ModuleDict({"conv1x1": pointwise(48 + 96 + 192, width)}),
                **{f"S{n}": nn.Sequential(*(part for _ in range(n) for part in depthwise(width))) for n in (1, 2, 3)},
                "output": nn.Sequential(nn.Conv2d(3 * width, width, 1, bias=False), nn.BatchNorm2d(width)),
            }
        )
        heads = {"obj_layers": 1, "reg_layers": 4, "cls_layers": classes}
        self.detect_head = nn.ModuleDict(
            {
                "conv1x1": nn.ModuleDict({"conv1x1": pointwise(width, width)}),
                **{
                    name: nn.ModuleDict(
                        {
                            "conv5x5": nn.Sequential(
                                *depthwise(width), nn.Conv2d(width, n, 1, bias=False), nn.BatchNorm2d(n)
                            )
                        }
                    )
                    for name, n in heads.items()
                },
            }
        )
        self.pool, self.halve = nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(3, 2, 1)
        self.enlarge, self.relu = nn.Upsample(scale_factor=2), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        first = self.backbone["stage2"](self.pool(self.backbone["first_conv"](x)))
        second = self.backbone["stage3"](first)
        third = self.backbone["stage4"](second)
        x = self.SPP["Conv1x1"]["conv1x1"](torch.cat([self.halve(first), second, self.enlarge(third)], 1))
        windows = torch.cat([self.SPP[f"S{n}"](x) for n in (1, 2, 3)], 1)
        x = self.detect_head["conv1x1"]["conv1x1"](self.relu(x + self.SPP["output"](windows)))
        obj, box, cls = (self.detect_head[f"{part}_layers"]["conv5x5"](x) for part in ("obj", "reg", "cls"))
        return torch.cat([obj.sigmoid(), box, cls.softmax(1)], 1)


def fastestdet(weights: Path) -> tuple[nn.Module, Preprocessing]:
    model = FastestDet()
    model.load_state_dict(load_file(weights), strict=True)
    first = model.backbone["first_conv"][0].weight
    first.data = first.data.flip(1)  # pictures are RGB, and the weights of BGR
    return model.eval(), Preprocessing()


NETWORKS = (
    Trained("resnet20-cifar10.safetensors", zoo("resnet20-16-32-64"), cifar, same_class),
    Trained("resnet20-cifar10-jpeg.safetensors", zoo("resnet20-16-32-64"), cifar_jpeg, same_class),
    Trained("efficientnet-lite0-imagenet.safetensors", zoo("efficientnet-lite0"), imagenet, same_class),
    Trained("fastestdet-coco352.safetensors", fastestdet, coco, same_detections),
)


@dataclass(frozen=True)
class TrainedRow:
    """One network with one recipe; "" and None where it was refused."""

    file: str
    recipe: str = ""
    size: str = ""
    neurons: int = 0
    steps: int = 0
    pictures: int = 0
    source: float | None = None
    accuracy: float | None = None
    agreement: float = float("nan")
    error: float = float("nan")
    exact: str = ""
    refused: str = ""
    seconds: float = 0.0


def names(models: Path) -> list[tuple[str, str]]:
    """(file, recipe) of every row: each file of weights in the folder, known or not."""
    known = {one.file for one in NETWORKS}
    return [
        (file.name, recipe)
        for file in sorted(models.glob("*.safetensors"))
        for recipe in (RECIPES if file.name in known else ("",))
    ]


@torch.no_grad()
def measure(file: str, recipe: str, models: Path, data: Path | None) -> TrainedRow:
    start = time.process_time()
    trained = next((one for one in NETWORKS if one.file == file), None)
    if trained is None:
        return TrainedRow(file, refused="no network of benchmarks/coverage_trained.py has these weights")
    if data is None:
        return TrainedRow(file, recipe, refused="its pictures are not there: give --data-dir")
    try:
        sets = trained.data(data)
    except FileNotFoundError as problem:
        return TrainedRow(file, recipe, refused=f"its pictures are not there: {Path(problem.filename).name}")
    module, preprocessing = trained.network(models / file)
    expected = torch.cat([module(preprocessing(part)) for part in sets.test.split(8)])
    size = "×".join(map(str, sets.test.shape[2:]))
    try:
        snn = ts.convert(module, RECIPES[recipe], sets.calibration, preprocessing=preprocessing)
    except ts.TranspikeError as problem:
        spent = time.process_time() - start
        return TrainedRow(file, recipe, size, refused=str(problem).splitlines()[0], seconds=spent)
    traces = [snn.run(part, count=False) for part in sets.test.split(8)]
    answer = torch.cat([trace.logits[-1] for trace in traces])
    labels = sets.labels
    neurons = sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")
    on_grid = all(trace.exact for trace in traces)
    return TrainedRow(
        file, recipe, size, neurons, snn.total_steps(), len(answer),
        None if labels is None else float((expected.argmax(1) == labels).float().mean()),
        None if labels is None else float((answer.argmax(1) == labels).float().mean()),
        float(trained.agrees(answer, expected).float().mean()),
        float((answer - expected).norm() / expected.norm()),
        "yes" if on_grid else f"no: {next(trace.why for trace in traces if not trace.exact).split(': ')[-1]}",
        seconds=time.process_time() - start,
    )  # fmt: skip


def table(rows: list[TrainedRow]) -> list[str]:
    """The lines of the part of the page."""
    return [
        "## Trained networks", "",
        "Every file of weights in the folder that was given as `--models-dir`, on real pictures at its own size: "
        + f"`ECC.paper(timesteps={RECIPES['ecc'].timesteps}, schedule=LayerSynchronous())` and "
        + f"`StreamingSigmaDelta(timesteps={RECIPES['sigma-delta'].timesteps}, threshold_count=8)`, on the exact grid where it carries the run.",
        "",
        "- *Agreement*: share of pictures with the network's class; of a detector, share of the cells in which the network",
        f"  detects something (score ≥ {SURE}) where the same class is detected. *Error*: of the whole output, relative, in the",
        "  norm of all pictures. For the ImageNet images, read agreement and the difference, not the accuracy: they are probably",
        "  training pictures. Thresholds of that network are from pictures of COCO, which are not those of the test.", "",
        "| weights | input | recipe | neurons | steps | pictures | accuracy, before → after | agreement | error | exact | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
        *map(line, rows), "",
    ]  # fmt: skip


def line(row: TrainedRow) -> str:
    if row.refused:
        reason = row.refused.replace("|", "/")
        return f"| {row.file} | {row.size} | {row.recipe} | | | | | | | refused: {reason} | {row.seconds:.0f} |"
    accuracy = "" if row.source is None or row.accuracy is None else f"{row.source:.1%} → {row.accuracy:.1%}"
    return (
        f"| {row.file} | {row.size} | {row.recipe} | {row.neurons:,} | {row.steps:,} | {row.pictures} | {accuracy} |"
        f" {row.agreement:.1%} | {row.error:.3f} | {row.exact} | {row.seconds:.0f} |"
    )
