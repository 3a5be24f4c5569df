"""Positions that have settled cost nothing, and their share is counted; samples leave early."""

import functools

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from decoders import Decoder
from seeded import network, random
from transpike.errors import DataError
from transpike.recipes import StreamingSigmaDelta

STEPS = 8


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = Decoder(7, 5, causal=False), nn.Linear(7, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.last(self.body(ids).mean(1))


def words(samples: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 7, (samples, 5), generator=torch.Generator().manual_seed(seed))


@functools.cache
def converted(kind: str) -> tuple[ts.SNN, Tensor]:
    recipe = StreamingSigmaDelta(timesteps=STEPS)
    if kind == "images":
        model = network(nn.Conv2d(2, 4, 3), nn.SiLU(), nn.Conv2d(4, 3, 1), nn.GELU(), nn.Flatten(), nn.Linear(48, 3))
        return ts.convert(model, recipe, random(16, 2, 6, 6)), random(6, 2, 6, 6)
    model = Classifier() if kind == "classifier" else Decoder(7, 5)
    for parameter in model.parameters():
        parameter.data = random(*parameter.shape) / 2
    return ts.convert(model.eval(), recipe, words(16)), words(6, 1)


@pytest.mark.parametrize("engine", ["reference", "dense"])
@pytest.mark.parametrize("kind", ["tokens", "images"])
def test_active_positions_equal_a_loop_over_every_position(kind, engine):
    snn, x = converted(kind)
    names = [layer.name for layer in snn.program.layers if layer.role == "neuron"]
    trace = snn.run(x, engine=engine, record=names)
    layers = {layer.name: layer for layer in trace.activity.layers}
    several = 0
    for name in names:
        train, axis, layer = trace.trains[name], snn.program.lowered.axes[name], layers[name]
        if train.ndim == 3:  # (time, batch, features): no positions
            assert layer.positions == 0 and not layer.active_share(len(x))
            continue
        places = train.movedim(axis + 1, -1).flatten(2, -2)
        expected = []
        for now in places:
            expected.append(sum(any(v != 0 for v in place.tolist()) for sample in now for place in sample))
        assert layer.active.tolist() == expected, name
        assert layer.positions == places.shape[2]
        assert layer.active_share(len(x))[0] == expected[0] / (places.shape[2] * len(x))
        assert expected[0] > 0 == expected[-1], "it has settled"
        several += 1
    assert several >= 2
    assert [layer.active.tolist() for layer in trace.activity.until(3, trace.activity.macs).layers] == [
        layer.active.tolist()[:3] for layer in trace.activity.layers
    ]
    parts = snn.run(x[:2], engine=engine).activity + snn.run(x[2:], engine=engine).activity
    assert [one.active.tolist() for one in parts.layers] == [one.active.tolist() for one in trace.activity.layers]


def test_reports_and_records_have_the_share():
    snn, x = converted("tokens")
    report = ts.evaluate(snn, ((x,), x), task=ts.tasks.Sequence())
    row = next(row for row in report.layers if row.name == "blocks.0.silu")
    assert len(row.active_positions) == STEPS and row.active_positions[0] > row.active_positions[-1] == 0
    record = ts.record(snn, ((x,), x), samples=1, layers=["blocks.0.silu"], task=ts.tasks.Sequence())
    (layer,) = record.samples[0].layers
    assert len(layer.active) == STEPS and layer.active[-1] == 0
    assert record.to_json()["samples"][0]["layers"][0]["active"] == list(layer.active)


def test_samples_leave_early_as_everywhere():
    """The answer of a sample that leaves is that of its own step, whoever else is in the batch."""
    snn, x = converted("classifier")
    ids = words(120, 3)
    labels = snn.source.run(snn.prepare((ids,))).argmax(1)
    snn = ts.fit_exit(snn, ((ids,), labels), drop=20.0, checkpoints=(1, 2, 3))
    found = ts.answer_early(snn, (x,))
    assert len(set(found.timesteps.tolist())) > 1, "some leave earlier than others"
    curve = snn.run((x,)).logits
    for row, step, every in zip(found.logits, found.timesteps.tolist(), curve.unbind(1), strict=True):
        assert torch.equal(row, every[step - 1])


def test_a_tagger_has_no_single_answer_to_leave_with():
    snn, _ = converted("tokens")
    with pytest.raises(DataError, match="logits"):
        ts.fit_exit(snn, ((words(120, 3),), words(120, 3)), drop=20.0)
