"""Cost of one convolution against its firing rate and with spikes of several levels, and networks of other shapes; the
parts of speed.py without peers.

    python benchmarks/kernels.py    # only the spikes of several levels, against binary ones
"""

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from machine import interleaved
from torch import Tensor, nn

import transpike as ts
from transpike.core.cell import Neuron
from transpike.core.graph import Graph, Input, Node
from transpike.encoders import ConstantCurrent
from transpike.engines import Program, event_status
from transpike.lowering.exact_grid import put_on_grid
from transpike.lowering.lowered import lower
from transpike.models._base import initialise
from transpike.neurons import Burst, IntegrateAndFire, MultiThreshold, SignedIntegrateAndFire
from transpike.ops import Conv, Mean
from transpike.readouts import AccumulatedMembrane
from transpike.schedules import Streaming
from transpike.workflow.simulate import engine_named

SIZES = ((16, 32), (32, 16), (64, 8), (256, 8), (512, 4))  # channels, height and width of a 3×3 convolution
RATES = (0.01, 0.02, 0.05, 0.10, 0.20, 0.30)
BATCH, TIMESTEPS, SAMPLES = 4, 32, 5
SHAPES_BATCH = 8
ENGINES = ("event", "dense")


def binary(threshold: Tensor, initial: Tensor) -> Neuron:
    return IntegrateAndFire(None, threshold, initial)


def convolution(
    channels: int, size: int, groups: int = 1, neuron: Callable[[Tensor, Tensor], Neuron] = binary, largest: float = 1.0
) -> Program:
    """Neurons that fire at the rate of their input current from random potentials on, a convolution, neurons."""
    generator = torch.Generator().manual_seed(0)
    weight = (32 * torch.randn(channels, channels // groups, 3, 3, generator=generator)).round().clamp(-127, 127) / 64
    first = torch.rand((channels, size, size), generator=generator)
    graph = Graph((
        Node("input", Input((channels, size, size))),
        Node("first", neuron(torch.tensor(1.0), first), ("input",)),
        Node("conv", Conv(weight=weight, padding=(1, 1), groups=groups), ("first",)),
        Node("second", neuron(torch.tensor(64.0), torch.tensor(0.0)), ("conv",)),
        Node("answer", Mean(axes=(2, 3)), ("second",)),
    ))  # fmt: skip
    encoder = ConstantCurrent(largest=largest)
    ranges = {"second": torch.full((1, channels, 1, 1), 64.0)} if largest > 1 else {}
    lowered = put_on_grid(lower(graph, encoder.spike_scale, encoder.alphabet), TIMESTEPS, largest, ranges)
    return Program(lowered, encoder, Streaming(), AccumulatedMembrane())


def once(program: Program, x: Tensor, engine: str, count: bool = False) -> ts.Trace:
    with torch.no_grad():
        run = engine_named(engine).start(program, x, torch.arange(len(x)), (), count)
        run.advance(TIMESTEPS, last=True)
        return run.finish()


def rates(arguments: argparse.Namespace) -> Iterator[dict]:
    engines = [name for name in ENGINES if name != "event" or event_status()[0] is not None]
    for channels, size in SIZES:
        program = convolution(channels, size)
        noise = torch.rand((BATCH, channels, size, size), generator=torch.Generator().manual_seed(1))
        for rate in RATES:
            x = noise * 2 * rate
            trace = once(program, x, "dense", count=True)
            first = next(layer for layer in trace.activity.layers if layer.name == "first")
            timings = interleaved(
                {name: partial(once, program, x, name) for name in engines},
                arguments.budget / 4, arguments.sample_seconds, most=SAMPLES,
            )  # fmt: skip
            row = {"channels": channels, "size": size, "rate": rate, "batch": BATCH, "timesteps": TIMESTEPS,
                   "measured_rate": float(first.spikes.sum()) / first.updates, "exact": trace.exact}  # fmt: skip
            for name, timing in timings.items():
                row[f"{name}_ms"] = None if timing.median is None else 1000 * timing.median
                row[f"{name}_samples"], row[f"{name}_dropped"] = len(timing.seconds), timing.dropped
            yield row


NEURONS: dict[str, Callable[[Tensor, Tensor], Neuron]] = {
    "binary": binary,
    "signed (snm)": lambda threshold, initial: SignedIntegrateAndFire(None, threshold, initial, "snm"),
    "burst 5": lambda threshold, initial: Burst(None, threshold, initial, 5),
    "4 thresholds, any": lambda threshold, initial: MultiThreshold(None, threshold, initial, 4, "any"),
    "4 thresholds, one": lambda threshold, initial: MultiThreshold(None, threshold, initial, 4, "one"),
}
LEVEL_SHAPES = ((64, 8, 1), (128, 8, 1), (16, 16, 1), (64, 8, 64))  # channels, height and width, groups
LEVEL_RATES, LARGEST, LEVEL_BATCH = (0.05, 0.1, 0.2), 8.0, 2


def events(program: Program, x: Tensor) -> float:
    """Bits that are set in the levels of the first neurons, per neuron and step: what readers gather weights for."""
    with torch.no_grad():
        run = engine_named("dense").start(program, x, torch.arange(len(x)), ("first",), False)
        run.advance(TIMESTEPS)
        levels = run.finish().trains["first"].abs()
    total, left = 0.0, levels
    while bool((left > 0).any()):
        total, left = total + float((left % 2).sum()), (left / 2).floor()
    return total / levels.numel()


def levels(samples: int = 10) -> Iterator[dict]:
    """Processor seconds of a layer of neurons that send several levels and of its reader, over those of binary ones at
    equal events: the least of runs that alternate, on one thread.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for channels, size, groups in LEVEL_SHAPES:
        programs = {name: convolution(channels, size, groups, made, LARGEST) for name, made in NEURONS.items()}
        noise = torch.rand((LEVEL_BATCH, channels, size, size), generator=torch.Generator().manual_seed(1))
        for rate in LEVEL_RATES:
            inputs = {}
            for name, program in programs.items():
                shape = noise if name in ("binary", "signed (snm)") else noise**4  # few large inputs: large levels
                low, high = 0.0, LARGEST
                for _ in range(12):
                    middle = (low + high) / 2
                    low, high = (middle, high) if events(program, shape * middle) < rate else (low, middle)
                inputs[name] = shape * low
            seconds = dict.fromkeys(programs, float("inf"))
            for _ in range(samples + 1):  # the first one also makes what is made once
                for name, program in programs.items():
                    start = time.process_time()
                    once(program, inputs[name], "event")
                    seconds[name] = min(seconds[name], time.process_time() - start)
            yield {"channels": channels, "size": size, "groups": groups, "rate": rate, "batch": LEVEL_BATCH,
                   "timesteps": TIMESTEPS, "binary_ms": 1000 * seconds["binary"],
                   "ratio_to_binary": {name: value / seconds["binary"] for name, value in seconds.items()}}  # fmt: skip
    torch.set_num_threads(threads)


def picture(rows: list[dict], path: Path) -> None:
    """Milliseconds against the rate, a colour a shape: events solid, dense dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.lines import Line2D

    figure, axes = pyplot.subplots(figsize=(7.5, 4.6), layout="constrained")
    colours = dict(
        zip(SIZES, ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#7b3294"), strict=True)
    )  # colour-blind safe
    for (channels, size), colour in colours.items():
        found = sorted((r for r in rows if (r["channels"], r["size"]) == (channels, size)), key=lambda r: r["rate"])
        for name, style in (("event", "-"), ("dense", "--")):
            points = [(100 * r["rate"], r[f"{name}_ms"]) for r in found if r.get(f"{name}_ms")]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, marker="o", markersize=3.5, linewidth=1.6)
    axes.set(yscale="log", xlabel="firing rate of the inputs, % of neurons per step",
             ylabel=f"ms for {TIMESTEPS} steps, batch {BATCH}")  # fmt: skip
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xticks([100 * rate for rate in RATES])
    axes.grid(True, which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=c, label=f"{n}→{n}, {s}×{s}") for (n, s), c in colours.items()]
    handles += [Line2D([], [], color="black", label="event"), Line2D([], [], color="black", ls="--", label="dense")]
    figure.legend(handles=handles, loc="outside right upper", frameon=False, title="3×3 convolution", alignment="left")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


class Lines(nn.Module):
    """Four one-dimensional convolutions on (batch, 2, 256)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in ((2, 32), (32, 64), (64, 64), (64, 128)):
            layers += [nn.Conv1d(inputs, outputs, 5, padding=2, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(), nn.AvgPool1d(2)]  # fmt: skip
        self.features, self.head = nn.Sequential(*layers), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(2))


class Concatenated(nn.Module):
    """``x = cat([x, relu(bn(conv(x)))])`` six times, at 32×32 and again at 16×16."""

    def __init__(self, growth: int = 16) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks, channels = nn.ModuleList(), 32
        for _ in range(6):
            convolution = nn.Conv2d(channels, growth, 3, padding=1, bias=False)
            self.blocks.append(nn.Sequential(convolution, nn.BatchNorm2d(growth), nn.ReLU()))
            channels += growth
        self.head = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for index, block in enumerate(self.blocks):
            x = torch.cat([x, block(x)], 1)
            if index == 2:
                x = nn.functional.avg_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


@torch.no_grad()
def calibrate(model: nn.Module, batches: list[Tensor]) -> nn.Module:
    """BatchNorm's statistics are the plain mean over these batches; the model comes back in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    for batch in batches:
        model(batch)
    return model.eval()


def shapes(arguments: argparse.Namespace, dataset: ts.data.Dataset) -> Iterator[dict]:
    images = dataset.train.batch(torch.arange(512))[0]
    lines = torch.randn(512, 2, 256, generator=torch.Generator().manual_seed(arguments.seed))
    torch.manual_seed(arguments.seed)
    mobile, spec = ts.models.build("zoo:mobilenet")
    networks = {"MobileNet": (mobile, images, spec.preprocessing), "1-D convolutions": (Lines(), lines, None),
                "concatenations": (Concatenated(), images, spec.preprocessing)}  # fmt: skip
    for name, (model, inputs, preprocessing) in networks.items():
        if name != "MobileNet":
            initialise(model)
        batches = list(inputs.split(128))
        calibrate(model, batches if preprocessing is None else [preprocessing(x) for x in batches])
        data = [(x, torch.zeros(len(x), dtype=torch.int64)) for x in batches]
        snn = ts.convert(model, ts.recipes.ECC(timesteps=TIMESTEPS), data, preprocessing=preprocessing)
        x = inputs[:SHAPES_BATCH]
        trace = ts.simulate(snn, x)
        engines = [e for e in ("auto", *ENGINES) if e != "event" or event_status()[0] is not None]
        timings = interleaved(
            {e: partial(ts.simulate, snn, x, engine=e, count=False) for e in engines},
            arguments.budget / 4, arguments.sample_seconds, most=SAMPLES,
        )  # fmt: skip
        neurons = [layer for layer in trace.activity.layers if layer.role == "neuron"]
        row = {"network": name, "weights": "seeded", "timesteps": TIMESTEPS, "batch": len(x), "exact": trace.exact,
               "why": trace.why, "kernels": trace.kernels,
               "mean_spike_rate": sum(float(n.spikes.sum()) for n in neurons) / sum(n.updates for n in neurons)}  # fmt: skip
        for engine, timing in timings.items():
            row[f"{engine}_seconds"] = timing.median
            row[f"{engine}_samples"], row[f"{engine}_dropped"] = len(timing.seconds), timing.dropped
        yield row


if __name__ == "__main__":
    for row in levels():
        ratios = ", ".join(f"{name} {value:.2f}" for name, value in row["ratio_to_binary"].items() if name != "binary")
        where = f"{row['channels']} channels, {row['groups']} groups, {row['size']}²"
        print(
            f"{where}, {100 * row['rate']:.0f} %: binary {row['binary_ms']:.2f} ms; times binary: {ratios}", flush=True
        )
