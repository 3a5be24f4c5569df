"""Random networks as graphs of layers: any layer may read any earlier wire of the right shape.

Another generator than ``tests/networks.py``: sizes around the borders of the kernels (blocks of 16 channels, words of
32 steps), uneven kernels, strides, paddings and dilations on each axis, and weights that are zero, tiny or huge.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 48, 65)
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 12)
MOST_ELEMENTS = 6000  # of one wire
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}
AVERAGES = {1: nn.AvgPool1d, 2: nn.AvgPool2d}
MAXIMA = {1: nn.MaxPool1d, 2: nn.MaxPool2d}
KINDS = (
    "convolution", "convolution", "convolution", "depthwise", "grouped", "pointwise", "transposed", "sum", "sum",
    "concatenation", "average", "maximum", "nearest", "slice", "pad", "projected", "dropout",
)  # fmt: skip
VECTOR_KINDS = ("linear", "linear", "sum", "concatenation", "slice", "dropout")


class Function(nn.Module):
    """A function of one or more wires, as a module."""

    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *wires: Tensor) -> Tensor:
        return self.function(*wires)


class Network(nn.Module):
    """Layers in order; each reads wires by number (0 is the input) and adds one. The head reads the last."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        self.reads: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        wires = [x]
        for layer, reads in zip(self.layers, self.reads, strict=True):
            wires.append(layer(*(wires[i] for i in reads)))
        return wires[-1]


@dataclass(frozen=True, eq=False)
class Drawn:
    """A network in eval mode, its input shape, samples to calibrate on and to run, and its layers in words."""

    model: nn.Module
    shape: tuple[int, ...]
    calibration: Tensor
    x: Tensor
    text: str


@dataclass
class _Draw:
    pick: random.Random
    shapes: list[tuple[int, ...]]
    """Shape of each wire, without the batch."""
    network: Network = field(default_factory=Network)
    text: list[str] = field(default_factory=list)
    spiking: set[int] = field(default_factory=set)
    """Wires after an activation, which may be pooled or sliced."""

    @property
    def last(self) -> int:
        return len(self.shapes) - 1

    @property
    def dimensions(self) -> int:
        return len(self.shapes[-1]) - 1

    def add(self, layer: nn.Module, reads: tuple[int, ...], text: str, spiking: bool) -> None:
        """Adds a layer, unless its output would be empty or too large."""
        with torch.no_grad():
            try:
                made = layer.eval()(*(torch.zeros(2, *self.shapes[i]) for i in reads))
            except RuntimeError:  # a kernel larger than its input, or padding larger than half a pool
                return
        if not 0 < made[0].numel() <= MOST_ELEMENTS:
            return
        self.network.layers.append(layer)
        self.network.reads.append(reads)
        self.shapes.append(tuple(made.shape[1:]))
        self.text.append(text if reads == (self.last - 1,) else f"{text}{list(reads)}")
        if spiking:
            self.spiking.add(self.last)

    # -- layers ----------------------------------------------------------------------------------------------------

    def each(self, *values: int) -> tuple[int, ...]:
        """A value for each axis: half of the time the same."""
        one = self.pick.choice(values)
        return tuple(one if self.pick.random() < 0.5 else self.pick.choice(values) for _ in range(self.dimensions))

    def activation(self) -> nn.Module:
        return self.pick.choice([nn.ReLU, nn.ReLU, nn.ReLU, nn.ReLU, nn.ReLU6])()

    def synapse(self, kind: str) -> tuple[list[nn.Module], str]:
        """A convolution without an activation, perhaps with batch normalisation, and its description."""
        channels, out = self.shapes[-1][0], self.pick.choice(CHANNELS)
        kernel, stride = self.each(1, 2, 3, 3, 5), self.each(1, 1, 2, 3)
        dilation = self.each(1, 1, 1, 2, 4) if kind == "convolution" else (1,) * self.dimensions
        padding = tuple(self.pick.randint(0, d * (k - 1) // 2 + 1) for k, d in zip(kernel, dilation, strict=True))
        groups = 1
        if kind == "pointwise":
            kernel, padding = (1,) * self.dimensions, (0,) * self.dimensions
        elif kind == "depthwise":
            groups, out = channels, channels * self.pick.choice([1, 1, 2])
        elif kind == "grouped":
            groups = self.pick.choice([g for g in (2, 3, 4, 5, 16) if channels % g == 0] or [1])
            out = groups * self.pick.choice([1, 2, 7, 16])
        bias = self.pick.random() < 0.7
        if kind == "transposed":
            made = TRANSPOSED[self.dimensions](channels, out, kernel, stride, bias=bias)
        else:
            made = CONVOLUTIONS[self.dimensions](channels, out, kernel, stride, padding, dilation, groups, bias)
        layers: list[nn.Module] = [made]
        if self.pick.random() < 0.35:
            norm = NORMS[self.dimensions](out, eps=self.pick.choice([1e-5, 0.1]))
            nn.init.uniform_(norm.weight, -1.0, 1.5)  # negative ones too
            nn.init.uniform_(norm.bias, -0.4, 0.5)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.3, 2.0)
            layers.append(norm)
        return layers, f"{kind} {out} k{kernel} s{stride} p{padding} d{dilation} g{groups}".replace(" ", "")

    def block(self) -> None:
        kind = self.pick.choice(KINDS if self.dimensions else VECTOR_KINDS)
        last, shape = self.last, self.shapes[-1]
        same = [i for i in range(1, last) if self.shapes[i] == shape]
        if kind == "linear":
            out = self.pick.choice(CHANNELS)
            self.add(nn.Sequential(nn.Linear(shape[0], out), self.activation()), (last,), f"linear{out}", True)
        elif kind in ("convolution", "depthwise", "grouped", "pointwise", "transposed"):
            layers, text = self.synapse(kind)
            self.add(nn.Sequential(*layers, self.activation()), (last,), text, True)
        elif kind == "sum":
            if same and self.pick.random() < 0.5:
                self.add(Function(lambda a, b: F.relu(a + b)), (last, self.pick.choice(same)), "sum", True)
            elif last in self.spiking:
                body = self.same_shape()
                self.add(_Residual(body), (last,), "residual", True)
        elif kind == "projected" and last in self.spiking:
            self.add(self.projected(), (last,), "projected", True)
        elif kind == "concatenation":
            fits = [i for i in sorted(self.spiking) if self.shapes[i][1:] == shape[1:] and i != last]
            if fits and last in self.spiking:
                others = tuple(self.pick.sample(fits, min(len(fits), self.pick.choice([1, 1, 2]))))
                self.add(Function(lambda *w: torch.cat(w, 1)), (last, *others), "cat", True)
        elif last in self.spiking and last:
            self.wiring(kind, last, shape)

    def wiring(self, kind: str, last: int, shape: tuple[int, ...]) -> None:
        if kind == "dropout":
            self.add(nn.Dropout(0.3), (last,), "dropout", True)
        elif kind == "slice" and shape[0] > 1:
            start = self.pick.randrange(shape[0])
            stop = self.pick.randint(start + 1, shape[0])
            self.add(Function(lambda x: x[:, start:stop]), (last,), f"[{start}:{stop}]", True)
        elif kind == "pad":
            amounts = [self.pick.randint(0, 2) for _ in range(2 * self.dimensions)]
            self.add(Function(lambda x: F.pad(x, amounts)), (last,), f"pad{amounts}".replace(" ", ""), True)
        elif kind == "nearest":
            self.add(nn.Upsample(scale_factor=2), (last,), "nearest", True)
        elif kind in ("average", "maximum"):
            kernel, stride = self.each(1, 2, 2, 3), self.each(1, 2, 2, 3)
            padding = tuple(self.pick.choice([0, k // 2]) for k in kernel)
            if kind == "average":
                made = AVERAGES[self.dimensions](kernel, stride, padding, count_include_pad=self.pick.random() < 0.5)
            else:
                made = MAXIMA[self.dimensions](kernel, stride, padding)
            self.add(made, (last,), f"{kind}k{kernel}s{stride}p{padding}".replace(" ", ""), True)

    def same_shape(self) -> nn.Module:
        """A body of one or two synapses that keeps the shape."""
        width, n = self.shapes[-1][0], self.dimensions
        if not n:
            return nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Linear(12, width))
        if self.pick.random() < 0.5:
            return CONVOLUTIONS[n](width, width, 3, padding=1)
        middle = self.pick.choice([4, 16, 17])
        return nn.Sequential(CONVOLUTIONS[n](width, middle, 3, padding=1), nn.ReLU(), CONVOLUTIONS[n](middle, width, 1))

    def projected(self) -> nn.Module:
        """A residual block whose shortcut is a strided convolution of one point."""
        width, n, out = self.shapes[-1][0], self.dimensions, self.pick.choice([8, 16, 19])
        return _Residual(CONVOLUTIONS[n](width, out, 3, 2, 1), CONVOLUTIONS[n](width, out, 1, 2))

    def head(self) -> None:
        if self.dimensions:
            if self.pick.random() < 0.4:
                self.add(Function(lambda x: x.flatten(2).mean(2)), (self.last,), "mean", False)
            else:
                self.add(nn.Flatten(), (self.last,), "flatten", False)
        if self.pick.random() < 0.4:
            out = self.pick.choice([1, 15, 16, 33])
            self.add(nn.Sequential(nn.Linear(self.shapes[-1][0], out), nn.ReLU()), (self.last,), f"linear{out}", True)
        classes = self.pick.choice([2, 3, 10, 17])
        self.add(nn.Linear(self.shapes[-1][0], classes), (self.last,), f"linear{classes}", False)


class _Residual(nn.Module):
    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.shortcut = body, nn.Identity() if shortcut is None else shortcut

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


def _weights(model: nn.Module, pick: random.Random) -> None:
    """Kaiming's weights, some of them zero, whole filters zero, tiny or huge."""
    for layer in model.modules():
        if not isinstance(layer, (nn.Linear, *CONVOLUTIONS.values(), *TRANSPOSED.values())):
            continue
        nn.init.kaiming_uniform_(layer.weight, a=0.2)
        if layer.bias is not None:
            nn.init.uniform_(layer.bias, -0.3, 0.4)
        how = pick.random()
        with torch.no_grad():
            if how < 0.15:
                layer.weight.mul_(torch.rand_like(layer.weight) > 0.5)
            elif how < 0.22:
                layer.weight[0] = 0.0
            elif how < 0.27:
                layer.weight.mul_(pick.choice([1e-3, 1e3]))
            elif how < 0.32:
                layer.weight.copy_(layer.weight.sign() / layer.weight[0].numel())


def drawn(seed: int) -> Drawn:
    """The network of this seed: one to seven layers over vectors, sequences or images."""
    pick = random.Random(f"network {seed}")
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        dimensions = pick.choice([0, 1, 2, 2, 2])
        shape = (
            pick.choice(CHANNELS[:9] if dimensions else CHANNELS),
            *(pick.choice(SIZES) for _ in range(dimensions)),
        )
        draw = _Draw(pick, [shape])
        draw.block()
        for _ in range(pick.randint(1, 7)):
            draw.block()
        draw.head()
        _weights(draw.network, pick)
        data = torch.rand(24 + 7, *shape) * pick.choice([1.0, 2.0, 8.0]) - pick.choice([0.0, 0.5])
    finally:
        torch.set_rng_state(state)
    return Drawn(draw.network.eval(), shape, data[:24], data[24:], f"{shape} | " + " ".join(draw.text))
