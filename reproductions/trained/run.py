"""Networks trained for conversion: QCFS, CQ, CQ+ and VR against the ReLU network that was trained as long.

    python reproductions/trained/run.py --folder FOLDER --data-dir DATA \
      --weights resnet20-cifar10-jpeg.safetensors --vgg-weights vgg7.safetensors

FOLDER holds what training.py makes. Networks that are not there leave their claims "not measured"; those measured
before stay as they are with --keep. Writes result.json and tables.md next to this file.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import torch

import transpike as ts
from training import CIFAR, MNIST, PLANS, dataset, options, prepared
from transpike.core.pass_ import Context
from transpike.core.recipe import Recipe
from transpike.passes import FoldBatchNorm, RemoveDropout
from transpike.results.writing import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured, asked, lost, part_of, spaced
from judging import rows as judged

HERE = Path(__file__).parent
WINDOWS = ts.schedules.LayerSynchronous()
R = ts.recipes
TEST_IMAGES = 10_000
EXACT = 64
"""Images on which every neuron's count is compared with its source's level."""
MEASURED: dict[str, dict[str, Recipe]] = {
    "qcfs": {
        "streaming": R.QCFS(timesteps=32),
        **{
            f"streaming, potentials calibrated for T = {t}": R.QCFS(timesteps=t, calibrate="potential")
            for t in (4, 8, 16, 32)
        },
        "streaming, thresholds calibrated for T = 8": R.QCFS(timesteps=8, calibrate="thresholds"),
        "averaging neurons, T = L": R.QCFS(timesteps=4, schedule=WINDOWS),
    },
    "vr": {
        "averaging neurons, T = 8": R.VR(timesteps=8),
        "averaging neurons, 9-bit weights": R.VR(timesteps=8, weight_bits=9),
        "averaging neurons, 8-bit weights": R.VR(timesteps=8, weight_bits=8),
    },
    "vr4": {"averaging neurons, T = 4": R.VR(timesteps=4)},
    "cq600": {
        "averaging neurons, T = 600": R.CQ(timesteps=600, schedule=WINDOWS),
        "averaging neurons, 9-bit weights": R.CQ(timesteps=600, schedule=WINDOWS, weight_bits=9),
        "averaging neurons, 8-bit weights": R.CQ(timesteps=600, schedule=WINDOWS, weight_bits=8),
        "plain neurons, T = 600": R.CQ(timesteps=600),
        "plain neurons, T = 64": R.CQ(timesteps=64),
        "plain neurons, threshold training, T = 64": R.CQPlus(timesteps=64),
    },
    "mnist": {"averaging neurons, T = 1": R.VR(timesteps=1)},
    "block": {
        "averaging neurons, T = 50": R.CQ(timesteps=50, schedule=WINDOWS),
        "plain neurons, T = 50": R.CQ(timesteps=50),
        "plain neurons, threshold training, T = 50": R.CQPlus(timesteps=50),
        "plain neurons, threshold training, T = 58": R.CQPlus(timesteps=58),
        **{
            f"plain neurons, biases and potentials calibrated, T = {t}": R.CQ(
                timesteps=t, calibrate="both", samples=256
            )
            for t in (50, 58)
        },
    },
}


def group(name: str) -> str | None:
    """Which recipes a trained network is measured under."""
    plan, kind = PLANS[name], name.split("-")[1]
    if plan.activation is None:
        return None
    if plan.network == MNIST:
        return "mnist"
    if plan.network not in CIFAR:
        return "block"
    return "cq600" if kind == "cq" else kind


def exact(module: torch.nn.Module, recipe: Recipe, x: torch.Tensor) -> dict:
    """How many counts of averaging neurons differ from the levels of the source network, both in float64.

    The source network has its batch normalisation folded, for the spiking one has the folded weights in float32.
    """
    snn = ts.convert(module, recipe, x, exact_grid=False)
    context = Context(snn.source, (x,), recipe.timesteps)
    source = FoldBatchNorm().apply(RemoveDropout().apply(snn.source, context), context).to(dtype=torch.float64)
    names = [node.name for node in snn.graph.cells]
    levels: dict[str, torch.Tensor] = {}

    def see(node, inputs, output) -> None:
        if node.name in names:
            levels[node.name] = (output * recipe.timesteps / snn.graph[node.name].op.output_scale()).round()

    differing = total = 0
    rates = []
    for part in x.split(8):
        source.run(part.double(), observe=see)
        trains = ts.simulate(snn, part, engine="reference", record=names).trains
        for name in names:
            count = trains[name].double().sum(0)
            differing += int((count != levels[name]).sum())
            total += count.numel()
            rates.append((name, float(count.mean()) / recipe.timesteps))
    least = {name: max(rate for other, rate in rates if other == name) for name in names}
    return {
        "differing": differing,
        "neurons": total,
        "lowest_rate": min(least.values()),
        "highest_rate": max(least.values()),
    }


def measured(name: str, arguments: argparse.Namespace, before: dict) -> dict:
    """The numbers of a network; with --recipe those of the others are as ``before``."""
    plan = PLANS[name]
    data = dataset(plan, arguments)
    module, preprocessing = prepared(name, data, arguments)
    if plan.epochs:
        ts.models.load_weights(module, arguments.folder / f"{name}.safetensors")
    module.eval()
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:1000]
    calibration = data.train.subset(order)
    found: dict = {"epochs": plan.epochs, "learning_rate": plan.learning_rate, "seed": plan.seed, "rows": []}
    kind = group(name)
    if kind is None:
        images = data.test.subset(spaced(len(data.test), arguments.samples))
        right = sum(int((module(preprocessing(x)).argmax(1) == y).sum()) for x, y in images.batches(200))
        return {**found, "ann": right / len(images), "samples": len(images)}
    wanted = {
        label: recipe for label, recipe in MEASURED[kind].items() if label in (arguments.recipe or MEASURED[kind])
    }
    if arguments.recipe:
        found |= before | {"rows": [row for row in before.get("rows", []) if row["recipe"] not in wanted]}
    for label, recipe in wanted.items():
        long = recipe.timesteps > 100 and recipe.schedule.mode == "steps"
        limit = min(arguments.samples, arguments.long_samples if long else len(data.test))
        images = data.test.subset(spaced(len(data.test), limit))
        snn = ts.convert(module, recipe, calibration.batches(200), preprocessing=preprocessing)
        answers = tuple(t for t in (1, 2, 4, 8, 16, 32, 50, 64, 600) if t <= recipe.timesteps)
        if recipe.schedule.mode == "windows" or snn.recipe.depends_on_timesteps:
            answers = (recipe.timesteps,)
        report = ts.evaluate(snn, images.batches(100), answers=answers)
        for answer in report.curve:
            found["rows"].append({"recipe": label, "timesteps": answer.timesteps, "total_steps": answer.total_steps,
                                  "accuracy": answer.accuracy, "low": answer.low, "high": answer.high,
                                  "ann": report.ann_accuracy, "samples": report.samples, "images": "evenly spaced", "spike_rate": answer.spike_rate,
                                  "analogue_share": answer.macs / report.ann_macs})  # fmt: skip
        print(name, label, found["rows"][-1], flush=True)
        if "averaging" in label and "weights" not in label:
            x = preprocessing(data.test.batch(torch.arange(EXACT))[0])
            found["exact"] = {"recipe": label, **exact(module, recipe, x)}
            print(name, found["exact"], flush=True)
    return {**found, "ann": found["rows"][0]["ann"], "samples": found["rows"][0]["samples"]}


def most_lost(found: dict, name: str, recipes: dict[int, str]) -> Measured:
    """The most points lost at any of these T; decides nothing while some of them were not run."""
    part = found.get(name, {}).get("rows", [])
    by = {t: row for t, recipe in recipes.items() for row in part if (row["recipe"], row["timesteps"]) == (recipe, t)}
    if not by:
        return Measured()
    points = {str(t): 100 * (row["ann"] - row["accuracy"]) for t, row in by.items()}
    worst = max(by.values(), key=lambda row: row["ann"] - row["accuracy"])
    left = [str(t) for t in recipes if t not in by]
    why = f"measured at T={', '.join(points)} alone, and not at {', '.join(left)}" if left else ""
    return lost(worst["ann"], worst["accuracy"], worst["samples"], by=points, images=which(worst), not_judged=why)


def which(row: dict) -> str:
    return part_of(row["samples"], TEST_IMAGES, row.get("images", "the first"))


def values(found: dict) -> dict[str, Measured]:
    """Claim → what was measured for it."""
    got: dict[str, Measured] = {}

    def row(name: str, recipe: str, t: int) -> dict | None:
        rows = [r for r in found.get(name, {}).get("rows", []) if (r["recipe"], r["timesteps"]) == (recipe, t)]
        return rows[0] if rows else None

    def counts(claim: str, name: str) -> None:
        if one := found.get(name, {}).get("exact"):
            got[claim] = Measured(one["differing"], one["neurons"])

    for net in ("resnet20", "vgg7", "vgg8"):
        got[f"qcfs-{net}"] = most_lost(found, f"{net}-qcfs", dict.fromkeys((8, 16, 32), "streaming"))
        calibrated = {t: f"streaming, potentials calibrated for T = {t}" for t in (4, 8, 16, 32)}
        got[f"qcfs-calibrated-{net}"] = most_lost(found, f"{net}-qcfs", calibrated)
        relu = found.get(f"{net}-relu")
        if relu:
            got[f"twin-{net}"] = Measured(100 * relu["ann"], relu["samples"])
        for kind, steps, end in (("vr", 8, ""), ("vr-fine", 8, "-fine"), ("vr4", 4, "-4")):
            own = row(f"{net}-{kind}", f"averaging neurons, T = {steps}", steps)
            if relu and own and relu["samples"] == own["samples"]:
                got[f"vr-{net}{end}"] = lost(relu["ann"], own["accuracy"], own["samples"])
            counts(f"exact-vr-{net}{end}", f"{net}-{kind}")
    seeds = [row(f"mnist-vr-{s}", "averaging neurons, T = 1", 1) for s in range(3)]
    if None not in seeds:
        by = {f"seed {s}": 100 * one["accuracy"] for s, one in enumerate(seeds)}
        got["mnist-vr"] = Measured(sum(by.values()) / 3, min(one["samples"] for one in seeds), by=by)
    for net in ("vgg7", "vgg8", "vgg19"):
        counts(f"exact-cq-{net}", f"{net}-cq")
        got[f"plain-600-{net}"] = most_lost(found, f"{net}-cq", {600: "plain neurons, T = 600"})
    got["plus-64-vgg8"] = most_lost(found, "vgg8-cq", {64: "plain neurons, threshold training, T = 64"})
    for name, steps in WEIGHTS.items():
        full = row(name, f"averaging neurons, T = {steps}", steps)
        for bits in (9, 8):
            less = row(name, f"averaging neurons, {bits}-bit weights", steps)
            if full and less:
                got[f"weights-{bits}-{name}"] = lost(
                    full["accuracy"], less["accuracy"], less["samples"], images=which(less)
                )
    for block in BLOCKS:
        calibrated = {t: f"plain neurons, biases and potentials calibrated, T = {t}" for t in (50, 58)}
        got[f"calibrated-{block}"] = most_lost(found, f"{block}-cq", calibrated)
        trained = {t: f"plain neurons, threshold training, T = {t}" for t in (50, 58)}
        got[f"block-{block}"] = most_lost(found, f"{block}-cq", trained)
    return got


WEIGHTS = {
    "vgg19-cq": 600, "vgg7-cq": 600, "vgg8-cq": 600, "resnet20-vr": 8, "vgg7-vr": 8, "vgg7-vr-fine": 8, "vgg8-vr": 8,
}  # fmt: skip
BLOCKS = ("residual", "mobilenet-v1", "mobilenet-v2", "dense")


def tables(found: dict, rows: list[dict]) -> str:
    parts = [
        "# Networks trained for conversion: what was measured", "",
        "Made by `python reproductions/trained/run.py`; numbers and intervals are in result.json. CIFAR-10 is the JPEG copy.", "",
        "## Claims", "", "| claim | bound | measured | n | |", "|---|---:|---:|---:|---|",
    ]  # fmt: skip
    for row in rows:
        value = "" if row["measured"] is None else f"{row['measured']:.4g}"
        n = "" if row["n"] is None else f"{row['n']:,}"
        status = row["status"] + (f": {row['reason']}" if row["reason"] else "")
        parts.append(f"| {row['claim']} | {asked(row)} | {value} | {n} | {status} |")
    parts += [
        "",
        "## Networks",
        "",
        "| network | epochs | recipe | T | total steps | accuracy | own ANN | images |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for name, part in found.items():
        if not part["rows"]:
            parts.append(
                f"| {name} | {part['epochs']} | the network itself | | | | {part['ann']:.2%} | {part['samples']:,} |"
            )
        parts += [f"| {name} | {part['epochs']} | {r['recipe']} | {r['timesteps']} | {r['total_steps']} | {r['accuracy']:.2%} | {r['ann']:.2%} | {r['samples']:,} |"
                  for r in part["rows"]]  # fmt: skip
    parts += ["", "## Counts against levels", "", f"Averaging neurons, stepped in float64, against the source network's levels on {EXACT} test images.", "",
              "| network | neurons × images | counts that differ | mean rate of the layers |", "|---|---:|---:|---:|"]  # fmt: skip
    parts += [f"| {name} | {e['neurons']:,} | {e['differing']:,} | {e['lowest_rate']:.1%} to {e['highest_rate']:.1%} |"
              for name, part in found.items() if (e := part.get("exact"))]  # fmt: skip
    return "\n".join([*parts, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options(parser)
    parser.add_argument(
        "names", nargs="*", choices=[*sorted(PLANS), []], help="Networks to measure (default: all there)."
    )
    parser.add_argument("--samples", type=int, default=10_000, help="Test images.")
    parser.add_argument("--long-samples", type=int, default=10_000, help="Test images of runs of more than 100 steps.")
    parser.add_argument("--keep", action="store_true", help="Keep what result.json holds of the other networks.")
    parser.add_argument("--recipe", action="append", help="Measure this one only, of networks measured with --keep.")
    parser.add_argument("--judge", action="store_true", help="Measure nothing; judge what result.json holds.")
    arguments = parser.parse_args()
    path = HERE / "result.json"
    stored = json.loads(path.read_text())["networks"] if (arguments.keep or arguments.judge) and path.exists() else {}
    folder = arguments.folder
    there = [n for n, plan in PLANS.items() if folder and (not plan.epochs or (folder / f"{n}.safetensors").exists())]
    for name in () if arguments.judge else arguments.names or there:
        stored[name] = measured(name, arguments, stored.get(name, {}))
    found = {name: stored[name] for name in PLANS if name in stored}
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    if arguments.judge:  # nothing was measured with these
        versions = json.loads(path.read_text())["rows"][0]["versions"]
    rows = judged(HERE, values(found), {"versions": versions, "data": "CIFAR-10 (JPEG copy), MNIST"})
    write_atomically(path, json.dumps({"rows": rows, "networks": found}, indent=1).encode())
    write_atomically(HERE / "tables.md", tables(found, rows).encode())
    print(tables(found, rows))


if __name__ == "__main__":
    main()
