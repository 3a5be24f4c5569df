"""What an input of few bits costs: correct answers of digits at T=64 and of the shared ResNet-20 on CIFAR-10 at T=16.

    python benchmarks/input_bits.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA --samples 100

Writes benchmarks/input_bits.json and the table in docs/export.md.
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

import transpike as ts
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
BITS = (None, 8, 4)
BEGIN, END = "<!-- input bits -->\n", "\n<!-- end of input bits -->"


def correct(model, preprocessing, dataset, recipe, samples: int) -> dict[str, int]:
    calibration = dataset.train.batch(torch.arange(128))[0]
    found = {}
    for bits in BITS:
        snn = ts.convert(model, recipe, calibration, preprocessing=preprocessing, input_bits=bits)
        report = ts.evaluate(snn, dataset.test.batches(20, limit=samples))
        found["real numbers" if bits is None else f"{bits} bits"] = round(report.final.accuracy * report.samples)
        print(model.__class__.__name__, bits, found, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=100, help="test images of CIFAR-10")
    chosen = parser.parse_args()
    digits, cifar = ts.data.load("digits"), ts.data.load("cifar10", chosen.data_dir)
    small, _ = ts.models.build("zoo:small-cnn", num_classes=10, input_shape=digits.image_shape)
    stored = load_file(HERE.parent / "tests/weights/small-cnn.safetensors")
    small.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    resnet, cifar_spec = ts.models.build("zoo:resnet20-16-32-64", num_classes=10, input_shape=cifar.image_shape)
    ts.models.load_weights(resnet, chosen.weights)
    rows = {
        "digits, T=64": (len(digits.test), correct(small.eval(), digits.preprocessing, digits, ts.recipes.ECC(timesteps=64), len(digits.test))),
        "ResNet-20, T=16": (
            chosen.samples, correct(resnet.eval(), cifar_spec.preprocessing, cifar, ts.recipes.FewSteps(timesteps=16), chosen.samples),
        ),
    }  # fmt: skip
    write_atomically(HERE / "input_bits.json", json.dumps(rows, indent=1).encode())
    names = list(rows["digits, T=64"][1])
    lines = [f"| correct of | {' | '.join(names)} |", "|---|" + "---|" * len(names)]
    lines += [
        f"| {name} ({total:,}) | {' | '.join(str(found[one]) for one in names)} |"
        for name, (total, found) in rows.items()
    ]
    page = HERE.parent / "docs/export.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    write_atomically(page, (before + BEGIN + "\n".join(lines) + END + after).encode())


if __name__ == "__main__":
    main()
