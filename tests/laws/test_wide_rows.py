"""Wires that several sources read in parts: rows that are too wide for one list of 16-bit entries, and few channels."""

import pytest
import torch
from torch import nn

import transpike as ts
from networks import assert_same_spikes, run, settle
from transpike.engines.event import weights
from transpike.engines.event.run import EventPlan
from transpike.engines.native import library as _native

LIBRARY, WHY = _native.load()
pytestmark = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")
STEPS = 5


class Line(nn.Module):
    """A signal of one channel becomes ``channels``, of which a convolution makes 16 in every group."""

    def __init__(self, channels: int, groups: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv1d(1, channels, 1)
        self.second = nn.Conv1d(channels, 16 * groups, 3, padding=1, groups=groups)
        self.last = nn.Linear(16 * groups, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))).mean(2))


def networks(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The network, and the shape of its inputs."""
    torch.manual_seed(1)
    if name == "convolution":
        return Line(40), (1, 1800)
    if name == "one unit":
        return Line(33), (1, 4200)
    if name == "vector":
        return nn.Sequential(nn.Linear(5, 70_000), nn.ReLU(), nn.Linear(70_000, 20), nn.ReLU(), nn.Linear(20, 2)), (5,)
    return nn.Sequential(nn.Conv2d(1, 24, 1), nn.ReLU(), nn.Conv2d(24, 3, 3, padding=1, stride=2), nn.ReLU(),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten()), (1, 12, 720)  # fmt: skip


@pytest.mark.parametrize(("name", "parts", "kernel"), [
    ("convolution", 2, "gather"), ("one unit", 3, "look-up"), ("vector", 3, "gather"), ("image", 2, "gather"),
])  # fmt: skip
def test_wide_rows_are_read_in_parts_with_the_reference_s_spikes(name, parts, kernel):
    model, shape = networks(name)
    x = torch.rand(8, *shape, generator=torch.Generator().manual_seed(0))
    snn = ts.convert(settle(model, x), ts.recipes.ECC(timesteps=STEPS), x)
    chosen = [layer for layer in EventPlan(snn.program).choice.layers.values() if layer.wires]
    assert [len(layer.sources) for layer in chosen] == [parts] * len(chosen) and len(chosen) == 1
    assert kernel in chosen[0].kernel
    event, reference = run(snn, x[:2], "event", STEPS), run(snn, x[:2], "reference", STEPS)
    assert_same_spikes(event, reference)
    last = event.activity.layers[-1]
    assert float(last.spikes.sum()) > 0


def test_one_list_reads_what_fits(monkeypatch):
    """Parts of any size give the same spikes: a wide layer is no case of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 70, 3, padding=1), nn.ReLU(), nn.Conv2d(70, 20, 3, padding=1), nn.ReLU(),
                          nn.Flatten(), nn.Linear(720, 4), nn.ReLU(), nn.Linear(4, 2))  # fmt: skip
    x = torch.rand(8, 2, 6, 6)
    snn = ts.convert(settle(model, x), ts.recipes.ECC(timesteps=STEPS), x)
    expected = run(snn, x, "event", STEPS)
    counts = set()
    for longest in (500, 1500, 3000, 65535):
        monkeypatch.setattr(weights, "LONGEST_LIST", longest)
        snn.program.prepared.clear()
        plan = EventPlan(snn.program)
        counts |= {len(layer.sources) for layer in plan.choice.layers.values()}
        assert_same_spikes(run(snn, x, "event", STEPS), expected)
    assert {1, 2, 5} <= counts


def test_a_group_of_too_many_inputs_says_so():
    torch.manual_seed(0)
    x = torch.rand(8, 1, 2000)
    snn = ts.convert(settle(Line(96, groups=2), x), ts.recipes.ECC(timesteps=STEPS), x)
    (reason,) = [text for text in EventPlan(snn.program).choice.kernels.values() if "dense" in text]
    assert "65535 inputs of one group" in reason
    assert_same_spikes(run(snn, x[:2], "event", STEPS), run(snn, x[:2], "reference", STEPS))


@pytest.mark.parametrize("instructions", ["baseline", "AVX2", "AVX-512"])
@pytest.mark.parametrize(("channels", "sources", "kernel"), [
    (16, 1, "look-up"), (17, 2, "look-up"), (48, 3, "look-up"), (49, 1, "gather"),
])  # fmt: skip
def test_1x1_convolutions_of_few_channels_read_tables(instructions, channels, sources, kernel):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, 70, 1, stride=2), nn.ReLU(),
                          nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(70, 3))  # fmt: skip
    x = torch.rand(8, 2, 7, 5)
    snn = ts.convert(settle(model, x), ts.recipes.ECC(timesteps=STEPS), x)
    (layer,) = [layer for layer in EventPlan(snn.program).choice.layers.values() if layer.wires]
    assert len(layer.sources) == sources and kernel in layer.kernel
    chosen = LIBRARY.tp_instructions()
    if not LIBRARY.tp_force(instructions.encode()):
        pytest.skip(f"this machine has no {instructions}")
    try:
        assert_same_spikes(run(snn, x[:2], "event", STEPS), run(snn, x[:2], "reference", STEPS))
    finally:
        assert LIBRARY.tp_force(chosen) or chosen == b"NEON"
