"""CIFAR-10 networks of full strength, trained on a CPU: VGG-8, ResNet-20, and a MobileNet without shortcuts.

    python benchmarks/strong_networks.py vgg8 resnet20 mobilenet --folder FOLDER [--data-dir DATA] [--threads 2]

One after another. A run that was stopped goes on after its last epoch: FOLDER/NAME.checkpoint.safetensors; NAME.jsonl
has a line for each epoch. The last epoch is used and the test images are measured once, so that nothing is chosen on
them. FOLDER/NAME.safetensors has the weights in half precision for --weights of every command, NAME.json their hash,
accuracy, command and seconds.

What makes it fast, and where it is from: a fixed first layer that whitens patches (Coates and Ng 2012), filters that
start as identities, flips that alternate between epochs, a triangular learning rate, label smoothing, SGD with Nesterov
momentum at large batches (Jordan 2024, arXiv 2404.00498), crops that grow during the training (Howard 2018, progressive
sizes), products in bfloat16, channels last. ResNet-20 and MobileNet learn from the answers of VGG-8 on the same view
(Hinton 2015; Beyer 2022).

Measured on the 10,000 test images, seed 0, torch 2.13.0: vgg8 90.14 % [89.54, 90.71] after 4,562 s of one core, which
comes with transpike as zoo:vgg8; resnet20 88.71 % [88.07, 89.32] after 7,050 s (one without a teacher: 88.37 %).
"""

import argparse
import hashlib
import json
import platform
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Generator, Tensor, nn

import transpike as ts
from transpike.results.statistics import wilson
from transpike.results.writing import tensor_bytes, write_atomically
from transpike.training.source.loop import generator_of

PIXELS, REACH = 32, 2
PATCHES = 5000  # images whose patches are whitened
LEAST_VARIANCE = 1e-2  # of a direction of a patch: what is below is the noise of JPEG, 30 dB under the images
TEST_BATCH = 500


@dataclass(frozen=True)
class Plan:
    """How a network is trained. ``sizes``: share of the training from which images are cropped to so many pixels.

    ``teacher``: the network whose answers make up ``taught`` of the targets. ``rate`` is that of the peak, of the mean
    loss of a batch; ``decay`` that of weights, not of biases and norms.
    """

    network: str
    epochs: int
    batch: int
    rate: float
    decay: float
    smoothing: float = 0.0
    momentum: float = 0.85
    peak: float = 0.2
    sizes: tuple[tuple[float, int], ...] = ((0.0, PIXELS),)
    teacher: str | None = None
    taught: float = 0.0
    seed: int = 0
    precision: str = "bfloat16"


PLANS = {
    "vgg8": Plan("vgg8", 32, 500, 0.8, 1e-3, smoothing=0.2, sizes=((0.0, 24), (0.4, 28), (0.65, PIXELS))),
    "resnet20": Plan("resnet20-16-32-64", 60, 125, 0.2, 5e-4, momentum=0.9, teacher="vgg8", taught=0.7),
    "mobilenet": Plan(
        "mobilenet", 40, 125, 0.1, 5e-4, momentum=0.9, teacher="vgg8", taught=0.7, precision="float32"
    ),  # products of single channels are no faster in bfloat16
}


@torch.no_grad()
def whiten(stem: nn.Conv2d, images: Tensor) -> None:
    """Filters that give each principal direction of patches unit variance, with both signs; they are not trained."""
    size = stem.kernel_size[0]
    patches = images.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2).double()
    patches = patches - patches.mean(0)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / (variances + LEAST_VARIANCE).sqrt()).T.flip(0).reshape(-1, *stem.weight.shape[1:])
    stem.weight.copy_(torch.cat([filters, -filters]))
    stem.weight.requires_grad_(False)
    stem.bias.zero_()


def begin(network: nn.Module) -> None:
    """The first filters of each convolution that mixes channels pass their channel on."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and layer.groups == 1 and layer.kernel_size == (3, 3):
            both = min(layer.weight.shape[:2])
            nn.init.dirac_(layer.weight.data[:both])


def view(images: Tensor, size: int, flip: Tensor, generator: Generator) -> Tensor:
    """A crop of ``size`` pixels of each image, which may reach 2 pixels over its border, mirrored where ``flip``."""
    count, channels = images.shape[:2]
    start = torch.randint(-REACH, PIXELS + REACH - size + 1, (2, count, 1), generator=generator)
    index = start + torch.arange(size)
    rows, columns = (PIXELS - 1) - ((PIXELS - 1) - index.abs()).abs()
    columns = torch.where(flip[:, None], PIXELS - 1 - columns, columns)
    which, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return images[which, channel, rows[:, None, :, None], columns[:, None, None, :]]


def factor(done: float, peak: float) -> float:
    """Of the learning rate: from 0.2 to 1 at ``peak``, a share of the training, then to 0."""
    return 0.2 + 0.8 * done / peak if done < peak else (1 - done) / (1 - peak)


def optimiser(network: nn.Module, plan: Plan) -> torch.optim.SGD:
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": plan.decay},
        {"params": [p for p in trained if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, plan.rate, plan.momentum, nesterov=True)


def loss_of(logits: Tensor, labels: Tensor, taught: Tensor | None, plan: Plan) -> Tensor:
    hard = F.cross_entropy(logits, labels, label_smoothing=plan.smoothing)
    if taught is None:
        return hard
    return (1 - plan.taught) * hard + plan.taught * F.cross_entropy(logits, taught.softmax(1))


class Checkpoint:
    """Network, momenta and history after an epoch, in one file that is replaced as a whole."""

    def __init__(self, path: Path, facts: dict) -> None:
        self.path, self.facts = path, json.loads(json.dumps(facts))

    def save(self, network: nn.Module, steps: torch.optim.SGD, history: list[dict]) -> None:
        tensors = {f"model.{name}": value.contiguous() for name, value in network.state_dict().items()}
        for name, parameter in network.named_parameters():
            if parameter in steps.state:
                tensors[f"momentum.{name}"] = steps.state[parameter]["momentum_buffer"].contiguous()
        metadata = {"facts": json.dumps(self.facts), "history": json.dumps(history)}
        write_atomically(self.path, tensor_bytes(tensors, metadata))

    def load(self, network: nn.Module, steps: torch.optim.SGD) -> list[dict]:
        """The history; [] without a file. SystemExit for a file of another plan."""
        if not self.path.exists():
            return []
        with safe_open(self.path, framework="pt") as file:
            metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if json.loads(metadata["facts"]) != self.facts:
            raise SystemExit(f"{self.path} is of another plan, {metadata['facts']}: delete it, or use another folder")
        network.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
        for name, parameter in network.named_parameters():
            if f"momentum.{name}" in tensors:
                momentum = torch.empty_like(parameter).copy_(tensors[f"momentum.{name}"])
                steps.state[parameter] = {"momentum_buffer": momentum}
        return json.loads(metadata["history"])


def built(plan: Plan) -> tuple[nn.Module, ts.Preprocessing]:
    torch.manual_seed(plan.seed)
    network, spec = ts.models.build(f"zoo:{plan.network}")
    return network, spec.preprocessing


def taught_by(name: str, folder: Path) -> Callable[[Tensor], Tensor]:
    """The trained teacher: images in bytes → logits."""
    network, preprocessing = built(PLANS[name])
    ts.models.load_weights(network, folder / f"{name}.safetensors")
    network.eval().to(memory_format=torch.channels_last)

    @torch.no_grad()
    def answer(images: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(preprocessing(images).contiguous(memory_format=torch.channels_last)).float()

    return answer


@torch.no_grad()
def right(network: nn.Module, images: Tensor, labels: Tensor, preprocessing: ts.Preprocessing) -> int:
    network.eval()
    parts = zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True)
    return sum(int((network(preprocessing(x)).argmax(1) == y).sum()) for x, y in parts)


def train(name: str, plan: Plan, data: ts.data.Dataset, arguments: argparse.Namespace) -> None:
    folder: Path = arguments.folder
    target = folder / f"{name}.safetensors"
    kept = min(arguments.limit or len(data.train), len(data.train))
    facts = {"plan": asdict(plan), "images": kept, "data": data.note}
    if target.exists() and json.loads(ts.models.metadata_of(target)["facts"])["facts"] == json.loads(json.dumps(facts)):
        print(f"{name} is finished: {target}", flush=True)
        return
    images, labels = data.train.batch(torch.arange(kept))
    network, preprocessing = built(plan)
    begin(network)
    if plan.network == "vgg8":
        whiten(network.stem, preprocessing(images[:PATCHES]))
    network.to(memory_format=torch.channels_last)
    steps = optimiser(network, plan)
    checkpoint = Checkpoint(folder / f"{name}.checkpoint.safetensors", facts)
    history = checkpoint.load(network, steps)
    teacher = taught_by(plan.teacher, folder) if plan.teacher else None
    first_flips = torch.rand(kept, generator=generator_of(plan.seed, 0)) < 0.5
    batches = max(1, kept // plan.batch)
    for epoch in range(len(history) + 1, plan.epochs + 1):
        start, cpu = time.perf_counter(), time.process_time()
        share = (epoch - 1) / plan.epochs
        size = next(size for since, size in reversed(plan.sizes) if share >= since)
        generator = generator_of(plan.seed, epoch)
        order = torch.randperm(kept, generator=generator)
        flips = first_flips ^ bool(epoch % 2)
        total, hits = 0.0, 0
        network.train()
        for step, indices in enumerate(order[: batches * plan.batch].split(plan.batch)):
            rate = plan.rate * factor((epoch - 1 + step / batches) / plan.epochs, plan.peak)
            for group in steps.param_groups:
                group["lr"] = rate
            shown, wanted = view(images[indices], size, flips[indices], generator), labels[indices]
            taught = teacher(shown) if teacher else None
            with torch.autocast("cpu", torch.bfloat16, enabled=plan.precision == "bfloat16"):
                logits = network(preprocessing(shown).contiguous(memory_format=torch.channels_last)).float()
            loss = loss_of(logits, wanted, taught, plan)
            if not torch.isfinite(loss):
                raise SystemExit(f"{name}: the loss of epoch {epoch}, step {step + 1}, is {loss.item()}")
            steps.zero_grad()
            loss.backward()
            steps.step()
            total, hits = total + loss.item(), hits + int((logits.argmax(1) == wanted).sum())
        row = {"epoch": epoch, "pixels": size, "rate": rate, "loss": total / batches,
               "training_accuracy": hits / (batches * plan.batch), "seconds": round(time.perf_counter() - start, 1),
               "cpu_seconds": round(time.process_time() - cpu, 1)}  # fmt: skip
        history.append(row)
        checkpoint.save(network, steps, history)
        write_atomically(folder / f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in history).encode())
        print(name, row, flush=True)
    finish(name, network, preprocessing, data, facts, history, target)


def finish(
    name: str, network: nn.Module, preprocessing: ts.Preprocessing, data: ts.data.Dataset, facts: dict,
    history: list[dict], target: Path,
) -> None:  # fmt: skip
    """Measure the network with the weights as they are written, and write them."""
    halves = {n: t.half() if t.is_floating_point() else t for n, t in network.state_dict().items()}
    network.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in halves.items()})
    correct = right(network, *data.test.batch(torch.arange(len(data.test))), preprocessing)
    low, high = wilson(correct, len(data.test))
    found = {
        "facts": facts,
        "correct": correct, "test_images": len(data.test), "accuracy": correct / len(data.test), "low": low, "high": high,
        "seconds": round(sum(row["seconds"] for row in history), 1),
        "cpu_seconds": round(sum(row["cpu_seconds"] for row in history), 1),
        "command": shlex.join(["python", "benchmarks/strong_networks.py", *sys.argv[1:]]),
        "versions": {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__},
    }  # fmt: skip
    metadata = {
        "format": "transpike weights",
        "spec": f"zoo:{PLANS[name].network}",
        "preprocessing": json.dumps({"mean": preprocessing.mean, "std": preprocessing.std}),
        "facts": json.dumps(found),
    }
    content = tensor_bytes({n: t.contiguous() for n, t in halves.items()}, metadata)
    write_atomically(target, content)
    summary = {"file": target.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), **found}
    write_atomically(target.with_suffix(".json"), (json.dumps(summary, indent=1) + "\n").encode())
    print(f"{name}: {found['accuracy']:.2%} ({low:.2%} to {high:.2%}) of {len(data.test):,} test images", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(PLANS))
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--epochs", type=int, help="In place of those of the plan.")
    parser.add_argument("--limit", type=int, help="Train on the first N images only, to try it out.")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    data = ts.data.load("cifar10", arguments.data_dir)
    for name in arguments.names:
        plan = PLANS[name]
        train(name, replace(plan, epochs=arguments.epochs) if arguments.epochs else plan, data, arguments)


if __name__ == "__main__":
    main()
