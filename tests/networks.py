"""Small networks whose layers really fire, and a Hypothesis strategy that draws random ones."""

import functools
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from hypothesis import assume
from hypothesis import strategies as st
from torch import Tensor, nn

from transpike.activations import ReLU
from transpike.core.cell import Cell
from transpike.core.graph import Graph, Input, Node
from transpike.encoders import ConstantCurrent, DeterministicCounts, Poisson
from transpike.engines import event_status
from transpike.errors import UnsupportedModel
from transpike.lowering.trace import Trace
from transpike.neurons import IntegrateAndFire
from transpike.ops import Linear
from transpike.readouts import AccumulatedMembrane, SpikeCount
from transpike.recipes import ECC
from transpike.snn import SNN
from transpike.workflow.capture import capture
from transpike.workflow.convert import convert
from transpike.workflow.simulate import simulate

ENGINES = [name for name in ("event", "dense", "reference") if name != "event" or event_status()[0] is not None]
CONVS, NORMS = {1: nn.Conv1d, 2: nn.Conv2d}, {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
AVERAGES, MAXIMA = {1: nn.AvgPool1d, 2: nn.AvgPool2d}, {1: nn.MaxPool1d, 2: nn.MaxPool2d}


@dataclass(frozen=True, eq=False)
class Case:
    """A network in eval mode with calibrated statistics, its graph, data to calibrate on, and other data to run."""

    model: nn.Module
    graph: Graph
    calibration: Tensor
    x: Tensor
    text: str

    def _repr_pretty_(self, printer: object, cycle: bool) -> None:
        printer.text(self.text)  # type: ignore[attr-defined]


class Residual(nn.Module):
    """``relu(body(x) + shortcut(x))``."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class StridedSlice(nn.Module):
    """Every second position, zero channels on both sides (option A of the ResNet paper)."""

    def __init__(self, dimensions: int, extra: int) -> None:
        super().__init__()
        self.dimensions, self.extra = dimensions, extra

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, :, ::2] if self.dimensions == 1 else x[:, :, ::2, ::2]
        return F.pad(x, (0, 0) * self.dimensions + (self.extra, self.extra))


class Dense(nn.Module):
    """The input and what a body makes of it, side by side."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


class SpatialMean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).mean(2)


def settle(model: nn.Module, x: Tensor) -> nn.Module:
    """Weights whose outputs have mean zero and a spread of one on x, and running statistics of x; then eval mode."""

    def spread(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        scale, middle = 1 / output.std().clamp(min=1e-3), output.mean()
        module.weight.mul_(scale)
        if module.bias is not None:
            module.bias.sub_(middle).mul_(scale)
            output = output - middle
        return output * scale

    weighted = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d))]
    hooks = [module.register_forward_hook(spread) for module in weighted]
    model.train()
    with torch.no_grad():
        model(x)
        for hook in hooks:
            hook.remove()
        for part in x.chunk(3):
            model(part)
    return model.eval()


def random_norm(dimensions: int, channels: int, eps: float) -> nn.Module:
    """Batch normalisation with its own γ, β and ε, whose statistics are the mean over the batches it saw."""
    norm = NORMS[dimensions](channels, eps=eps, momentum=None)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -0.4, 0.4)
    return norm


def small_cnn(seed: int = 0) -> Case:
    """Convolution, batch normalisation, overlapping max-pool, residual add, average pool, linear."""
    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), random_norm(2, 4, 1e-5))
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), random_norm(2, 4, 1e-5), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
        Residual(body, nn.Identity()), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    return _case(model, (2, 8, 8), "small_cnn")


def mlp(seed: int = 0, sizes: tuple[int, ...] = (5, 8, 6, 3)) -> Case:
    """Fully connected layers with ReLU between them."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return _case(nn.Sequential(*layers[:-1]), sizes[:1], f"mlp {sizes}")


def _case(model: nn.Module, shape: tuple[int, ...], text: str, calibration: int = 48, samples: int = 5) -> Case:
    data = torch.rand(calibration + samples, *shape) * 2 - 1
    settle(model, data[:calibration])
    return Case(model, capture(model, data[:calibration]), data[:calibration], data[calibration:], text)


KINDS = ("conv", "depthwise", "residual", "shortcut", "concat", "average", "maximum")


def cases() -> st.SearchStrategy[Case]:
    """One of sixty random networks; ``network(seed)`` is the one that a failure names."""
    return st.integers(0, 59).map(network)


@functools.cache
def network(seed: int) -> Case:
    """A network of one to four random blocks after a stem, in one or two dimensions, with a linear head."""
    pick = random.Random(seed)
    torch.manual_seed(seed)
    n, channels, size = pick.choice([1, 2, 2]), pick.randint(1, 3), pick.randint(6, 9)
    builder = _Builder(pick, n, (channels, *(size,) * n))
    builder.block("conv")
    for _ in range(pick.randint(1, 4)):
        builder.block(pick.choice(KINDS))
    builder.add(*pick.choice([(nn.Flatten(), "flatten"), (SpatialMean(), "mean")]))
    if pick.random() < 0.5:
        builder.add(nn.Sequential(nn.Linear(builder.shape[0], 6), nn.ReLU()), "linear 6")
    builder.add(nn.Linear(builder.shape[0], 3), "linear 3")
    text = f"network({seed}): {channels}×{size}^{n} | " + " | ".join(builder.text)
    return _case(nn.Sequential(*builder.layers), (channels, *(size,) * n), text)


class _Builder:
    """Adds blocks one after another and keeps the shape."""

    def __init__(self, pick: random.Random, dimensions: int, shape: tuple[int, ...]) -> None:
        self.pick, self.n, self.shape = pick, dimensions, shape
        self.layers: list[nn.Module] = []
        self.text: list[str] = []

    def add(self, layer: nn.Module, text: str) -> None:
        self.layers.append(layer)
        self.text.append(text)
        with torch.no_grad():
            self.shape = tuple(layer.eval()(torch.zeros(2, *self.shape)).shape[1:])

    def convolution(self, channels: int, out: int, **settings: int) -> list[nn.Module]:
        """With batch normalisation or a bias, without an activation."""
        normalised = self.pick.random() < 0.5
        layers = [CONVS[self.n](channels, out, bias=not normalised or self.pick.random() < 0.5, **settings)]
        return [*layers, random_norm(self.n, out, self.pick.choice([1e-5, 1e-3, 0.3]))] if normalised else layers

    def block(self, kind: str) -> None:
        getattr(self, f"_{kind}")(*self.shape[:2])

    def _conv(self, channels: int, size: int) -> None:
        groups = self.pick.choice([g for g in (1, 2) if channels % g == 0])
        out = groups * self.pick.randint(1, 2) * (2 if groups == 1 else 1)
        stride, kernel = self.pick.randint(1, 2), self.pick.randint(1, 3)
        dilation, padding = self.pick.randint(1, 2), self.pick.randint(0, 2)
        if size + 2 * padding < dilation * (kernel - 1) + 1 + stride:
            kernel, padding, stride, dilation = 3, 1, 1, 1
        settings = {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        body = nn.Sequential(*self.convolution(channels, out, **settings), self.pick.choice([nn.ReLU, nn.ReLU6])())
        self.add(body, f"conv {out} k{kernel} s{stride} p{padding} d{dilation} g{groups}")

    def _depthwise(self, channels: int, size: int) -> None:
        settings = {"kernel_size": 3, "padding": 1, "groups": channels}
        self.add(nn.Sequential(*self.convolution(channels, channels, **settings), nn.ReLU()), "depthwise")

    def _residual(self, channels: int, size: int) -> None:
        first = self.convolution(channels, 3, kernel_size=3, padding=1)
        second = self.convolution(3, channels, kernel_size=3, padding=1)
        self.add(Residual(nn.Sequential(*first, nn.ReLU(), *second), nn.Identity()), "residual")

    def _shortcut(self, channels: int, size: int) -> None:
        body = self.convolution(channels, channels + 2, kernel_size=3, stride=2, padding=1)
        self.add(Residual(nn.Sequential(*body), StridedSlice(self.n, 1)), "strided shortcut")

    def _concat(self, channels: int, size: int) -> None:
        body = nn.Sequential(*self.convolution(channels, 2, kernel_size=3, padding=1), nn.ReLU())
        self.add(Dense(body), "concat")

    def _average(self, channels: int, size: int) -> None:
        if size >= 3:
            kernel, stride, padding = self.pick.choice([(2, 2, 0), (3, 2, 1), (3, 1, 0)])
            count = self.pick.random() < 0.5
            pool = AVERAGES[self.n](kernel, stride, padding, count_include_pad=count)
            self.add(pool, f"average {kernel} {stride} {padding} {count}")

    def _maximum(self, channels: int, size: int) -> None:
        if size >= 3:
            kernel, stride, padding = self.pick.choice([(2, 2, 0), (3, 2, 1), (3, 1, 1)])
            self.add(MAXIMA[self.n](kernel, stride, padding), f"maximum {kernel} {stride} {padding}")


@functools.cache
def wide_network(seed: int) -> Case:
    """Layers of 16 to 150 channels in one or two dimensions: every kernel of the event engine and their borders."""
    pick = random.Random(seed)
    torch.manual_seed(seed)
    n, size, channels = pick.choice([1, 2, 2]), pick.randint(5, 9), pick.choice([16, 20, 33, 64])
    input_shape = (2, *(size,) * n)
    builder = _Builder(pick, n, input_shape)
    builder.add(nn.Sequential(CONVS[n](2, channels, 3, padding=1), nn.ReLU()), f"stem {channels}")
    for _ in range(pick.randint(1, 3)):
        channels, size = builder.shape[:2]
        kind = pick.choice(["dense", "dense", "grouped", "depthwise", "residual", "concat", "average", "maximum"])
        if kind in ("average", "maximum", "depthwise", "residual", "concat"):
            builder.block(kind)
            continue
        groups = pick.choice([g for g in (2, 3, 4, 8) if channels % g == 0] or [1]) if kind == "grouped" else 1
        out = groups * pick.choice([8, 16, 24, 50] if groups > 1 else [16, 48, 70, 150])
        kernel, stride, dilation = pick.choice(
            [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2), (2, 1, 3), (5, 1, 1)]
        )
        settings = {
            "kernel_size": kernel,
            "stride": stride,
            "dilation": dilation,
            "padding": dilation * (kernel // 2) + (kernel == 2),
        }
        body = builder.convolution(channels, out, groups=groups, **settings)
        builder.add(nn.Sequential(*body, nn.ReLU()), f"conv {out} k{kernel} s{stride} d{dilation} g{groups}")
    builder.add(*pick.choice([(nn.Flatten(), "flatten"), (SpatialMean(), "mean")]))
    if pick.random() < 0.5:
        builder.add(nn.Sequential(nn.Linear(builder.shape[0], 40), nn.ReLU()), "linear 40")
    builder.add(nn.Linear(builder.shape[0], 3), "linear 3")
    text = f"wide_network({seed}): {input_shape} | " + " | ".join(builder.text)
    return _case(nn.Sequential(*builder.layers), input_shape, text, calibration=24, samples=3)


STEPS = 12
ENCODERS = (ConstantCurrent(), DeterministicCounts(), Poisson(seed=3))


@st.composite
def recipes(draw: Callable) -> ECC:
    """Every choice that changes what runs, for a streaming network."""
    return ECC(
        timesteps=STEPS,
        reset=draw(st.sampled_from(["soft", "soft", "hard"])),
        percentile=draw(st.sampled_from([99.0, 100.0])),
        granularity=draw(st.sampled_from(["layer", "channel", "neuron"])),
        pooling=draw(st.sampled_from(["lateral-inhibition", "before-neuron", "gated"])),
        weight_bits=draw(st.sampled_from([None, 6])),
        encoder=draw(st.sampled_from(ENCODERS)),
        readout=draw(st.sampled_from([AccumulatedMembrane(), SpikeCount()])),
    )


def run(snn: SNN, x: Tensor, engine: str = "dense", timesteps: int = STEPS, **settings: object) -> Trace:
    """A run on the grid that records every cell."""
    trace = simulate(snn, x, timesteps, engine=engine, record=cells(snn), **settings)
    assert trace.exact, trace.why
    return trace


def converted(case: Case, recipe: ECC, **settings: object) -> SNN:
    """The spiking network, if its layers fire on the inputs and it has a grid (test_grid.py asks how many have)."""
    try:
        snn = convert(case.graph, recipe, case.calibration, **settings)
    except UnsupportedModel as error:  # a maximum pooling after a sum of spikes
        assume("cannot move before" not in str(error))
        raise
    assume(snn.exactness is None or snn.exactness.timesteps >= recipe.timesteps)
    assume(0.01 <= spike_rate(snn, simulate(snn, case.x, STEPS, engine="dense"), STEPS) <= 0.6)
    return snn


def cells(snn: SNN) -> list[str]:
    """Every layer with memory, as ``record`` wants them."""
    return [node.name for node in snn.program.lowered.nodes if isinstance(node.op, Cell)]


def neurons(snn: SNN) -> list[str]:
    """Every layer with a threshold."""
    nodes = snn.program.lowered.nodes
    return [node.name for node in nodes if isinstance(node.op, Cell) and node.op.unit is not None]


def spike_rate(snn: SNN, trace: Trace, timesteps: int) -> float:
    """Spikes per neuron and step over all neurons of the network."""
    names = set(neurons(snn))
    rows = [layer for layer in trace.activity.layers if layer.name in names]
    slots = sum(layer.neurons for layer in rows) * timesteps * trace.activity.samples
    return sum(float(layer.spikes.sum()) for layer in rows) / slots


def assert_fires(snn: SNN, trace: Trace, timesteps: int) -> None:
    """Silent or saturated layers would make any equality of spikes an empty statement."""
    assert 0.01 <= spike_rate(snn, trace, timesteps) <= 0.6


def assert_same_spikes(a: Trace, b: Trace) -> None:
    """Every recorded train and every logit of two traces, bit for bit."""
    assert a.trains.keys() == b.trains.keys() and a.trains
    for name in a.trains:
        assert torch.equal(a.trains[name].double(), b.trains[name].double()), f"{name} differs"
    assert torch.equal(a.logits, b.logits), "logits differ"


def assert_same_counts(a: Trace, b: Trace) -> None:
    """The spikes and operations of every layer and step."""
    for one, other in zip(a.activity.layers, b.activity.layers, strict=True):
        assert (one.name, one.neurons, one.updates) == (other.name, other.neurons, other.updates)
        assert torch.equal(one.spikes, other.spikes), one.name
        assert torch.equal(one.synaptic_operations, other.synaptic_operations), one.name


def single_neuron(weight: float, threshold: float = 1.0, initial: float = 0.0, *, exact_grid: bool = True,
                  timesteps: int = 16, reset: str = "soft") -> SNN:  # fmt: skip
    """One input, one integrate-and-fire neuron, one output of weight one: worked by hand, without calibration."""
    neuron = IntegrateAndFire(ReLU(), torch.tensor(threshold), torch.tensor(initial), reset)
    graph = Graph((
        Node("input", Input((1,))),
        Node("weight", Linear(weight=torch.tensor([[weight]])), ("input",)),
        Node("neuron", neuron, ("weight",)),
        Node("answer", Linear(weight=torch.tensor([[1.0]])), ("neuron",)),
    ))  # fmt: skip
    recipe = ECC(timesteps=timesteps)
    return SNN(graph, graph, recipe, recipe.encoder.calibrated(1.0), None, exact_grid)
