"""Accuracy over time on the shared ResNet-20: ECC and SpikingJelly's recipes, same network, same images, one run.

    python benchmarks/accuracy.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Rows are stored as they finish in benchmarks/accuracy.json, each with its number of test images; a rerun resumes an
interrupted run. ``--only`` picks rows. The first images are easier than the others: docs/results.md wants all 10,000.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from peers import converted, network, steps

import transpike as ts
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
SHOWN = (4, 8, 16, 32, 64, 128, 256)


def ours(zoo, preprocessing, calibration, dataset, arguments, recipe) -> dict:
    snn = ts.convert(zoo, recipe, calibration, preprocessing=preprocessing)
    report = ts.evaluate(snn, dataset.test.batches(32, limit=arguments.samples))
    curve = {a.timesteps: {"accuracy": a.accuracy, "total_steps": a.total_steps, "agreement": a.agreement}
             for a in report.curve if a.timesteps in SHOWN}  # fmt: skip
    return {"ann": report.ann_accuracy, "curve": curve, "spike_rate": report.spike_rate, "exact": report.exact,
            "synaptic_operations": {a.timesteps: a.synaptic_operations for a in report.curve if a.timesteps in SHOWN}}  # fmt: skip


def theirs(peer_copy, preprocessing, calibration, dataset, arguments, kind) -> dict:
    from spikingjelly.activation_based.ann2snn import estimate_delay_start

    batches = [preprocessing(x) for x, _ in calibration]
    if kind == "local threshold balancing":  # one update a batch: four would be too few
        batches = [part for batch in batches for part in batch.split(20)]
    snn = converted(peer_copy, kind, batches)
    correct, delayed, ann, samples = dict.fromkeys(SHOWN, 0), dict.fromkeys(SHOWN, 0), 0, 0
    horizon = arguments.peer_timesteps
    delay = estimate_delay_start(snn, batches[:1], "cpu", horizon) if kind == "local threshold balancing" else 0
    with torch.no_grad():
        for x, y in dataset.test.batches(32, limit=arguments.samples):
            x = preprocessing(x)
            ann += int((peer_copy(x).argmax(1) == y).sum())
            samples += len(y)
            early = None
            for t, total in enumerate(steps(snn, x, horizon), 1):
                if t == delay:
                    early = total.clone()
                if t in correct:
                    correct[t] += int((total.argmax(1) == y).sum())
                    if delay and early is not None and t > delay:
                        delayed[t] += int(((total - early).argmax(1) == y).sum())
    curve = {t: {"accuracy": correct[t] / samples, "total_steps": t} for t in SHOWN if t <= horizon}
    row = {"ann": ann / samples, "curve": curve}
    if delay:
        row["delay"] = delay
        row["delayed_curve"] = {
            t: {"accuracy": delayed[t] / samples, "total_steps": t} for t in SHOWN if delay < t <= horizon
        }
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=10_000, help="Test images.")
    parser.add_argument("--calibration-samples", type=int, default=1000)
    parser.add_argument("--timesteps", type=int, default=256)
    parser.add_argument("--peer-timesteps", type=int, default=64, help="SpikingJelly takes seconds a step.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append")
    parser.add_argument("--output", type=Path, default=HERE / "accuracy.json")
    arguments = parser.parse_args()
    dataset = ts.data.load("cifar10", arguments.data_dir)
    zoo, peer_copy, preprocessing = network(arguments.weights)
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(arguments.seed))
    calibration = dataset.train.batches(250, indices=order[: arguments.calibration_samples])
    T, synchronous = arguments.timesteps, ts.schedules.LayerSynchronous()
    recipes = {
        "transpike ECC, streaming": ts.recipes.ECC(timesteps=T),
        "transpike ECC, layer-synchronous": ts.recipes.ECC(timesteps=T, schedule=synchronous),
        "transpike ECC.paper(), streaming": ts.recipes.ECC.paper(timesteps=T),
        "transpike ECC.paper(), layer-synchronous": ts.recipes.ECC.paper(timesteps=T, schedule=synchronous),
    }
    kinds = {f"SpikingJelly {k}": k for k in ("max", "99.9%", "99.9% per channel", "local threshold balancing")}
    settings = {"weights": arguments.weights.name, "data": dataset.note,
                "calibration_samples": arguments.calibration_samples, "seed": arguments.seed, "timesteps": T}  # fmt: skip
    stored = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    rows = stored.get("rows", {}) if stored.get("settings") == settings else {}
    for name in (*recipes, *kinds):
        if rows.get(name, {}).get("samples") == arguments.samples or (
            arguments.only and not any(part in name for part in arguments.only)
        ):
            continue
        start = time.perf_counter()
        if name in recipes:
            row = ours(zoo, preprocessing, calibration, dataset, arguments, recipes[name])
        else:
            row = theirs(peer_copy, preprocessing, calibration, dataset, arguments, kinds[name])
        row["seconds"] = round(time.perf_counter() - start, 1)
        versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
        rows[name] = json.loads(json.dumps(row | {"samples": arguments.samples, "versions": versions}))
        write_atomically(arguments.output, json.dumps({"settings": settings, "rows": rows}, indent=1).encode())
        print(
            name, {t: f"{100 * c['accuracy']:.2f}" for t, c in row["curve"].items()}, f"{row['seconds']} s", flush=True
        )
    table(rows)


def table(rows: dict) -> None:
    print(f"| recipe | images | {' | '.join(f'T={t}' for t in SHOWN)} |")
    for name, row in rows.items():
        cells = [f"{100 * row['curve'][str(t)]['accuracy']:.2f}" if str(t) in row["curve"] else "" for t in SHOWN]
        print(f"| {name} | {row['samples']:,} | {' | '.join(cells)} |")
    for samples, ann in sorted({(row["samples"], row["ann"]) for row in rows.values()}):
        low, high = wilson(round(ann * samples), samples)
        print(f"ANN {ann:.2%} ({low:.2%} to {high:.2%}) on {samples} images")


if __name__ == "__main__":
    main()
