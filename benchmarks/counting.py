"""What counting costs: a run with every counter against the same run without, in one process.

    python benchmarks/counting.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Medians of interleaved repeats, one thread. Writes counting.json beside itself. Bound: 1.15.
"""

import argparse
import json
from pathlib import Path

import torch
from machine import description, interleaved

import transpike as ts
from transpike.files import write_atomically

HERE = Path(__file__).parent
BATCH, BOUND = 32, 1.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--budget", type=float, default=20.0, help="Seconds a function.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    data = ts.data.load("cifar10", arguments.data_dir)
    images = spec.preprocessing(data.train.batch(torch.arange(256))[0])
    x = spec.preprocessing(data.test.batch(torch.arange(BATCH))[0])
    rows = []
    for recipe in (ts.recipes.ECC(32), ts.recipes.SNM(16), ts.recipes.YOSO(24)):
        snn = ts.convert(model, recipe, images)
        functions = {
            "without": lambda snn=snn: ts.simulate(snn, x, count=False),
            "with": lambda snn=snn: ts.simulate(snn, x),
        }
        with torch.inference_mode():
            timings = interleaved(functions, arguments.budget, 0.3, "without")
        plain, counted = (timings[name].median for name in ("without", "with"))
        assert plain is not None and counted is not None
        rows.append({"recipe": str(recipe), "milliseconds": 1000 * plain, "ratio": counted / plain, "bound": BOUND})
        print(rows[-1])
    content = {"rows": rows, "batch": BATCH, "machine": description(0)}
    write_atomically(HERE / "counting.json", json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
