"""Real numbers between two layers of weights in EfficientNet-Lite0: benchmarks/linear_wires.json and its table.

    python benchmarks/linear_wires.py --data-dir DATA --models-dir MODELS --images 64

Every choice of ``linear_wires`` with streaming and with waiting binary neurons, and recipes with spikes of either sign
everywhere. Weights, pictures and calibration as in imagenet.py. ``--folder`` keeps the converted networks and what was
measured of each batch; a rerun continues there, with more pictures or rows. Seconds are those of the processor, of one
thread, the smallest of all batches, of the default engine for streaming networks and of the dense one for windows; those of
the ANN are measured in the same batches.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from imagenet import PICTURES, SEED, _macs, calibration, converted, network, pictures

import transpike as ts
from transpike.core.recipe import Recipe
from transpike.recipes import ECC, Ceiling, FewSteps
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically

CONTENT = Path(__file__).resolve().with_suffix(".json")
BATCH, LONG = 4, 32
WIRES = ("merge", "pairs", "signed", "none")
RECIPES: dict[str, Recipe] = {
    **{f"ecc, {wires}": ECC(timesteps=LONG, linear_wires=wires) for wires in WIRES},
    **{f"ceiling, {wires}": Ceiling(timesteps=LONG, linear_wires=wires) for wires in WIRES},
    **{f"few-steps, {wires}": FewSteps(timesteps=16, linear_wires=wires) for wires in WIRES[:3]},
    "few-steps of signed neurons, merge": FewSteps(timesteps=LONG, neuron="signed"),
    "few-steps of signed neurons, signed": FewSteps(timesteps=LONG, neuron="signed", linear_wires="signed"),
    "ecc, merge, long": ECC(timesteps=256),
}
"""Name → its recipe; streaming networks are read at several steps of one run, and windows run for each number."""


def steps_of(recipe: Recipe) -> tuple[int, ...]:
    """The numbers of steps at which a network is read."""
    if recipe.timesteps > LONG:
        return (LONG, 64, 128, recipe.timesteps)
    return tuple(
        t for t in (16, LONG) if t <= recipe.timesteps and (t == recipe.timesteps or not recipe.depends_on_timesteps)
    )


def measured(snn: ts.SNN, x: torch.Tensor, answers: torch.Tensor) -> dict[str, dict[str, Any]]:
    """Number of steps → what one batch gives."""
    wanted, waits = steps_of(snn.recipe), snn.schedule.mode == "windows"
    found: dict[str, dict[str, Any]] = {}
    for steps in wanted:
        if not waits and steps != max(wanted):
            continue
        start = time.process_time()
        trace = ts.simulate(snn, x, timesteps=steps, engine="dense" if waits else "auto")
        seconds = (time.process_time() - start) / len(x)
        for t in (steps,) if waits else wanted:
            activity = trace.activity if t == steps else trace.activity.until(t, snn.program.macs(t))
            layers = [layer for layer in activity.layers if layer.role == "neuron"]
            logits = trace.logits[trace.timesteps.index(t)]
            found[str(t)] = {
                "seconds": seconds if t == steps else None,
                "classes": logits.argmax(1).tolist(),
                "error": float((logits - answers).norm() / answers.norm()),
                "spikes": float(sum(layer.spikes.sum() for layer in layers)),
                "operations": float(sum(layer.synaptic_operations.sum() for layer in layers)),
                "exact": trace.exact, "dense": sum(k.startswith("dense") for k in trace.kernels.values()),
            }  # fmt: skip
    return found


def row(name: str, steps: int, snn: ts.SNN, batches: list[dict[str, Any]]) -> dict[str, Any]:
    """What all batches say about a network after so many steps."""
    batches = [batch for batch in batches if str(steps) in batch.get(name, {})]
    found = [batch[name][str(steps)] for batch in batches]
    pairs = [
        pair
        for batch, one in zip(batches, found, strict=True)
        for pair in zip(batch["ann"], one["classes"], strict=True)
    ]
    n, agrees = len(pairs), sum(a == b for a, b in pairs)
    neurons = sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")
    seconds = [one["seconds"] for one in found if one["seconds"] is not None]
    return {
        "setting": name, "recipe": str(snn.recipe), "T": steps, "images": n, "neurons": neurons,
        "agreement": agrees / n, "interval": wilson(agrees, n),
        "relative error (median of batches)": round(statistics.median(one["error"] for one in found), 4),
        "spikes per neuron": round(sum(one["spikes"] for one in found) / n / neurons, 4),
        "operations / MACs": round(sum(one["operations"] for one in found) / n / _macs(snn), 4),
        "seconds / ANN's": round(min(seconds) / min(batch["ann seconds"] for batch in batches), 2) if seconds else None,
        "exact": all(one["exact"] for one in found), "dense layers": found[0]["dense"],
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown."""
    lines = [
        "| recipe, wires | T | pictures | agreement with the ANN, % | relative error | spikes per neuron | operations / MACs "
        "| time / ANN | dense layers | on the grid |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        low, high = (f"{100 * end:.1f}" for end in one["interval"])
        seconds = one["seconds / ANN's"]
        taken = "" if seconds is None else f"{seconds:.1f}"
        lines.append(
            f"| {one['setting']} | {one['T']} | {one['images']} | {100 * one['agreement']:.1f} [{low}, {high}] | "
            f"{one['relative error (median of batches)']:.2f} | {one['spikes per neuron']:.2f} | "
            f"{one['operations / MACs']:.1f} | {taken} | {one['dense layers']} | {'yes' if one['exact'] else 'no'} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--settings", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--folder", type=Path, default=Path("build/linear_wires"))
    parser.add_argument("--output", type=Path, default=CONTENT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    module, preprocessing = network(arguments.models_dir)
    recipes = {name: RECIPES[name] for name in arguments.settings}
    networks = converted(arguments.folder, module, preprocessing, calibration(arguments.data_dir), recipes)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(SEED))[: arguments.images].tolist()
    picture = pictures(arguments.data_dir / PICTURES)
    batches: list[dict[str, Any]] = []
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        file = arguments.folder / f"batch-{start:04d}-{len(chosen)}.json"
        found = json.loads(file.read_text()) if file.exists() else {}
        if missing := [name for name in networks if name not in found]:
            x = torch.stack([picture(i) for i in chosen])
            begin = time.process_time()
            with torch.no_grad():
                answers = module(preprocessing(x))
            found |= {"ann": answers.argmax(1).tolist(), "ann seconds": (time.process_time() - begin) / len(chosen)}
            for name in missing:
                found[name] = measured(networks[name], x, answers)
            write_atomically(file, json.dumps(found).encode())
            print(f"{time.strftime('%H:%M:%S')} pictures {start + len(chosen)} of {len(order)}", flush=True)
        batches.append(found)
    rows = [row(name, t, snn, batches) for name, snn in networks.items() for t in steps_of(snn.recipe)]
    content = {
        "order": f"the first {len(order)} of a permutation with seed {SEED}", "calibration": "53 pictures of COCO",
        "batch": BATCH, "torch": torch.__version__, "instructions": torch.backends.cpu.get_cpu_capability(), "rows": rows,
    }  # fmt: skip
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())
    print(table(rows))


if __name__ == "__main__":
    main()
