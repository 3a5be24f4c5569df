"""The networks of this reproduction, and how they are trained.

    python reproductions/trained/training.py NAME … --folder FOLDER --data-dir DATA \
      --weights resnet20-cifar10-jpeg.safetensors --vgg-weights vgg7.safetensors

Each network of CIFAR-10 (JPEG copy) is fine-tuned from trained ReLU weights with its activation, and the ReLU network
as long; VGG-8 starts from the weights that come with transpike, and is compared with them. Rerun a killed run to resume
it. FOLDER/NAME.safetensors is what run.py reads; one epoch of ResNet-20 or VGG-8 takes two to three minutes of one core,
one of VGG-7 five, one of MNIST one.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import transpike as ts
from transpike.activations import ClampQuantise, ExpandedInput, QuantisedClip, ValueRange
from transpike.core.preprocessing import Preprocessing
from transpike.data import Dataset

RESNET, VGG, STRONG, DEEP, MNIST = "resnet20-16-32-64", "vgg7", "vgg8", "vgg19", "mnist"
TRAINED = (RESNET, VGG, STRONG)
CIFAR = (*TRAINED, DEEP)
POOL = 0  # in the widths of a network
CALIBRATION = 500


@dataclass(frozen=True)
class Plan:
    """``network`` with ``activation`` (None: ReLU) trained for ``epochs``; ``percentile`` gives thresholds their start.

    0 epochs: the network that others start from, which is measured as it is.
    """

    network: str
    activation: Callable[[], nn.Module] | None
    epochs: int
    learning_rate: float
    percentile: float = 99.0
    seed: int = 0
    entrance: Callable[[], nn.Module] | None = None
    pools: bool = False
    augment: str = "auto"
    largest: float | None = None
    """The range that activations get in a network without weights: about 3 of what batch normalisation gives."""


PLANS: dict[str, Plan] = {
    "resnet20-relu": Plan(RESNET, None, 8, 0.05),
    "resnet20-qcfs": Plan(RESNET, lambda: QuantisedClip(4), 8, 0.05),
    "resnet20-vr": Plan(RESNET, lambda: ValueRange(8, 10), 8, 0.05),
    "vgg7-relu": Plan(VGG, None, 1, 0.02),
    "vgg7-qcfs": Plan(VGG, lambda: QuantisedClip(4), 1, 0.02),
    "vgg7-vr": Plan(VGG, lambda: ValueRange(8, 10), 1, 0.02),
    "vgg7-vr-fine": Plan(VGG, lambda: ValueRange(8, 10, rounding="nearest"), 1, 0.02, 99.9),
    "vgg7-cq": Plan(VGG, lambda: ClampQuantise(600), 1, 0.02, 99.9, pools=True),
    "vgg8-relu": Plan(STRONG, None, 0, 0.0),
    "vgg8-qcfs": Plan(STRONG, lambda: QuantisedClip(4), 2, 0.02),
    "vgg8-vr": Plan(STRONG, lambda: ValueRange(8, 10), 2, 0.02),
    "vgg8-vr4": Plan(STRONG, lambda: ValueRange(4, 10), 2, 0.02),
    "vgg8-cq": Plan(STRONG, lambda: ClampQuantise(600), 1, 0.02, 99.9, pools=True),
    "vgg19-cq": Plan(DEEP, lambda: ClampQuantise(600), 10, 0.05, pools=True, largest=3.0),
    **{f"mnist-relu-{s}": Plan(MNIST, None, 4, 0.05, seed=s, augment="none") for s in range(3)},
    **{
        f"mnist-vr-{s}": Plan(
            MNIST,
            lambda: ValueRange(1, 4),
            8,
            0.05,
            seed=s,
            entrance=lambda: ExpandedInput(1, 4),
            augment="crop",
            largest=3.0,
        )
        for s in range(3)
    },
    **{
        f"{block}-{kind}": Plan(
            block, (lambda: ClampQuantise(50)) if kind == "cq" else None, 3, 0.05, pools=True, augment="none"
        )
        for block in ("residual", "mobilenet-v1", "mobilenet-v2", "dense")
        for kind in ("relu", "cq")
    },
}


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + x)


class LinearBottleneck(Residual):
    """MobileNet v2: the sum has no activation, and the network after it no rectified input."""

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + x


class Dense(nn.Module):
    def __init__(self, layers: list[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


def conv(inputs: int, outputs: int, size: int = 3, groups: int = 1, act: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


def block(name: str) -> list[nn.Module]:
    if name == "residual":
        return [Residual(nn.Sequential(conv(16, 16), conv(16, 16, act=False))) for _ in range(2)]
    if name == "mobilenet-v1":
        return [nn.Sequential(conv(16, 16, groups=16), conv(16, 16, 1)) for _ in range(2)]
    if name == "mobilenet-v2":
        return [
            LinearBottleneck(nn.Sequential(conv(16, 64, 1), conv(64, 64, groups=64), conv(64, 16, 1, act=False)))
            for _ in range(2)
        ]
    return [Dense([conv(16, 8), conv(24, 8)]), conv(32, 16, 1)]


def vgg19() -> list[nn.Module]:
    """CQ's VGG-19 with a quarter of its channels: 16 convolutions, average pools."""
    layers: list[nn.Module] = []
    inputs = 3
    for width in (16, 16, POOL, 32, 32, POOL, *[64] * 4, POOL, *[128] * 4, POOL, *[128] * 4, POOL):
        layers.append(conv(inputs, width) if width else nn.AvgPool2d(2))
        inputs = width or inputs
    return [*layers, nn.Flatten(), nn.Linear(128, 10)]


def built(plan: Plan, arguments: argparse.Namespace) -> tuple[nn.Module, Preprocessing]:
    """The untrained network of a plan, or the trained ReLU network that it starts from."""
    torch.manual_seed(plan.seed)
    if plan.network == RESNET:
        module, _ = ts.models.build(f"zoo:{RESNET}", weights=arguments.weights)
        return module, Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    if plan.network == VGG:
        module, spec = ts.models.build(f"zoo:{VGG}", weights=arguments.vgg_weights)
        return module, spec.preprocessing
    if plan.network == STRONG:
        module, spec = ts.models.build(f"zoo:{STRONG}", weights="pretrained")
        return module, spec.preprocessing
    if plan.network == DEEP:
        return nn.Sequential(*vgg19()), Preprocessing()
    if plan.network == MNIST:
        layers = [
            conv(1, 32), nn.AvgPool2d(2), conv(32, 64), nn.AvgPool2d(2), nn.Flatten(),
            nn.Linear(64 * 49, 256, bias=False), nn.BatchNorm1d(256), nn.ReLU(), nn.Linear(256, 10),
        ]  # fmt: skip
    else:
        layers = [conv(1, 16), nn.AvgPool2d(2), *block(plan.network), nn.AvgPool2d(2), conv(16, 32), nn.AvgPool2d(7),
                  nn.Flatten(), nn.Linear(32, 10)]  # fmt: skip
    return nn.Sequential(*layers), Preprocessing()


def prepared(name: str, data: Dataset, arguments: argparse.Namespace) -> tuple[nn.Module, Preprocessing]:
    """The network of a plan with its activations, thresholds from training images where it starts from weights."""
    plan = PLANS[name]
    module, preprocessing = built(plan, arguments)
    if plan.activation is not None:
        starts = plan.network in TRAINED
        images = preprocessing(data.train.batch(torch.arange(CALIBRATION))[0]) if starts else None
        entrance = plan.entrance() if plan.entrance else None
        activation = plan.activation()
        if plan.largest is not None:
            activation.calibrate(plan.largest)
        module = ts.prepare(module, activation, images, plan.percentile, pools=plan.pools, input=entrance)
    return module, preprocessing


def dataset(plan: Plan, arguments: argparse.Namespace) -> Dataset:
    return ts.data.load("cifar10" if plan.network in CIFAR else "mnist", arguments.data_dir)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="Where trained networks lie.")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--weights", type=Path, help="ResNet-20 with ReLU, trained on the JPEG copy.")
    parser.add_argument("--vgg-weights", type=Path, help="VGG-7 with ReLU, as in reproductions/bsnn.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=sorted(name for name, plan in PLANS.items() if plan.epochs))
    options(parser)
    arguments = parser.parse_args()
    if arguments.folder is None:
        parser.error("give --folder")
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        plan = PLANS[name]
        data = dataset(plan, arguments)
        module, preprocessing = prepared(name, data, arguments)
        result = ts.train(
            module,
            data,
            ts.Training(
                epochs=plan.epochs,
                learning_rate=plan.learning_rate,
                seed=plan.seed,
                precision="bfloat16",
                augment=plan.augment,
            ),
            preprocessing=preprocessing,
            notes={"spec": name},
            checkpoint=arguments.folder / f"{name}.checkpoint.safetensors",
            weights=arguments.folder / f"{name}.safetensors",
            progress=lambda row: print(row, flush=True) if hasattr(row, "train_loss") else None,
        )
        print(f"{name}: {result.test_accuracy:.2%} on {result.test_images} test images", flush=True)


if __name__ == "__main__":
    main()
