"""Time to first spike in closed form against the ANN's forward pass, on ResNet-20, all in one process.

    python benchmarks/first_spike.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Medians of interleaved repeats; samples that other processes disturbed are dropped and counted. Both with one thread and
without counters. Writes first_spike.json next to this file.
"""

import argparse
import json
from pathlib import Path

import torch
from machine import description, interleaved

import transpike as ts
from transpike.engines.native import library as _native
from transpike.recipes import YOSO
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
BATCH = 64
BOUNDS = {"first spikes, native": 1.2, "first spikes, torch only": 2.6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--budget", type=float, default=20.0, help="Seconds a function.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    data = ts.data.load("cifar10", arguments.data_dir)
    images = spec.preprocessing(data.train.batch(torch.arange(500))[0])
    x = spec.preprocessing(data.test.batch(torch.arange(BATCH))[0])
    native = ts.convert(model, YOSO(), images)
    plain = ts.convert(model, YOSO(), images)
    found = _native.load
    _native.load = lambda: (None, "switched off for the comparison")
    plain.program.prepared.clear()  # what the conversion has made
    plain(x)
    _native.load = found
    native(x)
    ann = model.to(memory_format=torch.channels_last)
    folded = ts.passes.FoldBatchNorm().apply(native.source, None).to_module().eval()
    functions = {
        "ANN, channels_last": lambda: ann(x.to(memory_format=torch.channels_last)),
        "ANN, batch norm folded": lambda: folded(x),
        "first spikes, native": lambda: native(x),
        "first spikes, torch only": lambda: plain(x),
    }
    with torch.inference_mode():
        timings = interleaved(functions, arguments.budget, 0.3, "ANN, channels_last")
    reference = timings["ANN, channels_last"].median
    assert reference is not None
    rows = []
    for name, timing in timings.items():
        median = timing.median
        row = {"name": name, "milliseconds": None if median is None else 1000 * median, "samples": len(timing.seconds),
               "dropped": timing.dropped, "ratio": None if median is None else median / reference, "bound": BOUNDS.get(name)}  # fmt: skip
        rows.append(row)
        print(row)
    exactness = native.exactness
    content = {
        "rows": rows,
        "batch": BATCH,
        "exact": exactness.timesteps > 0,
        "wide": exactness.wide,
        "machine": description(0),
    }
    write_atomically(HERE / "first_spike.json", json.dumps(content, indent=1).encode())


if __name__ == "__main__":
    main()
