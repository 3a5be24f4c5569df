"""What a run keeps in memory, counted in bytes of live tensors: the same on every machine."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import transpike as ts
from networks import cells
from transpike.engines import Dense, pieces
from transpike.engines.dense.plan import LIVE_WIRES, bytes_per_sample

R, WINDOWS = ts.recipes, ts.schedules.LayerSynchronous
RECIPES = {
    "cycles": R.BSNN(timesteps=16),
    "windows": R.ECC(timesteps=8, schedule=WINDOWS()),
    "windows with wait steps": R.ECC(timesteps=8, schedule=WINDOWS(3)),
    "slots": R.T2FSNN(timesteps=8),
    "slots, in order of time": R.S4NN(timesteps=8),
}

SPIKING = [recipe for name, recipe in RECIPES.items() if name != "slots, in order of time"]  # silent on these inputs


class Live(TorchDispatchMode):
    """The bytes of tensors that exist at the same time, and the bytes that convolutions in float64 unfold."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0
        self.unfolded: list[int] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.found[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.found = {key: one for key, one in self.found.items() if not one[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.found.values()))
        if "convolution" in str(function) and args[0].dtype == torch.float64 and len(args[0]) > 1:
            self.unfolded.append(args[0].nbytes * args[1][0, 0].numel())
        return output


def network(recipe: ts.core.recipe.Recipe, *, shortcut: bool = False) -> ts.SNN:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(128, 5))
    return ts.convert((Shortcut() if shortcut else model).eval(), recipe, torch.rand(16, 2, 16, 16))


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.answer = (
            nn.Conv2d(2, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Linear(4, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        return self.answer(torch.relu(self.second(h) + h).mean((2, 3)))


@pytest.mark.parametrize("name", RECIPES)
def test_live_tensors_take_a_quarter_of_the_planned_memory_at_most(name):
    """Most is room for gaps of the allocator, which can be as large as what temporaries took before."""
    snn, batch = network(RECIPES[name]), 64
    x = torch.rand(batch, 2, 16, 16)
    ts.simulate(snn, x[:1], engine="dense")  # what is prepared once
    size = bytes_per_sample(snn.program)
    planned = batch * (size[0] + LIVE_WIRES * size[1])
    assert Dense(memory=planned).batch_limit(snn.program) >= batch
    with Live() as live:
        ts.simulate(snn, x, engine="dense")
    assert live.peak > batch * 4 * 8 * 16 * 16  # at least one wire
    assert live.peak < planned / 4


@pytest.mark.parametrize("name", RECIPES)
def test_convolutions_in_float64_unfold_few_samples_at_a_time(name, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    snn, x = network(RECIPES[name]), torch.rand(64, 2, 16, 16)
    ts.simulate(snn, x[:1], engine="dense")
    with Live() as live:
        ts.simulate(snn, x, engine="dense")
    assert max(live.unfolded, default=0) <= 2**20


@pytest.mark.parametrize("engine", ["dense", "reference"])
@pytest.mark.parametrize("recipe", [*SPIKING, R.BSNN(timesteps=16, match_delays=False), R.DCGS(timesteps=8)], ids=str)
def test_pieces_change_nothing(recipe, engine, monkeypatch):
    snn, x = network(recipe, shortcut=True), torch.rand(5, 2, 16, 16)
    monkeypatch.setattr(pieces, "PIECE", 2**40)
    monkeypatch.setattr(pieces, "UNFOLDED", 2**40)
    whole = ts.simulate(snn, x, engine=engine, record=cells(snn))
    monkeypatch.setattr(pieces, "PIECE", 1)
    monkeypatch.setattr(pieces, "UNFOLDED", 1)
    split = ts.simulate(snn, x, engine=engine, record=cells(snn))
    assert torch.equal(whole.logits, split.logits)
    for name in cells(snn):
        assert torch.equal(whole.trains[name], split.trains[name]), name
    assert any(bool(train.any()) for train in whole.trains.values())
    for one, other in zip(whole.activity.layers, split.activity.layers, strict=True):
        assert torch.equal(one.spikes, other.spikes)
        assert torch.equal(one.synaptic_operations, other.synaptic_operations)


def test_a_state_that_grows_or_changes_its_type_is_put_together():
    def grown(values: Tensor, dtype: torch.dtype) -> tuple[Any, ...]:
        return values.to(dtype), (values.to(dtype), 7), values.to(dtype)

    values, state = torch.arange(10.0).reshape(5, 2), (torch.zeros(5, 2), (torch.zeros(5, 2),))
    found: Any = state
    for part in (slice(0, 2), slice(2, 5)):
        found = pieces.put(found, part, grown(values[part], torch.float64), 5)
    assert torch.equal(found[0], values.double())
    assert torch.equal(found[1][0], values.double())
    assert torch.equal(found[2], values.double())
    assert found[1][1] == 7
