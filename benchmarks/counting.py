"""What counting costs: a run with every counter, and an evaluation, against the same without, in one process.

    python benchmarks/counting.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Medians of interleaved repeats, one thread. Writes counting.json next to this file. Bound: 1.15.
"""

import argparse
import json
from pathlib import Path

import torch
from machine import description, interleaved

import transpike as ts
from transpike.results.writing import write_atomically

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
    x, y = data.test.batch(torch.arange(BATCH))
    x = spec.preprocessing(x)
    rows = []
    for recipe in (ts.recipes.ECC(32), ts.recipes.SNM(16), ts.recipes.YOSO(24)):
        snn = ts.convert(model, recipe, images)

        def plainly(snn: ts.SNN = snn) -> tuple[int, int]:
            """An evaluation's answers without what layers did."""
            ann = (snn.source.run(x).argmax(-1) == y).sum()
            return int(ann), int((ts.simulate(snn, x, count=False).logits[-1].argmax(-1) == y).sum())

        functions = {
            "without": lambda snn=snn: ts.simulate(snn, x, count=False),
            "with": lambda snn=snn: ts.simulate(snn, x),
            "evaluate without": plainly,
            "evaluate": lambda snn=snn: ts.evaluate(snn, (x, y), answers=(snn.timesteps,)),
        }
        with torch.inference_mode():
            timings = interleaved(functions, arguments.budget, 0.3, "without")
        times = {name: timings[name].median for name in functions}
        for name, plain in (("with", "without"), ("evaluate", "evaluate without")):
            more, less = times[name], times[plain]
            assert more is not None and less is not None
            what = "simulate" if name == "with" else name
            rows.append(
                {"recipe": str(recipe), "what": what, "milliseconds": 1000 * less, "ratio": more / less, "bound": BOUND}
            )
        print(*rows[-2:], sep="\n")
    content = {"rows": rows, "batch": BATCH, "machine": description(0)}
    write_atomically(HERE / "counting.json", json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
