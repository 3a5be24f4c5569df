"""Does the time of a conversion grow in proportion to the depth? ResNet-20, -56 and -110 for 32x32 images.

    python benchmarks/conversion_depth.py          # prints a table and writes conversion_depth.json next to this file

The networks have seeded weights and are not trained: only the time counts. It is CPU time of this process with one
thread, the least of ``REPEATS`` runs after a warm-up. Reading the model (torch.export) and converting the graph that
was read are timed apart. "meta runs" are the ops that were run on meta tensors for their shapes, reading included: they
do not depend on the machine.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from machine import description
from torch import nn

import transpike as ts
from transpike.core import node as nodes
from transpike.models.resnet20 import Block, ResNet20

BLOCKS = (3, 9, 18)  # residual blocks a stage: 6 n + 2 layers
RECIPES = {"ecc": ts.recipes.ECC, "few-steps": ts.recipes.FewSteps}
SEED, SAMPLES, STEPS, REPEATS = 0, 8, 8, 2


def resnet(blocks: int) -> nn.Module:
    torch.manual_seed(SEED)
    model = ResNet20()
    for index, (before, channels, stride) in enumerate([(16, 16, 1), (16, 32, 2), (32, 64, 2)], 1):
        first = Block(before, channels, stride)
        rest = [Block(channels, channels, 1) for _ in range(blocks - 1)]
        setattr(model, f"layer{index}", nn.Sequential(first, *rest))
    for module in model.modules():  # running statistics of a network that was trained, roughly
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
    return model.eval()


@contextmanager
def counted() -> Iterator[list[str]]:
    """The names of the nodes that are run on meta tensors."""
    names: list[str] = []
    run = nodes.shape_on_meta

    def counting(node: nodes.Node, inputs: list[tuple[int, ...]]) -> tuple[int, ...]:
        names.append(node.name)
        return run(node, inputs)

    nodes.shape_on_meta = counting
    try:
        yield names
    finally:
        nodes.shape_on_meta = run


def seconds(function: Callable[[], object]) -> float:
    found = []
    for _ in range(REPEATS):
        start = time.process_time()
        function()
        found.append(time.process_time() - start)
    return min(found)


def measured(name: str, blocks: int, x: torch.Tensor) -> dict[str, Any]:
    model, recipe = resnet(blocks), RECIPES[name](timesteps=STEPS)
    with counted() as runs:
        snn = ts.convert(model, recipe, x)
    reading = seconds(lambda: ts.capture(model, x))
    graph = ts.capture(model, x)
    converting = seconds(lambda: ts.convert(graph, recipe, x))
    count = len(snn.graph.nodes)
    return {
        "recipe": name,
        "layers": 6 * blocks + 2,
        "source_nodes": len(graph.nodes),
        "nodes": count,
        "meta_runs": len(runs),
        "read_seconds": reading,
        "convert_seconds": converting,
        "milliseconds_per_node": 1e3 * (reading + converting) / count,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randn(SAMPLES, 3, 32, 32, generator=torch.Generator().manual_seed(SEED))
    ts.convert(resnet(1), ts.recipes.ECC(timesteps=STEPS), x)  # what is imported and made once
    rows = []
    print("recipe      layers  nodes  meta runs  a node  read [s]  convert [s]  ms a node")
    for name, blocks in itertools.product(RECIPES, BLOCKS):
        row = measured(name, blocks, x)
        rows.append(row)
        print(
            f"{name:10}  {row['layers']:6}  {row['nodes']:5}  {row['meta_runs']:9}  "
            f"{row['meta_runs'] / row['nodes']:6.2f}  {row['read_seconds']:8.2f}  {row['convert_seconds']:11.2f}  "
            f"{row['milliseconds_per_node']:9.1f}",
            flush=True,
        )
    settings = {"n": len(rows), "samples": SAMPLES, "timesteps": STEPS, "repeats": REPEATS}
    text = json.dumps({**description(SEED), **settings, "rows": rows}, indent=1)
    arguments.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
