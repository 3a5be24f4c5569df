"""Planted faults in ResNet-20: is the layer that has one ranked first by `transpike.explain`?

    python benchmarks/faults.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Thresholds × 1/4 and × 4, a bias removed (of the channel whose bias costs the most of eight), batch normalisation folded
without its running mean or without its eps, each at places drawn from the seed until three cost 3 points on the first images.
Writes faults.json beside itself after every fault; VGG and pools: tests/test_explain.py.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from machine import description
from torch import nn

import transpike as ts
from transpike.explain import Explanation
from transpike.files import write_atomically

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
import faults  # noqa: E402

COSTS, PLACES, DRAWN, CHANNELS = 3.0, 3, 6, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=96)
    parser.add_argument("--timesteps", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    data = ts.data.load("cifar10", arguments.data_dir)
    images = data.train.batch(torch.arange(512))[0]
    snn = ts.convert(model, ts.recipes.FewSteps(arguments.timesteps), images, preprocessing=spec.preprocessing)
    test = data.test.batch(torch.arange(arguments.samples))

    def explained(network: ts.SNN) -> Explanation:
        return ts.explain(network, test, samples=arguments.samples, changes=False)

    def accuracy(network: ts.SNN) -> float:
        return ts.evaluate(network, test).final.accuracy

    unharmed, base = explained(snn), accuracy(snn)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    names = [node.name for node in faults.neurons(snn.graph)]
    by_name = dict(zip(names, norms, strict=True))
    rows: list[dict] = []
    content = {
        "unharmed": {"accuracy": base, "faults": [one.name for one in unharmed.faults]}, "rows": rows,
        "samples": arguments.samples, "recipe": str(snn.recipe), "seed": arguments.seed, "machine": description(0),
    }  # fmt: skip
    print(content["unharmed"], flush=True)
    random = torch.Generator().manual_seed(arguments.seed)

    def worst_bias(name: str) -> ts.SNN:
        channels = torch.randperm(snn.graph[name].shape[0], generator=random)[:CHANNELS].tolist()
        return min((faults.without_bias(snn, name, channel) for channel in channels), key=accuracy)

    kinds = {
        "threshold × 1/4": lambda name: faults.scaled_threshold(snn, name, 0.25),
        "threshold × 4": lambda name: faults.scaled_threshold(snn, name, 4.0),
        "bias removed": worst_bias,
        "folded without mean": lambda name: faults.wrongly_folded(snn, name, by_name[name], "mean"),
        "folded without eps": lambda name: faults.wrongly_folded(snn, name, by_name[name], "eps"),
    }
    for kind, plant in kinds.items():
        found = 0
        for place in torch.randperm(len(names), generator=random)[:DRAWN].tolist():
            harmed = plant(names[place])
            cost = 100 * (base - accuracy(harmed))
            row = {"fault": kind, "place": names[place], "cost": cost, "ranked": None}
            if cost >= COSTS and found < PLACES:
                found += 1
                order = [one.name for one in explained(harmed).ranked]
                row["ranked"] = 1 + order.index(names[place])
            rows.append(row)
            print(row, flush=True)
            write_atomically(HERE / "faults.json", json.dumps(content, indent=1).encode())
            if found == PLACES:
                break
    ranks = [row["ranked"] for row in rows if row["ranked"]]
    print(f"{sum(rank == 1 for rank in ranks)} of {len(ranks)} ranked first; unharmed: {content['unharmed']}")


if __name__ == "__main__":
    main()
