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
from transpike.core.pass_ import Context
from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.passes import FoldBatchNorm, RemoveDropout
from transpike.results.statistics import paired_difference
from transpike.results.writing import write_atomically
from transpike.schedules import LayerSynchronous

HERE = Path(__file__).parent
LEVELS, EXACT = 4, 64  # of the clips; images whose levels are compared
WINDOWS = LayerSynchronous()


def held(steps: int, rounds: int = 1) -> r.COS:
    return r.COS(steps, schedule=LayerSynchronous(wait_steps=steps), pre_simulation_steps=steps, rounds=rounds)


ROWS = [
    *(r.QCFS(t) for t in (2, 4, 8, 16, 32)), r.QCFS(4, schedule=WINDOWS), r.PASCAL(LEVELS), r.TCL(32),
    *(r.FastSNN(t) for t in (4, 8)), *(r.FastSNN(t, calibrate="both") for t in (4, 8)),
    r.ErrorCompensation(8, depth=0.5), r.ErrorCompensation(8, depth=1.0),
    *(r.GroupNeuron(t, members=m) for t, m in ((1, 4), (2, 4), (4, 4), (2, 16))),
    *(r.SRP(4 + t, pre_simulation_steps=4) for t in (4, 8)),
    held(4), held(8), r.COS(8),
    *(r.QCFS(4, schedule=LayerSynchronous(wait_steps=h)) for h in (1, 2)),
    r.QCFS(8, calibrate="potential"),
]  # fmt: skip


def network(weights: Path, data: ts.data.Dataset) -> tuple[torch.nn.Module, Preprocessing]:
    model, spec = ts.models.build("zoo:resnet20-16-32-64")
    assert spec.preprocessing is not None
    images = spec.preprocessing(data.train.batch(torch.arange(8))[0])  # its thresholds come with the weights
    made = ts.prepare(model, QuantisedClip(LEVELS), images)
    ts.models.load_weights(made, weights)
    return made.eval(), spec.preprocessing


def unequal(model: torch.nn.Module, recipe: Recipe, x: Tensor) -> dict[str, int]:
    """How many counts are not their source's levels, and answers not its answers, both in float64.

    The source's batch normalisation is folded, for the spiking network has the folded weights, in float32.
    """
    snn = ts.convert(model, recipe, x, exact_grid=False)
    context = Context(snn.source, (x,), recipe.timesteps)
    source = FoldBatchNorm().apply(RemoveDropout().apply(snn.source, context), context).to(dtype=torch.float64)
    names = [node.name for node in snn.graph.cells]
    found = {"levels_that_differ": 0, "levels": 0, "answers_that_differ": 0, "answers": len(x)}
    for part in x.split(8):
        levels: dict[str, Tensor] = {}
        answers = source.run(
            part.double(), observe=lambda node, _, output, seen=levels: seen.update({node.name: output})
        )
        trace = ts.simulate(snn, part, engine="reference", record=names)
        found["answers_that_differ"] += int((trace.logits[-1] != answers.float()).any(1).sum())
        for name in names:
            spike_scale = snn.graph[name].op.output_scale() / recipe.timesteps  # type: ignore[union-attr]
            found["levels_that_differ"] += int(
                (trace.trains[name].double().sum(0) != (levels[name] / spike_scale).round()).sum()
            )
            found["levels"] += levels[name].numel()
    return found


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
            rows[label] |= unequal(model, recipe, preprocessing(data.test.batch(torch.arange(EXACT))[0]))
        print(f"{label}: {100 * found.final.accuracy:.2f} ({points:+.2f}), {snn.total_steps()} steps", flush=True)
        content = {"settings": settings, "versions": versions, "rows": rows}
        write_atomically(arguments.output, json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
