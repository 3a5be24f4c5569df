"""Planted faults: is the layer that has one ranked first by `transpike explain`?

    python benchmarks/faults.py --network vgg
    python benchmarks/faults.py --network resnet20 --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Thresholds × 1/4 and × 4, a bias removed (of the channel whose bias costs the most of eight), batch normalisation folded
without its running mean or without its eps, and (vgg) a maximum pool taken step by step, each at places drawn from the seed
until three cost 3 points on the first test images. The VGG has maximum pools and an eps comparable to its variances, and is
trained here on digits. Writes faults.json next to this file after every fault.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import description
from torch import Tensor, nn

import transpike as ts
from transpike.results.writing import write_atomically
from transpike.workflow.explain.run import Explanation

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
import faults  # noqa: E402

COSTS, PLACES, CHANNELS, EPS = 3.0, 3, 8, 1.0
RESULT = HERE / "faults.json"


@dataclass
class Network:
    snn: ts.SNN
    test: tuple[Tensor, Tensor]
    norms: dict[str, nn.BatchNorm2d]
    pools: dict[str, ts.SNN]  # the layer after a pool → the network with that pool taken step by step

    def explained(self, network: ts.SNN) -> Explanation:
        return ts.explain(network, self.test, samples=len(self.test[1]), oracle=False, changes=False)

    def accuracy(self, network: ts.SNN) -> float:
        return ts.evaluate(network, self.test).final.accuracy


def resnet20(weights: Path, data_dir: Path | None, samples: int, seed: int) -> Network:
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=weights)
    data = ts.data.load("cifar10", data_dir)
    images = data.train.batch(torch.arange(512))[0]
    snn = ts.convert(model, ts.recipes.FewSteps(16), images, preprocessing=spec.preprocessing)
    return Network(snn, data.test.batch(torch.arange(samples)), _norms(model, snn), {})


def vgg(weights: Path | None, data_dir: Path | None, samples: int, seed: int) -> Network:
    data = ts.data.load("digits")
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for inside, outside, pooled in ((1, 6, False), (6, 6, True), (6, 8, True), (8, 8, True)):
        parts += [nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside, eps=EPS), nn.ReLU()]
        parts += [nn.MaxPool2d(2)] * pooled
    model = nn.Sequential(*parts, nn.Flatten(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 10))
    ts.train(model, data, ts.Training(epochs=25, learning_rate=0.05, seed=seed))
    images = data.train.batch(torch.arange(512))[0]
    recipe = ts.recipes.ECC(12)
    snn = ts.convert(model.eval(), recipe, images, preprocessing=data.preprocessing)
    stepwise = dataclasses.replace(recipe, pooling="or")
    wrong = ts.convert(model, stepwise, images, preprocessing=data.preprocessing).graph
    pools = {}
    for node in wrong:
        if "pool" in node.op.describe():
            behind = next(n.name for n in faults.neurons(snn.graph) if _follows(snn.graph, n.name, node.name))
            pools[behind] = dataclasses.replace(snn, graph=snn.graph.replaced(node))
    return Network(snn, data.test.batch(torch.arange(samples)), _norms(model, snn), pools)


def _norms(model: nn.Module, snn: ts.SNN) -> dict[str, nn.BatchNorm2d]:
    found = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    return dict(zip((node.name for node in faults.neurons(snn.graph)), found, strict=False))


def _follows(graph: ts.Graph, name: str, pool: str) -> bool:
    """Whether the pool lies directly before the weights of this neuron."""
    node = faults.synapse_before(graph, name)
    while node.inputs:
        if pool in node.inputs:
            return True
        node = graph[node.inputs[0]]
        if node in faults.neurons(graph):
            return False
    return False


NETWORKS: dict[str, Callable[..., Network]] = {"resnet20": resnet20, "vgg": vgg}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=NETWORKS, default="vgg")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    made = NETWORKS[arguments.network](arguments.weights, arguments.data_dir, arguments.samples, arguments.seed)
    snn, names = made.snn, [node.name for node in faults.neurons(made.snn.graph)]
    base, rows = made.accuracy(snn), list[dict]()
    norms = {name: float((norm.eps / norm.running_var).median()) for name, norm in made.norms.items()}
    content = {
        "unharmed": {"accuracy": base, "faults": [one.name for one in made.explained(snn).faults]}, "rows": rows,
        "samples": arguments.samples, "recipe": str(snn.recipe), "seed": arguments.seed, "machine": description(0),
        "eps_over_variance": norms,
    }  # fmt: skip
    print(content["unharmed"], flush=True)
    random = torch.Generator().manual_seed(arguments.seed)

    def worst_bias(name: str) -> ts.SNN:
        channels = torch.randperm(snn.graph[name].shape[0], generator=random)[:CHANNELS].tolist()
        return min((faults.without_bias(snn, name, channel) for channel in channels), key=made.accuracy)

    kinds: dict[str, tuple[list[str], Callable[[str], ts.SNN]]] = {
        "threshold × 1/4": (names, lambda name: faults.scaled_threshold(snn, name, 0.25)),
        "threshold × 4": (names, lambda name: faults.scaled_threshold(snn, name, 4.0)),
        "bias removed": (names, worst_bias),
        "folded without mean": (list(norms), lambda name: faults.wrongly_folded(snn, name, made.norms[name], "mean")),
        "folded without eps": (list(norms), lambda name: faults.wrongly_folded(snn, name, made.norms[name], "eps")),
        "pool taken step by step": (list(made.pools), lambda name: made.pools[name]),
    }
    for kind, (places, plant) in kinds.items():
        found = 0
        for place in torch.randperm(len(places), generator=random).tolist():
            harmed = plant(places[place])
            cost = 100 * (base - made.accuracy(harmed))
            row: dict = {"fault": kind, "place": places[place], "cost": cost, "ranked": None}
            if cost >= COSTS:
                found += 1
                result = made.explained(harmed)
                row["ranked"] = 1 + [one.name for one in result.ranked].index(places[place])
                row["faults"] = {one.name: one.renewed for one in result.faults}
            rows.append(row)
            print(row, flush=True)
            _written(arguments.network, content)
            if found == PLACES:
                break
    ranks = [row["ranked"] for row in rows if row["ranked"]]
    print(f"{sum(rank == 1 for rank in ranks)} of {len(ranks)} ranked first; unharmed: {content['unharmed']}")


def _written(network: str, content: dict) -> None:
    """Write to the file, which keeps the results of the other network."""
    before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    write_atomically(RESULT, json.dumps({**before, network: content}, indent=1, ensure_ascii=False).encode())


if __name__ == "__main__":
    main()
