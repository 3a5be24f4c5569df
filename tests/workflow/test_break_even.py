"""Training towards fewer spikes: the penalty, the rounds, and when they end."""

import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import transpike as ts
from stored import stored
from transpike.cli import main
from transpike.errors import DataError, SettingError
from transpike.training.source.penalties import Penalised
from transpike.training.source.sparsity import hoyer_square, rectifiers, sparser
from transpike.workflow.break_even import run
from transpike.workflow.break_even.result import BreakEven, Round
from transpike.workflow.train import save_weights


def test_the_penalty_is_one_where_all_are_equal_and_one_by_n_where_one_is_active():
    assert float(hoyer_square(torch.full((3, 4), 2.5))) == pytest.approx(1)
    one = torch.zeros(20)
    one[3] = 7.0
    assert float(hoyer_square(one)) == pytest.approx(1 / 20)
    x = torch.rand(50, generator=torch.Generator().manual_seed(0))
    assert float(hoyer_square(x)) == pytest.approx(float(hoyer_square(1e3 * x)), rel=1e-5)  # no scale
    assert float(hoyer_square(torch.zeros(5))) == 0


def test_its_gradient_raises_large_activations_and_lowers_small_ones():
    x = torch.tensor([0.1, 0.2, 3.0], requires_grad=True)
    hoyer_square(x).backward()
    assert x.grad[0] > 0 and x.grad[1] > 0 and x.grad[2] < 0  # a step goes against it
    zero = torch.zeros(4, requires_grad=True)
    hoyer_square(zero).backward()
    assert bool(torch.isfinite(zero.grad).all())


def test_layers_have_a_part_of_the_penalty_by_their_neurons_only_in_training_and_inside():
    net = nn.Sequential(nn.Linear(4, 30), nn.ReLU(), nn.Linear(30, 10), nn.ReLU(), nn.Linear(10, 2))
    x = torch.rand(6, 4)
    seen = Penalised(net)
    with sparser(net, 2.0, x[:2]):
        assert net.training
        first, second = net[1](net[0](x)), None
        second = net[3](net[2](first))
        expected = 2 * (30 / 40 * hoyer_square(first) + 10 / 40 * hoyer_square(second))
        assert float(seen(x)[1].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
        net.eval()
        assert seen(x)[1] is None
    net.train()
    assert seen(x)[1] is None


def test_it_is_added_to_the_penalty_of_an_activation():
    class Costly(ts.activations.QuantisedClip):
        def forward(self, x):
            out = super().forward(x)
            self.penalty = torch.tensor(5.0)
            return out

    net = nn.Sequential(nn.Flatten(), Costly(levels=4, threshold=0.1))
    with sparser(net, 1.0, torch.rand(2, 4)):
        assert 5 < Penalised(net)(torch.ones(6, 4))[1].item() <= 6


def test_a_network_of_functions_is_refused_with_the_way_out():
    with pytest.raises(SettingError, match=r"transpike\.prepare"), sparser(nn.Linear(2, 2), 1.0, torch.rand(2, 2)):
        pass


@pytest.fixture(scope="module")
def digits() -> ts.data.Dataset:
    full = ts.data.load("digits")
    return replace(full, train=full.train.subset(torch.arange(600)), test=full.test.subset(torch.arange(10)))


ONE_EPOCH = ts.Training(epochs=1, learning_rate=0.02, batch_size=60)


@dataclass
class Told:
    """What each round finds, in place of simulations: (accuracy, ratios)."""

    rounds: list[tuple[float, list[float]]]
    calls: int = 0

    def __call__(self, snn, batches, *, models):
        accuracy, ratios = self.rounds[self.calls]
        self.calls += 1
        report = SimpleNamespace(ann_accuracy=accuracy + 0.01, at=lambda t: SimpleNamespace(accuracy=accuracy))
        judged = tuple(SimpleNamespace(model=f"m{n}", ratio=ratio) for n, ratio in enumerate(ratios))
        return SimpleNamespace(
            report=report, judged=judged, timesteps=4, quantised_baseline_accuracy=accuracy, spike_rate=0.1,
            spikes_per_synapse=0.4, density=0.5, samples=60,
        )  # fmt: skip


def _run(monkeypatch, digits, rounds, **settings) -> tuple[BreakEven, nn.Module, list[dict]]:
    """With the trainings that are made, whose weights are the number of the training."""
    told, trained = Told(rounds), []

    def train(network, data, training, **given):
        trained.append({"training": training, "data": data, **given})
        with torch.no_grad():
            for value in network.parameters():
                value.fill_(len(trained))

    monkeypatch.setattr(run, "cost", told)
    monkeypatch.setattr(run, "train", train)
    module = stored("small-cnn")
    return ts.break_even(module, digits, ts.recipes.ECC(timesteps=4), ONE_EPOCH, **settings), module, trained


def test_it_ends_with_the_first_network_that_is_cheap_and_accurate_enough(monkeypatch, digits):
    rounds = [(0.95, [3, 2, 0.9]), (0.95, [2, 1.1, 0.8]), (0.94, [1.5, 0.99, 0.7]), (0.9, [0.1, 0.1, 0.1])]
    found, module, trained = _run(monkeypatch, digits, rounds, models=2)
    assert found.reached and found.chosen == 2 and len(found.rounds) == 3 and len(trained) == 2
    assert found.rounds[2].strength == 0.3 and found.rounds[2].cheaper == 2
    assert all(bool((value == 2).all()) for value in module.parameters()) and not module.training
    assert "Cheaper than its quantised baseline under 2 energy models (2 of 3 requested)" in found.verdict
    assert len(trained[0]["data"].test) == 0 and trained[0]["training"].validation_fraction == 0
    assert len(trained[0]["data"].train) == 540


def test_a_network_that_is_cheap_without_a_penalty_is_not_trained(monkeypatch, digits):
    found, _, trained = _run(monkeypatch, digits, [(0.95, [0.5, 2.0])])
    assert found.reached and found.chosen == 0 and not trained and len(found.rounds) == 1


def test_it_ends_where_the_accuracy_is_lost_and_shows_the_front(monkeypatch, digits):
    rounds = [(0.95, [3.0, 4.0]), (0.96, [2.0, 3.0]), (0.955, [2.2, 3.0]), (0.80, [0.5, 0.5])]
    found, module, _ = _run(monkeypatch, digits, rounds, models=1, max_drop=0.03)
    assert not found.reached and len(found.rounds) == 4
    assert [one.strength for one in found.front()] == [1.0, 0.1]
    assert found.chosen == 1 and all(bool((value == 1).all()) for value in module.parameters())
    assert "costs 2 times as much" in found.verdict and "93.00%" in found.verdict
    assert json.loads(json.dumps(found.to_json()))["rounds"][3]["deciding"] == 0.5
    assert len(str(found).splitlines()) == 8


def test_all_strengths_are_tried_where_the_accuracy_remains(monkeypatch, digits):
    found, _, trained = _run(monkeypatch, digits, [(0.9, [2.0])] * 3, strengths=(0.5, 5.0))
    assert not found.reached and len(trained) == 2 and found.chosen == 0  # of equal ones the first
    assert trained[1]["notes"] == {"strengths": "0.5, 5"}


def test_more_models_than_those_that_price_are_refused(monkeypatch, digits):
    with pytest.raises(SettingError, match="models=3, but 2 energy models price both networks and count: m0, m1"):
        _run(monkeypatch, digits, [(0.9, [2.0, 2.0])], models=3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"models": 0}, "at least 1"),
        ({"models": True}, "at least 1"),
        ({"max_drop": 1.5}, "max_drop is a share"),
        ({"strengths": ()}, "must be positive and increasing"),
        ({"strengths": (1.0, 0.5)}, "must be positive and increasing"),
        ({"strengths": (0.0, 0.5)}, "must be positive and increasing"),
    ],
)
def test_wrong_settings_are_refused(digits, settings, words):
    with pytest.raises(SettingError, match=words):
        ts.break_even(stored("small-cnn"), digits, "ecc", **settings)


def test_too_few_samples_are_refused(digits):
    few = replace(digits, train=digits.train.subset([0]))
    with pytest.raises(DataError, match="too few to hold out a tenth"):
        ts.break_even(stored("small-cnn"), few, "ecc")


def test_a_strong_penalty_saves_spikes_of_a_real_network(digits, tmp_path):
    """Without room for a loss the conversion at T = 4 is never good enough, so that both rounds are measured."""
    module = stored("small-cnn")
    names = list(module.state_dict())
    rows: list[Round] = []
    settings = ts.Training(epochs=4, learning_rate=0.05, batch_size=30)
    found = ts.break_even(
        module, digits, ts.recipes.ECC(timesteps=4), settings, models=1, max_drop=0.0, strengths=(10.0,), energy=ts.energy.MemoryHierarchy(), folder=tmp_path, progress=rows.append,
    )  # fmt: skip
    assert tuple(rows) == found.rounds and len(rows) == 2 and not found.reached
    assert rows[1].spikes_per_synapse < 0.6 * rows[0].spikes_per_synapse
    assert list(rows[0].ratios) == list(rows[1].ratios) and len(rows[0].ratios) == 1 and rows[0].samples == 60
    assert (tmp_path / "round-1.safetensors").exists()
    assert list(module.state_dict()) == names  # ReLUs that are functions became modules of a copy


def test_rectifiers_are_modules_of_relus_and_source_activations():
    net = nn.Sequential(nn.ReLU(), nn.ReLU6(), ts.activations.QuantisedClip(levels=2), nn.Sigmoid())
    assert list(rectifiers(net)) == ["0", "1", "2"]


def test_the_command_writes_the_network_and_says_that_it_cannot(tmp_path, monkeypatch):
    weights, out = tmp_path / "weights.safetensors", tmp_path / "net.transpike"
    save_weights(stored("small-cnn"), weights)
    monkeypatch.setattr(run, "cost", Told([(0.9, [2.0]), (0.5, [0.5])]))
    words = ["break-even", "--weights", weights, "--recipe", "ecc", "--timesteps", 4, "--strengths", "2", "--epochs", 1]
    done = CliRunner().invoke(main, [*map(str, words), "--output", str(out), "--json"])
    assert done.exit_code == 4 and "costs 2 times as much" in done.stderr, done.output
    found = json.loads(done.stdout)
    assert [one["strength"] for one in found["rounds"]] == [0.0, 2.0] and found["chosen"] == 0
    assert ts.load(out).timesteps == 4 and (tmp_path / "net.rounds/round-1.safetensors").exists()
    wrong = CliRunner().invoke(main, [*map(str, words), "--output", str(out), "--strengths", "a"])
    assert wrong.exit_code == 2 and "comma-separated numbers" in wrong.stderr
