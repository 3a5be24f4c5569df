"""Trained networks with smooth activations as spiking networks: benchmarks/any_activation.json.

    python benchmarks/any_activation.py denoiser unet mobilenet-v3 efficientnet --folder FOLDER --data-dir DATA

A denoiser of digits, a U-Net with bilinear upsampling, and small networks of the blocks of MobileNetV3 and
EfficientNet on CIFAR-10 (any_activation_networks.py). FOLDER keeps the trained weights: the first run trains them,
which takes 1, 6, 14 and 14 minutes of one core. Rows that the JSON has stay.
"""

import argparse
import json
import platform
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from any_activation_networks import CASES, Case, trained
from any_activation_rates import rate_codes

import transpike as ts
from transpike import recipes as r
from transpike.core.recipe import Recipe
from transpike.energy.operations import Operations, Operations32Float
from transpike.results.statistics import paired_difference
from transpike.results.writing import write_atomically
from transpike.workflow.evaluate.report import Report

CONTENT = Path(__file__).resolve().with_suffix(".json")
MODELS = (Operations(), Operations32Float())
BATCH, TIMED = 50, 50  # images of a batch, and of the measured time
SAMPLES = {"denoiser": 300, "unet": 200, "mobilenet-v3": 3000, "efficientnet": 3000}
TWINS = {"denoiser": 100, "unet": 100, "mobilenet-v3": 3000, "efficientnet": 3000}  # for burst-digits
FEWER, FEW = 100, 10  # for the recipes that are compared, and for those of 64 steps
STEPS = {"denoiser": 8, "unet": 6, "mobilenet-v3": 5, "efficientnet": 5}
PERCENTILE = 99.5
CALIBRATION = 512
PICO = 1e-12


def rows(name: str) -> list[tuple[Recipe, int]]:
    """The recipes of a case, each with the number of test samples."""
    steps = STEPS[name]
    found: list[tuple[Recipe, int]] = [
        (r.StreamingSigmaDelta(steps, percentile=PERCENTILE), SAMPLES[name]),
        (r.BurstDigits(1, percentile=PERCENTILE), TWINS[name]),
    ]
    if name in ("denoiser", "unet"):  # dcgs refuses products of two wires
        found.append((r.DCGS(steps), FEWER))
    if name == "denoiser":
        found += [(recipe, FEW) for recipe in rate_codes()]
        others = (r.StreamingSigmaDelta(steps), r.StreamingSigmaDelta(steps, percentile=PERCENTILE, threshold_count=6))
        found += [(recipe, FEWER) for recipe in others]
    return found


def batches(case: Case, data: ts.data.Dataset, samples: int) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    for numbers in torch.arange(samples).split(BATCH):
        yield case.batch(data, "test", numbers)


def converted(case: Case, data: ts.data.Dataset, model: torch.nn.Module, recipe: Recipe) -> ts.SNN:
    chosen = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:CALIBRATION]
    preprocessing = data.preprocessing if case.data == "cifar10" else None
    return ts.convert(model, recipe, case.batch(data, "train", chosen)[0], preprocessing=preprocessing)


def measured(case: Case, data: ts.data.Dataset, model: torch.nn.Module, recipe: Recipe, samples: int) -> dict[str, Any]:
    """What the network answers and does after each number of steps, and the same of its source network."""
    snn = converted(case, data, model, recipe)
    found = ts.evaluate(snn, batches(case, data, samples), task=case.task, energy=MODELS)
    layers = [layer for layer in found.activities[found.timesteps].layers if layer.role == "neuron"]
    spikes = sum(layer.spikes for layer in layers)
    neurons = sum(layer.neurons for layer in layers)
    last = [int(t) + 1 for t in spikes.nonzero()[-1:]]
    steps = []
    for answer, closeness in zip(found.curve, found.fidelity, strict=True):
        step = {
            "T": answer.timesteps, **quality(found, answer),
            "relative error": closeness.relative_error,
            "spikes per neuron": answer.spikes / neurons,
            "spikes of the step per neuron": float(spikes[answer.timesteps - 1]) / samples / neurons,
            "synaptic operations": answer.synaptic_operations,
            "operations / MACs": answer.synaptic_operations / found.ann_macs,
            "remaining MACs / MACs": answer.macs / found.ann_macs,
            **{f"{model} / ANN": joule_ratio(model, answer, found.ann_macs) for model in MODELS},
        }  # fmt: skip
        steps.append({key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in step.items()})
    return {
        "samples": samples, "neurons": neurons, "ann_macs": found.ann_macs, "exact": found.exact, "why": found.exact_why,
        "ties": found.ties, "last step with a spike": last[0] if last else 0, "unpriced": len(found.unpriced),
        "remarks": list(found.remarks), "seconds per image": seconds(case, data, snn, model), "steps": steps,
    }  # fmt: skip


def joule_ratio(model: Operations, answer: Any, macs: int) -> float | None:
    """Joules of the spiking network by those of the ANN, of whose products none is skipped, in the same widths."""
    joule = answer.energy_joule[str(model)]
    return None if joule is None else joule / (macs * (model.multiply.value + model.add.value) * PICO)


def quality(found: Any, answer: Any) -> dict[str, Any]:
    """The task's first metric of the ANN and of the answer, and the change with its 95 % interval."""
    if isinstance(found, Report):
        drop = paired_difference(found.ann_outcomes, found.outcomes[answer.timesteps])
        change = [100 * -value for value in (drop[0], drop[2], drop[1])]
        return {
            "metric": "accuracy in %", "ANN": 100 * found.ann_accuracy, "SNN": 100 * answer.accuracy,
            "change": change[0], "low": change[1], "high": change[2], "agreement": answer.agreement,
        }  # fmt: skip
    metric = next((m.name for m in found.metrics if m.name == "PSNR"), found.metrics[0].name)
    change = answer.changes[metric]
    return {
        "metric": metric, "ANN": found.ann[metric].value, "SNN": answer.metrics[metric].value,
        "change": change.value, "low": change.low, "high": change.high,
    }  # fmt: skip


def seconds(case: Case, data: ts.data.Dataset, snn: ts.SNN, model: torch.nn.Module) -> dict[str, float]:
    """Seconds per image of one batch: the shorter one of two runs."""
    x = case.batch(data, "test", torch.arange(TIMED))[0]

    def best(function: Any) -> float:
        taken = []
        for _ in range(2):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
        return float(f"{min(taken) / TIMED:.3g}")

    with torch.no_grad():
        return {
            f"SNN, T={snn.timesteps}": best(lambda: ts.simulate(snn, x)),
            "ANN": best(lambda: model(snn.prepare(x))),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=sorted(CASES))
    parser.add_argument("--folder", type=Path, required=True, help="Where trained networks lie.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, help="Test samples of every row (default: by row).")
    parser.add_argument("--output", type=Path, default=CONTENT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    content = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    wanted = [(place, name, *row) for name in arguments.cases for place, row in enumerate(rows(name))]
    for _, name, recipe, samples in sorted(wanted, key=lambda row: row[0]):  # first the first rows of all cases
        case = CASES[name]
        data = ts.data.load(case.data, arguments.data_dir)
        found = content.setdefault(name, {"data": data.note, "seed": 0, "calibration": CALIBRATION, "rows": {}})
        if str(recipe) in found["rows"]:
            continue
        start = time.perf_counter()
        row = measured(case, data, trained(name, data, arguments.folder), recipe, arguments.samples or samples)
        found["rows"][str(recipe)] = row
        content["versions"] = {
            "torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__,
        }  # fmt: skip
        write_atomically(arguments.output, json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n")
        for step in row["steps"]:
            print(name, recipe.name, *(f"{key} {value}" for key, value in step.items()), sep=" | ")
        print(f"{name} {recipe}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
