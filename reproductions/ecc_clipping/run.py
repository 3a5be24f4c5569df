"""Clipping against TRE: ReLU, ReLU6, ReLU-CM and ReLU-SC, each fine-tuned equally long, each with TRE and without.

    python reproductions/ecc_clipping/run.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA --store DIRECTORY

The network is the CIFAR-10 ResNet-20 that was trained with ReLU. Every clipped network starts from it and is fine-tuned for one
epoch (under 2 minutes on a free core); --store keeps checkpoints and finished numbers, and a second call goes on from
there. Networks run in whole windows (layer-synchronous), which is what the authors' code computes.
Writes result.json, tables.md, histogram.png and over_time.png next to this file.

What ReLU-CM and ReLU-SC are in the paper was not to be found: they are RECONSTRUCTED from their names, as clips to
[0, c]. CM is taken as a common maximum, one c for all layers: the mean of the layers' 99.9 percentiles in the ReLU
network. SC is taken as a scaled clip, c in each layer its own 99.9 percentile. ReLU6 is known: c = 6.
"""

import argparse
import copy
import json
import math
import platform
import sys
from pathlib import Path

import matplotlib
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.models._weights import load_weights
from transpike.results.writing import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured, lost, mean_of, part_of, spaced, unpaired
from judging import rows as judged_rows

matplotlib.use("Agg")
from matplotlib import pyplot

HERE = Path(__file__).parent
TIMES = (8, 16, 32, 64, 128, 256)
NETWORKS = ("ReLU", "ReLU6", "ReLU-CM", "ReLU-SC")
LABELS = {"ReLU-CM": "ReLU-CM (reconstructed)", "ReLU-SC": "ReLU-SC (reconstructed)"}
BETAS = {"TRE": 0.5, "no TRE": 0.0}
PERCENTILE = 99.9
TEST_IMAGES = 10_000
CALIBRATION = 250  # of the training images whose histogram is drawn
BINS, HIGHEST = 80, 8.0
ONE_EPOCH = "a network of 20 layers of neurons, fine-tuned for one epoch; see the tables"


def with_modules(module: nn.Module) -> nn.Module:
    """The same network with every functional ReLU as a module, which a clip can replace; parameters keep their names."""
    return ts.prepare(module, nn.ReLU())


def rectifiers(module: nn.Module) -> dict[str, nn.Module]:
    """Every rectifier in order, by its name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, nn.ReLU | nn.ReLU6 | nn.Hardtanh)}


@torch.no_grad()
def percentiles(module: nn.Module, x: Tensor, percentile: float = PERCENTILE) -> dict[str, float]:
    """Rectifier → the percentile of what it gives on ``x`` (zeros included)."""
    found: dict[str, float] = {}

    def see(name: str):
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            values = output.flatten()
            found[name] = float(values.kthvalue(max(1, round(values.numel() * percentile / 100))).values)

        return hook

    handles = [part.register_forward_hook(see(name)) for name, part in rectifiers(module).items()]
    module.eval()(x)
    for handle in handles:
        handle.remove()
    return found


def ceilings(network: str, measured: dict[str, float]) -> dict[str, float]:
    """Rectifier → c of its clip to [0, c]; empty for ReLU. ReLU-CM and ReLU-SC are reconstructions (see above)."""
    common = sum(measured.values()) / len(measured)
    return {"ReLU": {}, "ReLU6": dict.fromkeys(measured, 6.0), "ReLU-CM": dict.fromkeys(measured, common),
            "ReLU-SC": measured}[network]  # fmt: skip


def clipped(module: nn.Module, network: str, measured: dict[str, float]) -> nn.Module:
    """A copy whose rectifiers clip as ``network`` says; parameters and their names stay."""
    clipped_network = copy.deepcopy(module)
    for name, ceiling in ceilings(network, measured).items():
        parent, _, last = name.rpartition(".")
        clip = nn.ReLU6() if network == "ReLU6" else nn.Hardtanh(0.0, ceiling)
        setattr(clipped_network.get_submodule(parent), last, clip)
    return clipped_network


def tuned(module: nn.Module, network: str, spec, data, arguments) -> nn.Module:
    """``module`` fine-tuned, or read from the store; ``train`` goes on where a killed call was."""
    path = arguments.store / f"{network.lower()}.checkpoint.safetensors"
    weights = arguments.store / f"{network.lower()}.safetensors"
    if weights.exists():
        load_weights(module, weights)
        return module.eval()
    result = ts.train(
        module,
        data,
        ts.Training(
            epochs=arguments.epochs,
            learning_rate=0.01,
            validation_fraction=0.02,
            precision="bfloat16",
            seed=arguments.seed,
        ),
        checkpoint=path,
        weights=weights,
        preprocessing=spec.preprocessing,
        notes={"spec": f"zoo:resnet20-16-32-64 with {network}"},
    )
    print(network, f"test accuracy {result.test_accuracy:.2%}", flush=True)
    return module


def measured(module: nn.Module, network: str, clips: dict[str, float], x: Tensor, spec, data, arguments) -> dict:
    """The first layer's histogram on the calibration inputs ``x``, and accuracy and operations over T."""
    first, values = next(iter(rectifiers(module).values())), []
    handle = first.register_forward_hook(lambda _, __, output: values.append(output.flatten()))
    with torch.no_grad():
        module.eval()(x)
    handle.remove()
    counts = torch.histc(values[0], BINS, 0, HIGHEST)
    found: dict = {
        "ceilings": ceilings(network, clips),
        "histogram": {"share": (counts / values[0].numel()).tolist(), "maximum": float(values[0].max()),
                      "percentile": float(values[0].kthvalue(round(values[0].numel() * PERCENTILE / 100)).values)},
        "curves": {},
    }  # fmt: skip
    for label, beta in BETAS.items():
        recipe = ts.recipes.ECC.paper(timesteps=max(TIMES), beta=beta, schedule=ts.schedules.LayerSynchronous())
        snn = ts.convert(module, recipe, x[:CALIBRATION])
        chosen = spaced(len(data.test), arguments.samples)
        batches = ((spec.preprocessing(images), labels) for images, labels in data.test.batches(50, indices=chosen))
        report = ts.evaluate(snn, batches, answers=TIMES)
        found["ann_accuracy"] = report.ann_accuracy
        found["curves"][label] = [
            {"timesteps": t, "accuracy": report.at(t).accuracy, "synaptic_operations": report.at(t).synaptic_operations}
            for t in TIMES
        ]
        print(network, label, [f"{100 * row['accuracy']:.2f}" for row in found["curves"][label]], flush=True)
    return found


def accuracies(part: dict, label: str) -> list[float]:
    """At each T."""
    return [row["accuracy"] for row in part["curves"][label]]


def mean_accuracy(part: dict, label: str) -> float:
    """In %, over all T."""
    found = accuracies(part, label)
    return 100 * math.fsum(found) / len(found)


def judged(found: dict[str, dict], settings: dict) -> list[dict]:
    """result.json's rows. Gains are means over all T; their bounds are those of unpaired shares, which are wider."""
    relu, n = found["ReLU"], settings["samples"]
    which = part_of(n, TEST_IMAGES, settings.get("which", "the first"))

    def ahead(part: dict) -> tuple[float, float, float]:
        pairs = zip(accuracies(relu, "TRE"), accuracies(part, "no TRE"), strict=True)
        value, low, high = mean_of([unpaired(ours, theirs, n) for ours, theirs in pairs])
        return 100 * value, 100 * low, 100 * high

    values = {
        "near-zero-loss": lost(relu["ann_accuracy"], accuracies(relu, "TRE")[-1], n, images=which, reason=ONE_EPOCH)
    }
    value, low, high = ahead(relu)
    values["tre-without-clip"] = Measured(value, n, low, high, images=which, reason=ONE_EPOCH)
    for network in NETWORKS[1:]:
        value, low, high = ahead(found[network])
        reason = (
            f"mean accuracy at T={TIMES[0]} to {TIMES[-1]}: ReLU with TRE {mean_accuracy(relu, 'TRE'):.2f} %, {network} without "
            f"{mean_accuracy(found[network], 'no TRE'):.2f} %, with {mean_accuracy(found[network], 'TRE'):.2f} %; the clip lowers "
            f"the first threshold from {relu['histogram']['maximum']:.2f} to {found[network]['histogram']['maximum']:.2f}"
        )
        values[f"tre-beats-{network.lower()}"] = Measured(value, n, low, high, images=which, reason=reason)
    return judged_rows(HERE, values, settings)


def clip_text(part: dict) -> str:
    values = list(part["ceilings"].values())
    if not values:
        return "none"
    return f"{values[0]:.2f}" if max(values) == min(values) else f"{min(values):.2f} to {max(values):.2f}"


def tables(found: dict[str, dict], samples: int) -> str:
    head, rule = " | ".join(f"T={t}" for t in TIMES), "|".join("---:" for _ in TIMES)
    parts = ["# Clipping against TRE: what was measured", "",
             "Made by `python reproductions/ecc_clipping/run.py`; numbers are in result.json.", "",
             "CIFAR-10 (JPEG copy), ResNet-20, thresholds at the maximum of each layer (`ECC.paper()`), whole windows. "
             "ReLU-CM (one clip for all layers, at the mean of their 99.9 percentiles) and ReLU-SC (each layer's own 99.9 "
             "percentile) are reconstructions: the paper's definitions were not to be found.", "",
             f"{samples:,} test images, the same for all: a single accuracy of 90 % is known to ±{196 * (0.09 / samples) ** 0.5:.1f} points "
             "(95 %), differences between rows better.", "",
             "| network | clip c | ANN accuracy | first layer: 99.9 percentile | maximum |", "|---|---:|---:|---:|---:|"]  # fmt: skip
    for network, part in found.items():
        shape = part["histogram"]
        parts.append(f"| {LABELS.get(network, network)} | {clip_text(part)} | {part['ann_accuracy']:.2%} | {shape['percentile']:.2f} | "
                     f"{shape['maximum']:.2f} |")  # fmt: skip
    kinds = (
        ("Accuracy in %", "accuracy", 100, 2),
        ("Synaptic operations of a sample, in millions", "synaptic_operations", 1e-6, 1),
    )
    for title, key, factor, digits in kinds:
        parts += ["", f"## {title}", "", f"| | {head} |", f"|---|{rule}|"]
        for network, part in found.items():
            for label, rows in part["curves"].items():
                numbers = " | ".join(f"{factor * row[key]:.{digits}f}" for row in rows)
                parts.append(f"| {LABELS.get(network, network)}, {label} | {numbers} |")
    return "\n".join([*parts, ""])


def draw_histogram(found: dict[str, dict], path: Path) -> None:
    figure, axis = pyplot.subplots(figsize=(7.5, 4.2), layout="constrained")
    edges = [HIGHEST * n / BINS for n in range(BINS + 1)]
    for number, (network, part) in enumerate(found.items()):
        share, colour = part["histogram"]["share"], f"C{number}"
        axis.stairs(
            [max(value, 1e-8) for value in share],
            edges,
            color=colour,
            label=LABELS.get(network, network),
            linewidth=1.4,
        )
        axis.axvline(part["histogram"]["maximum"], color=colour, linestyle=":", linewidth=1)
    axis.set_yscale("log")
    axis.set_ylim(1e-7, 1)
    axis.set_xlabel("activation of the first layer (dotted: its maximum, which is the threshold)")
    axis.set_ylabel(f"share of values in a bin of {HIGHEST / BINS:g}")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)


def draw_over_time(found: dict[str, dict], path: Path) -> None:
    figure, axes = pyplot.subplots(1, 2, figsize=(10.5, 4.2), layout="constrained")
    for number, (network, part) in enumerate(found.items()):
        for label, rows in part["curves"].items():
            style = {
                "color": f"C{number}",
                "linestyle": "-" if label == "TRE" else "--",
                "marker": "o",
                "markersize": 4,
            }
            name = f"{LABELS.get(network, network)}, {label}"
            axes[0].plot(TIMES, [100 * row["accuracy"] for row in rows], label=name, **style)
            axes[1].plot(TIMES, [row["synaptic_operations"] / 1e6 for row in rows], **style)
    for axis, title in zip(axes, ("accuracy in %", "synaptic operations, M a sample"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xscale("log", base=2)
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel("timesteps T")
        axis.grid(alpha=0.3)
    axes[1].set_yscale("log")
    axes[0].legend(frameon=False, fontsize=7)
    figure.savefig(path, dpi=140)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--store", type=Path, help="Where checkpoints and finished numbers are kept.")
    parser.add_argument("--samples", type=int, default=10_000, help="Test images.")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true", help="Measure nothing; judge what result.json holds.")
    arguments = parser.parse_args()
    if arguments.judge:
        stored = json.loads((HERE / "result.json").read_text())
        found = stored["networks"]
        kept = ("samples", "epochs", "seed", "versions", "data", "which")
        settings = {key: stored["rows"][0][key] for key in kept if key in stored["rows"][0]}
    else:
        if arguments.weights is None or arguments.store is None:
            parser.error("give --weights and --store, or --judge")
        found, settings = measured_networks(arguments)
    rows = judged(found, settings)
    write_atomically(HERE / "result.json", json.dumps({"rows": rows, "networks": found}, indent=1).encode())
    write_atomically(HERE / "tables.md", tables(found, settings["samples"]).encode())
    draw_histogram(found, HERE / "histogram.png")
    draw_over_time(found, HERE / "over_time.png")
    for row in rows:
        print(row["id"], row["status"], row["measured"], row["reason"])


def measured_networks(arguments: argparse.Namespace) -> tuple[dict, dict]:
    """Every network's numbers, from the store where they are there, and the settings of the run."""
    arguments.store.mkdir(parents=True, exist_ok=True)
    data = ts.data.load("cifar10", arguments.data_dir)
    module, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    module = with_modules(module)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(arguments.seed))[:1000]
    x = spec.preprocessing(data.train.batch(order)[0])
    clips, found = percentiles(module, x), {}
    for network in NETWORKS:
        path = arguments.store / f"{network.lower()}.json"
        if not path.exists():
            clipped_network = tuned(clipped(module, network, clips), network, spec, data, arguments)
            numbers = measured(clipped_network, network, clips, x, spec, data, arguments)
            write_atomically(path, json.dumps(numbers).encode())
        found[network] = json.loads(path.read_text())
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    settings = {"samples": arguments.samples, "epochs": arguments.epochs, "seed": arguments.seed, "versions": versions,
                "data": data.note, "which": "evenly spaced"}  # fmt: skip
    return found, settings


if __name__ == "__main__":
    main()
