"""A denoiser-like network with smooth activations as a spiking network: benchmarks/sigma_delta.json.

    python benchmarks/sigma_delta.py

LeakyReLU, SiLU, Hardswish, a strided and a transposed convolution, a concatenation; the answer is an image. Weights are
random with a seed (torch's default initialisation times 2, so that activations are curved), inputs are smooth random
images with noise: the table shows how well the converted network follows the function, not how well that denoises.
Operations are synaptic operations per multiplication of the source network, first layer (analogue input) apart in both.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike.recipes import BurstDigits, StreamingSigmaDelta

CONTENT = Path(__file__).resolve().with_suffix(".json")
STEPS = 8
SHOWN = (1, 2, 3, 4, 6, 8)
IMAGES, CALIBRATION, SIZE, NOISE = 16, 64, 16, 0.7
ADDITION, MULTIPLICATION = 0.9, 4.6  # picojoules, Horowitz 2014, float32 in 45 nm; a multiplication with its addition


class Denoiser(nn.Module):
    """Two scales with a connection between them, (batch, 1, 16, 16) → the same shape."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, 2, 1)
        self.middle, self.up = nn.Conv2d(16, 16, 3, padding=1), nn.ConvTranspose2d(16, 8, 2, 2)
        self.join, self.last = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.first(x), 0.1)
        b = F.silu(self.middle(F.silu(self.down(a))))
        c = F.hardswish(self.up(b))
        return self.last(F.silu(self.join(torch.cat([c, a], 1))))


def network(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, calibration images and test images."""
    generator = torch.Generator().manual_seed(seed)
    model = Denoiser().eval()
    with torch.no_grad():
        for layer in model.children():
            fan = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.weight.shape[0]
            for value in (layer.weight, layer.bias):
                value.copy_((torch.rand(value.shape, generator=generator) * 4 - 2) / fan**0.5)
    coarse = torch.rand((CALIBRATION + IMAGES, 1, 5, 5), generator=generator)
    clean = F.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic", align_corners=False)
    noisy = clean + NOISE * torch.randn(clean.shape, generator=generator)
    return model, noisy[:CALIBRATION], noisy[CALIBRATION:]


def rows(model: nn.Module, calibration: Tensor, x: Tensor, recipe: StreamingSigmaDelta) -> list[dict[str, object]]:
    """What the recipe's network answers and does after each number of steps."""
    snn = ts.convert(model, recipe, calibration)
    trace = ts.simulate(snn, x, engine="dense")
    with torch.no_grad():
        source = model(x)
    macs = _macs(model, x[:1])
    layers = [layer for layer in trace.activity.layers if layer.role == "neuron"]
    neurons = sum(layer.neurons for layer in layers)
    found: list[dict[str, object]] = []
    for t in (t for t in SHOWN if t <= recipe.timesteps):
        spikes = [float(sum(layer.spikes[k] for layer in layers)) / len(x) for k in range(t)]
        operations = sum(float(layer.synaptic_operations[:t].sum()) for layer in layers) / len(x)
        error = float((trace.logits[t - 1] - source).norm() / source.norm())
        found.append({
            "recipe": recipe.name, "thresholds": recipe.threshold_count, "T": t, "relative error": round(error, 5),
            "spikes per neuron": round(sum(spikes) / neurons, 4), "spikes in the last step": round(spikes[-1], 3),
            "operations / MACs": round(operations / macs, 4),
            "energy of operations / ANN": round(ADDITION * operations / (MULTIPLICATION * macs), 4),
            "exact": trace.exact,
        })  # fmt: skip
    return found


def _macs(model: nn.Module, x: Tensor) -> int:
    """Multiplications of the layers that read activations, for one image."""
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        transposed = isinstance(layer, nn.ConvTranspose2d)
        total += (inputs[0] if transposed else output)[0].numel() * layer.weight[0].numel()

    hooks = [layer.register_forward_hook(count) for name, layer in model.named_children() if name != "first"]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return total


def main() -> None:
    model, calibration, x = network()
    recipes: list[StreamingSigmaDelta] = [StreamingSigmaDelta(timesteps=STEPS, threshold_count=n) for n in (8, 6)]
    recipes.append(BurstDigits())
    found = [row for recipe in recipes for row in rows(model, calibration, x, recipe)]
    content = {
        "images": len(x), "calibration": len(calibration), "seed": 0, "MACs behind neurons": _macs(model, x[:1]),
        "torch": torch.__version__, "rows": found,
    }  # fmt: skip
    CONTENT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for row in found:
        print(*(f"{key} {value}" for key, value in row.items()), sep=" | ")


if __name__ == "__main__":
    main()
