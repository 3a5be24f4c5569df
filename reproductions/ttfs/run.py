"""Time to first spike: CAT against ReLU, what training buys, logarithmic weights, exact spike times.

    python reproductions/ttfs/run.py [PART …] --folder FOLDER --data-dir DATA [--keep measured.json] \\
      --weights resnet20-cifar10-jpeg.safetensors

FOLDER holds what training.py made. Parts: cat, input, tiny, post, exact, compare; default: all. A part's numbers go to
the --keep file when it is done, together with the others; result.json and tables.md are made from them. CIFAR-10 is
the JPEG copy.
Numbers of CAT's paper are of VGG-16 with full training; ours are of a CPU-sized ResNet-20, so that claims are bounds on
differences between networks of this folder, and say so.
"""

import argparse
import dataclasses
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

import transpike as ts
from training import CALIBRATION, IMAGENET, PLANS, network, prepared
from transpike.core.cell import Neuron
from transpike.core.graph import Node
from transpike.core.preprocessing import Preprocessing
from transpike.models._weights import load_weights
from transpike.passes import CalibrateBias, FoldBatchNorm, PoolInTime
from transpike.recipes import CAT, YOSO, ExactMapping
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured, asked, lost
from judging import rows as judged

HERE = Path(__file__).parent
BATCH = 100
COUNTED = 1000  # images whose levels are compared one by one
STEPPED = 16  # images that are simulated slot by slot, in float64
PROCESSED = 200  # images on the processor's arithmetic, a pass for each slot
FOLLOWED = 4  # CIFAR-10 images whose potentials are followed from spike to spike
SLOTS = 24
CORRECTED = 256  # calibration images of corrected biases
COMPARED = 500  # images in the table of recipes


class Corrected:
    """Biases corrected for what the time code rounds, as 5-bit weights have them by default; before pooling in time."""

    @property
    def passes(self) -> tuple:
        found = super().passes  # type: ignore[misc]
        at = next(index for index, one in enumerate(found) if isinstance(one, PoolInTime))
        return (*found[:at], CalibrateBias(CORRECTED), *found[at:])


@dataclasses.dataclass(frozen=True)
class CorrectedCAT(Corrected, CAT):
    """CAT without quantised weights, biases corrected."""


@dataclasses.dataclass(frozen=True)
class CorrectedYOSO(Corrected, YOSO):
    """YOSO without quantised weights, biases corrected."""


def accuracy(answer: Callable[[Tensor], Tensor], data, preprocessing: Preprocessing, limit: int | None = None) -> dict:
    """Share of right answers on test images, with Wilson's 95 % bounds, in %."""
    right = seen = 0
    for images, labels in data.test.batches(BATCH):
        if limit is not None and seen >= limit:
            break
        with torch.no_grad():
            right += int((answer(preprocessing(images)).argmax(1) == labels).sum())
        seen += len(labels)
    low, high = wilson(right, seen)
    return {"accuracy": 100 * right / seen, "low": 100 * low, "high": 100 * high, "samples": seen}


def trained(name: str, data, arguments) -> tuple[nn.Module, Preprocessing, Tensor]:
    """A network of training.py, its preprocessing, and calibration images."""
    plan = PLANS[name]
    module, preprocessing = prepared(name, data, arguments.weights if plan.start is None else None)
    load_weights(module, arguments.folder / f"{name}.safetensors")
    images = preprocessing(data.train.batch(torch.arange(CALIBRATION))[0])
    return module.eval(), preprocessing, images


def differing(snn: ts.SNN, x: Tensor, engine: str, dtype: torch.dtype) -> dict:
    """Levels that the spiking network sends and its source, batch normalisation folded, does not have; spikes a neuron."""
    neurons = {n.name: n.op for n in snn.graph if isinstance(n.op, Neuron) and not n.op.is_delay}
    source = FoldBatchNorm().apply(snn.source, None).to(dtype=dtype)
    found, total, spikes = 0, 0, 0
    for part in x.split(2 if engine == "reference" else BATCH):  # which keeps the trains of every slot
        wanted: dict[str, Tensor] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor, wanted: dict = wanted) -> None:
            if node.name in neurons:
                wanted[node.name] = output

        with torch.no_grad():
            source.run(part.to(dtype), observe=see)
        trace = ts.simulate(snn, part, engine=engine, record=neurons)
        for name, op in neurons.items():
            levels = trace.trains[name].sum(0)
            found += int((levels * op.output_scale() - wanted[name]).abs().gt(1e-4 * float(op.threshold.max())).sum())
            spikes += int((levels > 0).sum())
            total += levels.numel()
    return {"levels": found, "neurons": total, "spikes_per_neuron": spikes / total, "samples": len(x)}


def with_relu(name: str, relu: str, data, arguments, *, limit: int | None = None) -> dict:
    """CAT's network, its conversion, and the ReLU network trained for as many epochs."""
    plain, preprocessing, _ = trained(relu, data, arguments)
    result = {"relu": accuracy(plain, data, preprocessing, limit)}
    module, preprocessing, images = trained(name, data, arguments)
    spikes = {"input": "spikes"} if PLANS[name].entrance else {}
    recipe = CAT(**spikes)
    snn = ts.convert(module, recipe, images, preprocessing=None, exact_grid=False)
    result["phi"] = accuracy(module, data, preprocessing, limit)
    result["snn"] = accuracy(snn, data, preprocessing, limit)
    few, many = (preprocessing(data.test.batch(torch.arange(n))[0]) for n in (STEPPED, COUNTED))
    result["differing in time, float64"] = differing(snn, few, "reference", torch.float64)
    result["differing in closed form, float32"] = differing(snn, many, "dense", torch.float32)
    result["total_steps"] = snn.total_steps()
    result["remarks"] = list(snn.remarks)
    grid = ts.convert(module, recipe, images)
    assert grid.exactness is not None
    result["grid"] = accuracy(grid, data, preprocessing, limit) | {
        "rounding": grid.exactness.rounding, "wide": grid.exactness.wide,
    }  # fmt: skip
    coded = ts.convert(module, dataclasses.replace(recipe, weight_bits=5), images)
    result["log5"] = accuracy(coded, data, preprocessing, limit)
    bare = ts.convert(module, dataclasses.replace(recipe, weight_bits=5, weight_correction="none"), images)
    result["log5 plain"] = accuracy(bare, data, preprocessing, limit)
    result["corrected"] = accuracy(ts.convert(module, CorrectedCAT(**spikes), images), data, preprocessing, limit)
    x = preprocessing(data.test.batch(torch.arange(PROCESSED))[0])
    done = ts.run_processor(coded, x)
    same = float((done.logits.argmax(1) == coded(x).argmax(1)).float().mean())
    result["processor"] = {"agreement": 100 * same, "samples": PROCESSED} | done.to_json()
    return result


def cat(arguments) -> dict:
    return with_relu("resnet20-cat", "resnet20-relu", ts.data.load("cifar10", arguments.data_dir), arguments)


def spiking_input(arguments) -> dict:
    return with_relu("resnet20-cat-input", "resnet20-relu", ts.data.load("cifar10", arguments.data_dir), arguments)


def tiny(arguments) -> dict:
    return with_relu("tiny-cat", "tiny-relu", ts.data.load("tiny-imagenet", arguments.data_dir), arguments)


def post(arguments) -> dict:
    """The ReLU network without CAT: thresholds by percentile or error, levels below or nearest."""
    data = ts.data.load("cifar10", arguments.data_dir)
    module = network(PLANS["resnet20-relu"], arguments.weights).eval()
    images = IMAGENET(data.train.batch(torch.arange(CALIBRATION))[0])
    result = {"relu": accuracy(module, data, IMAGENET)}
    for rule in ("error", "percentile"):
        for rounding in ("nearest", "down"):
            options = {"timesteps": SLOTS, "thresholds_by": rule, "rounding": rounding}
            for name, recipe in {
                "": YOSO(**options), ", corrected": CorrectedYOSO(**options),
                ", 5-bit weights": YOSO(**options, weight_bits=5),
                ", 5-bit weights, not corrected": YOSO(**options, weight_bits=5, weight_correction="none"),
            }.items():  # fmt: skip
                result[f"{rule}, {rounding}{name}"] = accuracy(ts.convert(module, recipe, images), data, IMAGENET)
                print(rule, rounding, name, result[f"{rule}, {rounding}{name}"], flush=True)
    return result


def digits_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def mnist_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 400), nn.ReLU(), nn.Linear(400, 10)
    )


def exact(arguments) -> dict:
    """Logits against the ReLU network with folded batch normalisation in float64, and neurons that fire early."""
    result = {}
    for name, samples, followed in (("digits", 540, 540), ("mnist", 1000, 100), ("cifar10", 200, FOLLOWED)):
        data = ts.data.load(name, arguments.data_dir)
        preprocessing = Preprocessing() if name != "cifar10" else IMAGENET
        if name == "cifar10":
            module = network(PLANS["resnet20-relu"], arguments.weights).eval()
        else:
            module = digits_network() if name == "digits" else mnist_network()
            ts.train(
                module,
                data,
                ts.Training(epochs=10 if name == "digits" else 3, learning_rate=0.05),
                preprocessing=preprocessing,
            )
        images = preprocessing(data.train.batch(torch.arange(1000))[0])
        recipe = ExactMapping(input="spikes" if name != "cifar10" else "analogue")
        snn = ts.convert(module, recipe, images)
        source = FoldBatchNorm().apply(snn.source, None).to(dtype=torch.float64)
        x = preprocessing(data.test.batch(torch.arange(samples))[0])
        with torch.no_grad():
            wanted = torch.cat([source.run(part.double()) for part in x.split(50)])
        trace = ts.simulate(snn, x, engine="reference")
        events = ts.simulate(snn, x[:followed], engine="sorted")
        logits = trace.logits[-1]
        result[name] = {
            "largest_error": float((logits - wanted).abs().max()), "agreement": 100 * float((logits.argmax(1) == wanted.argmax(1)).float().mean()),
            "early": trace.early, "samples": samples, "accuracy": 100 * float((wanted.argmax(1) == data.test.batch(torch.arange(samples))[1]).float().mean()),
            "sorted_error": float((events.logits[-1] - wanted[:followed]).abs().max()), "sorted_early": events.early, "followed": followed,
            "windows": snn.total_steps(), "spikes_per_neuron": sum(float(row.spikes.sum()) for row in trace.activity.layers) / samples
            / sum(row.neurons for row in trace.activity.layers),
        }  # fmt: skip
        print(name, result[name], flush=True)
    return result


def compare(arguments) -> dict:
    """First spikes, ECC and CQ: on CAT's network, whose ceilings they take as thresholds, and on the ReLU network."""
    data = ts.data.load("cifar10", arguments.data_dir)
    synchronous = ts.schedules.LayerSynchronous()
    rates = [ts.recipes.ECC(), ts.recipes.ECC(schedule=synchronous)]
    quantised = [ts.recipes.CQ(), ts.recipes.CQ(schedule=synchronous)]
    result: dict = {}
    for name, recipes in (
        ("resnet20-cat", [CAT(), CAT(weight_bits=5), *rates, *quantised]),
        ("resnet20-relu", [YOSO(), YOSO(weight_bits=5), *rates]),
    ):
        module, preprocessing, images = trained(name, data, arguments)
        x, y = data.test.batch(torch.arange(COMPARED))
        found = ts.compare(
            module,
            recipes,
            images,
            ts.ComparisonSettings(timesteps=(24, 64), energy=[ts.energy.Operations(), ts.energy.TTFSProcessor()]),
            data=(preprocessing(x), y),
        )
        ts.report.comparison.show(found, Console(width=140))
        kept = ("recipe", "timesteps", "total_steps", "accuracy", "spikes", "synaptic_operations", "energy_joule")
        rows = [{key: row[key] for key in kept} for row in found.to_json()["rows"] if "accuracy" in row]
        layers = ts.evaluate(found.snn(found.measured[0]), (preprocessing(x[:8]), y[:8])).layers
        neurons = sum(row.neurons for row in layers)
        result[name] = {"rows": rows, "samples": COMPARED, "neurons": neurons, "ann": found.ann["accuracy"]}
    return result


PARTS: dict[str, Callable[[argparse.Namespace], dict]] = {
    "cat": cat, "input": spiking_input, "tiny": tiny, "post": post, "exact": exact, "compare": compare,
}  # fmt: skip


def values(measured: dict[str, dict]) -> dict[str, Measured]:
    """Claim → what was measured for it."""
    found: dict[str, Measured] = {}

    def cost(claim: str, before: dict | None, after: dict | None) -> None:
        if before and after:
            found[claim] = lost(before["accuracy"] / 100, after["accuracy"] / 100, after["samples"], reason=REASON)

    for part, name in (("cat", "cat"), ("input", "cat-input"), ("tiny", "tiny")):
        if part not in measured:
            continue
        one = measured[part]
        cost(f"{name}-loss", one["relu"], one["snn"])
        cost(f"{name}-log5-plain", one["snn"], one.get("log5 plain"))
        cost(f"{name}-log5-corrected", one.get("corrected"), one["log5"])
        slots = one["differing in time, float64"]
        found[f"{name}-accuracy"] = Measured(one["snn"]["accuracy"], one["snn"]["samples"], reason=REASON)
        found[f"{name}-is-phi"] = Measured(slots["levels"], slots["samples"])
    post = measured.get("post", {})
    cost("yoso-log5-plain", post.get("error, nearest"), post.get("error, nearest, 5-bit weights, not corrected"))
    cost("yoso-log5-corrected", post.get("error, nearest, corrected"), post.get("error, nearest, 5-bit weights"))
    networks = {name: one for name, one in measured.get("exact", {}).items() if name != "versions"}
    for name, one in networks.items():
        worst = max(one["largest_error"], one["sorted_error"])
        found[f"exact-{name}"] = Measured(worst if one["agreement"] == 100 else float("inf"), one["samples"])
    if networks:
        early = sum(one["early"] + one["sorted_early"] for one in networks.values())
        found["exact-early"] = Measured(early, sum(one["samples"] for one in networks.values()))
    return found


REASON = "a CPU-sized network, fine-tuned for eight epochs from ReLU weights"


def tables(measured: dict[str, dict], rows: list[dict]) -> str:
    """tables.md."""
    lines = ["# Time to first spike: what was measured", "",
             "Made by `python reproductions/ttfs/run.py`; numbers and intervals are in result.json. CIFAR-10 is the JPEG copy.", "",
             "## Claims", "", "| claim | bound | measured | n | |", "|---|---:|---:|---:|---|"]  # fmt: skip
    for row in rows:
        value = "" if row["measured"] is None else f"{row['measured']:.3g}"
        n = "" if row["n"] is None else f"{row['n']:,}"
        status = row["status"] + (f": {row['reason']}" if row["reason"] else "")
        lines.append(f"| {row['claim']} | {asked(row)} | {value} | {n} | {status} |")
    names = {"cat": "ResNet-20, analogue input", "input": "ResNet-20, pixels as spikes", "tiny": "Tiny-ImageNet"}
    if parts := [part for part in names if part in measured]:
        lines += ["", "## Conversion-aware training, (T, τ) = (24, 4)", "",
                  "Accuracy in %, all test images. “Float32” counts levels of the closed form that are not the folded source's.", "",
                  "| network | ReLU | ANN with φ | SNN | on the exact grid | 5-bit weights | spikes a neuron | slots to the answer | differing, float32 |",
                  "|---|---:|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
        for part in parts:
            one = measured[part]
            many = one["differing in closed form, float32"]
            cells = [one[name]["accuracy"] for name in ("relu", "phi", "snn", "grid", "log5")]
            lines.append(
                f"| {names[part]} | " + " | ".join(f"{cell:.2f}" for cell in cells)
                + f" | {many['spikes_per_neuron']:.3f} | {one['total_steps']} | {many['levels']} of {many['neurons']} |"
            )  # fmt: skip
        lines += [
            "",
            f"On the processor's whole numbers (12-bit table, 12 guard bits, 5-bit weights, {PROCESSED} images):",
            "",
        ]
        for part in parts:
            one = measured[part]["processor"]
            layers = one["layers"]
            lines.append(
                f"- {names[part]}: answers as the simulation on {one['agreement']:.1f} %; a potential differs from products in "
                f"float64 by at most {max(layer['largest_error'] for layer in layers):.1e} θ, and "
                f"{100 * max(layer['moved'] for layer in layers):.2f} % of a layer's neurons at most fire in another slot"
            )  # fmt: skip
    if "post" in measured:
        lines += [
            "",
            "## Without training: ResNet-20 of ReLUs, T = 24, τ = 4",
            "",
            "“Corrected” biases take away what a channel loses on average on calibration images, rounding included; 5-bit",
            "weights have them by default. What 5 bits cost is the difference within a column.",
            "",
            f"ANN {measured['post']['relu']['accuracy']:.2f} %; accuracy in %, {measured['post']['relu']['samples']:,} images:",
            "",
            "| thresholds, rounding, weights | as converted | biases corrected |",
            "|---|---:|---:|",
        ]
        for rule in ("error, nearest", "error, down", "percentile, nearest", "percentile, down"):
            for weights, plain, corrected in (
                ("float", "", ", corrected"), ("5 bits", ", 5-bit weights, not corrected", ", 5-bit weights"),
            ):  # fmt: skip
                both = (measured["post"].get(rule + end) for end in (plain, corrected))
                cells = (f"{one['accuracy']:.2f}" if one else "not run" for one in both)
                lines.append(f"| {rule}, {weights} | {' | '.join(cells)} |")
    if "exact" in measured:
        lines += ["", "## Exact spike times, float64", "",
                  "| network | accuracy, % | largest difference | followed event by event | early | windows | spikes a neuron |",
                  "|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
        for name, one in measured["exact"].items():
            if name != "versions":
                lines.append(
                    f"| {name} | {one['accuracy']:.2f} of {one['samples']} | {one['largest_error']:.1e} | "
                    f"{one['sorted_error']:.1e} of {one['followed']} | {one['early'] + one['sorted_early']} | {one['windows']} | "
                    f"{one['spikes_per_neuron']:.2f} |"
                )  # fmt: skip
    for name, one in measured.get("compare", {}).items():
        if name == "versions":
            continue
        text = {
            "resnet20-cat": "CAT's network (ECC and CQ take φ's ceilings for a clip, and miss its rounding down)",
            "resnet20-relu": "The ReLU network",
        }[name]
        lines += ["", f"## One table: {name}", "",
                  f"{text}, {one['samples']} images, ANN {100 * one['ann']:.2f} %. Energy by two models of transpike.energy: "
                  "arithmetic alone, and a TTFS processor with look-ups, shifts, sorting, queues and timers; neither is a chip.", "",
                  "| recipe | T | total steps | accuracy, % | spikes a neuron | M synaptic operations | µJ, operations | µJ, TTFS processor |",
                  "|---|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
        for row in one["rows"]:
            joules = [row["energy_joule"][model] for model in ("operations", "ttfs-processor")]
            shown = ["does not fit" if joule is None else f"{1e6 * joule:.3g}" for joule in joules]
            lines.append(
                f"| {row['recipe']} | {row['timesteps']} | {row['total_steps']} | {100 * row['accuracy']:.2f} | "
                f"{row['spikes'] / one['neurons']:.2f} | {row['synaptic_operations'] / 1e6:.2f} | {shown[0]} | {shown[1]} |"
            )  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"Of {', '.join(PARTS)}; default: all.")
    parser.add_argument("--folder", type=Path, help="Where training.py has left its networks.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--weights", type=Path, help="ResNet-20 with ReLU, trained on the JPEG copy.")
    parser.add_argument(
        "--keep", type=Path, help="A JSON file that keeps the parts that are done; default: result.json."
    )
    parser.add_argument("--judge", action="store_true", help="Make the tables from what is kept; measure nothing.")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    stored = json.loads((HERE / "result.json").read_text()) if (HERE / "result.json").exists() else {}
    measured = stored.get("measured", {}) if arguments.keep is None else _kept(arguments.keep)
    for part in () if arguments.judge else arguments.parts or PARTS:
        found = PARTS[part](arguments)
        found["versions"] = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "transpike": ts.__version__,
        }
        measured |= {part: found}
        if arguments.keep is not None:
            write_atomically(arguments.keep, json.dumps(measured, indent=1).encode())
        print(part, json.dumps(found), flush=True)
        write(measured)
    write(measured)


def write(measured: dict[str, dict]) -> None:
    rows = judged(HERE, values(measured), {"seed": 0, "data": "CIFAR-10 (JPEG copy), Tiny-ImageNet, MNIST, digits"})
    write_atomically(HERE / "result.json", json.dumps({"rows": rows, "measured": measured}, indent=1).encode())
    write_atomically(HERE / "tables.md", tables(measured, rows).encode())


def _kept(path: Path) -> dict[str, dict]:
    found: dict[str, dict] = json.loads(path.read_text()) if path.exists() else {}
    return found


if __name__ == "__main__":
    main()
