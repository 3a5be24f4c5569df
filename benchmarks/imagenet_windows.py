"""EfficientNet-Lite0 with its ImageNet weights and binary spikes in windows: benchmarks/imagenet_windows.json.

    python benchmarks/imagenet_windows.py --data-dir DATA --models-dir MODELS --images 1000

Thresholds of ReLU6 are its ceiling. ``ceiling`` puts pairs of neurons on the linear bottlenecks, ``merged`` makes one
layer of both; ``qcfs`` leaves weights after weights, so that a spike takes every path through both. ``calibrated-T`` is
``ceiling`` with biases and initial potentials corrected for windows of T, which it alone runs, on all pictures. Pictures
and calibration as in imagenet.py. ``--folder`` keeps the converted networks and what was measured of each batch; a rerun
continues there.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from imagenet import PICTURES, SEED, _macs, calibration, converted, network, pictures

import transpike as ts
from transpike.recipes import QCFS, Ceiling
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically
from transpike.schedules import LayerSynchronous

CONTENT = Path(__file__).resolve().with_suffix(".json")
BATCH, STEPS = 4, 32
RECIPES = {
    "ceiling": Ceiling(timesteps=STEPS),
    "merged": Ceiling(timesteps=STEPS, linear_wires="merge"),
    "qcfs": QCFS(timesteps=STEPS, schedule=LayerSynchronous()),
    "calibrated-16": Ceiling(timesteps=16, calibrate="both"),
    "calibrated-32": Ceiling(timesteps=32, calibrate="both"),
}


def runs(name: str, steps: int, first: bool) -> bool:
    """Whether a network is run for so many steps, on the ``first`` pictures or on the others."""
    recipe = RECIPES[name]
    return steps == recipe.timesteps if recipe.depends_on_timesteps else first or steps == STEPS


def measured(snn: ts.SNN, x: torch.Tensor, answers: torch.Tensor, steps: int) -> dict[str, Any]:
    """One batch in windows of ``steps``."""
    start = time.process_time()
    trace = ts.simulate(snn, x, timesteps=steps, engine="dense")
    layers = [layer for layer in trace.activity.layers if layer.role == "neuron"]
    return {
        "seconds": (time.process_time() - start) / len(x),
        "classes": trace.logits[-1].argmax(1).tolist(),
        "error": float((trace.logits[-1] - answers).norm() / answers.norm()),
        "spikes": float(sum(layer.spikes.sum() for layer in layers)),
        "operations": float(sum(layer.synaptic_operations.sum() for layer in layers)),
        "exact": trace.exact, "undecided": trace.ties,
    }  # fmt: skip


def row(name: str, steps: int, snn: ts.SNN, batches: list[dict[str, Any]], labels: list[int]) -> dict[str, Any]:
    """What all batches say about windows of ``steps``."""
    key = f"{name} {steps}"
    batches = [batch for batch in batches if key in batch]
    found = [batch[key] for batch in batches]
    classes, ann = ([c for part in parts for c in part] for parts in (
        (batch["classes"] for batch in found), (batch["ann"] for batch in batches)))  # fmt: skip
    n, neurons = len(ann), sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")
    agrees, correct = (sum(a == b for a, b in zip(classes, other, strict=True)) for other in (ann, labels[:n]))
    return {
        "recipe": name, "T": steps, "steps to the answer": snn.total_steps(steps), "images": n, "neurons": neurons,
        "agreement": agrees / n, "agreement interval": wilson(agrees, n),
        "accuracy": correct / n, "accuracy interval": wilson(correct, n),
        "relative error (median of batches)": round(statistics.median(batch["error"] for batch in found), 4),
        "spikes per neuron": round(sum(batch["spikes"] for batch in found) / n / neurons, 4),
        "operations / MACs": round(sum(batch["operations"] for batch in found) / n / _macs(snn), 4),
        "seconds per picture (median)": round(statistics.median(batch["seconds"] for batch in found), 4),
        "exact": all(batch["exact"] for batch in found), "undecided": sum(batch["undecided"] for batch in found),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--first", type=int, default=200, help=f"pictures of windows of other lengths than {STEPS}")
    parser.add_argument("--recipes", nargs="+", choices=sorted(RECIPES), default=list(RECIPES))
    parser.add_argument("--folder", type=Path, default=Path("build/imagenet_windows"))
    parser.add_argument("--output", type=Path, default=CONTENT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    module, preprocessing = network(arguments.models_dir)
    recipes = {name: RECIPES[name] for name in arguments.recipes}
    networks = converted(arguments.folder, module, preprocessing, calibration(arguments.data_dir), recipes)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(SEED))[: arguments.images].tolist()
    picture = pictures(arguments.data_dir / PICTURES)
    labels = np.load(arguments.data_dir / PICTURES, allow_pickle=False)["labels"][order].tolist()
    batches: list[dict[str, Any]] = []
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        file = arguments.folder / f"batch-{start:04d}-{len(chosen)}.json"
        found = json.loads(file.read_text()) if file.exists() else {}
        wanted = [(name, n) for name in networks for n in arguments.steps if runs(name, n, start < arguments.first)]
        missing = [(name, steps) for name, steps in wanted if f"{name} {steps}" not in found]
        if missing:
            x = torch.stack([picture(i) for i in chosen])
            with torch.no_grad():
                answers = module(preprocessing(x))
            found["ann"] = answers.argmax(1).tolist()
            for name, steps in missing:
                found[f"{name} {steps}"] = measured(networks[name], x, answers, steps)
            write_atomically(file, json.dumps(found).encode())
            print(f"{time.strftime('%H:%M:%S')} pictures {start + len(chosen)} of {len(order)}", flush=True)
        batches.append(found)
    ann = [c for batch in batches for c in batch["ann"]]
    correct = sum(a == b for a, b in zip(ann, labels, strict=True))
    content = {
        "order": f"the first {len(order)} of a permutation with seed {SEED}", "calibration": "53 pictures of COCO",
        "ann": {"accuracy": correct / len(ann), "interval": wilson(correct, len(ann))},
        "batch": BATCH, "torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability(),
        "rows": [row(name, n, networks[name], batches, labels) for name in networks for n in arguments.steps
                 if runs(name, n, True)],
    }  # fmt: skip
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
