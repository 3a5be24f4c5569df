"""The networks of this reproduction, and how they are trained.

    python reproductions/ttfs/training.py NAME … --folder FOLDER --data-dir DATA --weights resnet20-cifar10-jpeg.safetensors

CIFAR-10 is the JPEG copy. "-cat" is conversion-aware training: clip, then φ, on hidden layers, "-input" on the input
too; "-relu" is the same network trained as long with ReLUs. Tiny-ImageNet: ResNet-20 whose first convolution has a
stride of 2, the 20,000 images of the shared shard; "tiny-base" starts from the weights of CIFAR-10, the others from it.
Rerun a killed run to resume it. An epoch takes two to four minutes of one core, of Tiny-ImageNet one to two.
"""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.activations import TimeToFirstSpike
from transpike.core.preprocessing import Preprocessing
from transpike.data import Dataset

RESNET = "resnet20-16-32-64"
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CALIBRATION = 500
SETTINGS = (24, 4.0)


@dataclass(frozen=True)
class Plan:
    """``stages`` None: ReLU. ``start``: the network of this folder that it begins with, None for ``--weights``."""

    data: str
    epochs: int
    learning_rate: float
    stages: dict[str, int] | None = None
    entrance: bool = False
    start: str | None = None
    percentile: float = 99.9
    options: dict[str, float] = field(default_factory=dict)


CAT = {"clip": 1, "quantise": 3}
PLANS: dict[str, Plan] = {
    "resnet20-relu": Plan("cifar10", 8, 0.05),
    "resnet20-cat": Plan("cifar10", 8, 0.05, CAT),
    "resnet20-cat-input": Plan("cifar10", 8, 0.05, CAT, entrance=True),
    "tiny-base": Plan("tiny-imagenet", 20, 0.1),
    "tiny-relu": Plan("tiny-imagenet", 8, 0.05, start="tiny-base"),
    "tiny-cat": Plan("tiny-imagenet", 8, 0.05, CAT, start="tiny-base"),
}


class Normalise(nn.Module):
    """``(x − mean) / std``: within the network, behind an input of spikes, which cannot be negative."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET.mean).reshape(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET.std).reshape(1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def network(plan: Plan, weights: Path | None) -> nn.Module:
    """The ReLU network of a plan, with the weights that it starts from."""
    tiny = plan.data == "tiny-imagenet"
    module, _ = ts.models.build(f"zoo:{RESNET}", num_classes=200 if tiny else 10)
    if tiny:
        module.conv1 = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
    if weights is not None:
        tensors = safetensors.torch.load_file(weights)
        own = module.state_dict()
        fitting = {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
        missing = set(own) - set(fitting)
        if missing - {"linear.weight", "linear.bias"}:
            raise SystemExit(f"{weights} lacks {sorted(missing)}")
        module.load_state_dict({**own, **fitting})
    return nn.Sequential(Normalise(), module) if plan.entrance else module


def prepared(name: str, data: Dataset, weights: Path | None) -> tuple[nn.Module, Preprocessing]:
    plan = PLANS[name]
    preprocessing = Preprocessing() if plan.entrance else IMAGENET
    module = network(plan, weights)
    if plan.stages is not None:
        images = preprocessing(data.train.batch(torch.arange(CALIBRATION))[0])
        entrance = TimeToFirstSpike(*SETTINGS) if plan.entrance else None
        module = ts.prepare(module, TimeToFirstSpike(*SETTINGS), images, plan.percentile, input=entrance)
    return module, preprocessing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(PLANS))
    parser.add_argument("--folder", type=Path, required=True, help="Where trained networks lie.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="ResNet-20 with ReLU, trained on the JPEG copy.")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        plan = PLANS[name]
        data = ts.data.load(plan.data, arguments.data_dir)
        start = arguments.weights if plan.start is None else arguments.folder / f"{plan.start}.safetensors"
        module, preprocessing = prepared(name, data, start)
        result = ts.train(
            module,
            data,
            ts.Training(epochs=plan.epochs, learning_rate=plan.learning_rate, precision="bfloat16", stages=plan.stages),
            preprocessing=preprocessing,
            notes={"spec": name},
            checkpoint=arguments.folder / f"{name}.checkpoint.safetensors",
            weights=arguments.folder / f"{name}.safetensors",
            progress=lambda row: print(row, flush=True) if hasattr(row, "train_loss") else None,
        )
        print(f"{name}: {result.test_accuracy:.2%} on {result.test_images} test images", flush=True)


if __name__ == "__main__":
    main()
