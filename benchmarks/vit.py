"""Vision transformers of three seeds on Fashion-MNIST as spiking networks: benchmarks/vit.json.

    python benchmarks/vit.py train FOLDER --data-dir DATA      # 12 epochs for each seed, about 8 minutes each
    python benchmarks/vit.py measure FOLDER --data-dir DATA    # rows that the JSON has stay
    python benchmarks/vit.py peer FOLDER --data-dir DATA       # SpikingJelly, where it is installed

FOLDER keeps the trained weights; training resumes where it was stopped. Test images are the first n of the test set,
thresholds come from 512 training images (seed 0).
"""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch
from any_activation import MODELS, joule_ratio
from torch import nn

import transpike as ts
from transpike import recipes as r
from transpike.core.recipe import Recipe
from transpike.results.statistics import paired_difference
from transpike.results.writing import write_atomically
from transpike.workflow.train import Progress

CONTENT = Path(__file__).resolve().with_suffix(".json")
NETWORK, DATA, SEEDS = "zoo:vit-tiny", "fashion-mnist", (0, 1, 2)
BATCH, CALIBRATION, EPOCHS = 100, 512, 12


def rows(seed: int) -> list[tuple[Recipe, int]]:
    """The recipes, each with the number of test images."""
    every = 2_000
    found: list[tuple[Recipe, int]] = [(r.StreamingSigmaDelta(10), every), (r.BurstDigits(1), every)]
    if seed == 0:
        found += [(r.StreamingSigmaDelta(10, threshold_count=count), 2_000) for count in (6, 4)]
        found += [(r.BurstDigits(1, threshold_count=6), 2_000), (r.ECMT(32), 500), (r.DCGS(8), 500)]
    return found


def weights(folder: Path, seed: int) -> Path:
    return folder / f"vit-{seed}.weights.safetensors"


def train(folder: Path, data: ts.data.Dataset) -> None:
    for seed in SEEDS:
        torch.manual_seed(seed)
        network, spec = ts.models.build(NETWORK, num_classes=len(data.classes), input_shape=data.image_shape)
        settings = ts.Training(
            epochs=EPOCHS, optimiser="adam", learning_rate=0.002, warmup_epochs=1, weight_decay=1e-5,
            label_smoothing=0.1, augment="crop", seed=seed,
        )  # fmt: skip
        files = {"checkpoint": folder / f"vit-{seed}.checkpoint.safetensors", "weights": weights(folder, seed)}
        found = ts.train(network, data, settings, preprocessing=spec.preprocessing, **files, progress=shown, threads=1)
        print(f"seed {seed}: {found.test_accuracy:.4f} of {found.test_images} test images", flush=True)


def shown(state: Any) -> None:
    if not isinstance(state, Progress):
        print(state, flush=True)


def trained(folder: Path, seed: int, data: ts.data.Dataset) -> tuple[nn.Module, ts.models.Model]:
    network, spec = ts.models.build(NETWORK, num_classes=len(data.classes), input_shape=data.image_shape)
    ts.models.load_weights(network, weights(folder, seed))
    return network.eval(), spec


def calibration(data: ts.data.Dataset) -> torch.Tensor:
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:CALIBRATION]
    return data.train.batch(chosen)[0]


def measured(folder: Path, seed: int, data: ts.data.Dataset, recipe: Recipe, samples: int) -> dict[str, Any]:
    network, spec = trained(folder, seed, data)
    snn = ts.convert(network, recipe, calibration(data), preprocessing=spec.preprocessing)
    found = ts.evaluate(snn, data.test.batches(BATCH, limit=samples), energy=MODELS)
    neurons = [layer for layer in found.activities[found.timesteps].layers if layer.role == "neuron"]
    spikes, count = sum(layer.spikes for layer in neurons), sum(layer.neurons for layer in neurons)
    steps = []
    for answer, closeness in zip(found.curve, found.fidelity, strict=True):
        drop, low, high = paired_difference(found.ann_outcomes, found.outcomes[answer.timesteps])
        activity = found.activities[answer.timesteps]
        step = {
            "T": answer.timesteps,
            "accuracy": 100 * answer.accuracy, "drop": 100 * drop, "low": 100 * low, "high": 100 * high,
            "agreement": 100 * answer.agreement,
            "relative error": closeness.relative_error,
            "operations / MACs": answer.synaptic_operations / found.ann_macs,
            "product operations": activity.product_operations,
            "remaining MACs / MACs": answer.macs / found.ann_macs,
            "evaluations": {name: list(pair) for name, pair in activity.evaluated.items()},
            **{f"{model} / ANN": joule_ratio(model, answer, found.ann_macs) for model in MODELS},
            "spikes of the step per image": float(spikes[answer.timesteps - 1]) / samples,
        }  # fmt: skip
        steps.append({key: rounded(value) for key, value in step.items()})
    last = [int(t) + 1 for t in spikes.nonzero()[-1:]]
    return {
        "samples": samples, "ANN accuracy": rounded(100 * found.ann_accuracy), "neurons": count,
        "ann_macs": found.ann_macs, "ties": found.ties, "exact": found.exact, "why": found.exact_why,
        "last step with a spike": last[0] if last else 0, "remarks": list(found.remarks), "steps": steps,
    }  # fmt: skip


def rounded(value: Any) -> Any:
    return float(f"{value:.5g}") if isinstance(value, float) else value


def measure(folder: Path, data: ts.data.Dataset, content: dict[str, Any], output: Path, limit: int | None) -> None:
    wanted = [(seed, recipe, samples) for seed in SEEDS for recipe, samples in rows(seed)]
    for seed, recipe, samples in wanted:
        place = content.setdefault("vit", {}).setdefault(str(seed), {})
        if str(recipe) in place or not weights(folder, seed).exists():
            continue
        place[str(recipe)] = measured(folder, seed, data, recipe, min(samples, limit or samples))
        store(content, data, output)
        last = place[str(recipe)]["steps"][-1]
        print(seed, recipe, *(f"{key} {value}" for key, value in last.items()), sep=" | ", flush=True)


def store(content: dict[str, Any], data: ts.data.Dataset, output: Path) -> None:
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    content |= {"data": data.note, "calibration": CALIBRATION, "versions": versions}
    write_atomically(output, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("train", "measure", "peer"))
    parser.add_argument("folder", type=Path, help="Where trained weights lie.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, help="At most so many test images of every row.")
    parser.add_argument("--output", type=Path, default=CONTENT)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = ts.data.load(DATA, chosen.data_dir)
    content = json.loads(chosen.output.read_text()) if chosen.output.exists() else {}
    if chosen.part == "train":
        train(chosen.folder, data)
    elif chosen.part == "measure":
        measure(chosen.folder, data, content, chosen.output, chosen.samples)


if __name__ == "__main__":
    main()
