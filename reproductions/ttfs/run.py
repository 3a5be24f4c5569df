"""Time to first spike: CAT against ReLU, what training buys, logarithmic weights, exact spike times.

    python reproductions/ttfs/run.py [PART …] --folder FOLDER --data-dir DATA --weights resnet20-cifar10-jpeg.safetensors

FOLDER holds what training.py made. Parts: cat, input, tiny, post, exact, compare; default: all. A part's numbers go to
result.json when it is done, beside those of the others; tables.md is made from them. CIFAR-10 is the JPEG copy.
Numbers of CAT's paper are of VGG-16 with full training; ours are of a CPU-sized ResNet-20, so that claims are bounds on
differences between networks of this folder, and say so.
"""

import argparse
import dataclasses
import json
import platform
import tomllib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from training import CALIBRATION, IMAGENET, PLANS, network, prepared

import transpike as ts
from transpike.core.cell import Neuron
from transpike.core.graph import Node
from transpike.core.preprocessing import Preprocessing
from transpike.evaluate import wilson
from transpike.files import write_atomically
from transpike.models._weights import load_weights
from transpike.recipes import CAT, YOSO, ExactMapping
from transpike.steps import FoldBatchNorm

HERE = Path(__file__).parent
BATCH = 100
COUNTED = 1000  # images whose levels are compared one by one
STEPPED = 16  # images that are simulated slot by slot, in float64
PROCESSED = 200  # images on the processor's arithmetic, a pass for each slot
FOLLOWED = 4  # CIFAR-10 images whose potentials are followed from spike to spike
SLOTS = 24


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
    neurons = {n.name: n.op for n in snn.graph if isinstance(n.op, Neuron) and not n.op.relays}
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
            found += int((levels * op.amplitude() - wanted[name]).abs().gt(1e-4 * float(op.threshold.max())).sum())
            spikes += int((levels > 0).sum())
            total += levels.numel()
    return {"levels": found, "neurons": total, "spikes_per_neuron": spikes / total, "samples": len(x)}


def twins(name: str, relu: str, data, arguments, *, limit: int | None = None) -> dict:
    """CAT's network, its spiking twin, and the ReLU network trained as long."""
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
    result["differing in closed form, float32"] = differing(snn, many, "fused", torch.float32)
    result["total_steps"] = snn.total_steps()
    result["remarks"] = list(snn.remarks)
    grid = ts.convert(module, recipe, images)
    assert grid.exactness is not None
    result["grid"] = accuracy(grid, data, preprocessing, limit) | {
        "rounding": grid.exactness.rounding, "wide": grid.exactness.wide,
    }  # fmt: skip
    coded = ts.convert(module, dataclasses.replace(recipe, weight_bits=5), images)
    result["log5"] = accuracy(coded, data, preprocessing, limit)
    x = preprocessing(data.test.batch(torch.arange(PROCESSED))[0])
    done = ts.run_processor(coded, x)
    same = float((done.logits.argmax(1) == coded(x).argmax(1)).float().mean())
    result["processor"] = {"agreement": 100 * same, "samples": PROCESSED} | done.to_json()
    return result


def cat(arguments) -> dict:
    return twins("resnet20-cat", "resnet20-relu", ts.data.load("cifar10", arguments.data_dir), arguments)


def spiking_input(arguments) -> dict:
    return twins("resnet20-cat-input", "resnet20-relu", ts.data.load("cifar10", arguments.data_dir), arguments)


def tiny(arguments) -> dict:
    return twins("tiny-cat", "tiny-relu", ts.data.load("tiny-imagenet", arguments.data_dir), arguments)


def post(arguments) -> dict:
    """The ReLU network without CAT: thresholds by percentile or error, levels below or nearest."""
    data = ts.data.load("cifar10", arguments.data_dir)
    module = network(PLANS["resnet20-relu"], arguments.weights).eval()
    images = IMAGENET(data.train.batch(torch.arange(CALIBRATION))[0])
    result = {"relu": accuracy(module, data, IMAGENET)}
    for rule in ("percentile", "error"):
        for rounding in ("down", "nearest"):
            for bits in (None, 5):
                recipe = YOSO(timesteps=SLOTS, thresholds_by=rule, rounding=rounding, weight_bits=bits)
                snn = ts.convert(module, recipe, images)
                name = f"{rule}, {rounding}" + (", 5-bit weights" if bits else "")
                result[name] = accuracy(snn, data, IMAGENET)
                print(name, result[name], flush=True)
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
                module, data, epochs=10 if name == "digits" else 3, preprocessing=preprocessing, learning_rate=0.05
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


PARTS: dict[str, Callable[[argparse.Namespace], dict]] = {
    "cat": cat, "input": spiking_input, "tiny": tiny, "post": post, "exact": exact,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"Of {', '.join(PARTS)}; default: all.")
    parser.add_argument("--folder", type=Path, help="Where training.py has left its networks.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--weights", type=Path, help="ResNet-20 with ReLU, trained on the JPEG copy.")
    parser.add_argument("--keep", type=Path, default=HERE / "measured.json", help="Where finished parts are kept.")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        found = PARTS[part](arguments)
        found["versions"] = {
            "torch": torch.__version__,
            "python": platform.python_version(),
            "transpike": ts.__version__,
        }
        kept = json.loads(arguments.keep.read_text()) if arguments.keep.exists() else {}
        write_atomically(arguments.keep, json.dumps(kept | {part: found}, indent=1).encode())
        print(part, json.dumps(found), flush=True)
    _ = tomllib


if __name__ == "__main__":
    main()
