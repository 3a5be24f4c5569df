"""BSNN as reconstructed: latency against Rueckauer, spikes of inactivated neurons, and the shortcuts without delays.

    python reproductions/bsnn/run.py --weights resnet20-cifar10-jpeg.safetensors --vgg-weights vgg7.safetensors --data-dir DATA
    python reproductions/bsnn/run.py --weights … --data-dir DATA --part inactivated --part accuracy    # of both, in this order

Networks are ResNet-20, zoo:vgg8 with the weights that come with transpike, and zoo:vgg7 as trained by
    transpike train --model zoo:vgg7 --data cifar10 --epochs 12 --learning-rate 0.05 --validation-fraction 0.02 \
      --precision bfloat16 --output vgg7.safetensors
--network names some of them; those without weights are left out.
Writes result.json and tables.md beside itself after each part; what is not measured again keeps its numbers.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import torch

import transpike as ts
from transpike.core.cell import Cell, Neuron
from transpike.neurons import Synchronous
from transpike.results.writing import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured, rows, spaced

HERE = Path(__file__).parent
PERIODS = (1, 2, 3, 4, 5, 6, 8)
LONGEST_RUN = 512
NEAR = 0.01  # of accuracy
STREAMED = (16, 32, 64, 128)
NETWORKS = {"resnet20-16-32-64": "resnet", "vgg7": "vgg", "vgg8": "vgg8"}
"""Network of the zoo → its name in claims.toml."""
INACTIVATED = {
    **{f"BSNN, period {k}": ts.recipes.BSNN(timesteps=k, period=k) for k in PERIODS},
    **{
        f"BSNN, period {k}, largest thresholds, one a layer": ts.recipes.BSNN(
            timesteps=k, period=k, percentile=100.0, granularity="layer"
        )
        for k in (*PERIODS, 16)
    },
    **{f"Rueckauer, streaming, T={t}": ts.recipes.Rueckauer(timesteps=t) for t in STREAMED},
    **{f"ECC, streaming, T={t}": ts.recipes.ECC(timesteps=t) for t in STREAMED},
}
BY_DEFAULT = {k: f"BSNN, period {k}" for k in PERIODS}  # the settings of the rows on latency
STREAMING = {t: f"Rueckauer, streaming, T={t}" for t in STREAMED}


def inactivated(snn: ts.SNN, images: torch.Tensor) -> dict[str, float]:
    """% of all neurons, over the images, whose count is above 0 although z is not.

    "ann": z of the source network. "own": the charge that the neuron itself was given by the end of the run, which a
    neuron that waits for all of it cannot exceed. "neurons": how many were looked at.
    """
    wanted = [n.name for n in snn.graph if isinstance(n.op, Neuron) and not isinstance(n.op, Synchronous)]
    wrong, total = {"ann": 0, "own": 0}, 0
    for x in images.split(5):
        currents: dict[str, torch.Tensor] = {}
        snn.source.run(snn.prepare(x), observe=lambda node, inputs, out, c=currents: c.update({node.name: inputs[0]}))
        trace = ts.simulate(snn, x, engine="dense", record=[node.name for node in snn.graph.cells])
        counts = {name: train.double().sum(0) for name, train in trace.trains.items()}
        charges = charged(snn, x, counts)
        for name in wanted:
            active = counts[name] > 0
            wrong["ann"] += int((active & (currents[name] <= 0)).sum())
            wrong["own"] += int((active & (charges[name] <= 0)).sum())
            total += active.numel()
    return {**{key: 100 * value / total for key, value in wrong.items()}, "neurons": total}


def charged(snn: ts.SNN, x: torch.Tensor, counts: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Neuron layer → all the charge that it was given in a run, worked out from the counts of the layers before it."""
    times = snn.timesteps // snn.schedule.period if snn.schedule.period else snn.timesteps
    lowered = snn.program.lowered.to(dtype=torch.float64)
    values, found = {}, {}
    for node in lowered.nodes:
        inputs = [values[name] for name in node.inputs]
        if not inputs:
            values[node.name] = times * snn.prepare(x).double()
        elif isinstance(node.op, Cell):
            found[node.name] = inputs[0] + times * lowered.biases[node.name][0]
            values[node.name] = counts[node.name]
        else:
            values[node.name] = node.op.linear(*inputs)
    return found


def networks(module, preprocessing, data, seed: int):
    """A function from recipes to networks with the same calibration."""
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(seed))[:1000]
    calibration = [x for x, _ in data.train.batches(250, indices=order)]
    return lambda recipe: ts.convert(module, recipe, calibration, preprocessing=preprocessing)


def accuracies(network, data, samples: int) -> dict:
    """Accuracy over total steps of both methods."""
    images = data.test.subset(spaced(len(data.test), samples))
    which = "all" if len(images) == len(data.test) else "evenly spaced"

    def curve(snn, some=images) -> list[dict]:
        report = ts.evaluate(snn, some.batches(32))
        return [{"timesteps": a.timesteps, "total_steps": a.total_steps, "accuracy": a.accuracy, "ann": report.ann_accuracy,
                 "synaptic_operations": a.synaptic_operations} for a in report.curve]  # fmt: skip

    long = curve(network(ts.recipes.Rueckauer(timesteps=LONGEST_RUN)))
    found: dict = {
        "samples": len(images),
        "images": which,
        "rueckauer": [r for r in long if r["timesteps"] % 4 == 0],
    }
    found["bsnn"] = [row for k in PERIODS for row in curve(network(ts.recipes.BSNN(timesteps=k, period=k)))]
    found["rounds"] = curve(network(ts.recipes.BSNN(timesteps=12, period=4)))
    few = data.test.subset(spaced(len(data.test), min(samples, 320)))
    found["with shortcuts in step"] = curve(network(ts.recipes.BSNN(timesteps=5, period=5)), few)
    found["without"] = curve(network(ts.recipes.BSNN(timesteps=5, period=5, match_delays=False)), few)
    return found


def wrong_spikes(network, data, count: int) -> dict:
    """Where neurons fire that are inactive in the source network, over all periods and thresholds."""
    images = data.test.batch(spaced(len(data.test), count))[0]
    found = {}
    for name, recipe in INACTIVATED.items():
        found[name] = inactivated(network(recipe), images)
        print(name, found[name], flush=True)
    return {"inactivated": found, "inactivated images": count}


def near(curve: list[dict]) -> int | None:
    """The fewest total steps from which on no answer loses more than a point."""
    good = None
    for row in reversed(curve):
        if row["ann"] - row["accuracy"] > NEAR:
            break
        good = row["total_steps"]
    return good


def waiting(part: dict) -> str:
    """Why the ratio is what it is: the wait for every layer, and what a shorter one would cost."""
    ours = part["bsnn"]
    at = next(index for index, row in enumerate(ours) if row["total_steps"] == near(ours))
    row, shorter = ours[at], ours[max(0, at - 1)]
    return (
        f"each of {row['total_steps'] // row['timesteps'] - 1} neuron layers on the longest path waits a whole cycle: "
        f"{row['timesteps']} bits cost {row['total_steps']} steps and lose {100 * (row['ann'] - row['accuracy']):.2f} points, "
        f"{shorter['timesteps']} bits cost {shorter['total_steps']} and lose {100 * (shorter['ann'] - shorter['accuracy']):.2f}"
    )


def values(found: dict[str, dict]) -> dict[str, Measured]:
    """Claim → what was measured for it: over all periods, and over all T of streaming neurons."""
    got: dict[str, Measured] = {}
    streamed: list[tuple[str, dict]] = []
    for name, key in NETWORKS.items():
        part = found.get(name, {})
        if "bsnn" in part:
            ours, theirs = near(part["bsnn"]), near(part["rueckauer"])
            reason = waiting(part) if ours else "no period measured comes within a point"
            got[f"steps-{key}"] = Measured(
                ours / theirs if ours and theirs else None,
                part["samples"],
                images=part["images"].removeprefix("all"),
                reason=reason,
            )
        wrong = part.get("inactivated", {})
        by = {str(k): wrong[label]["ann"] for k, label in BY_DEFAULT.items() if label in wrong}
        if by:
            looked = min(wrong[label]["neurons"] for label in BY_DEFAULT.values() if label in wrong)
            got[f"inactivated-{key}"] = Measured(max(by.values()), looked, by=by, reason=charged_otherwise(wrong, by))
        if all(label in wrong for label in STREAMING.values()):
            streamed += [(f"{key}, T={t}", wrong[label]) for t, label in STREAMING.items()]
    if streamed:
        by = {label: one["ann"] for label, one in streamed}
        got["streaming-has-them"] = Measured(min(by.values()), min(one["neurons"] for _, one in streamed), by=by)
    return got


def charged_otherwise(wrong: dict, by: dict[str, float]) -> str:
    """How much there is at each period, and that the coarseness of levels is the cause."""
    listed = ", ".join(f"{value:.2g} % at period {k}" for k, value in by.items())
    finest = [label for label in wrong if label.startswith("BSNN, period 16")]
    fine = f"; {wrong[finest[0]]['ann']:.1g} % at period 16 with largest thresholds" if finest else ""
    missing = "" if len(by) == len(PERIODS) else "; other periods were not run"
    return f"{listed}{fine}: a neuron near z = 0 receives rounded activations, and its own charge is positive{missing}"


def tables(found: dict[str, dict]) -> str:
    parts = ["# BSNN, reconstructed: what was measured", "",
             "Made by `python reproductions/bsnn/run.py`; numbers are in result.json."]  # fmt: skip
    for name, part in found.items():
        parts += ["", f"## {name}"]
        parts += [*(over_steps(part) if "bsnn" in part else ()), *(silent(part) if "inactivated" in part else ())]
    return "\n".join([*parts, ""])


def over_steps(part: dict) -> list[str]:
    lines = ["", f"ANN {part['bsnn'][0]['ann']:.2%}; {part['samples']:,} test images, {part['images']}.", "",
             "| | T | total steps | accuracy | M synaptic operations |", "|---|---:|---:|---:|---:|"]  # fmt: skip
    few = (16, 32, 64, 96, 128, 192, 256, 384, 512)
    shown = [("Rueckauer", row) for row in part["rueckauer"] if row["timesteps"] in few]
    shown += [(f"BSNN, one round, period {row['timesteps']}", row) for row in part["bsnn"]]
    shown += [("BSNN, period 4", row) for row in part["rounds"]]
    lines += [
        f"| {label} | {row['timesteps']} | {row['total_steps']} | {row['accuracy']:.2%} | {row['synaptic_operations'] / 1e6:.1f} |"
        for label, row in shown
    ]
    together, apart = (part[key][0]["accuracy"] for key in ("with shortcuts in step", "without"))
    return [*lines, "",
            f"Within 1 point of the ANN from {near(part['bsnn'])} total steps (BSNN) and {near(part['rueckauer'])} (Rueckauer).", "",
            f"Shortcuts in step {together:.2%}, without {apart:.2%} (period 5, 320 images). Without delays, sums add what belongs to",
            "different cycles: this shows that the network needs them, and is no gain over another method."]  # fmt: skip


def silent(part: dict) -> list[str]:
    return ["", f"Neurons that fire although z ≤ 0, in % of all neurons, {part['inactivated images']} images. A neuron that waits for its",
            "whole charge has no spike without one by construction (last column).", "",
            "| | z of the ANN | their own charge |", "|---|---:|---:|",
            *(f"| {label} | {value['ann']:.4f} | {value['own']:.4f} |" for label, value in part["inactivated"].items())]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--vgg-weights", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=10_000, help="Test images for accuracies.")
    parser.add_argument("--images", type=int, default=50, help="Test images whose neurons are looked at one by one.")
    parser.add_argument("--network", action="append", choices=NETWORKS, help="Default: all.")
    parser.add_argument("--part", action="append", choices=["inactivated", "accuracy"], help="Default: both.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true", help="Measure nothing; judge what result.json holds.")
    arguments = parser.parse_args()
    stored = json.loads((HERE / "result.json").read_text()) if (HERE / "result.json").exists() else {}
    found = stored.get("networks", {})
    settings = stored.get("settings", {})

    def write() -> None:
        judged = rows(HERE, values(found), settings)
        write_atomically(
            HERE / "result.json",
            json.dumps({"rows": judged, "settings": settings, "networks": found}, indent=1).encode(),
        )
        write_atomically(HERE / "tables.md", tables(found).encode())

    data = None if arguments.judge else ts.data.load("cifar10", arguments.data_dir)
    for name, weights in zip(NETWORKS, (arguments.weights, arguments.vgg_weights, "pretrained"), strict=True):
        if weights is None or data is None or name not in (arguments.network or NETWORKS):
            continue
        module, spec = ts.models.build(f"zoo:{name}", weights=weights)
        network = networks(module, spec.preprocessing, data, arguments.seed)
        versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
        settings = {"seed": arguments.seed, "versions": versions, "data": data.note}
        for part in arguments.part or ("inactivated", "accuracy"):
            measured = (
                wrong_spikes(network, data, arguments.images)
                if part == "inactivated"
                else accuracies(network, data, arguments.samples)
            )
            found[name] = found.get(name, {}) | measured
            write()
    write()
    print(tables(found))
    for row in json.loads((HERE / "result.json").read_text())["rows"]:
        print(row["id"], row["status"], row["measured"])


if __name__ == "__main__":
    main()
