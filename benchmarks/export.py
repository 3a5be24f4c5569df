"""The proof of every format on networks of several kinds: spikes compared and differing, spike rates.

    python benchmarks/export.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA --formats golden,onnx,c,nir

Writes benchmarks/export.json. Networks: the digits demo with maximum and with average pooling (T=64, 50 images), the shared
ResNet-20 (T=16, 4 images), a network of the zoo for heart beats (1-D, weights drawn), and one for N-MNIST frames (weights drawn).
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

import transpike as ts
from transpike.errors import UnsupportedModel
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent


def digits(pool: nn.Module | None) -> tuple[ts.SNN, object]:
    data = ts.data.load("digits")
    model = ts.models.build("zoo:small-cnn", num_classes=10, input_shape=data.image_shape)[0]
    stored = load_file(HERE.parent / "tests/weights/small-cnn.safetensors")
    model.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in stored.items()})
    if pool is not None:
        model.pool = pool
    recipe = ts.recipes.ECC(timesteps=64)
    return ts.convert(
        model.eval(), recipe, data.train.batch(torch.arange(256))[0], preprocessing=data.preprocessing
    ), data


def resnet(weights: Path, folder: Path) -> tuple[ts.SNN, object]:
    data = ts.data.load("cifar10", folder)
    model, spec = ts.models.build("zoo:resnet20-16-32-64", num_classes=10, input_shape=data.image_shape)
    ts.models.load_weights(model, weights)
    x = data.train.batch(torch.arange(128))[0]
    return ts.convert(
        model.eval(), ts.recipes.ECC(timesteps=16), x, preprocessing=spec.preprocessing, input_bits=8
    ), data


def drawn(network: str, name: str, folder: Path, recipe: ts.recipes.ECC, **settings: int) -> tuple[ts.SNN, object]:
    """A network of the zoo whose weights are drawn, with the statistics of its data."""
    torch.manual_seed(0)
    data = ts.data.load(name, folder, **settings)
    model = ts.models.build(network, num_classes=len(data.classes), input_shape=data.image_shape)[0]
    x = data.train.batch(torch.arange(64))[0]
    with torch.no_grad():
        model.train()(x.float() if x.ndim == len(data.image_shape) + 1 else x.float().mean(1))
    return ts.convert(model.eval(), recipe, data.train.batches(32, limit=64)), data


def networks(chosen: argparse.Namespace) -> Iterator[tuple[str, ts.SNN, object, int]]:
    yield "digits, maximum pooling, T=64", *digits(None), 50
    yield "digits, average pooling, T=64", *digits(nn.AvgPool2d(2)), 50
    yield "ResNet-20, T=16", *resnet(chosen.weights, chosen.data_dir), 4
    yield (
        "heart beats (1-D), T=16",
        *drawn("zoo:ecg-classes", "mitbih", chosen.data_dir, ts.recipes.ECC(timesteps=16)),
        8,
    )
    events = f"npz:{chosen.data_dir / 'nmnist_small.npz'}"
    recipe = ts.recipes.ECC(timesteps=10, encoder=ts.encoders.EventFrames())
    yield "N-MNIST frames, T=10", *drawn("zoo:events-cnn", events, chosen.data_dir, recipe, bins=10, span=300_000), 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--formats", default=",".join(ts.exporters.table))
    parser.add_argument("--only", default="", help="Networks with this text in their name.")
    chosen = parser.parse_args()
    rows = []
    for name, snn, data, number in networks(chosen):
        if chosen.only not in name:
            continue
        x = data.test.batch(torch.arange(number))[0]
        for form in chosen.formats.split(","):
            with tempfile.TemporaryDirectory() as folder:
                row = {"network": name, "format": form, "samples": number}
                try:
                    found = ts.export(snn, Path(folder) / f"net{ts.exporters.table[form].suffix}", form, samples=x)
                    total = sum(layer.neurons for layer in found.layers) * found.timesteps * number
                    row |= {"verified": found.verified, "spikes": found.spikes, "layers": len(found.layers)}
                    row |= {"rate": found.spikes / total, "warnings": list(found.warnings), "missing": found.missing}
                except UnsupportedModel as error:
                    row |= {"refused": str(error)}
            print(row, flush=True)
            rows.append(row)
            write_atomically(HERE / "export.json", json.dumps(rows, indent=1).encode())


if __name__ == "__main__":
    main()
