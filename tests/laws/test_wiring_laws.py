"""Wiring and constant products in any order: the network's function, and the same spikes in every engine."""

import copy

import torch
import torch.nn.functional as F
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, assert_same_spikes, run
from transpike.errors import DataError

SHAPE = (4, 4, 6)
STEPS = 12


def _weight(rows: int, columns: int, like: Tensor) -> Tensor:
    return (torch.arange(rows * columns).type_as(like).reshape(rows, columns) % 7 - 2) / 4  # exact in float32


MOVES = {
    "flip": lambda x: x.flip(1, 3),
    "roll": lambda x: torch.roll(x, (1, -1), (1, 2)),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "index": lambda x: x[:, [place % x.shape[1] for place in (2, 0, 1, 0)]],
    "two indices": lambda x: x[:, :, [0, x.shape[2] - 1], [x.shape[3] - 1, 0]].unsqueeze(2),
    "first row, everywhere": lambda x: x[:, :, :1].expand_as(x),
    "select": lambda x: x[:, -1].unsqueeze(1),
    "difference of channels": lambda x: (x[:, -1] - x[:, 0] / 2).unsqueeze(1),
    "stack": lambda x: torch.stack([x[:, -1], x[:, 0]], 1),
    "sum": lambda x: x.sum(1, keepdim=True),
    "sum over the image": lambda x: x.sum((2, 3), keepdim=True),
    "unfold": lambda x: x.unfold(3, min(2, x.shape[3]), 1).flatten(3),
    "columns": lambda x: F.unfold(x, 2, padding=1)[..., None],
    "channels to pixels": lambda x: F.pixel_shuffle(torch.cat([x] * 4, 1), 2),
    "pixels to channels": lambda x: F.pixel_unshuffle(F.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2)), 2),
    "pad": lambda x: F.pad(x, (1, 0, 0, 1)),
    "pad with a value": lambda x: F.pad(x, (0, 1), value=0.5),
    "constants beside it": lambda x: torch.cat([x.new_ones(x.shape[0], 1, *x.shape[2:]), x, torch.zeros_like(x)], 1),
    "matrix on the right": lambda x: x @ _weight(x.shape[3], 3, x),
    "matrix on the left": lambda x: _weight(3, x.shape[2], x) @ x,
    "einsum over channels": lambda x: torch.einsum("bchw,oc->bohw", x, _weight(3, x.shape[1], x)),
    "einsum of each channel": lambda x: torch.einsum("bchw,cwo->bcho", x, _weight(x.shape[1], x.shape[3], x)[..., None]),
    "relu": lambda x: torch.where(x > 0, x, 0.0),
    "relu of the mirror image": lambda x: torch.maximum(torch.zeros_like(x), 1 - x),
}  # fmt: skip


class Chain(nn.Module):
    """A convolution, moves with a ReLU before the last ones, a convolution, a ReLU, a fully connected layer."""

    def __init__(self, before: tuple[str, ...], after: tuple[str, ...]) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.first, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        for name in self.before:
            x = MOVES[name](x)
        x = F.relu(x - 0.125)
        for name in self.after:
            x = MOVES[name](x)
        return self.last(x.flatten(1))


moves = st.lists(st.sampled_from(sorted(MOVES)), min_size=1, max_size=2).map(tuple)


def made(before: tuple[str, ...], after: tuple[str, ...]) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    x = torch.rand(24, *SHAPE)
    model = Chain(before, after).eval()
    with torch.no_grad():
        model(x)
    return model, x


@settings(max_examples=20)
@given(moves, moves)
def test_random_wiring_keeps_the_function_and_gives_the_same_spikes_in_every_engine(before, after):
    model, x = made(before, after)
    graph = ts.capture(model, x)
    expected = copy.deepcopy(model).double()(x[:5].double())
    answer = graph.to(dtype=torch.float64).run(x[:5].double())
    assert torch.allclose(answer, expected, rtol=1e-12, atol=1e-12 * max(1.0, float(expected.detach().abs().max())))
    try:
        snn = ts.convert(graph, ts.recipes.ECC(timesteps=STEPS), x)
    except DataError:
        reject()  # a ReLU that never fires
    assume(snn.exactness is not None and snn.exactness.timesteps >= STEPS)  # several products between two neurons
    traces = [run(snn, x[:5], engine) for engine in ENGINES]
    for trace in traces[1:]:
        assert_same_spikes(traces[0], trace)
