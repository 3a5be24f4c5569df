"""Recipes for networks that were trained to be converted, on one network of quantised clips.

    python reproductions/trained/training.py resnet20-qcfs --folder FOLDER --data-dir DATA --weights …
    python benchmarks/learned.py --weights FOLDER/resnet20-qcfs.safetensors --data-dir DATA --samples 2000

Writes benchmarks/learned.json, of which ``benchmarks/methods_page.py`` makes tables. Rows that are there stay.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
from torch import Tensor

import transpike as ts
from transpike import recipes as r
from transpike.activations import QuantisedClip
from transpike.core.cell import Neuron
from transpike.core.interval import paired_difference
from transpike.core.preprocessing import Preprocessing
from transpike.files import write_atomically
from transpike.schedules import LayerSynchronous

HERE = Path(__file__).parent
LEVELS = 4
WINDOWS = LayerSynchronous()


def held(steps: int, rounds: int = 1) -> r.COS:
    return r.COS(steps, schedule=LayerSynchronous(hold=steps), rehearsal=steps, rounds=rounds)


ROWS = [
    *(r.QCFS(t) for t in (2, 4, 8, 16, 32)), r.QCFS(4, schedule=WINDOWS), r.PASCAL(LEVELS), r.TCL(32),
    *(r.FastSNN(t) for t in (4, 8)), *(r.FastSNN(t, calibrate="both") for t in (4, 8)),
    r.ErrorCompensation(8, depth=0.5), r.ErrorCompensation(8, depth=1.0),
    *(r.GroupNeuron(t, members=m) for t, m in ((1, 4), (2, 4), (4, 4), (2, 16))),
    *(r.SRP(4 + t, rehearsal=4) for t in (4, 8)),
    held(4), held(8), r.COS(8),
    *(r.QCFS(4, schedule=LayerSynchronous(hold=h)) for h in (1, 2)),
    r.QCFS(8, calibrate="potential"),
]  # fmt: skip


def network(weights: Path, data: ts.data.Dataset) -> tuple[torch.nn.Module, Preprocessing]:
    model, spec = ts.models.build("zoo:resnet20-16-32-64")
    assert spec.preprocessing is not None
    images = spec.preprocessing(data.train.batch(torch.arange(8))[0])  # its thresholds come with the weights
    made = ts.prepare(model, QuantisedClip(LEVELS), images)
    ts.models.load_weights(made, weights)
    return made.eval(), spec.preprocessing


def unequal(snn: ts.SNN, x: Tensor, shown: Tensor) -> tuple[int, int]:
    """(levels of neurons that are not their source's, all levels); ``shown`` is x after preprocessing."""
    names = [node.name for node in snn.graph if isinstance(node.op, Neuron)]
    trains = ts.simulate(snn, x, record=names).trains
    found: dict[str, Tensor] = {}
    snn.source.run(shown, observe=lambda node, inputs, output: found.update({node.name: output}))
    wrong = total = 0
    for name in names:
        op = snn.source[name].op
        level = (found[name] * op.levels / op.threshold).round()  # type: ignore[union-attr]
        wrong += int((trains[name].sum(0) != level).sum())
        total += level.numel()
    return wrong, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument(
        "--held-samples", type=int, default=500, help="For windows that are stepped, a layer at a time."
    )
    parser.add_argument("--calibration-samples", type=int, default=500)
    parser.add_argument("--output", type=Path, default=HERE / "learned.json")
    arguments = parser.parse_args()
    data = ts.data.load("cifar10", arguments.data_dir)
    model, preprocessing = network(arguments.weights, data)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[: arguments.calibration_samples]
    calibration = data.train.batch(order)[0]
    settings = {"weights": arguments.weights.name, "levels": LEVELS, "data": data.note, "samples": arguments.samples,
                "held_samples": arguments.held_samples, "calibration_samples": arguments.calibration_samples}  # fmt: skip
    stored = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    rows = stored.get("rows", {}) if stored.get("settings") == settings else {}
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    for recipe in ROWS:
        label = str(recipe)
        if label in rows:
            continue
        snn = ts.convert(model, recipe, calibration, preprocessing=preprocessing)
        stepped = recipe.schedule.mode == "windows" and (
            recipe.schedule.lag(recipe.timesteps) < recipe.timesteps or isinstance(recipe, r.COS)
        )
        count = arguments.held_samples if stepped else arguments.samples
        found = ts.evaluate(snn, data.test.batches(50), answers=(recipe.timesteps,), limit=count)
        points, low, high = (100 * v for v in paired_difference(found.ann_outcomes, found.outcomes[recipe.timesteps]))
        rows[label] = {
            "recipe": recipe.name, "timesteps": recipe.timesteps, "total_steps": snn.total_steps(), "samples": count,
            "accuracy": found.final.accuracy, "ann": found.ann_accuracy, "lost": points, "low": low, "high": high,
            "synaptic_operations": found.final.synaptic_operations, "spikes": sum(row.spikes for row in found.layers),
            "alphabets": sorted({str(snn.lowered.alphabets[n.name]) for n in snn.graph if isinstance(n.op, Neuron)}),
            "exact": found.exact,
        }  # fmt: skip
        if isinstance(recipe, r.PASCAL) or (isinstance(recipe, r.QCFS) and recipe.schedule == WINDOWS):
            wrong = total = 0
            for x, _ in data.test.batches(50, limit=200):
                more = unequal(snn, x, preprocessing(x))
                wrong, total = wrong + more[0], total + more[1]
            rows[label] |= {"levels_that_differ": wrong, "levels": total}
        print(f"{label}: {100 * found.final.accuracy:.2f} ({points:+.2f}), {snn.total_steps()} steps", flush=True)
        content = {"settings": settings, "versions": versions, "rows": rows}
        write_atomically(arguments.output, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
