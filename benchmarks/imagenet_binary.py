"""Why binary spikes are too few for EfficientNet-Lite0: benchmarks/imagenet_binary.json.

    python benchmarks/imagenet_binary.py --data-dir DATA --models-dir MODELS --images 64

After T steps a neuron with binary spikes has one of T + 1 values. Here all activations, or those of one kind, are rounded
to that many values, without time: the best that a rate code of T steps can be, window by window. Thresholds are per
channel, of least squared error on the 53 calibration pictures of benchmarks/imagenet.py; weights are not quantised.
``bias`` adds to each channel the mean that its rounding removed, on the same pictures. "ceiling": the threshold is 6, the
largest value of a ReLU6, so that nothing is clipped. "clipped": at the largest calibration value, without rounding.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from imagenet import PICTURES, SEED, calibration, network, pictures
from torch import Tensor

import transpike as ts
from transpike.core.graph import Graph, Node
from transpike.passes import FoldBatchNorm
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically

CONTENT = Path(__file__).resolve().with_suffix(".json")
STEPS = (8, 16, 32, 64, 128, 256)
VALUES = 4096  # of a channel, from which its threshold is chosen
SHARES = torch.linspace(0.1, 1.0, 19)  # of the largest value
KINDS: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "first layer": lambda name: name == "relu6",
    "before depthwise": lambda name: name.startswith("blocks") and name.endswith("relu6"),
    "behind depthwise": lambda name: name.startswith("blocks") and name.endswith("relu6_1"),
    "before the classifier": lambda name: name == "relu6_1",
    "blocks 0 and 1": lambda name: name.startswith(("blocks.0.", "blocks.1.")),
    "blocks 2 and 3": lambda name: name.startswith(("blocks.2.", "blocks.3.")),
    "blocks 4 to 6": lambda name: name.startswith(("blocks.4.", "blocks.5.", "blocks.6.")),
}


def rounded(value: Tensor, threshold: Tensor, steps: int) -> Tensor:
    """The nearest of ``steps`` + 1 values from 0 to ``threshold``."""
    return torch.round(value * (steps / threshold)).clamp(0, steps) * (threshold / steps)


def thresholds(values: dict[str, Tensor], steps: int) -> dict[str, Tensor]:
    """Name → (channels, 1): the share of the largest value with the least squared error."""
    found = {}
    for name, rows in values.items():
        largest = rows.amax(1, keepdim=True).clamp(min=1e-6)
        errors = torch.stack([(rounded(rows, share * largest, steps) - rows).square().sum(1) for share in SHARES])
        found[name] = SHARES[errors.argmin(0)][:, None] * largest
    return found


def activations(graph: Graph) -> list[Node]:
    return [node for node in graph if getattr(node.op, "role", "") == "activation"]


def observed(graph: Graph, x: Tensor) -> dict[str, Tensor]:
    """Activation → (channels, VALUES): values of each channel, drawn with a seed."""
    names, generator = {node.name for node in activations(graph)}, torch.Generator().manual_seed(SEED)
    parts: dict[str, list[Tensor]] = {name: [] for name in names}

    def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if node.name in names:
            rows = output.movedim(1, 0).flatten(1)
            chosen = torch.randint(rows.shape[1], (-(-VALUES // len(x)),), generator=generator)
            parts[node.name].append(rows[:, chosen])

    for image in x.split(1):
        graph.run(image, observe=see)
    return {name: torch.cat(found, 1) for name, found in parts.items()}


def ceilings(graph: Graph, steps: int, x: Tensor) -> Tensor:
    """Logits of the network whose activations are rounded to ``steps`` + 1 values from 0 to 6."""
    names = {node.name for node in activations(graph)}
    six = torch.tensor(6.0)
    return torch.cat([
        graph.run(part, observe=lambda node, _, output: rounded(output, six, steps) if node.name in names else None)
        for part in x.split(4)
    ])  # fmt: skip


def clipped(graph: Graph, used: Tensor, x: Tensor) -> Tensor:
    """Logits of the network whose channels are clipped at their largest value on the calibration pictures."""
    names, tops = {node.name for node in activations(graph)}, dict[str, Tensor]()

    def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if node.name in names:
            largest = output.amax((0, 2, 3))[:, None, None]
            tops[node.name] = torch.maximum(tops.get(node.name, largest), largest)

    def clip(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        return torch.minimum(output, tops[node.name]) if node.name in names else None

    for part in used.split(4):
        graph.run(part, observe=see)
    return torch.cat([graph.run(part, observe=clip) for part in x.split(4)])


def answers(graph: Graph, values: dict[str, Tensor], kind: str, steps: int, bias: bool, x: Tensor) -> Tensor:
    """Logits of the network whose activations of this ``kind`` are rounded."""
    tops = thresholds({name: rows for name, rows in values.items() if KINDS[kind](name)}, steps)
    lost = {
        name: (values[name] - rounded(values[name], top, steps)).mean(1)[:, None, None] for name, top in tops.items()
    }

    def change(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if node.name not in tops:
            return None
        value = rounded(output, tops[node.name][:, :, None], steps)
        return value + lost[node.name] if bias else value

    return torch.cat([graph.run(part, observe=change) for part in x.split(4)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--output", type=Path, default=CONTENT)
    parser.add_argument("--resume", action="store_true", help="only the rows that the output does not have yet")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    module, preprocessing = network(arguments.models_dir)
    used = preprocessing(calibration(arguments.data_dir))
    picture = pictures(arguments.data_dir / PICTURES)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(SEED))[: arguments.images]
    labels = torch.from_numpy(np.load(arguments.data_dir / PICTURES, allow_pickle=False)["labels"]).long()[order]
    x = preprocessing(torch.stack([picture(int(i)) for i in order]))
    with torch.no_grad():
        graph = FoldBatchNorm().apply(ts.capture(module, used[:1]), None)
        source = torch.cat([module(part) for part in x.split(4)])
        values = observed(graph, used)
        cases = [("ceiling", steps, False) for steps in STEPS] + [("clipped", 0, False)]
        cases += [("all", steps, bias) for bias in (False, True) for steps in STEPS]
        cases += [(kind, 32, True) for kind in KINDS if kind != "all"]
        found = list(json.loads(arguments.output.read_text())["rows"]) if arguments.resume else []
        done = {(row["rounded"], row["T"], row["bias"]) for row in found}
        for kind, steps, bias in (case for case in cases if case not in done):
            if kind == "ceiling":
                answer = ceilings(graph, steps, x)
            elif kind == "clipped":
                answer = clipped(graph, used, x)
            else:
                answer = answers(graph, values, kind, steps, bias, x)
            agrees, correct = (int((answer.argmax(1) == other).sum()) for other in (source.argmax(1), labels))
            found.append({
                "rounded": kind, "T": steps, "bias": bias, "agreement": agrees / len(x),
                "agreement interval": wilson(agrees, len(x)), "accuracy": correct / len(x),
                "relative error": round(float((answer - source).norm() / source.norm()), 4),
            })  # fmt: skip
            print(time.strftime("%H:%M:%S"), found[-1], flush=True)
    content = {
        "images": len(x), "seed": SEED, "calibration": len(used), "torch": torch.__version__,
        "ann accuracy": float((source.argmax(1) == labels).double().mean()), "rows": found,
    }  # fmt: skip
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
