"""Two networks in a row, against the same count made by hand."""

import json

import pytest
import torch
from torch import nn

import transpike as ts
from transpike.errors import DataError, SettingError
from transpike.workflow.cascade import Cost, Outcome, cascade

T = 8


def network(classes: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    layers = (nn.Conv1d(2, 4, 3, padding=1), ts.activations.QuantisedClip(T, 1.0), nn.AvgPool1d(2), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(4 * 6, classes)).eval()


@pytest.fixture(scope="module")
def pair():
    torch.manual_seed(0)
    x, y = torch.rand(70, 2, 12), torch.randint(0, 3, (70,))
    recipe = ts.recipes.QCFS(timesteps=T, schedule=ts.schedules.LayerSynchronous(), weight_bits=3)
    screen, second = network(2, 1), network(3, 2)
    with torch.no_grad():
        screen[-1].bias[0] += (screen(x)[:, 1] - screen(x)[:, 0]).median()  # so that it passes some on and keeps others
    return ts.convert(screen, recipe, x), ts.convert(second, recipe, x), x, y


def by_hand(screen, second, x, y, normal):
    """One sample at a time."""
    confusion, screened = torch.zeros(3, 3), torch.zeros(2, 2)
    for sample, truth in zip(x, y.tolist(), strict=True):
        passed = int(screen(sample[None])[0].argmax())
        answer = int(second(sample[None])[0].argmax()) if passed else normal
        confusion[truth, answer] += 1
        screened[int(truth != normal), passed] += 1
    return confusion.int().tolist(), screened.int().tolist()


@pytest.mark.parametrize("normal", [0, 2])
def test_every_sample_is_answered_as_by_hand(pair, normal):
    screen, second, x, y = pair
    report = cascade(screen, second, [(x[:13], y[:13]), (x[13:], y[13:])], normal=normal)
    for outcome, run in (
        (report.snn, lambda network: network),
        (report.ann, lambda network: lambda z: network.source.run(network.prepare(z))),
    ):
        confusion, screened = by_hand(run(screen), run(second), x, y, normal)
        assert [list(row) for row in outcome.confusion] == confusion
        assert [list(row) for row in outcome.screened] == screened
        assert 0.1 < outcome.forwarded < 0.9
    assert report.ann != report.snn and report.exact  # three bits of weights change some answers


def test_only_what_is_passed_on_costs_a_second_network(pair):
    screen, second, x, y = pair
    report = cascade(screen, second, (x, y))
    passed = screen(x).argmax(1) > 0
    runs = (ts.simulate(screen, x).activity, ts.simulate(second, x[passed]).activity)
    total = [sum(float(layer.synaptic_operations.sum()) for layer in run.layers) for run in runs]
    assert min(total) > 0 and report.snn.cost.synaptic_operations == pytest.approx(sum(total) / 70)
    assert report.snn.cost.membrane_updates == sum(layer.updates for run in runs for layer in run.layers) / 70
    assert report.snn.cost.macs == pytest.approx(2 * 3 * 4 * 12 * (1 + report.snn.forwarded))  # the first layer stays
    assert report.ann.cost.macs == pytest.approx(288 + 48 + report.ann.forwarded * (288 + 72))
    assert report.ann.cost.synaptic_operations == 0
    assert (Cost(10, 20, 3).weights_fetched, Cost(10, 20, 3).accesses) == (30, 20 + 60 + 9)


OUTCOME = Outcome(((6, 1, 1), (1, 2, 0), (0, 0, 0)), ((7, 1), (1, 2)), Cost(1, 2, 3))


def test_shares_are_those_of_the_table():
    assert OUTCOME.samples == 11 and OUTCOME.accuracy == 8 / 11
    assert OUTCOME.sensitivity == (6 / 8, 2 / 3, 0.0)
    assert OUTCOME.predictive_value == (6 / 7, 2 / 3, 0.0)
    assert OUTCOME.f1 == pytest.approx((0.8, 2 / 3, 0.0)) and OUTCOME.macro_f1 == pytest.approx((0.8 + 2 / 3) / 3)
    assert (OUTCOME.normal_recall, OUTCOME.abnormal_recall, OUTCOME.forwarded) == (7 / 8, 2 / 3, 3 / 11)
    assert OUTCOME.interval[0] < 8 / 11 < OUTCOME.interval[1]


def test_parts_of_a_test_add_up(pair):
    screen, second, x, y = pair
    parts = [cascade(screen, second, (x[part], y[part])) for part in (slice(0, 20), slice(20, 70))]
    whole = cascade(screen, second, (x, y))
    for kind in ("ann", "snn"):
        found, expected = getattr(parts[0], kind) + getattr(parts[1], kind), getattr(whole, kind)
        assert (found.confusion, found.screened) == (expected.confusion, expected.screened)
        assert found.cost.accesses == pytest.approx(expected.cost.accesses)
    with pytest.raises(DataError, match="3 and 2 classes"):
        OUTCOME + Outcome(((1, 0), (0, 1)), ((1, 0), (0, 1)), Cost())


def test_what_is_saved_is_numbers(pair, tmp_path):
    screen, second, x, y = pair
    report = cascade(screen, second, (x, y))
    report.save(tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["snn"]["macro_f1"] == report.snn.macro_f1 and found["total_steps"] == list(report.total_steps)
    assert report.total_steps == (screen.total_steps(), second.total_steps())


def test_what_makes_no_sense_is_refused(pair):
    screen, second, x, y = pair
    for networks, data, normal, error, says in (
        ((second, screen), (x, y), 0, SettingError, "two classes"),
        ((screen, second), (x, y), 3, SettingError, "3 classes, not 3"),
        ((screen, second), x, 0, DataError, "targets"),
        ((screen, second), [], 0, DataError, "no samples"),
        ((screen, second), (x, y + 1), 0, DataError, "the network has 3 classes"),
    ):
        with pytest.raises(error, match=says):
            cascade(*networks, data, normal=normal)


def test_networks_that_pass_nothing_on_are_fine(pair):
    screen, second, x, y = pair
    quiet = network(2, 1)
    with torch.no_grad():
        quiet[-1].bias[0] += 100
    report = cascade(ts.convert(quiet, screen.recipe, x), second, (x, y))
    assert report.snn.forwarded == report.ann.forwarded == 0 and report.snn.sensitivity == (1.0, 0.0, 0.0)
