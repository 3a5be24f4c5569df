"""What the exact grid costs in accuracy: the same conversion on and off it, paired on the same images.

    python benchmarks/grid.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Layer-synchronous on all test images, streaming on the first --samples. Writes benchmarks/grid.json. The interval is
that of a paired difference, 1.96 · √(images where only one of the two is right) / images.
"""

import argparse
import json
import math
import platform
from pathlib import Path

import torch

import transpike as ts
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent


def right(snn: ts.SNN, split: ts.data.Split, samples: int, times: tuple[int, ...]) -> dict[int, torch.Tensor]:
    """T → which images are answered rightly."""
    found: dict[int, list[torch.Tensor]] = {t: [] for t in times}
    for x, y in split.batches(32, limit=samples):
        runs = [max(times)] if snn.schedule.every_step else times
        for steps in runs:
            trace = ts.simulate(snn, x, steps, count=False)
            for t, logits in zip(trace.timesteps, trace.logits, strict=True):
                if t in found:
                    found[t].append(logits.argmax(1) == y)
    return {t: torch.cat(parts) for t, parts in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=2000, help="Images for the streaming rows.")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    dataset = ts.data.load("cifar10", arguments.data_dir)
    module, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(arguments.seed))[:1000]
    calibration = dataset.train.batches(250, indices=order)
    cases = {
        "layer-synchronous": (ts.schedules.LayerSynchronous(), 256, len(dataset.test), (16, 32, 64, 128, 256)),
        "streaming": (ts.schedules.Streaming(), 64, arguments.samples, (16, 32, 64)),
    }
    rows = []
    for name, (schedule, timesteps, samples, times) in cases.items():
        recipe = ts.recipes.ECC(timesteps=timesteps, schedule=schedule)
        snns = [
            ts.convert(module, recipe, calibration, preprocessing=spec.preprocessing, exact_grid=on)
            for on in (True, False)
        ]
        on, off = (right(snn, dataset.test, samples, times) for snn in snns)
        for t in times:
            cost = 100 * float(off[t].double().mean() - on[t].double().mean())
            spread = 100 * 1.96 * math.sqrt(int((on[t] != off[t]).sum())) / len(on[t])
            row = {"schedule": name, "timesteps": t, "made_for": timesteps, "samples": len(on[t]), "points_lost": cost,
                   "plus_minus": spread, "largest_weight_rounding": snns[0].exactness.rounding}  # fmt: skip
            rows.append(row)
            print({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}, flush=True)
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    content = {
        "rows": rows,
        "weights": arguments.weights.name,
        "data": dataset.note,
        "seed": arguments.seed,
        "versions": versions,
    }
    write_atomically(HERE / "grid.json", json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
