"""How many calibration images few-steps needs on the shared ResNet-20: benchmarks/calibration_size.json.

    python benchmarks/calibration_size.py --models-dir MODELS --data-dir DATA --images 1000

Three numbers vary, each with the others at their defaults: all calibration images (ranges of currents), the images on
which layers are simulated (``samples``: thresholds, biases and potentials), and the activations of a channel on which
its threshold is found (``VALUES``). Accuracy and agreement are those of T steps on the same test images, seconds those
of the processor for one conversion, with one thread.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from machine import description
from peers import network

import transpike as ts
from transpike.passes.thresholds import squared_error
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
IMAGES, SAMPLES, VALUES = (64, 256, 1000), (32, 64, 256), (2**12, 2**30)
USUAL = (1000, 128, squared_error.VALUES)


def row(arguments, module, preprocessing, dataset, images: int, samples: int, values: int, seed: int) -> dict:
    squared_error.VALUES, squared_error.LAYER = values, 16 * values
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(seed))[:images].tolist()
    calibration = torch.cat([x for x, _ in dataset.train.batches(64, indices=order)])
    recipe = ts.recipes.FewSteps(timesteps=arguments.timesteps, samples=samples)
    start = time.process_time()
    snn = ts.convert(module, recipe, calibration, preprocessing=preprocessing)
    seconds = time.process_time() - start
    report = ts.evaluate(snn, dataset.test.batches(50, limit=arguments.images))
    last = report.curve[-1]
    low, high = wilson(round(last.accuracy * report.samples), report.samples)
    return {
        "seed": seed, "images": images, "samples": samples, "values": values, "accuracy": last.accuracy, "low": low, "high": high,
        "agreement": last.agreement, "ann": report.ann_accuracy, "seconds": round(seconds, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--timesteps", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2, help="Sets of calibration images.")
    parser.add_argument("--output", type=Path, default=HERE / "calibration_size.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = ts.data.load("cifar10", arguments.data_dir)
    module, _, preprocessing = network(arguments.models_dir / "resnet20-cifar10-jpeg.safetensors")
    chosen = [
        *((images, min(USUAL[1], images), USUAL[2]) for images in IMAGES),
        *((USUAL[0], samples, USUAL[2]) for samples in SAMPLES),
        *((USUAL[0], USUAL[1], values) for values in VALUES),
    ]
    rows = []
    for seed in range(arguments.seeds):
        for one in dict.fromkeys(chosen):
            rows.append(row(arguments, module, preprocessing, dataset, *one, seed))
            print(rows[-1], flush=True)
    content = {
        "timesteps": arguments.timesteps, "test_images": arguments.images, "machine": description(0), "rows": rows
    }  # fmt: skip
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
