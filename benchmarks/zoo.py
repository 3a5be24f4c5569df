"""The trained networks that come with transpike: trains, converts and measures them, and writes them into the package.

    python benchmarks/zoo.py --folder FOLDER [--only small-cnn,vgg5] [--data-dir DATA] [--models-dir MODELS]

One after another; a run that was stopped goes on where it was: FOLDER/NAME.checkpoint.safetensors after each epoch,
FOLDER/NAME.json after each stage. Each network is trained on the training samples without those that are held out. The
epoch with the best answers to the held-out samples is used. Weights are written in half precision, and everything is
measured with the weights as they are written. Every candidate (recipe and T) is converted with 512 training samples
and measured on the held-out samples: of those that lose at most 1 point against their source network, the one with the
fewest synaptic operations is used, without such a one the most accurate. The points are those of the accuracy, of data
with rare classes the share of answers that are not those of the source network. The test samples are measured once, with
that one.

src/transpike/models/zoo gets NAME.safetensors, NAME.transpike and the entry of catalogue.json, docs/pictures zoo-NAME.png;
benchmarks/zoo_page.py makes the page from it.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import transpike as ts
from transpike import recipes as r
from transpike.core.naming import dashed
from transpike.core.recipe import Recipe
from transpike.data.named import directory
from transpike.results.writing import tensor_bytes, write_atomically
from transpike.workflow.train import Progress

PACKAGE = Path(ts.models.__file__).with_name("zoo")
CATALOGUE = PACKAGE / "catalogue.json"
PICTURES = Path(__file__).resolve().parents[1] / "docs/pictures"
BATCH, CALIBRATION, SEED, MOST_POINTS, FIRST = 100, 512, 0, 1.0, 40
APACHE = "Apache-2.0"
FASHION = "MIT (Fashion-MNIST, Zalando Research)"
OURS = "trained by transpike"


def rate_coded() -> Iterator[Recipe]:
    """For networks of ReLUs: binary spikes in every step, in windows, and bursts."""
    for steps in (4, 8, 16, 32):
        yield r.FewSteps(timesteps=steps)
    for steps in (2, 4, 8):
        yield windowed(steps)
    for steps in (2, 4):
        yield r.FewSteps(timesteps=steps, neuron="burst")


def windowed(steps: int) -> Recipe:
    """Each layer fires when the one before has."""
    schedule, readout = ts.schedules.LayerSynchronous(), ts.readouts.AccumulatedMembrane()
    return r.FewSteps(timesteps=steps, schedule=schedule, readout=readout)


def deep() -> Iterator[Recipe]:
    """As ``rate_coded``, for a network whose runs are long."""
    yield r.FewSteps(timesteps=32)
    yield windowed(8)
    yield windowed(16)
    yield r.FewSteps(timesteps=4, neuron="burst")


def differences() -> Iterator[Recipe]:
    """For a transformer: changes of values."""
    for count in (4, 6, 8):
        yield r.StreamingSigmaDelta(timesteps=6, threshold_count=count)
        yield r.BurstDigits(threshold_count=count)


FRAMES = 10


def framed() -> Iterator[Recipe]:
    """For recordings: one step for each frame."""
    events = {"timesteps": FRAMES, "encoder": ts.encoders.EventFrames()}
    yield r.ECC(**events)
    yield r.ECC(**events, schedule=ts.schedules.LayerSynchronous())
    yield r.FewSteps(**events, neuron="signed", readout=ts.readouts.AccumulatedMembrane())


@dataclass(frozen=True)
class Plan:
    """One network. ``archive``: a file of the data folder that ``data`` names; ``weights``: published ones, no training.

    ``held_out``: number of training samples, None where the data set has a validation split. ``tested``: the first N
    test samples, None for all; ``compared`` of the held-out ones. ``by_class``: some classes are rare, so that the share of
    correct answers for each class is measured too, and changed answers decide. ``any_input``: single batches differ from the calibration data, as those of one
    patient do. ``trained_by``: where published weights are from. ``ships_converted``: False if the spiking
    network is too large for the package.
    """

    title: str
    data: str
    test_set: str
    data_licence: str
    candidates: Callable[[], Iterator[Recipe]]
    training: ts.Training | None = None
    licence: str = APACHE
    source: str = OURS
    archive: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    held_out: int | None = None
    compared: int = 500
    tested: int | None = None
    weights: str = ""
    trained_by: str = "outside of transpike, on all training images"
    ships_converted: bool = True
    by_class: bool = False
    any_input: bool = False


PLANS = {
    "small-cnn": Plan(
        "CNN with a residual block, for digits", "digits", "the test images of the embedded digits",
        "CC BY 4.0 (UCI Optical Recognition of Handwritten Digits, Alpaydin and Kaynak 1998)", rate_coded,
        ts.Training(epochs=40, learning_rate=0.05, batch_size=64), held_out=200,
    ),
    "resnet20-16-32-64": Plan(
        "ResNet-20 for CIFAR-10", "cifar10", "the first 1,000 test images of CIFAR-10, exact pixels",
        "none stated by the authors (CIFAR-10, Krizhevsky 2009), who ask to be cited", deep, None, "BSD-2-Clause",
        "the public weights of github.com/akamaster/pytorch_resnet_cifar10 (Yerlan Idelbayev), stored in half precision",
        archive="cifar10_lossless_5k.npz", held_out=500, weights="resnet20-cifar10.safetensors",
    ),
    "vgg8": Plan(
        "VGG-8 of full strength for CIFAR-10", "cifar10", "the test images of CIFAR-10, a JPEG copy",
        "none stated by the authors (CIFAR-10, Krizhevsky 2009), who ask to be cited", deep,
        held_out=500, weights="vgg8.safetensors", ships_converted=False,
        trained_by="python benchmarks/strong_networks.py vgg8, on all training images",
    ),
    "events-cnn": Plan(
        "CNN for an event camera", "n-mnist", "the first 100 test recordings of N-MNIST",
        "CC BY-SA 4.0 (N-MNIST, Orchard et al. 2015)", framed,
        ts.Training(epochs=40, learning_rate=0.05, batch_size=50, augment="crop"), "CC-BY-SA-4.0",
        "trained by transpike on the first 1,000 training recordings",
        archive="nmnist_small.npz", options={"bins": FRAMES}, held_out=200, compared=200,
    ),
    "ecg-classes": Plan(
        "CNN for heartbeats", "mitbih", "the beats of DS2 (22 patients, none of them in training)",
        "ODC-BY 1.0 (MIT-BIH arrhythmia database, Moody and Mark 2001; PhysioNet)", rate_coded,
        ts.Training(epochs=3, learning_rate=0.05), options={"task": "classes", "rhythm": "both", "balance": 0.5},
        compared=3000, by_class=True, any_input=True,
    ),
    "vgg5": Plan(
        "VGG-5 for Fashion-MNIST", "fashion-mnist", "the test images of Fashion-MNIST", FASHION, rate_coded,
        ts.Training(epochs=4, learning_rate=0.1, batch_size=128), held_out=5000,
    ),
    "vit-tiny": Plan(
        "vision transformer for Fashion-MNIST", "fashion-mnist", "the first 2,000 test images of Fashion-MNIST", FASHION,
        differences,
        ts.Training(
            epochs=5, optimiser="adam", learning_rate=0.002, warmup_epochs=1, weight_decay=1e-5, label_smoothing=0.1,
            augment="crop",
        ), held_out=5000, compared=300, tested=2000,
    ),
    "ds-cnn": Plan(
        "DS-CNN, the form of keyword spotting, trained on images of clothes", "fashion-mnist",
        "the test images of Fashion-MNIST", FASHION, rate_coded,
        ts.Training(epochs=4, learning_rate=0.1, batch_size=128), held_out=5000,
    ),
}  # fmt: skip


class Stages:
    """What the stages of one network found, in a file that is replaced after each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def keep(self, name: str, value: Any) -> Any:
        self.found[name] = value
        write_atomically(self.path, (json.dumps(self.found, indent=1) + "\n").encode())
        return value


def loaded(plan: Plan, folder: Path | None) -> tuple[ts.data.Dataset, Tensor]:
    """The data with its held-out samples as validation split, and the training samples that calibrate."""
    name = f"npz:{directory(folder) / plan.archive}" if plan.archive else plan.data
    data = ts.data.load(name, folder, **plan.options)
    if plan.held_out is not None:
        order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(SEED))
        train, held_out = data.train.subset(order[plan.held_out :]), data.train.subset(order[: plan.held_out])
        data = replace(data, train=train, validation=held_out)
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(SEED + 1))[:CALIBRATION]
    return data, data.train.batch(chosen)[0]


def built(name: str, data: ts.data.Dataset) -> tuple[nn.Module, ts.Preprocessing]:
    torch.manual_seed(SEED)
    network, spec = ts.models.build(f"zoo:{name}", num_classes=len(data.classes), input_shape=data.image_shape)
    return network, spec.preprocessing


@torch.no_grad()
def answers(network: nn.Module, split: ts.data.Split, preprocessing: ts.Preprocessing, limit: int | None) -> Tensor:
    network.eval()
    found = [network(preprocessing(x)).argmax(1) for x, _ in split.accumulated().batches(500, limit=limit)]
    return torch.cat(found)


def in_memory(data: ts.data.Dataset) -> ts.data.Dataset:
    """The data to train on, read once; without the test samples."""

    def read(split: ts.data.Split) -> ts.data.Split:
        images, labels = split.accumulated().batch(torch.arange(len(split)))
        return ts.data.Split(images, labels, split.source)

    assert data.validation is not None
    splits = {
        "train": read(data.train),
        "validation": read(data.validation),
        "test": data.test.accumulated().subset([]),
    }
    return replace(data, **splits)


def train(name: str, plan: Plan, data: ts.data.Dataset, folder: Path, stages: Stages) -> Path:
    """The file of the trained network, in single precision."""
    network, preprocessing = built(name, data)
    file = folder / f"{name}.weights.safetensors"
    if "training" not in stages.found:
        assert plan.training is not None
        spent = [stages.found.get("cpu_seconds", 0.0), time.process_time()]

        def shown(state: Any) -> None:
            if not isinstance(state, Progress):
                stages.keep("cpu_seconds", spent[0] + time.process_time() - spent[1])
                print(name, state, flush=True)

        result = ts.train(
            network, in_memory(data), plan.training, preprocessing=preprocessing,
            checkpoint=folder / f"{name}.checkpoint.safetensors", weights=file, progress=shown,
        )  # fmt: skip
        stages.keep("training", {
            "epochs": plan.training.epochs, "best_epoch": result.best_epoch, "samples": len(data.train),
            "seconds": round(sum(row.seconds for row in result.history), 1),
            "cpu_seconds": round(stages.found.get("cpu_seconds", 0.0), 1),
            "settings": plan.training.to_json(), "versions": versions(),
        })  # fmt: skip
    return file


def published(plan: Plan, arguments: argparse.Namespace, stages: Stages) -> Path:
    folder = arguments.models_dir or Path(os.environ["TRANSPIKE_MODELS"])
    stages.keep("training", {"samples": 50_000, "where": plan.trained_by, **spent(folder / plan.weights)})
    return folder / plan.weights


def spent(file: Path) -> dict[str, Any]:
    """Epochs, CPU seconds and versions of a network of strong_networks.py, which are in its file."""
    facts = json.loads(ts.models.metadata_of(file).get("facts", "null"))
    if facts is None:
        return {}
    kept = {"epochs": facts["facts"]["plan"]["epochs"], "settings": facts["facts"]["plan"]}
    return {**kept, **{key: facts[key] for key in ("seconds", "cpu_seconds", "versions")}}


def narrowed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}


def written(
    name: str, plan: Plan, data: ts.data.Dataset, weights: Path, folder: Path, stages: Stages
) -> tuple[nn.Module, ts.Preprocessing]:
    """The network with the weights of the file that it writes, in half precision."""
    network, preprocessing = built(name, data)
    ts.models.load_weights(network, weights)
    exact = answers(network, data.test, preprocessing, plan.tested)
    metadata = {
        "format": "transpike weights", "spec": f"zoo:{name}",
        "preprocessing": json.dumps({"mean": preprocessing.mean, "std": preprocessing.std}),
        "licence": plan.licence, "source": plan.source,
    }  # fmt: skip
    halves = {key: value.contiguous() for key, value in narrowed(network.state_dict()).items()}
    file = folder / f"{name}.safetensors"
    write_atomically(file, tensor_bytes(halves, metadata))
    ts.models.load_weights(network, file)
    found = answers(network, data.test, preprocessing, plan.tested)
    stages.keep("changed_by_half_precision", int((found != exact).sum()))
    return network.eval(), preprocessing


def converted(network: nn.Module, recipe: Recipe, calibration: Tensor, preprocessing: ts.Preprocessing) -> ts.SNN:
    given = None if recipe.encoder.has_frames else preprocessing
    return ts.convert(network, recipe, calibration, preprocessing=given, seed=SEED)


def label(recipe: Recipe) -> str:
    """The recipe with its T, which its own text leaves out where it is the default."""
    text = str(recipe)
    return text if "timesteps=" in text else f"{text}, T={recipe.timesteps}"


def options_of(recipe: Recipe) -> str:
    """The options of ``transpike convert`` that give this recipe."""
    changed = {
        one.name: getattr(recipe, one.name)
        for one in dataclasses.fields(recipe)  # type: ignore[arg-type]
        if one.name != "timesteps" and getattr(recipe, one.name) != one.default
    }
    settings = [f"--{key.replace('_', '-')} {spelt(value)}" for key, value in changed.items()]
    return " ".join([f"--recipe {recipe.name} --timesteps {recipe.timesteps}", *settings])


def spelt(value: Any) -> str:
    """A setting as the command line reads it; components are named, with their defaults."""
    if not dataclasses.is_dataclass(value):
        return str(value)
    return str(getattr(value, "name", dashed(type(value).__name__)))


def sensitivities(outcomes: Tensor, labels: Tensor) -> Tensor:
    """The share of correct answers for each class that occurs."""
    return torch.stack([outcomes[labels == label].double().mean() for label in labels.unique()])


def lost(plan: Plan, found: ts.Report) -> float:
    """What the conversion loses in accuracy, or the share of answers that it changes."""
    return 1 - found.final.agreement if plan.by_class else found.drop


def compared(
    plan: Plan, data: ts.data.Dataset, network: nn.Module, calibration: Tensor, preprocessing: ts.Preprocessing,
    stages: Stages,
) -> list[dict[str, Any]]:  # fmt: skip
    """A row for each candidate, measured on held-out samples."""
    assert data.validation is not None
    count = min(plan.compared, len(data.validation))
    spaced = torch.arange(count) * len(data.validation) // count
    rows: list[dict[str, Any]] = stages.found.get("rows", [])
    for recipe in plan.candidates():
        if any(row["candidate"] == label(recipe) for row in rows):
            continue
        start = time.process_time()
        snn = converted(network, recipe, calibration, preprocessing)
        snn = snn.accepting_any_input() if plan.any_input else snn
        found = ts.evaluate(snn, data.validation.batches(BATCH, indices=spaced), answers=(recipe.timesteps,))
        rows.append({
            "candidate": label(recipe), "samples": found.samples, "total_steps": found.final.total_steps,
            "accuracy": found.final.accuracy, "points_lost": 100 * lost(plan, found),
            "synaptic_operations": found.final.synaptic_operations,
        })  # fmt: skip
        stages.keep("rows", rows)
        print(rows[-1], f"{time.process_time() - start:.1f} s", flush=True)
    return rows


def chosen(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The fewest synaptic operations within a point, else the smallest loss."""
    good = [row for row in rows if row["points_lost"] <= MOST_POINTS + 1e-9]
    if good:
        return min(good, key=lambda row: (row["synaptic_operations"], row["total_steps"]))
    return min(rows, key=lambda row: row["points_lost"])


def pattern(shape: tuple[int, ...], binary: bool) -> Tensor:
    """Two inputs that every machine makes the same way, for tests without data: (2, *shape)."""
    values = torch.stack([torch.arange(prod(shape)) * step % 256 for step in (37, 91)]).reshape(2, *shape)
    return (values < 32).float() if binary else values.float() / 255


def measured(name: str, plan: Plan, data: ts.data.Dataset, snn: ts.SNN) -> dict[str, Any]:
    """Accuracy, counts and energy of the chosen network and its quantised baseline on the test samples."""
    test = data.test.batches(BATCH, limit=plan.tested)
    found = ts.cost(snn, test, timesteps=snn.timesteps)
    ts.report.save(found, PICTURES / f"zoo-{name}.png")
    report = found.report
    assert isinstance(report, ts.Report)
    low, high = report.drop_interval
    labels = torch.cat([y for _, y in test])
    last = report.outcomes[report.final.timesteps]
    by_class = {"ann": sensitivities(report.ann_outcomes, labels), "snn": sensitivities(last, labels)}
    return {
        "ann": {"correct": int(report.ann_outcomes.sum()), "samples": report.samples},
        "snn": {"correct": int(last.sum()), "samples": report.samples},
        "drop": report.drop, "drop_low": low, "drop_high": high, "agreement": report.final.agreement,
        "total_steps": report.final.total_steps, "synaptic_operations": report.final.synaptic_operations,
        "macs": report.final.macs, "ann_macs": report.ann_macs, "spike_rate": report.final.spike_rate,
        "exact": report.exact,
        "curve": [
            {"timesteps": a.timesteps, "total_steps": a.total_steps, "correct": round(a.accuracy * report.samples),
             "synaptic_operations": round(a.synaptic_operations, 1)}
            for a in report.curve
        ],
        "verdict": found.verdict,
        "energy": {one.model: one.ratio for one in found.models if one.judges and one.ratio is not None},
        **({"by_class": {kind: share.tolist() for kind, share in by_class.items()}} if plan.by_class else {}),
        "first": {"samples": FIRST, "ann": int(report.ann_outcomes[:FIRST].sum()), "snn": int(last[:FIRST].sum())},
    }  # fmt: skip


def versions() -> dict[str, str]:
    return {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}


def packaged(file: Path) -> dict[str, Any]:
    """Copy into the package; name, size and hash."""
    content = file.read_bytes()
    shutil.copyfile(file, PACKAGE / file.name)
    return {"file": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def make(name: str, plan: Plan, arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    stages = Stages(folder / f"{name}.json")
    data, calibration = loaded(plan, arguments.data_dir)
    weights = published(plan, arguments, stages) if plan.weights else train(name, plan, data, folder, stages)
    network, preprocessing = written(name, plan, data, weights, folder, stages)
    rows = compared(plan, data, network, calibration, preprocessing, stages)
    best = chosen(rows)
    recipe = next(one for one in plan.candidates() if label(one) == best["candidate"])
    snn = converted(network, recipe, calibration, preprocessing)
    options = {key: value for key, value in plan.options.items() if recipe.encoder.has_frames}
    snn.provenance.update({"model": f"zoo:{name}", "weights": f"{name}.safetensors", "data": plan.data})
    snn.provenance["data_options"] = options
    snn = snn.accepting_any_input() if plan.any_input else snn
    file = folder / f"{name}.transpike"
    ts.save(snn, file)
    snn = ts.load(file)
    if stages.found.get("measured", {}).get("candidate") != best["candidate"]:
        stages.keep("measured", {"candidate": best["candidate"], **measured(name, plan, data, snn)})
    found = dict(stages.found["measured"])
    shape = data.image_shape if not recipe.encoder.has_frames else (FRAMES, *data.image_shape)
    x = pattern(shape, recipe.encoder.has_frames)
    entering = recipe.encoder.accumulate(x) if recipe.encoder.has_frames else preprocessing(x)
    with torch.no_grad():
        check = {"ann": network(entering).tolist(), "snn": snn.accepting_any_input()(x).tolist()}
    check["first"] = found.pop("first")
    command = f"python benchmarks/zoo.py --only {name}"
    catalogue = json.loads(CATALOGUE.read_text()) if CATALOGUE.exists() else {}
    catalogue[name] = rounded({
        "title": plan.title, "data": plan.data, "data_options": plan.options, "test_set": plan.test_set,
        "classes": list(data.classes), "input_shape": list(data.image_shape),
        "preprocessing": {"mean": list(preprocessing.mean), "std": list(preprocessing.std)},
        "parameters": sum(value.numel() for value in network.parameters()),
        "licence": plan.licence, "data_licence": plan.data_licence, "source": plan.source,
        "training": {
            "command": command, **stages.found["training"], "held_out": len(data.validation or ()),
            "changed_by_half_precision": stages.found["changed_by_half_precision"],
        },
        "ann": found.pop("ann"), "snn": found.pop("snn"),
        "conversion": {
            "recipe": str(recipe), "options": options_of(recipe), "timesteps": recipe.timesteps, "calibration_samples": len(calibration), "seed": SEED,
            **found, "compared": rows, "versions": versions(),
        },
        "check": check, "weights": packaged(folder / f"{name}.safetensors"), "converted": packaged(file) if plan.ships_converted else None,
    })  # fmt: skip
    ordered = {key: catalogue[key] for key in PLANS if key in catalogue}
    write_atomically(CATALOGUE, (json.dumps(ordered, indent=1, ensure_ascii=False) + "\n").encode())
    entry = ordered[name]
    print(name, entry["ann"], entry["snn"], best, entry["conversion"]["verdict"], sep=" | ", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="Where checkpoints and stages are kept.")
    parser.add_argument("--only", help="Names, comma-separated (default: all).")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--models-dir", type=Path, help="Folder of published weights (default: TRANSPIKE_MODELS).")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for folder in (arguments.folder, PICTURES):
        folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.only.split(",") if arguments.only else PLANS:
        make(name, PLANS[name], arguments)


if __name__ == "__main__":
    main()
