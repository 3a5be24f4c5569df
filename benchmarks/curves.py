"""How time and memory of a run grow with the size of images, the depth of the network, the batch and the time steps.

    python benchmarks/curves.py [--smoke]

Residual networks with seeded weights and calibrated BatchNorm on noise, converted by ECC, engine auto; one setting
moves, the others stay at BASE. Writes benchmarks/curves.json and curves.png. The same rule as in speed.py says which
samples count; added memory is measured in fresh processes.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from facts import ours
from kernels import calibrate
from machine import description, interleaved, smoke
from results import LEAST_ANN_SPEED
from speed import memory
from torch import Tensor, nn

import transpike as ts
from transpike.models import resnet20
from transpike.models._base import initialise
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
BASE = {"size": 32, "depth": 20, "batch": 8, "timesteps": 32}
MOVED = {
    "size": (32, 64, 128, 256),
    "depth": (20, 32, 56, 110),
    "batch": (1, 4, 16, 64),
    "timesteps": (4, 8, 16, 32, 64, 128),
}
TITLES = {"size": "height and width of the image", "depth": "layers", "batch": "batch", "timesteps": "time steps T"}
ENGINE, ANN = "transpike auto", "ANN"
CALIBRATION = 16  # images


def residual(depth: int) -> nn.Module:
    """The network of He et al. 2016 for CIFAR, of 6 n + 2 layers, with the parameter-free shortcut."""
    network, each = resnet20.ResNet20(), (depth - 2) // 6
    for index, width in enumerate((16, 32, 64)):
        first = network.get_submodule(f"layer{index + 1}")[0]
        others = [resnet20.Block(width, width, 1) for _ in range(each - 1)]
        setattr(network, f"layer{index + 1}", nn.Sequential(first, *others))
    initialise(network)
    return network


def noise(count: int, size: int, seed: int) -> Tensor:
    """Images with structure of every width, (count, 3, size, size) in 0 … 1."""
    generator, total = torch.Generator().manual_seed(seed), torch.zeros(count, 3, size, size)
    for cells in (4, 8, 16, 32):
        coarse = torch.rand((count, 3, cells, cells), generator=generator)
        total += F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False) / 4
    return total


def point(settings: dict[str, int], arguments: argparse.Namespace) -> dict:
    size, batch, timesteps = settings["size"], settings["batch"], settings["timesteps"]
    torch.manual_seed(arguments.seed)
    x = noise(CALIBRATION, size, arguments.seed)
    model = calibrate(residual(settings["depth"]), [x])
    data = [(x, torch.zeros(len(x), dtype=torch.int64))]
    snn = ts.convert(model, ts.recipes.ECC(timesteps=timesteps), data)
    images = noise(batch, size, arguments.seed + 1)
    ann, last = model.to(memory_format=torch.channels_last), images.contiguous(memory_format=torch.channels_last)
    functions = {ANN: torch.inference_mode()(partial(ann, last)), ENGINE: partial(ours, ENGINE, snn, images, timesteps)}
    timings = interleaved(functions, arguments.budget, arguments.sample_seconds, reference=ANN)
    activity = ts.simulate(snn, images, timesteps).activity
    neurons = [layer for layer in activity.layers if layer.role == "neuron"]
    return settings | {
        "seconds": timings[ENGINE].median, "ann_seconds": timings[ANN].median,
        "ann_best": min(timings[ANN].seconds, default=None),
        "added_mib": memory(snn, images, [ENGINE], arguments.memory_repeats).get(ENGINE),
        "neurons": sum(layer.neurons for layer in neurons),
        "synaptic_operations": sum(float(layer.synaptic_operations.sum()) for layer in activity.layers) / batch,
        "mean_spike_rate": sum(float(n.spikes.sum()) for n in neurons) / sum(n.updates for n in neurons),
        "samples": len(timings[ENGINE].seconds), "dropped": sum(t.dropped for t in timings.values()),
    }  # fmt: skip


def points(arguments: argparse.Namespace) -> Iterator[tuple[str, dict]]:
    why = smoke(arguments)
    found: dict[tuple[int, ...], dict] = {}
    for moved, values in MOVED.items():
        for value in values[:2] if arguments.smoke else values:
            settings = BASE | {moved: value}
            key = tuple(settings.values())
            if key not in found:
                found[key] = row = point(settings, arguments)
                if why or not row["seconds"] or not row["ann_seconds"]:
                    row["void"] = why or "no undisturbed sample"
                elif row["ann_best"] < LEAST_ANN_SPEED * row["ann_seconds"]:
                    row["void"] = "the ANN ran below its best speed"
            yield moved, found[key]


def picture(curves: dict[str, list[dict]], path: Path) -> None:
    """Above: milliseconds of a run, with T forward passes of the ANN; below: MiB that the run adds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(curves), figsize=(3.1 * len(curves), 5.6), sharex="col", sharey="row", layout="constrained")  # fmt: skip
    for column, (moved, rows) in enumerate(curves.items()):
        above, below = axes[:, column]
        lines = (
            (above, "transpike, engine auto", "#0072b2", "-", lambda r: r["seconds"] and 1000 * r["seconds"]),
            (above, "T forward passes of the ANN", "#6b6b6b", "--",
             lambda r: r["ann_seconds"] and 1000 * r["timesteps"] * r["ann_seconds"]),
            (above, "one forward pass of the ANN", "#6b6b6b", ":", lambda r: r["ann_seconds"] and 1000 * r["ann_seconds"]),
            (below, "", "#0072b2", "-", lambda r: r["added_mib"]),
        )  # fmt: skip
        for axis, label, colour, style, value in lines:
            at = [(row[moved], value(row)) for row in rows if value(row)]
            if at:
                axis.plot(
                    *zip(*at, strict=True),
                    style,
                    color=colour,
                    label=label,
                    linewidth=1.6,
                    marker="o" if colour == "#0072b2" else "",
                    markersize=4,
                )
        below.set_xlabel(TITLES[moved])
        for axis in (above, below):
            axis.set(xscale="log", yscale="log")
            axis.set_xticks([row[moved] for row in rows], [str(row[moved]) for row in rows], minor=False)
            axis.set_xticks([], minor=True)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axis.yaxis.set_minor_formatter(lambda value, _: "")
            axis.grid(True, which="major", alpha=0.25)
            axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("ms of a run")
    axes[1, 0].set_ylabel("MiB that a run adds")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=float, default=4, help="seconds a function and point")
    parser.add_argument("--sample-seconds", type=float, default=0.2, help="least length of a sample")
    parser.add_argument("--memory-repeats", type=int, default=1)
    parser.add_argument("--smoke", action="store_true", help="does everything run? two points a curve; all are void")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "curves.json")
    arguments = parser.parse_args()
    curves: dict[str, list[dict]] = {moved: [] for moved in MOVED}
    for moved, row in points(arguments):
        curves[moved].append(row)
        content = {"machine": description(arguments.seed), "base": BASE, "curves": curves}
        write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())
        print(moved, row, file=sys.stderr, flush=True)
    picture(curves, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
