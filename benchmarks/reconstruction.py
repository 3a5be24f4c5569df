"""Few steps with and without a reconstruction, on all test images: accuracy, and processor time of the conversion.

    python benchmarks/reconstruction.py --name resnet20 --model zoo:resnet20-16-32-64 --data cifar10 --data-dir DATA \\
        --weights resnet20-cifar10-jpeg.safetensors --timesteps 8 16 32

    python benchmarks/reconstruction.py --page    # writes the tables of docs/few-steps.md again

Every finished row is written to benchmarks/reconstruction.json; a rerun measures the others, and an interrupted
reconstruction resumes from its checkpoint. Settings were chosen on training images; test images are only measured.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch

import transpike as ts
from transpike.recipes import FewSteps
from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs/few-steps.md"
BEGIN, END = "<!-- measured -->", "<!-- end of measured -->"
VARIANTS: dict[str, dict[str, Any]] = {
    "binary": {},
    "signed": {"neuron": "signed"},
    "4 levels": {"neuron": "burst", "gamma": 4},
}


def measured(recipe: FewSteps, model: torch.nn.Module, data: ts.data.Dataset, preprocessing: Any, path: Path,
             arguments: argparse.Namespace) -> dict[str, Any]:  # fmt: skip
    """The row of one recipe: conversion without labels, and one evaluation."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(arguments.seed))
    images = [x for x, _ in data.train.batches(256, indices=order[: arguments.calibration_samples])]
    cpu, wall = time.process_time(), time.perf_counter()
    snn = ts.convert(
        model, recipe, images, preprocessing=preprocessing, seed=arguments.seed,
        checkpoint=path if recipe.reconstruct != "none" else None,
    )  # fmt: skip
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    report = ts.evaluate(snn, data.test.batches(250), limit=arguments.samples, answers=(recipe.timesteps,))
    low, high = report.drop_interval
    return {
        "recipe": str(recipe),
        "timesteps": recipe.timesteps,
        "total_steps": report.final.total_steps,
        "samples": report.samples,
        "ann_accuracy": report.ann_accuracy,
        "accuracy": report.final.accuracy,
        "drop": report.drop,
        "drop_low": low,
        "drop_high": high,
        "synaptic_operations": report.final.synaptic_operations,
        "exact": bool(snn.exactness and snn.exactness.timesteps >= recipe.timesteps),
        "cpu_seconds": round(cpu),
        "seconds": round(wall),
        "threads": torch.get_num_threads(),
        "remarks": list(snn.remarks),
    }


def table() -> str:
    """The tables of docs/few-steps.md."""
    lines: list[str] = []
    for name, stored in json.loads((HERE / "reconstruction.json").read_text()).items():
        network, rows = stored["network"], stored["rows"]
        lines += [
            f"**{name}**: {network['weights']}, {network['data']}, {rows[0]['samples']:,} test images, ANN"
            f" {100 * rows[0]['ann_accuracy']:.2f} %, {network['calibration_samples']:,} calibration images, seed {network['seed']}", "",
            "| T | recipe | accuracy | M | CPU seconds |", "| ---: | --- | ---: | ---: | ---: |",
        ]  # fmt: skip
        for row in sorted(rows, key=lambda row: (row["timesteps"], -row["drop"])):
            drop, low, high = (f"{100 * row[key]:.2f}".replace("-", "−") for key in ("drop", "drop_low", "drop_high"))
            settings = (
                row["recipe"]
                .replace(f"timesteps={row['timesteps']}, ", "")
                .replace(f"timesteps={row['timesteps']}", "")
            )
            lines.append(
                f"| {row['timesteps']} | `{settings.removesuffix('()')}` | {100 * row['accuracy']:.2f} ({drop} [{low}, {high}]) |"
                f" {row['synaptic_operations'] / 1e6:.1f} | {row['cpu_seconds']} |"
            )
        lines.append("")
    return "\n".join(lines)


def write_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    head, _, rest = text.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--name", default="resnet20")
    parser.add_argument("--model", default="zoo:resnet20-16-32-64")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["binary"])
    parser.add_argument("--reconstruct", nargs="+", default=["none", "network"])
    parser.add_argument("--iterations", type=int)
    parser.add_argument("--samples", type=int, help="Test images; default: all.")
    parser.add_argument("--calibration-samples", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/reconstruction"))
    parser.add_argument("--output", type=Path, default=HERE / "reconstruction.json")
    arguments = parser.parse_args()
    if arguments.page:
        write_page()
        return
    if arguments.weights is None:
        parser.error("--weights is needed: a file of trained weights")
    data = ts.data.load(arguments.data, arguments.data_dir)
    own = arguments.model.startswith("py:")
    model, spec = ts.models.build(
        arguments.model, num_classes=None if own else len(data.classes), input_shape=data.image_shape,
        weights=arguments.weights,
    )  # fmt: skip
    preprocessing = spec.preprocessing
    content = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    network = {"model": arguments.model, "weights": arguments.weights.name, "data": data.note,
               "calibration_samples": arguments.calibration_samples, "seed": arguments.seed}  # fmt: skip
    stored = content.get(arguments.name, {})
    rows = stored.get("rows", []) if stored.get("network") == network else []
    for timesteps in arguments.timesteps:
        for variant in arguments.variants:
            for reconstruct in arguments.reconstruct:
                more = {} if arguments.iterations is None else {"iterations": arguments.iterations}
                recipe = FewSteps(timesteps=timesteps, reconstruct=reconstruct, **VARIANTS[variant], **more)
                if any(row["recipe"] == str(recipe) and row["timesteps"] == timesteps for row in rows):
                    continue
                path = arguments.checkpoints / f"{arguments.name}-{timesteps}-{variant.replace(' ', '-')}.safetensors"
                row = measured(recipe, model, data, preprocessing, path, arguments)
                rows.append(row)
                versions = {
                    "torch": torch.__version__,
                    "python": platform.python_version(),
                    "transpike": ts.__version__,
                }
                content[arguments.name] = {"network": network, "versions": versions, "rows": rows}
                write_atomically(arguments.output, json.dumps(content, indent=1).encode())
                print(f"{recipe} at {timesteps}: {100 * row['accuracy']:.2f} %, {100 * row['drop']:.2f} points lost "
                      f"[{100 * row['drop_low']:.2f}, {100 * row['drop_high']:.2f}] of {row['samples']}, "
                      f"{row['cpu_seconds']} CPU seconds", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
