"""Layers of sigma-delta neurons in the native library against torch and the reference engine, bit by bit."""

import collections
import dataclasses
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from instruction_sets import with_and_without_vnni  # noqa: F401 (a fixture of the whole module)
from transpike.activations import Clip, ReLU, Unchanged
from transpike.core.cell import Cell
from transpike.core.op import Synapse
from transpike.engines.dense.engine import Dense
from transpike.engines.native import library as _native
from transpike.engines.native.delta import DeltaLayer, Neurons, Sent, Weights, last
from transpike.lowering.bounds import spans
from transpike.neurons import SigmaDelta
from transpike.ops import Add, Conv, Linear
from transpike.recipes import BurstDigits, StreamingSigmaDelta

LIBRARY, WHY = _native.load()
# Without a C compiler the library is not built, and there is nothing to test.
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")

UNIT = 2.0**-9
SYNAPSES = ("1x1", "3x3", "strided", "dilated", "depthwise", "depthwise 5x5", "1d", "tokens", "vector", "none")


def synapse(
    kind: str, channels: int, outputs: int, generator: torch.Generator
) -> tuple[Synapse | None, tuple[int, ...]]:
    """(weights on a grid, the shape that they read)."""

    def weight(*shape: int) -> Tensor:
        return torch.randint(-3000, 3000, shape, generator=generator).double() * UNIT

    found = {
        "1x1": lambda: (Conv(weight=weight(outputs, channels, 1, 1)), (channels, 5, 7)),
        "3x3": lambda: (Conv(weight=weight(outputs, channels, 3, 3), padding=(1, 1)), (channels, 6, 9)),
        "strided": lambda: (Conv(weight=weight(outputs, channels, 3, 2), stride=(2, 3), padding=(1, 0)), (channels, 7, 11)),
        "dilated": lambda: (Conv(weight=weight(outputs, channels, 2, 3), dilation=(3, 2), padding=(0, 2)), (channels, 6, 5)),
        "depthwise": lambda: (
            Conv(weight=weight(channels, 1, 3, 3), padding=(1, 1), groups=channels), (channels, 5, 9),
        ),
        "depthwise 5x5": lambda: (
            Conv(weight=weight(channels, 1, 5, 4), stride=(2, 2), padding=(2, 1), groups=channels), (channels, 8, 7),
        ),
        "1d": lambda: (Conv(weight=weight(outputs, channels, 3), stride=(2,), padding=(1,), dilation=(1,)), (channels, 9)),
        "tokens": lambda: (Linear(weight=weight(outputs, channels)), (2, 9, channels)),
        "vector": lambda: (Linear(weight=weight(outputs, channels)), (channels,)),
        "none": lambda: (None, (channels, 4, 5)),
    }  # fmt: skip
    return found[kind]()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    kind=st.sampled_from(SYNAPSES),
    channels=st.sampled_from([2, 6, 16, 34, 64, 82]),
    outputs=st.sampled_from([1, 5, 16, 24, 48, 64, 71, 130]),
    source=st.sampled_from([ReLU(), Clip(2.0), Unchanged()]),
    rule=st.sampled_from(["one", "all"]),
    granularity=st.sampled_from(["layer", "channel", "neuron"]),
    batch=st.integers(1, 3),
    density=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    steps=st.sampled_from([1, 5, 19]),
    beside=st.sampled_from(["nothing", "currents", "levels"]),
)
def test_every_number_is_torchs(
    seed, kind, channels, outputs, source, rule, granularity, batch, density, steps, beside
):
    generator = torch.Generator().manual_seed(seed)
    op, shape = synapse(kind, channels, outputs, generator)
    signs = torch.randint(0, 2, (steps * batch, *shape), generator=generator) * 2 - 1
    levels = signs * 2.0 ** torch.randint(0, 8, signs.shape, generator=generator)
    levels *= torch.rand(levels.shape, generator=generator) < density
    levels[: batch * (steps // 2)] *= torch.rand((), generator=generator) < 0.7  # nothing is heard for a while
    train = levels.double() if op is None else op.linear(levels.double())
    axis = train.ndim - 1 if isinstance(op, Linear) else 1
    ones = (1,) * (train.ndim - 1 - axis)
    beside, other, factors = "nothing" if op is None else beside, torch.zeros(train.shape), None
    if beside == "currents":
        other = torch.randint(-(2**20), 2**20, train.shape, generator=generator).double() * UNIT
    if beside == "levels":
        other = torch.randint(-128, 129, train.shape, generator=generator).float()
        other *= torch.rand((), generator=generator) < 0.8
        factors = torch.randint(-(2**30), 2**30, (train.shape[axis],), generator=generator).double() * 2.0**-30
    train = train + (other if factors is None else other.double() * factors.reshape(-1, *ones))
    per = {"layer": (), "channel": (train.shape[axis], *ones), "neuron": train.shape[1:]}[granularity]
    threshold = 0.2 + 3 * torch.rand(per, generator=generator).double()
    threshold = 0.75 + 0 * threshold if seed % 5 == 0 else threshold  # values on the edges of a digit
    cell = SigmaDelta(source, threshold, 0.5 * threshold * (seed % 2), 1 + seed % 8, rule)
    weights = None if op is None else Weights.of(op, torch.full((train.shape[axis],), UNIT), 128.0, (0, 0))
    assert op is None or weights is not None
    space = last(train[:1], axis).shape[1:]
    layer = DeltaLayer(
        weights, Neurons.of(cell, tuple(train.shape[1:]), axis), tuple(space), axis, seed % 3 == 0, factors
    )
    state, expected_state = None, cell.init(train[:batch])
    first = torch.randint(-4000, 4000, (1, space[-1]), generator=generator).double() * UNIT  # sums are exact
    fan = torch.randint(0, 50, (space[:-1].numel(), space[-1]), generator=generator).to(torch.int32)
    reads = torch.randint(0, 50, (1, space[-1]), generator=generator).to(torch.int32) if seed % 2 else None
    for k, part in enumerate((slice(0, batch * (steps // 2)), slice(batch * (steps // 2), None))):
        inputs, currents = levels[part], train[part].unflatten(0, (-1, batch)).clone()
        if not len(inputs):
            continue
        count = len(currents)
        heard = inputs.unflatten(0, (count, batch)).flatten(2).count_nonzero(2)
        sent = None if op is None else Sent.of(inputs, count, 1 if isinstance(op, Conv) else axis)
        sent = None if density == 0.0 and seed % 2 else sent
        added = last(inputs if seed % 2 else inputs.double(), 1) if op is None else None
        added = last(other[part] if seed % 2 else other[part].float(), axis) if beside == "currents" else added
        passed = None if factors is None else Sent.of(other[part], count, axis)
        now = None if k else first
        found = layer.run(count, batch, sent, heard, added, now, state, fan, passed, reads=reads)
        assert found is not None
        out, sums, state = found
        assert sums is None or torch.equal(sums.movedim(-1, axis), currents.flatten(0, 1))
        currents[0] += 0 if k else first.movedim(-1, 0).reshape(-1, *ones)
        expected_state, expected, _ = cell.scan(expected_state, currents, t=1)
        assert out is not None and torch.equal(out.train(), expected.flatten(0, 1))
        assert state is not None
        pairs = zip(state, expected_state, strict=True)
        assert all(torch.equal(one.movedim(-1, axis), other) for one, other in pairs)
        flat = last(expected.flatten(0, 1), axis).reshape(count, batch, -1, space[-1]).long().abs()
        spikes = sum(((flat ^ 3 * flat) >> i) & 1 for i in range(12))
        assert torch.equal(out.events, spikes.sum((2, 3)))
        totals = [spikes.sum((1, 2, 3)), (spikes * fan).sum((1, 2, 3)), spikes.any(3).sum((1, 2))]
        totals.append((spikes * reads).sum((1, 2, 3)) if reads is not None else torch.zeros_like(totals[0]))
        assert torch.equal(out.totals, torch.stack(totals).double())


class Bottleneck(nn.Module):
    """Inverted bottlenecks around a sum, as in networks for small devices."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, 2, 1)
        self.expand = nn.ModuleList(nn.Conv2d(channels, hidden, 1) for _ in range(2))
        self.depthwise = nn.ModuleList(nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden) for _ in range(2))
        self.project = nn.ModuleList(nn.Conv2d(hidden, channels, 1) for _ in range(2))
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for expand, depthwise, project in zip(self.expand, self.depthwise, self.project, strict=True):
            x = x + project(nn.functional.relu6(depthwise(nn.functional.relu6(expand(x)))))
        return self.head(x.mean((2, 3)))


class Shortcuts(nn.Module):
    """Residual blocks around levels and around currents, one with weights on both sides."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 18, 3, 1, 1), nn.Linear(20, 5)
        self.inner = nn.ModuleList(nn.Conv2d(18, 18, 3, 1, 1) for _ in range(4))
        self.down, self.side = nn.Conv2d(18, 20, 3, 2, 1), nn.Conv2d(18, 20, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for first, second in zip(self.inner[::2], self.inner[1::2], strict=True):
            x = torch.relu(second(torch.relu(first(x))) + x)
        x = torch.relu(self.side(x) + self.down(x))
        return self.head(x.mean((2, 3)))


class Tokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2d(3, 12, 4, 4), nn.MultiheadAttention(12, 2, batch_first=True)
        self.norm, self.norm2, self.head = nn.LayerNorm(12), nn.LayerNorm(12), nn.Linear(12, 5)
        self.mlp = nn.Sequential(nn.Linear(12, 20), nn.GELU(), nn.Linear(20, 12))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head((x + self.mlp(self.norm2(x))).mean(1))


class Joined(nn.Module):
    """Concatenations, groups of channels that change places, a larger image, and a mean of its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 4, 3, 1, 1), nn.Conv2d(10, 8, 1)
        self.shuffle, self.last, self.head = nn.ChannelShuffle(2), nn.Conv2d(18, 12, 3), nn.Linear(12 * 10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool2d(torch.relu(self.stem(x)), 2)
        x = torch.cat([x, torch.relu(self.one(x))], 1)
        x = torch.cat([x, torch.relu(self.two(self.shuffle(x)))], 1)
        x = nn.functional.interpolate(nn.functional.interpolate(x, scale_factor=2.0), scale_factor=2.0, mode="bilinear")
        x = torch.relu(self.last(nn.functional.adaptive_avg_pool2d(x, (24, 12))))
        return self.head(x.mean(2).flatten(1))


class Maxima(nn.Module):
    """Maxima of sums of levels next to levels: larger than any level of a neuron."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.two, self.head = nn.Conv2d(16, 6, 3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.avg_pool2d(torch.relu(self.stem(x)), 2)
        x = nn.functional.max_pool2d(torch.cat([x, torch.relu(self.one(x))], 1), 2)
        return self.head(torch.relu(self.two(x)).mean((2, 3)))


class Strided(nn.Module):
    """A shortcut that takes every other pixel and adds channels of zeros; weights along rows of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = (
            nn.Conv2d(3, 6, 3, 1, 1),
            nn.Conv2d(6, 10, 3, 2, 1),
            nn.Conv2d(10, 10, 3, 1, 1),
        )
        self.along, self.head = nn.Linear(6, 8), nn.Linear(80, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        shortcut = nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        x = torch.relu(self.second(torch.relu(self.first(x))) + shortcut)
        x = torch.relu(self.along(x)).transpose(1, 3)
        return self.head(x.mean(2).flatten(1))


MODELS = {
    "bottleneck": lambda: Bottleneck(8, 18),
    "shortcuts": Shortcuts,
    "odd": lambda: Bottleneck(7, 13),  # channels that do not come in pairs
    "plain": lambda: nn.Sequential(
        nn.Conv2d(3, 10, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(10, 14, 3, 2, padding=1, groups=2), nn.ReLU(),
        nn.ZeroPad2d((0, 1, 2, 0)), nn.Conv2d(14, 22, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(22 * 3 * 2, 5),
    ),
    "tokens": Tokens,
    "pools": lambda: nn.Sequential(
        nn.Conv2d(3, 10, 3, 1, 1), nn.ReLU(), nn.AvgPool2d(3, 2, 1), nn.Conv2d(10, 14, 3, 1, 1), nn.ReLU(),
        nn.AvgPool2d((1, 3), (1, 2), (0, 1), count_include_pad=False), nn.Conv2d(14, 12, 3, 1, 1), nn.ReLU6(),
        nn.AvgPool2d(2, ceil_mode=True, divisor_override=4), nn.Conv2d(12, 8, 1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5),
    ),
    "maxima": lambda: nn.Sequential(
        nn.Conv2d(3, 10, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(10, 14, 3, 1, 1), nn.ReLU(),
        nn.MaxPool2d((2, 1), (1, 2), (1, 0), (2, 1)), nn.Conv2d(14, 12, 1), nn.ReLU6(), nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, ceil_mode=True, divisor_override=4), nn.Flatten(), nn.Linear(24, 5),
    ),
    "maxima of sums": Maxima,
    "joined": Joined,
    "strided": Strided,
}  # fmt: skip


@functools.cache
def converted(name: str, rule: str) -> tuple[ts.SNN, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model, x = MODELS[name]().eval(), torch.rand(8, 3, 12, 12)
    recipe = StreamingSigmaDelta(7) if rule == "one" else BurstDigits(2)
    return ts.convert(model, recipe, x, on_unsupported="keep").accepting_any_input(), x[:5]


every_network = pytest.mark.parametrize(("name", "rule"), [(m, r) for m in MODELS for r in ("one", "all")])


@every_network
def test_a_network_is_that_of_the_reference_engine(name, rule):
    snn, x = converted(name, rule)
    names = [layer.name for layer in snn.program.layers if layer.role == "neuron"]
    steps = snn.timesteps + 2
    expected = ts.simulate(snn, x, steps, engine="reference", record=names)
    for record in ((), names):
        found = ts.simulate(snn, x, steps, engine="dense", record=record)
        assert torch.equal(found.logits, expected.logits)
        assert all(torch.equal(found.trains[name], expected.trains[name]) for name in record)
        for ours, others in zip(found.activity.layers, expected.activity.layers, strict=True):
            assert torch.equal(ours.spikes, others.spikes)
            assert torch.equal(ours.synaptic_operations, others.synaptic_operations)
            assert (ours.active is None) == (others.active is None)
            assert ours.active is None or torch.equal(ours.active, others.active)
    assert sum(float(layer.spikes.sum()) for layer in expected.activity.layers) > 0


def test_sums_run_with_the_weights_before_them():
    """Residual blocks: the layer of the last weights adds the shortcut, of levels or of currents."""
    for name, sums, of_levels in (("shortcuts", 3, 2), ("bottleneck", 2, 1)):
        snn, x = converted(name, "one")
        run = Dense().start(snn.program, snn.prepare(x), torch.arange(len(x)))
        placed = run.plan.levels.placed.values()
        assert sum(bool(place.adds) for place in placed) == sums
        assert sum(place.layer.factors is not None for place in placed) == of_levels
        adds = {node.name for node in snn.program.lowered.nodes if isinstance(node.op, Add)}
        assert adds <= run.plan.levels.placed.keys()


@pytest.mark.parametrize(
    ("name", "kinds", "left"),
    [
        ("pools", {"AvgPool": 2, "Reshape": 1}, {"0", "5→6", "6"}),
        (
            "joined",
            {"AvgPool": 1, "Cat": 2, "Permute": 1, "Reshape": 3, "Nearest": 1, "Resample": 2, "Mean": 1},
            {"stem"},
        ),
        ("strided", {"Slice": 2, "Pad": 1, "Mean": 1, "Permute": 1, "Reshape": 1}, {"stem", "relu_2→along", "along"}),
    ],
)
def test_levels_stay_levels_behind_wiring(name, kinds, left):
    """Of the weights, the library leaves only those to torch that read no levels, as
    behind windows of unlike sizes, or where levels of unlike channels are added."""
    snn, x = converted(name, "one")
    run = Dense().start(snn.program, snn.prepare(x), torch.arange(len(x)))
    levels, table = run.plan.levels, snn.program.table
    assert collections.Counter(type(table[wire].op).__name__ for wire in levels.wired) == kinds
    weights = {node.name for node in snn.program.lowered.nodes if isinstance(node.op, Synapse)}
    assert weights - levels.placed.keys() - levels.passed == left


@every_network
def test_no_wire_carries_more_than_its_bound(name, rule):
    snn, x = converted(name, rule)
    lowered = snn.program.lowered
    assert lowered.exactness is not None
    bounds = spans(lowered, lowered.exactness.input_bound)
    wires = [node.name for node in lowered.nodes if isinstance(node.op, Cell)]
    trains = ts.simulate(snn, x, engine="reference", record=wires).trains
    for wire in wires:
        assert bool((trains[wire].abs().amax(1) <= bounds[wire].largest).all()), wire


def test_weights_may_read_levels_along_another_axis():
    """One threshold for a layer: weights along rows of pixels read the levels themselves."""
    torch.manual_seed(3)
    x = torch.rand(8, 3, 12, 12)
    snn = ts.convert(Strided().eval(), StreamingSigmaDelta(7, granularity="layer"), x).accepting_any_input()
    run = Dense().start(snn.program, snn.prepare(x), torch.arange(len(x)))
    assert "along" in run.plan.levels.placed
    expected = ts.simulate(snn, x, engine="reference")
    assert torch.equal(ts.simulate(snn, x, engine="dense").logits, expected.logits)


@pytest.mark.parametrize("name", ["bottleneck", "pools", "maxima"])
def test_levels_whose_sums_would_be_too_large_are_added_in_parts(name, monkeypatch):
    """With less room than 32 bits have: no call gets levels that do not fit, and nothing changes."""
    snn, x = converted(name, "one")
    expected, without = ts.simulate(snn, x, engine="dense"), DeltaLayer.run
    most = []

    def checked(self, steps, batch, levels, *given, **named):
        if levels is not None and self.weights.limit is not None:
            most.append(float(levels.abs().max()) / self.weights.limit)
        return without(self, steps, batch, levels, *given, **named)

    monkeypatch.setattr("transpike.engines.native.delta.LARGEST_SUM", 2**21)
    monkeypatch.setattr(DeltaLayer, "run", checked)
    again = dataclasses.replace(snn)  # with plans of its own
    found = ts.simulate(again, x, engine="dense")
    placed = Dense().start(again.program, again.prepare(x), torch.arange(len(x))).plan.levels.placed
    limited = [p for p in placed.values() if p.layer.weights is not None and p.layer.weights.limit is not None]
    assert len(most) > len(limited) > 0  # some layers need several calls
    assert 0 < max(most) <= 1
    assert torch.equal(found.logits, expected.logits)
    for ours, others in zip(found.activity.layers, expected.activity.layers, strict=True):
        assert torch.equal(ours.spikes, others.spikes)


@every_network
def test_a_run_in_parts_from_which_samples_leave_is_the_same(name, rule):
    snn, x = converted(name, rule)
    whole = ts.simulate(snn, x, 7, engine="dense")
    run = Dense().start(snn.program, snn.prepare(x), torch.arange(len(x)))
    first = run.advance(2)
    order = run.keep(torch.tensor([True, False, True, True, False]))
    second = torch.cat([run.advance(1), run.advance(4)])
    assert torch.equal(torch.cat([first[:, order], second]), whole.logits[:, order])


def test_positions_along_another_axis_are_counted():
    generator = torch.Generator().manual_seed(0)
    train = torch.randint(-1, 2, (6 * 2, 3, 5, 20), generator=generator) * (
        torch.rand((12, 3, 5, 20), generator=generator) < 0.05
    )
    sent = Sent(Sent.of(train.float(), 6, 3), 3, torch.zeros(4, 6), torch.zeros(6, 2))
    for axis in (1, 2):
        assert torch.equal(sent.active(axis), (train != 0).any(axis).unflatten(0, (6, 2)).flatten(1).sum(1))
