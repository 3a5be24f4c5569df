"""Networks that merge the batch with other axes, or move it, are captured as they compute, sample by sample."""

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from sample_by_sample import TOLERANCE, check, rand
from transpike.errors import UnsupportedModel, UnsupportedOperator

W = torch.linspace(-1, 1, 24).reshape(3, 8)
C = torch.linspace(0.5, 1.5, 8)
ROWS = torch.linspace(-1, 1, 6)[:, None]
PARTS = torch.linspace(-2, 2, 4)[:, None, None]


class Apply(nn.Module):
    def __init__(self, function: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> object:
        return self.function(x)


LAYOUTS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, int], Tensor]]] = {
    "batch × windows": (lambda x: x.flatten(0, 1), lambda y, b: y.unflatten(0, (b, 4))),
    "windows × batch": (lambda x: x.transpose(0, 1).flatten(0, 1), lambda y, b: y.unflatten(0, (4, b)).transpose(0, 1)),
    "windows × batch × rows": (
        lambda x: x.transpose(0, 1).flatten(0, 2),
        lambda y, b: y.unflatten(0, (4, b, 6)).transpose(0, 1),
    ),
    "rows first": (lambda x: x[:, 0].transpose(0, 1)[None], lambda y, b: y.movedim(2 if y.ndim > 3 else 1, 0)),
}
"""(batch, 4, 6, 8) in another layout, and back; the last axes are 6 and 8 where the batch is merged."""
CALLS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda y: y.softmax(-1), "log_softmax": lambda y: F.log_softmax(y, -1),
    "gelu": F.gelu, "relu": F.relu, "clamp": lambda y: y.clamp_min(0.2), "where": lambda y: torch.where(y > 0, y, 0.0),
    "comparison": lambda y: y * (y > 0.3),
    "mul": lambda y: y * C, "add": lambda y: y + C, "div": lambda y: y / (y.abs() + 1), "gate": lambda y: y * y.sigmoid(),
    "linear": lambda y: F.linear(y, W, W[:, 0]), "matmul": lambda y: y @ W.T, "layer_norm": lambda y: F.layer_norm(y, (8,), C, C),
    "slice": lambda y: y[..., 1:7:2], "select": lambda y: y[..., 3:4], "split": lambda y: y.split((3, 5), -1)[1],
    "chunk": lambda y: y.chunk(2, -1)[1], "narrow": lambda y: y.narrow(-1, 2, 3), "glu": lambda y: F.glu(y, -1),
    "cat": lambda y: torch.cat([y, y.relu()], -1), "cat a constant": lambda y: torch.cat([y, torch.ones_like(y)], -1),
    "roll": lambda y: y.roll(3, -1), "flip": lambda y: y.flip(-1), "index": lambda y: y[..., [1, 0, 1]],
    "index_select": lambda y: y.index_select(-1, torch.tensor([2, 2, 0])), "mean": lambda y: y.mean(-1, keepdim=True),
    "sum": lambda y: y.sum(-1, keepdim=True), "amax": lambda y: y.amax(-1, keepdim=True),
    "max": lambda y: y.max(-1, keepdim=True)[0], "norm": lambda y: F.normalize(y, dim=-1),
    "pad": lambda y: F.pad(y, (1, 2)), "repeat": lambda y: y.repeat(*(1,) * (y.ndim - 1), 2),
    "repeat_interleave": lambda y: y.repeat_interleave(2, -1), "expand": lambda y: y[..., :1].expand(*y.shape[:-1], 5),
    "expand_as": lambda y: y[..., :1].expand_as(y), "stack": lambda y: torch.stack([y, -y], -1).flatten(-2),
    "unbind": lambda y: torch.stack(y.unflatten(-1, (2, 4)).unbind(-2)[::-1], -2).flatten(-2),
    "squares": lambda y: y.unflatten(-1, (2, 4)).transpose(-1, -2).flatten(-2), "unsqueeze": lambda y: y[..., None, :].squeeze(-2),
    "whole": lambda y: y[:], "contiguous": lambda y: y.contiguous().clone().detach() * 1.5, "dropout": lambda y: F.dropout(y, 0.5, False) * 2,
    "masked_fill": lambda y: y.masked_fill(C > 1, -3.0), "sum with itself": lambda y: y + y.flip(-1) * 2,
    "a constant of the batch": lambda y: y + torch.full_like(y, 2.0), "unfold": lambda y: y.unfold(-1, 3, 2).flatten(-2),
}  # fmt: skip
MERGED: dict[str, Callable[[Tensor], Tensor]] = {
    "matrices": lambda y: y @ y.transpose(-1, -2) / 4, "bmm": lambda y: torch.bmm(y.softmax(-1), y.mT),
    "rows": lambda y: (y * ROWS).softmax(-2), "mean of rows": lambda y: y.mean(1, keepdim=True), "roll rows": lambda y: y.roll((1, 2), (1, 2)),
    "attention": lambda y: F.scaled_dot_product_attention(y, y.flip(1), y),
    "a matrix on the left": lambda y: torch.linspace(0, 1, 12).reshape(2, 6) @ y, "index rows": lambda y: y[:, torch.tensor([[0, 5], [1, 1]])].flatten(1, 2),
    "pad rows": lambda y: F.pad(y, (0, 0, 2, 1)), "permute": lambda y: y.permute(0, 2, 1), "transpose": lambda y: y.mT.flip(2),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_kind_of_call_in_every_layout(layout):
    there, back = LAYOUTS[layout]
    calls = CALLS | (MERGED if layout.count("×") == 1 else {})

    def every(x: Tensor) -> dict[str, Tensor]:
        return {name: back(call(there(x)), x.shape[0]).flatten(1) * 1.0 for name, call in calls.items()}

    model = Apply(every)
    with torch.no_grad():
        graph = ts.capture(model, rand(2, 4, 6, 8), on_unsupported="keep")
        for count in (1, 2, 3):
            x = rand(count, 4, 6, 8, seed=count)
            expected, answers = model(x), graph.output.op.structure.named(graph.run(x))
            for name in calls:
                assert answers[name].shape == expected[name].shape, name
                assert torch.allclose(answers[name], expected[name], rtol=1e-4, atol=TOLERANCE), name


@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(lambda x: (x.flatten(0, 1) + PARTS.repeat(x.shape[0], 1, 1)).view_as(x), id="one constant for each part"),
        pytest.param(lambda x: (x.transpose(0, 1) + PARTS[..., None]).transpose(0, 1), id="constant before the batch"),
        pytest.param(
            lambda x: (x.transpose(0, 1).flatten(0, 2) + (PARTS + ROWS)[:, None].expand(4, x.shape[0], 6, 1).reshape(-1, 1))
            .unflatten(0, (4, -1, 6)).transpose(0, 1), id="one constant for each part before and after the batch"
        ),
        pytest.param(lambda x: (x.repeat(3, 1, 1, 1) * 2).view(3, *x.shape).sum(0), id="batches repeated"),
        pytest.param(lambda x: (x.repeat_interleave(3, 0) * 2).view(-1, 3, *x.shape[1:]).amax(1), id="samples repeated"),
        pytest.param(lambda x: x[None].expand(3, *x.shape).reshape(-1, 6, 8).view(3, *x.shape)[1], id="expanded in front"),
        pytest.param(lambda x: torch.stack([x, -x]).relu().sum(0), id="stacked in front"),
        pytest.param(lambda x: x.permute(3, 1, 0, 2).reshape(32, -1).view(8, 4, -1, 6).permute(2, 1, 3, 0), id="behind"),
        pytest.param(lambda x: torch.stack(x.permute(2, 3, 0, 1).unbind(0), 1).flatten(2).movedim(2, 0).unflatten(0, (-1, 4)), id="unbound"),
    ],
)  # fmt: skip
def test_ways_to_merge_and_move_the_batch(forward):
    check(Apply(forward), 4, 6, 8)


def frame_layers() -> nn.Sequential:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(6)
    for value in (norm.running_mean, norm.weight, norm.bias):
        nn.init.normal_(value)
    return nn.Sequential(
        nn.Conv2d(2, 6, (3, 2), padding=1, stride=(1, 2)), norm, nn.ReLU(), nn.MaxPool2d(2, padding=1),
        nn.Conv2d(6, 6, 3, groups=3, dilation=2, padding="same"), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True),
        nn.AdaptiveAvgPool2d((1, 2)), nn.Flatten(2), nn.Conv1d(6, 4, 1), nn.MaxPool1d(1), nn.AvgPool1d(2), nn.Flatten(),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("behind", [True, False], ids=["batch × frames", "frames × batch"])
def test_layers_of_pictures_run_over_frames_that_are_merged_with_the_batch(behind):
    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers, self.head = frame_layers(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            if behind:
                return self.head(self.layers(x.flatten(0, 1)).unflatten(0, (-1, 5)).amax(1))
            return self.head(self.layers(x.transpose(0, 1).flatten(0, 1)).unflatten(0, (5, -1)).sum(0))

    with torch.random.fork_rng():
        model = Frames().eval()
    graph = check(model, 5, 2, 9, 8)
    assert graph.macs(graph["layers.0"]) == 5 * 6 * 9 * 5 * 2 * 3 * 2
    assert graph["layers.1"].inputs == ("layers.0",), "the normalisation can be folded into the weights"
    snn = ts.convert(model, "ecc", calibration=[rand(16, 5, 2, 9, 8)])
    x = rand(2, 5, 2, 9, 8, seed=3)
    with torch.no_grad():
        expected = model(x)
    answer = ts.simulate(snn, x, timesteps=128, engine="dense").logits[-1]
    assert float((answer - expected).norm()) < 0.05 * float(expected.norm())


@pytest.mark.parametrize(
    ("forward", "operator", "why"),
    [
        (lambda x: x.transpose(0, 1).reshape(x.shape[0], 4, 6, 8), "reshape", "no axis of its output contains whole samples"),
        (lambda x: x.flatten(0, 1).softmax(0).view_as(x), "softmax", "across the batch axis"),
        (lambda x: x[:, :1] + x[:, :1].transpose(0, 1), "add", "the batch on different axes"),
        (lambda x: x.flatten(0, 1).roll(1, 0).view_as(x), "roll", "across the batch axis: the batch is on axis 0 together with 4 parts"),
        (lambda x: x.flatten(0, 1)[:4] + x, "slice", "across the batch axis"),
        (lambda x: (x.flatten(1) @ x.flatten(1).T).softmax(1) @ x.flatten(1), "matmul", "the batch on different axes"),
        (lambda x: torch.cat([x, x]).view(2, *x.shape).sum(0), "cat", "across the batch axis"),
        (lambda x: F.pad(x.flatten(0, 1), (0, 0, 0, 0, 1, 0))[1:].view_as(x), "pad", "it pads the batch axis"),
        (lambda x: F.conv_transpose1d(x.flatten(0, 1), torch.ones(6, 1, 2)), "conv_transpose1d", "with the batch as the first axis only"),
        (lambda x: F.group_norm(x.flatten(0, 1), 2).view_as(x), "group_norm", "the batch is on axis 0 together with 4 parts"),
        (lambda x: x.permute(1, 2, 3, 0) @ torch.ones(x.shape[0], 2), "matmul", "across the batch axis: the batch is on axis 3"),
    ],
)  # fmt: skip
def test_what_relates_samples_is_refused(forward, operator, why):
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    with pytest.raises(UnsupportedOperator, match=why) as caught:
        ts.capture(Outer(), rand(2, 4, 6, 8), on_unsupported="keep")
    name, path, line = caught.value.places[0]
    assert re.match(operator, name) and path == "inner" and line.rpartition(":")[0] == __file__


def test_an_output_with_the_batch_elsewhere_is_refused():
    with pytest.raises(UnsupportedModel, match="whose first axis is not the batch: the batch is on axis 1"):
        ts.capture(Apply(lambda x: x.transpose(0, 1)), rand(2, 4, 6))


Sizes = list["int | tuple[int, int]"]
"""Of a tensor: numbers, and (outer, inner) for the axis of the batch."""


@st.composite
def chains(draw: st.DrawFn) -> list[Callable[[Tensor, int], Tensor]]:
    """Steps that merge, split, move and work along axes, and the way back to the batch in front."""
    sizes: Sizes = [(1, 1), 4, 6]
    steps: list[Callable[[Tensor, int], Tensor]] = []

    def view(new: Sizes) -> None:
        sizes[:] = new
        steps.append(lambda y, b: y.reshape([n if isinstance(n, int) else n[0] * b * n[1] for n in new]))

    def permute(order: list[int]) -> None:
        sizes[:] = [sizes[axis] for axis in order]
        steps.append(lambda y, b: y.permute(order))

    def split(axis: int, outer: int) -> None:
        size = sizes[axis]
        parts: Sizes
        if isinstance(size, int):
            parts = [outer, size // outer]
        elif size[0] > 1:
            parts = [size[0], (1, size[1])]
        else:
            parts = [(1, 1), size[1]]
        view([*sizes[:axis], *parts, *sizes[axis + 1 :]])

    for _ in range(draw(st.integers(2, 7))):
        kind, axis = draw(st.sampled_from(["merge", "split", "permute", "work"])), draw(st.integers(0, len(sizes) - 1))
        size = sizes[axis]
        if kind == "permute":
            permute(draw(st.permutations(range(len(sizes)))))
        elif kind == "merge" and axis + 1 < len(sizes):
            behind, merged = sizes[axis + 1], size
            if isinstance(size, int) and isinstance(behind, int):
                merged = size * behind
            elif isinstance(size, int):
                merged = (size * behind[0], behind[1])
            else:
                merged = (size[0], size[1] * behind)
            view([*sizes[:axis], merged, *sizes[axis + 2 :]])
        elif kind == "split" and len(sizes) < 6:
            split(axis, 2 if isinstance(size, int) and size % 2 == 0 else 1)
        elif kind == "work" and isinstance(size, int):
            weights = torch.linspace(-1, 1, size).reshape(size, *(1,) * (len(sizes) - axis - 1))
            steps.append(
                draw(
                    st.sampled_from(
                        [
                            lambda y, b, a=axis: y.softmax(a) * 2,
                            lambda y, b, a=axis: y.roll(1, a) + y,
                            lambda y, b, w=weights: (y * w).relu() - y,
                            lambda y, b, a=axis: y - y.mean(a, keepdim=True),
                        ]
                    )
                )
            )
    axis = next(place for place, size in enumerate(sizes) if isinstance(size, tuple))
    outer, inner = sizes[axis]  # type: ignore[misc]
    view([*sizes[:axis], outer, (1, 1), inner, *sizes[axis + 1 :]])
    permute([axis + 1, *(place for place in range(len(sizes)) if place != axis + 1)])
    return steps


@settings(max_examples=25)
@given(chains())
def test_random_chains_of_views_and_calls(steps):
    def forward(x: Tensor) -> Tensor:
        y = x
        for step in steps:
            y = step(y, x.shape[0])
        return y.flatten(1)

    check(Apply(forward), 4, 6)
