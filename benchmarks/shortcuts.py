"""What identity shortcuts cost in synaptic operations, beside the additions of the ANN: the numbers of docs/energy.md.

python benchmarks/shortcuts.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA
"""

import argparse
import dataclasses
import math
from pathlib import Path

import torch

import transpike as ts
from transpike.core.cell import Cell
from transpike.lowering.activity import fan_outs
from transpike.ops import Add
from transpike.ops.scale import Scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=100, help="Test images, evenly spaced.")
    arguments = parser.parse_args()
    module, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    data = ts.data.load("cifar10", arguments.data_dir)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))[:1000]
    snn = ts.convert(
        module, ts.recipes.FewSteps(8), data.train.batches(250, indices=order), preprocessing=spec.preprocessing
    )
    lowered = snn.program.lowered
    without = dataclasses.replace(
        lowered,
        nodes=tuple(
            dataclasses.replace(node, op=node.op.with_tensors(weight=torch.zeros_like(node.op.weight)))
            if type(node.op) is Scale
            else node
            for node in lowered.nodes
        ),
    )
    fans, others = fan_outs(lowered), fan_outs(without)
    cells = [node.name for node in lowered.nodes if isinstance(node.op, Cell)]
    operations = over_shortcuts = 0.0
    chosen = torch.arange(arguments.images) * len(data.test) // arguments.images
    for x, _ in data.test.batches(50, indices=chosen):
        for name, train in ts.simulate(snn, x, engine="dense", record=cells).trains.items():
            counts = train.double().sum(0)
            operations += float((counts * fans[name]).sum()) / arguments.images
            over_shortcuts += float((counts * (fans[name] - others[name])).sum()) / arguments.images
    sums = sum(math.prod(node.shape) for node in snn.source if type(node.op) is Add)
    macs = sum(snn.source.macs(node) or 0 for node in snn.source)
    print(f"few-steps, T=8, {arguments.images} images: {over_shortcuts / 1e6:.2f} of {operations / 1e6:.1f} M synaptic operations "
          f"({over_shortcuts / operations:.1%}) over identity shortcuts")  # fmt: skip
    print(f"ANN: {sums:,} additions of residual sums beside {macs / 1e6:.1f} M multiplications ({sums / macs:.1%})")


if __name__ == "__main__":
    main()
