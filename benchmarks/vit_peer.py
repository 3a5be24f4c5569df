"""SpikingJelly's transformer recipe on the vision transformers of vit.py: benchmarks/vit_peer.json.

    pip install spikingjelly
    python benchmarks/vit_peer.py FOLDER --data-dir DATA    # FOLDER holds the weights that vit.py trained

``STATransformerRecipe`` in the mode "spiking_encoder", as its own example for ViT-B/16 uses it: the image enters in the
first step, zeros in all others, and the answer is the sum of the outputs. Its best setting of a run of T steps is
chosen on 200 training images (threshold mode and scale) and judged on the first n test images.
"""

import argparse
import copy
import itertools
import json
import platform
from pathlib import Path
from typing import Any

import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import Converter, STATransformerRecipe
from spikingjelly.activation_based.op_counter import DispatchCounterMode, SynOpCounter
from torch import Tensor, nn
from vit import BATCH, DATA, calibration, trained

import transpike as ts
from transpike.results.statistics import paired_difference
from transpike.results.writing import write_atomically

CONTENT = Path(__file__).resolve().with_suffix(".json")
STEPS = (1, 4, 8, 16)
MODES, SCALES = ("mse", "max"), (1 / 32, 1 / 8, 1 / 2, 1.0)
CHOSEN_ON = 200


class Attention(nn.Module):
    """The same attention as a module of torch, which the recipe replaces."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        features = source.output.in_features
        self.attention = nn.MultiheadAttention(features, source.heads, batch_first=True)
        parts = (source.query, source.key, source.value)
        with torch.no_grad():
            self.attention.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            self.attention.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            self.attention.out_proj.load_state_dict(source.output.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x, need_weights=False)
        return y


class Twin(nn.Module):
    """The network without the selection of the class token, which the recipe refuses; (batch, tokens, classes)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        network = copy.deepcopy(network)
        for block in network.blocks:
            block.attention = Attention(block.attention)
        self.patches, self.token, self.positions = network.patches, network.token, network.positions
        self.blocks, self.norm, self.classifier = network.blocks, network.norm, network.classifier

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(x.shape[0], -1, -1), tokens), 1) + self.positions
        return self.classifier(self.norm(self.blocks(tokens)))


class Counter:
    """Spikes of the recipe's encoders: levels sent, and how many values are not zero."""

    def __init__(self, network: nn.Module) -> None:
        self.levels, self.events, self.encoders = 0.0, 0.0, 0
        for module in network.modules():
            if type(module).__name__ == "_STASpikeEncoder":
                self.encoders += 1
                module.register_forward_hook(self._count)

    def _count(self, module: nn.Module, _: Any, output: Tensor) -> None:
        levels = (output / module.v_threshold).round()
        self.levels += float(levels.abs().sum())
        self.events += float((levels != 0).sum())


def converted(twin: nn.Module, images: Tensor, steps: int, mode: str, scale: float) -> nn.Module:
    recipe = STATransformerRecipe(
        dataloader=images.split(64), time_steps=steps, mode="spiking_encoder", threshold_mode=mode,
        threshold_scale=scale,
    )  # fmt: skip
    network = Converter(recipe).convert(copy.deepcopy(twin)).eval()
    functional.set_step_mode(network, "m")
    return network


@torch.no_grad()
def answers(network: nn.Module, images: Tensor, steps: int) -> Tensor:
    found = []
    for batch in images.split(BATCH):
        functional.reset_net(network)
        sequence = torch.zeros(steps, *batch.shape)
        sequence[0] = batch
        found.append(network(sequence).sum(0)[:, 0])
    return torch.cat(found)


def synops(network: nn.Module, image: Tensor, steps: int) -> float:
    """What the library's own counter of synaptic operations finds for one image."""
    counter = SynOpCounter()
    with DispatchCounterMode([counter]):
        answers(network, image, steps)
    return float(counter.get_total())


def row(source: nn.Module, data: ts.data.Dataset, spec: ts.models.Model, steps: int, samples: int) -> dict[str, Any]:
    twin = Twin(source).eval()
    images = spec.preprocessing(calibration(data))
    judge, test = images[:CHOSEN_ON], spec.preprocessing(data.test.batch(torch.arange(samples))[0])
    with torch.no_grad():
        reference, expected = source(judge), torch.cat([source(x) for x in test.split(BATCH)])
    errors = {}
    for mode, scale in itertools.product(MODES, SCALES):
        out = answers(converted(twin, images, steps, mode, scale), judge, steps)
        errors[mode, scale] = float((out - reference).norm() / reference.norm())
    best = min(errors, key=errors.__getitem__)
    network = converted(twin, images, steps, *best)
    counter = Counter(network)
    out, labels = answers(network, test, steps), data.test.batch(torch.arange(samples))[1]
    drop, low, high = paired_difference(expected.argmax(1) == labels, out.argmax(1) == labels)
    found = {
        "T": steps, "samples": samples, "threshold mode": best[0], "threshold scale": best[1],
        "ANN accuracy": 100 * float((expected.argmax(1) == labels).float().mean()),
        "accuracy": 100 * float((out.argmax(1) == labels).float().mean()),
        "drop": 100 * drop, "low": 100 * low, "high": 100 * high,
        "agreement": 100 * float((out.argmax(1) == expected.argmax(1)).float().mean()),
        "relative error": float((out - expected).norm() / expected.norm()), "encoders": counter.encoders,
        "levels per image": counter.levels / samples, "events per image": counter.events / samples,
        "SynOpCounter per image": synops(network, test[:1], steps),
    }  # fmt: skip
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--output", type=Path, default=CONTENT)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = ts.data.load(DATA, chosen.data_dir)
    content = json.loads(chosen.output.read_text()) if chosen.output.exists() else {"rows": {}}
    source, spec = trained(chosen.folder, 0, data)
    for steps in STEPS:
        if str(steps) in content["rows"]:
            continue
        content["rows"][str(steps)] = row(source, data, spec, steps, chosen.samples)
        content["versions"] = {"torch": torch.__version__, "python": platform.python_version(), "spikingjelly": "2.0.0"}
        write_atomically(chosen.output, json.dumps(content, indent=1).encode() + b"\n")
        print(content["rows"][str(steps)], flush=True)


if __name__ == "__main__":
    main()
