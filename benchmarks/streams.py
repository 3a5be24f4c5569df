"""Latency of live streams: milliseconds of one step with a batch of one, next to one forward pass of the ANN.

    python benchmarks/streams.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA [--threads 1]

ResNet-20 (CIFAR-10), a keyword network of depthwise convolutions (seeded weights, calibrated normalisation) and the
network of reproductions/nmnist (trained here), each converted with ECC. A row is one network, engine and kind of step:
"held" (the input stays), "frame" (a new input in every step). Engines take turns step by step, so that a slow phase of
the machine meets all of them; the ANN runs in the same turns. Writes benchmarks/streams.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import busy_of_others, description
from torch import Tensor, nn

import transpike as ts
from transpike.engines import event_status
from transpike.results.writing import write_atomically

HERE = Path(__file__).parent
ENGINES = ("dense", "event", "auto")
WARM_UP = 40  # steps
KEYWORD_SHAPE = (1, 49, 10)  # time × mel coefficients


@dataclass(frozen=True)
class Case:
    """A converted network, its ANN on prepared inputs, and the frames of a stream (steps, 1, *shape)."""

    name: str
    snn: ts.SNN
    model: nn.Module
    frames: Tensor
    ann_input: Tensor


def keyword_network() -> nn.Module:
    """The form of DS-CNN (small): a convolution, four pairs of depthwise and 1×1 convolutions, mean, linear."""

    def unit(inputs: int, outputs: int, kernel, stride, padding, groups: int = 1) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    layers = unit(1, 64, (10, 4), 2, (4, 1))
    for _ in range(4):
        layers += unit(64, 64, 3, 1, 1, 64) + unit(64, 64, 1, 1, 0)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12))


def keywords(arguments: argparse.Namespace) -> Case:
    torch.manual_seed(arguments.seed)
    model = keyword_network()
    generator = torch.Generator().manual_seed(arguments.seed)
    sounds = torch.rand((256, *KEYWORD_SHAPE), generator=generator)
    sounds = sounds * torch.rand((256, 1, 1, 1), generator=generator)
    with torch.no_grad():
        for _ in range(20):
            model(sounds[:128])  # running statistics of its normalisation
    model.eval()
    snn = ts.convert(model, ts.recipes.ECC(timesteps=32), [sounds[:128]])
    return Case("keywords, depthwise", snn, model, sounds[128:, None], sounds[128:129])


def resnet(arguments: argparse.Namespace) -> Case:
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    model.eval()
    dataset = ts.data.load("cifar10", arguments.data_dir)
    images = dataset.test.batch(torch.arange(256))[0]
    snn = ts.convert(
        model, ts.recipes.ECC(timesteps=32), dataset.train.batches(100, limit=200), preprocessing=spec.preprocessing
    )
    return Case("resnet20-16-32-64", snn, model, images[:, None], spec.preprocessing(images[:1]))


def events(arguments: argparse.Namespace) -> Case:
    dataset = ts.data.load(f"npz:{arguments.data_dir / 'nmnist_small.npz'}", bins=20)
    torch.manual_seed(arguments.seed)
    model, _ = ts.models.build("zoo:events-cnn", input_shape=dataset.image_shape)
    settings = ts.Training(
        epochs=arguments.epochs, learning_rate=0.05, batch_size=50, validation_fraction=0.0, seed=arguments.seed
    )
    ts.train(model, dataset, settings)
    model.eval()
    recipe = ts.recipes.ECC(timesteps=20, encoder=ts.encoders.EventFrames(), schedule=ts.schedules.Streaming())
    snn = ts.convert(model, recipe, dataset.train.batches(100, limit=200))
    recording = dataset.test.batch(torch.arange(1))[0]
    frames = snn.encoder.frames(recording) if hasattr(snn.encoder, "frames") else recording.movedim(1, 0)
    return Case("events-cnn, N-MNIST", snn, model, frames, snn.encoder.accumulate(recording))


CASES: dict[str, Callable[[argparse.Namespace], Case]] = {"keywords": keywords, "resnet20": resnet, "nmnist": events}


def measured(case: Case, steps: int, held: bool) -> list[dict]:
    """Rows of one network: milliseconds of every step, of every engine and the ANN, in turns."""
    snn, frames = case.snn, case.frames
    streams = {}
    for engine in ENGINES:
        if snn.encoder.has_frames:
            streams[engine] = snn.start(1, engine=engine)
        else:
            streams[engine] = snn.start(frames[0], engine=engine)
    ann, x = case.model, case.ann_input.contiguous(memory_format=torch.channels_last)
    ann = ann.to(memory_format=torch.channels_last)
    seconds: dict[str, list[float]] = {name: [] for name in (*ENGINES, "ANN")}
    others, start = busy_of_others(), time.perf_counter()
    with torch.inference_mode():
        for k in range(WARM_UP + steps):
            frame = None if held else frames[k % len(frames)]
            for engine, stream in streams.items():
                begin = time.perf_counter()
                stream.step(frame)
                seconds[engine].append(time.perf_counter() - begin)
            begin = time.perf_counter()
            ann(x)
            seconds["ANN"].append(time.perf_counter() - begin)
    busy = (busy_of_others() - others) / (time.perf_counter() - start)
    ann_median = statistics.median(seconds["ANN"][WARM_UP:])
    rows = []
    for name, found in seconds.items():
        ordered = sorted(found[WARM_UP:])
        rows.append(
            {
                "network": case.name,
                "step": "held" if held else "frame",
                "engine": name,
                "p50_ms": 1e3 * ordered[len(ordered) // 2],
                "p99_ms": 1e3 * ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))],
                "least_ms": 1e3 * ordered[0],
                "of_ann": ordered[len(ordered) // 2] / ann_median,
                "steps": steps,
                "threads": torch.get_num_threads(),
                "instructions": event_status()[1],
                "busy_of_others": busy,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--only", choices=CASES, nargs="+", default=list(CASES))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "streams.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows: list[dict] = []
    for name in arguments.only:
        case = CASES[name](arguments)
        for held in (True, False):
            if held and case.snn.encoder.has_frames:
                continue
            for row in measured(case, arguments.steps, held):
                rows.append(row)
                print(f"{row['network']:22} {row['step']:6} {row['engine']:6} p50 {row['p50_ms']:8.3f} ms  "
                      f"p99 {row['p99_ms']:8.3f} ms  {row['of_ann']:6.2f} x ANN")  # fmt: skip
    content = {"machine": description(arguments.seed), "rows": rows}
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
