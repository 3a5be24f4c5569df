"""Recordings: every event is in one frame, frames are the spikes of a network, engines agree on them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, assert_same_spikes, settle
from transpike.data import Events, Frames, Recordings
from transpike.encoders import EventFrames, SignedEventFrames

seeds, kinds = st.integers(0, 10**6), st.sampled_from(["two-channel", "signed"])
# frames have no phases: phase cycles refuse them
SCHEDULES = sorted(name for name, schedule in ts.schedules.table.items() if schedule.mode in ("steps", "windows"))
ENCODERS = {"two-channel": EventFrames, "signed": SignedEventFrames}
WIDTH, HEIGHT, FRAMES = 8, 6, 12


def recordings(seed: int, count: int = 5, most: int = 60) -> Recordings:
    """Random events, not in the order of time, several at one place; some recordings may be silent."""
    random = np.random.default_rng(seed)
    lengths = random.integers(0, most, count)
    lengths[0] += 1
    n = int(lengths.sum())
    t = random.integers(0, 1000, n).astype(np.int32)
    x, y = random.integers(0, WIDTH, n).astype(np.uint8), random.integers(0, HEIGHT, n).astype(np.uint8)
    events = Events(t, x, y, random.integers(0, 2, n).astype(np.uint8), WIDTH, HEIGHT)
    return Recordings(events, np.cumsum([0, *lengths]))


def by_hand(events: Events, bins: int, span: int | None) -> np.ndarray:
    """Events of each bin, polarity and pixel, one event after another: (bins, 2, height, width)."""
    counts = np.zeros((bins, 2, events.height, events.width), int)
    first, length = (
        (0, span) if span else (min(events.t, default=0), max(events.t, default=0) - min(events.t, default=0) + 1)
    )
    for t, x, y, p in zip(*(v.tolist() for v in (events.t, events.x, events.y, events.p)), strict=True):
        counts[min((t - first) * bins // length, bins - 1), p, y, x] += 1
    return counts


@given(seeds, st.integers(1, 30), st.sampled_from([None, 40, 400, 5000]))
def test_every_event_is_in_one_frame(seed, bins, span):
    source = recordings(seed)
    two, signed = (Frames(source, bins, span, kind)[torch.arange(5)].numpy() for kind in ("two-channel", "signed"))
    for index in range(5):
        counts = by_hand(source[index], bins, span)
        assert counts.sum() == len(source[index])
        assert np.array_equal(two[index], counts > 0)
        assert np.array_equal(signed[index, :, 0], np.sign(counts[:, 1] - counts[:, 0]))


@given(seeds, kinds, st.permutations(range(5)))
def test_a_recording_has_the_same_frames_in_any_batch(seed, kind, order):
    frames = Frames(recordings(seed), FRAMES, None, kind)
    together = frames[torch.arange(5)]
    assert tuple(together.shape) == tuple(frames.shape)
    assert torch.equal(frames[torch.tensor(order)], together[torch.tensor(order)])
    assert torch.equal(frames[torch.tensor([-1])], together[-1:])


@given(seeds, kinds, st.integers(1, FRAMES))
def test_the_steps_are_the_frames_and_their_mean_is_what_the_source_sees(seed, kind, steps):
    x, encoder = Frames(recordings(seed), FRAMES, None, kind)[torch.arange(5)], ENCODERS[kind]()
    train = torch.stack([encoder.encode(x, torch.arange(5), t) for t in range(1, FRAMES + 1)], 1)
    assert torch.equal(train, x)
    assert torch.allclose(train.sum(1), FRAMES * encoder.accumulate(x), rtol=1e-6, atol=0)  # one division in float32
    assert torch.equal(encoder.counts(x, torch.arange(5), steps), train[:, :steps].sum(1))
    assert train.abs().max() == 1 and encoder.spike_scale == 1.0


def spiking_cnn(kind: str, recipe: dict, frames: int = FRAMES) -> tuple[ts.SNN, Tensor]:
    """A small network made for recordings that fire often, and other recordings for it."""
    torch.manual_seed(3)
    channels = 2 if kind == "two-channel" else 1
    model = nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    x = Frames(recordings(5, 40, 900), frames, None, kind)[torch.arange(40)]
    encoder = ENCODERS[kind]()
    settle(model, encoder.accumulate(x))
    snn = ts.convert(model, ts.recipes.ECC(timesteps=frames, encoder=encoder, **recipe), x[:30])
    return snn, x[30:]


@pytest.mark.parametrize("kind", ["two-channel", "signed"])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("engine", [*ENGINES, "auto"])
def test_engines_agree_bit_for_bit(kind, schedule, engine):
    snn, x = spiking_cnn(kind, {"schedule": ts.schedules.table[schedule]()})
    names = ["input", *(node.name for node in snn.graph if isinstance(node.op, ts.core.cell.Neuron))]
    reference = ts.simulate(snn, x, engine="reference", record=names)
    trace = ts.simulate(snn, x, engine=engine, record=names)
    assert trace.exact, trace.why
    for name in names:
        rate = float(reference.trains[name].abs().mean()) / (1 if snn.schedule.every_step else FRAMES)
        assert 0.01 < rate < 0.7, (name, rate)
        assert torch.equal(trace.trains[name].double(), reference.trains[name])
    assert torch.equal(trace.logits, reference.logits)
    assert_same_spikes(trace, reference)
    for one, other in zip(trace.activity.layers, reference.activity.layers, strict=True):
        assert torch.equal(one.spikes, other.spikes) and torch.equal(one.synaptic_operations, other.synaptic_operations)


@pytest.mark.parametrize("engine", [e for e in ENGINES if e != "reference"])
def test_batches_and_memory_do_not_matter(engine):
    snn, x = spiking_cnn("two-channel", {})
    whole = ts.simulate(snn, x, engine=engine).logits
    parts = torch.cat([ts.simulate(snn, part, engine=engine).logits for part in x.split(3)], 1)
    assert torch.equal(whole, parts) and torch.equal(whole, ts.simulate(snn, x, engine=engine, memory=1).logits)


def test_layer_synchronous_counts_are_those_of_the_accumulated_frames():
    snn, x = spiking_cnn("two-channel", {"schedule": ts.schedules.LayerSynchronous(), "percentile": 100.0}, 64)
    source, answer = snn.source.run(snn.encoder.accumulate(x)), snn(x)
    # two layers of neurons, each within half a step of θ/64
    assert (source - answer).abs().max() < 0.1 * source.abs().max()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_spikes_of_the_input_are_counted(schedule):
    snn, x = spiking_cnn("signed", {"schedule": ts.schedules.table[schedule]()})
    activity = ts.simulate(snn, x).activity
    entered = activity.layers[0]
    assert (entered.name, entered.role, entered.alphabet) == ("input", "input", "ternary")
    steps = x.abs().double().sum((0, 2, 3, 4))  # a window counts both signs, although they cancel in its charge
    assert torch.equal(entered.spikes, steps if snn.schedule.every_step else steps.sum(0, keepdim=True))
    # a 3×3 convolution with a border, to 6 channels: 9 weights inside, 6 at an edge, 4 in a corner, a channel
    fan = 6 * torch.nn.functional.conv2d(torch.ones(1, 1, HEIGHT, WIDTH), torch.ones(1, 1, 3, 3), padding=1)
    assert entered.synaptic_operations.sum() == (x.abs() * fan).sum()
    assert not activity.macs  # nothing stays a multiplication
    row = ts.evaluate(snn, (x, torch.zeros(len(x), dtype=torch.int64))).layers[0]
    assert (
        row.name == "input" and row.spikes == pytest.approx(float(x.abs().sum()) / len(x)) and row.synaptic_operations
    )


def test_the_source_is_measured_on_the_accumulated_frames():
    snn, x = spiking_cnn("two-channel", {})
    x = x * (torch.rand(10, 1, 2, 1, WIDTH, generator=torch.Generator().manual_seed(1)) < 0.3)  # so that answers differ
    x[:, 0] = 0
    labels, first = (snn.source.run(still).argmax(-1) for still in (x.mean(1), x[:, 0]))
    assert len(labels.unique()) > 1 and not torch.equal(labels, first)
    report = ts.evaluate(snn, (x, labels), timesteps=FRAMES // 2)
    assert report.ann_accuracy == 1.0 and [a.timesteps for a in report.curve] == list(range(1, FRAMES // 2 + 1))


def test_a_saved_network_keeps_its_frames(tmp_path):
    snn, x = spiking_cnn("signed", {})
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    assert loaded.encoder == snn.encoder == SignedEventFrames() and loaded.preprocessing is None
    assert torch.equal(loaded(x), snn(x))
