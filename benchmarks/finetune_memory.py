"""What autograd keeps of a four-convolution spiking network, in bytes, with and without spikes packed to bits.

    python benchmarks/finetune_memory.py [--json]

The network of the reference: 4 convolutions with spikes between them, T = 6. "rectangular" keeps a mask where the
thresholds do not learn; other surrogates keep potentials. Gradients are compared bit for bit.
"""

import argparse
import json

import torch
from torch import nn

import transpike as ts
from transpike.training.spiking.packing import PackSpikes
from transpike.training.spiking.surrogates import Rectangular, Triangle
from transpike.training.spiking.unrolled import Unrolled

STEPS, BATCH, CHANNELS, SIZE = 6, 8, 32, 32


def network(surrogate) -> tuple[Unrolled, torch.Tensor]:
    torch.manual_seed(0)
    layers = []
    for i in range(4):
        layers += [nn.Conv2d(CHANNELS if i else 3, CHANNELS, 3, padding=1), nn.ReLU()]
    module = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))
    snn = ts.convert(module, ts.recipes.ECC(timesteps=STEPS), torch.randn(32, 3, SIZE, SIZE))
    unrolled = Unrolled(snn.graph, snn.encoder, snn.schedule, snn.readout, STEPS, surrogate)
    weights = unrolled.groups()["weights"]
    for name, parameter in unrolled.named_parameters():
        parameter.requires_grad_(name in weights)
    return unrolled, torch.randn(BATCH, 3, SIZE, SIZE)


def measured(surrogate) -> dict:
    module, x = network(surrogate)
    kept, gradients = {}, []
    for active in (False, True):
        with PackSpikes(active) as packing:
            loss = module(x).square().sum()
        gradients.append(torch.autograd.grad(loss, list(module.groups()["weights"].values())))
        kept[active] = packing.plain + packing.packed
    same = all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    return {"mebibytes": kept[False] / 2**20, "packed_mebibytes": kept[True] / 2**20, "ratio": kept[False] / kept[True],
            "gradients_identical": same}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = {name: measured(surrogate) for name, surrogate in (("rectangular", Rectangular()), ("triangle", Triangle()))}
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    for name, row in rows.items():
        print(f"{name}: {row['mebibytes']:.2f} MiB, packed {row['packed_mebibytes']:.2f} MiB, {row['ratio']:.1f} times less, "
              f"gradients {'identical' if row['gradients_identical'] else 'DIFFERENT'}")  # fmt: skip


if __name__ == "__main__":
    main()
