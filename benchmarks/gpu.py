"""The dense engine on a GPU: time and memory next to the ANN there, with the fused scan and without it.

    python benchmarks/gpu.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA     (make gpu)

Without --weights: seeded weights on noise. Medians of synchronised repeats in turn; every row is checked against the
reference engine on the CPU. Writes benchmarks/gpu.json. Without a GPU it says so, and nothing is written.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from curves import noise, residual
from kernels import calibrate
from torch import Tensor, nn

import transpike as ts
from transpike.engines.dense import fused
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
COMPARED, CALIBRATION = 4, 256
REPEATS = 7


@contextmanager
def without_kernel():
    """The scan step by step, by torch's own functions."""
    before, fused.scan_on = fused.scan_on, lambda device: None
    try:
        yield
    finally:
        fused.scan_on = before


def seconds(functions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median of each, after two calls that do not count; the GPU's work is waited for."""
    for function in (*functions.values(), *functions.values()):
        function()
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(REPEATS):
        for name, function in functions.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            function()
            torch.cuda.synchronize()
            taken[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in taken.items()}


def network(arguments: argparse.Namespace) -> tuple[nn.Module, ts.Preprocessing | None, Tensor, Tensor, str]:
    """(the network, its preprocessing, calibration images, images, kind of weights)."""
    if arguments.weights is None:
        torch.manual_seed(0)
        x = noise(CALIBRATION, 32, 0)
        return calibrate(residual(20), [x]), None, x, noise(max(arguments.batches), 32, 1), "seeded"
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    data = ts.data.load("cifar10", arguments.data_dir)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:CALIBRATION]
    images = data.test.batch(torch.arange(max(arguments.batches)))[0]
    return model.eval(), spec.preprocessing, data.train.batch(order)[0], images, "trained"


def rows(arguments: argparse.Namespace, device: str) -> list[dict]:
    model, preprocessing, calibration, images, weights = network(arguments)
    data, found = [(calibration, torch.zeros(len(calibration), dtype=torch.int64))], []
    for timesteps in arguments.timesteps:
        snn = ts.convert(model, ts.recipes.ECC(timesteps=timesteps), data, preprocessing=preprocessing)
        names = [layer.name for layer in snn.program.layers if layer.role == "neuron"]
        few = images[:COMPARED]
        there = ts.simulate(snn, few.to(device), timesteps, engine="dense", record=names)
        here = ts.simulate(snn, few, timesteps, engine="reference", record=names)
        differing = sum(
            int((there.trains[n].double().sum(0).cpu() != here.trains[n].double().sum(0)).sum()) for n in names
        )
        ann = model.to(device=device, memory_format=torch.channels_last)
        for batch in arguments.batches:
            x = images[:batch].to(device)
            prepared = (x if preprocessing is None else preprocessing(x)).contiguous(memory_format=torch.channels_last)
            run = partial(ts.simulate, snn, x, timesteps, engine="dense", count=False)
            functions = {"ANN": torch.inference_mode()(partial(ann, prepared)), "fused": run}
            functions["step by step"] = without_kernel()(run)
            taken = seconds(functions)
            added = {}
            for name in ("fused", "step by step"):
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                functions[name]()
                added[name] = (torch.cuda.max_memory_allocated() - before) / 2**20
            for name, each in added.items():
                found.append({
                    "network": "resnet20-16-32-64", "weights": weights, "timesteps": timesteps, "batch": batch, "scan": name,
                    "seconds": taken[name], "ann_seconds": taken["ANN"], "ratio_to_ann": taken[name] / taken["ANN"] / timesteps,
                    "added_mib": each, "exact": there.exact, "why": there.why, "differing_counts": differing,
                    "compared_counts": sum(here.trains[n][0].numel() for n in names),
                })  # fmt: skip
                print(found[-1], file=sys.stderr, flush=True)
        model.cpu()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--timesteps", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--output", type=Path, default=HERE / "gpu.json")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit(f"There is no GPU that torch {torch.__version__} can use: nothing was measured or written.")
    if fused.scan_on("cuda") is None:
        raise SystemExit("Triton is missing, which torch for GPUs brings on Linux: pip install triton")
    machine = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "python": platform.python_version()}
    content = {"machine": machine, "rows": rows(arguments, "cuda")}
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
