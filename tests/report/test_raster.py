"""Rasters: every spike is where it belongs, and the size of a page is bounded."""

import dataclasses
import re

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from transpike import report as reports
from transpike.report import _raster

LARGEST = 2_000_000
"""Bytes of a page of all results with four samples, of a network of five recorded layers."""


def drawn(text: str, shape: tuple[int, ...]) -> Tensor:
    """The train that a path shows."""
    found = torch.zeros(shape, dtype=torch.bool)
    for first, row, width, back in re.findall(r"M(\d+) (\d+)h(\d+)v0\.8h-(\d+)z", text):
        assert width == back and not found[int(first) : int(first) + int(width), int(row)].any()
        found[int(first) : int(first) + int(width), int(row)] = True
    assert re.sub(r"M\d+ \d+h\d+v0\.8h-\d+z", "", text) == ""
    return found


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 10**6))
def test_a_path_shows_every_spike_once(steps: int, neurons: int, seed: int) -> None:
    train = torch.randint(-2, 3, (steps, neurons), generator=torch.Generator().manual_seed(seed)).float()
    assert torch.equal(_raster.kept(train), train)
    for sign in (1, -1):
        assert torch.equal(drawn(_raster.path(train, sign), train.shape), train * sign > 0)


def test_fewer_neurons_are_drawn_where_there_are_too_many_spikes() -> None:
    train = torch.zeros(1000, 48)
    train[::2] = 1  # every second step: as many runs as possible
    kept = _raster.kept(train)
    assert 1 <= kept.shape[1] <= _raster.RUNS // 500 and torch.equal(kept, train[:, : kept.shape[1]])
    assert len(_raster.path(kept, 1)) < 25 * _raster.RUNS
    steady = torch.ones(1000, 48)  # one run for each neuron
    assert torch.equal(_raster.kept(steady), steady)


def test_ticks_are_round_and_apart() -> None:
    for steps in range(1, 2000, 7):
        numbers, places = zip(*_raster.ticks(steps), strict=True)
        assert numbers[0] == 1 and numbers[-1] == steps and len(numbers) <= 8
        assert list(numbers) == sorted(set(numbers)) and all(0 < place < 100 or steps == 1 for place in places)


def test_the_size_of_a_page_is_bounded(found) -> None:
    """1,024 steps of the worst trains, four samples, and an answer at every step."""
    report, record = found.results[0], found.results[4]
    steps = 1024
    curve = tuple(dataclasses.replace(report.final, timesteps=t, total_steps=t) for t in range(1, steps + 1))
    outcomes = dict.fromkeys(range(1, steps + 1), report.outcomes[report.final.timesteps])
    train = torch.zeros(steps, 48)
    train[::2] = 1
    layer = dataclasses.replace(record.samples[0].layers[0], train=train, neurons=torch.arange(48))
    times = tuple(range(1, steps + 1))
    sample = dataclasses.replace(record.samples[0], timesteps=times, answers=(3, 4) * (steps // 2), layers=(layer,) * 5)
    spikes = dataclasses.replace(record, samples=(sample,) * 4, timesteps=steps)
    long = dataclasses.replace(report, curve=curve, outcomes=outcomes)
    page = reports.page([long, *found.results[2:4], spikes, *found.results[5:]])
    assert len(found.html) < 0.5 * LARGEST and len(page) < LARGEST
