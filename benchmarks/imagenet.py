"""EfficientNet-Lite0 with its ImageNet weights as a network of sigma-delta neurons: benchmarks/imagenet.json.

    python benchmarks/imagenet.py --data-dir DATA --models-dir MODELS --images 1000

The weights are those published by Google (DATA and MODELS hold copies, see there). The test pictures are one picture of
each class, at 224×224, probably training pictures of ImageNet: read agreement and the drop, not the accuracy. Thresholds
are calibrated on 53 other pictures, of COCO. ``burst-digits`` is the quantised network with the same thresholds.

After each batch its results are stored in ``--folder``; a rerun continues there. benchmarks/imagenet.json is written when
all pictures are done. Seconds are those of the processor, of one thread, both networks in turn in the same run.
"""

import argparse
import io
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import added_memory, description
from PIL import Image
from torch import Tensor, nn

import transpike as ts
from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.recipes import BurstDigits, StreamingSigmaDelta
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
WEIGHTS, PICTURES = "efficientnet-lite0-imagenet.safetensors", "imagenet_samples_1000_224.npz"
CALIBRATION = ("coco_val2017_free_licence.npz", "coco_train2017_free_licence.npz")
SIZE, RESIZED = 224, 256  # the calibration pictures are squares: resized, then the centre
STEPS, THRESHOLDS, BATCH, SEED = 8, 8, 3, 0
RECIPES = {
    "sigma-delta": StreamingSigmaDelta(timesteps=STEPS, threshold_count=THRESHOLDS),
    "burst-digits": BurstDigits(threshold_count=THRESHOLDS),
}


def pictures(file: Path, size: int | None = None) -> Callable[[int], Tensor]:
    """The function that returns picture i, (3, height, width) in 0..1; resized to ``size`` and cropped if given."""
    archive = np.load(file, allow_pickle=False)
    data, offsets = archive["jpeg"], archive["offsets"]

    def picture(i: int) -> Tensor:
        image = Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")
        if size is not None:
            edge = (size - SIZE) // 2
            image = image.resize((size, size), Image.Resampling.BICUBIC).crop((edge, edge, edge + SIZE, edge + SIZE))
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255

    return picture


def calibration(folder: Path) -> Tensor:
    found = []
    for name in CALIBRATION:
        count = len(np.load(folder / name, allow_pickle=False)["offsets"]) - 1
        found += [pictures(folder / name, RESIZED)(i) for i in range(count)]
    return torch.stack(found)


def network(models: Path) -> tuple[nn.Module, Preprocessing]:
    module, spec = ts.models.build("efficientnet-lite0", weights=models / WEIGHTS)
    return module, spec.preprocessing


def converted(
    folder: Path, module: nn.Module, preprocessing: Preprocessing, x: Tensor, recipes: Mapping[str, Recipe]
) -> dict[str, ts.SNN]:
    """The networks of all recipes, made once per folder."""
    found = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, recipe in recipes.items():
        file = folder / f"{name.replace(', ', '-').replace(' ', '-')}.transpike"
        if not file.exists():
            start = time.process_time()
            ts.save(ts.convert(module, recipe, list(x.split(8)), preprocessing=preprocessing), file)
            print(f"{time.strftime('%H:%M:%S')} {name}: converted in {time.process_time() - start:.0f} s", flush=True)
        found[name] = ts.load(file)
    return found


def measured(module: nn.Module, preprocessing: Preprocessing, networks: dict[str, ts.SNN], x: Tensor) -> dict[str, Any]:
    """One batch through all networks."""
    with torch.no_grad():
        start = time.process_time()
        answers = module(preprocessing(x))
        row: dict[str, Any] = {"ann": answers.argmax(1).tolist(), "seconds": {"ann": time.process_time() - start}}
    for name, snn in networks.items():
        start = time.process_time()
        trace = ts.simulate(snn, x, engine="dense")
        row["seconds"][name] = time.process_time() - start
        layers = [layer for layer in trace.activity.layers if layer.role == "neuron"]
        row[name] = {
            "classes": trace.logits.argmax(2).tolist(),
            "errors": [float((now - answers).norm() / answers.norm()) for now in trace.logits],
            "spikes": sum(layer.spikes for layer in layers).tolist(),
            "operations": sum(layer.synaptic_operations for layer in layers).tolist(),
            "exact": trace.exact, "undecided": trace.ties, "warnings": list(trace.warnings),
        }  # fmt: skip
    return row


def rows(name: str, snn: ts.SNN, batches: list[dict[str, Any]], labels: Tensor) -> list[dict[str, object]]:
    """The table of one recipe: a row for each number of time steps."""
    classes = torch.cat([torch.tensor(batch[name]["classes"]) for batch in batches], 1)
    ann = torch.cat([torch.tensor(batch["ann"]) for batch in batches])
    n, neurons = len(ann), sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")
    spikes, operations = (
        torch.tensor([b[name][key] for b in batches]).sum(0).cumsum(0) / n for key in ("spikes", "operations")
    )
    macs = _macs(snn)
    ratios = [batch["seconds"][name] / batch["seconds"]["ann"] for batch in batches]
    found: list[dict[str, object]] = []
    for t, now in enumerate(classes, 1):
        correct, agrees = int((now == labels).sum()), int((now == ann).sum())
        errors = [batch[name]["errors"][t - 1] for batch in batches]
        found.append({
            "recipe": name, "T": t, "accuracy": correct / n, "accuracy interval": wilson(correct, n),
            "agreement": agrees / n, "agreement interval": wilson(agrees, n),
            "relative error (median of batches)": round(statistics.median(errors), 4),
            "events per neuron": round(float(spikes[t - 1]) / neurons, 4),
            "operations / MACs": round(float(operations[t - 1]) / macs, 4),
        })  # fmt: skip
    found[-1]["seconds / ANN's (median of batches)"] = round(statistics.median(ratios), 2)
    found[-1]["seconds per picture (median)"] = round(
        statistics.median([b["seconds"][name] / len(b["ann"]) for b in batches]), 4
    )
    found[-1]["exact"] = all(batch[name]["exact"] for batch in batches)
    found[-1]["undecided"] = sum(batch[name]["undecided"] for batch in batches)
    return found


def _macs(snn: ts.SNN) -> int:
    """Multiplications of the layers after neurons: the first layer multiplies its analogue input in both networks."""
    synapses = [node for node in snn.source if getattr(node.op, "role", "") == "synapse"]
    return sum(snn.source.macs(node) or 0 for node in synapses[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument(
        "--folder", type=Path, default=Path("build/imagenet"), help="converted networks and checkpoints"
    )
    parser.add_argument("--output", type=Path, default=HERE / "imagenet.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    module, preprocessing = network(arguments.models_dir)
    used = calibration(arguments.data_dir)
    networks = converted(arguments.folder, module, preprocessing, used, RECIPES)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(SEED))[: arguments.images].tolist()
    picture = pictures(arguments.data_dir / PICTURES)
    labels = torch.from_numpy(np.load(arguments.data_dir / PICTURES, allow_pickle=False)["labels"]).long()
    measured(module, preprocessing, networks, picture(order[0])[None])  # what is prepared once
    batches: list[dict[str, Any]] = []
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        file = arguments.folder / f"batch-{start:04d}-{len(chosen)}.json"
        if not file.exists():
            row = measured(module, preprocessing, networks, torch.stack([picture(i) for i in chosen]))
            write_atomically(file, json.dumps(row).encode())
            print(f"{time.strftime('%H:%M:%S')} pictures {start + len(chosen)} of {len(order)}", flush=True)
        batches.append(json.loads(file.read_text()))
    x = torch.stack([picture(i) for i in order[:BATCH]])
    memory = {
        name: round(added_memory(lambda snn=snn: ts.simulate(snn, x, engine="dense")), 1)
        for name, snn in networks.items()
    }
    ann = torch.cat([torch.tensor(batch["ann"]) for batch in batches])
    correct = int((ann == labels[order]).sum())
    content = {
        "images": len(order), "order": f"the first {len(order)} of a permutation with seed {SEED}",
        "calibration": f"{len(used)} pictures of COCO", "thresholds": THRESHOLDS, "batch": BATCH,
        "MACs after neurons": _macs(networks["sigma-delta"]),
        "neurons": sum(layer.neurons for layer in networks["sigma-delta"].program.layers if layer.role == "neuron"),
        "ann": {"accuracy": correct / len(order), "interval": wilson(correct, len(order)),
                "seconds per picture (median)": round(statistics.median([b["seconds"]["ann"] / len(b["ann"]) for b in batches]), 4)},
        "memory added by a batch (MiB)": memory,
        "largest memory of the process (MiB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "instructions": torch.backends.cpu.get_cpu_capability(), "machine": description(SEED),
        "warnings": sorted({text for batch in batches for name in networks for text in batch[name]["warnings"]}),
        "rows": [row for name, snn in networks.items() for row in rows(name, snn, batches, labels[order])],
    }  # fmt: skip
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())
    json.dump(content, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
