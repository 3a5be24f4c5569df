"""A network with source activations in the place of its ReLUs: the same weights, trainable, and ready to convert."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from measured import undecided
from transpike.activations import ClampQuantise, QuantisedClip
from transpike.errors import DataError, SettingError, UnsupportedModel

LEVELS = 4


class Every(nn.Module):
    """Each way to write a rectification, one module used twice, and a functional dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn, self.act, self.six = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.bn(self.fc(x)))
        x = self.act(self.fc(x))
        x = F.relu(self.fc(x), inplace=True)
        x = torch.relu(self.fc(x))
        x = self.fc(x).relu()
        x = self.six(self.fc(x))
        x = torch.clamp(self.fc(x), 0, 3)
        x = self.fc(x).clamp(min=0)
        x = F.dropout(x, 0.5, self.training)
        return self.fc(x).clamp(-1, 1)  # not a rectification


def clips(model: nn.Module) -> dict[str, QuantisedClip]:
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantisedClip)}


def test_every_rectification_gets_its_own_activation_and_nothing_else_changes():
    model = Every()
    before = copy.deepcopy(model.state_dict())
    prepared = ts.prepare(model, QuantisedClip(LEVELS))
    found = clips(prepared)
    assert len(found) == 8 and len({id(clip.thresh) for clip in found.values()}) == 8
    assert {"act_1", "act_2", "six", "relu"} <= found.keys()
    assert set(prepared.state_dict()) == set(before) | {f"{name}.thresh" for name in found}
    assert not clips(model) and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_zoo_s_residual_network_keeps_the_names_of_its_weights():
    model, _ = ts.models.build("zoo:resnet20-16-32-64")
    prepared = ts.prepare(model, QuantisedClip(LEVELS))
    assert len(clips(prepared)) == 19 and {"relu", "layer1.0.relu", "layer1.0.relu_1"} <= clips(prepared).keys()
    missing = prepared.load_state_dict(model.state_dict(), strict=False)
    assert not missing.unexpected_keys and all(name.endswith("thresh") for name in missing.missing_keys)


def test_it_computes_the_staircase_of_the_formula():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), torch.randn(9, 5)
    prepared = ts.prepare(model, QuantisedClip(LEVELS, 0.8))
    z = model[0](x)
    staircase = 0.8 / LEVELS * torch.floor(z * LEVELS / 0.8 + 0.5).clamp(0, LEVELS)
    assert torch.allclose(prepared(x), model[2](staircase), atol=1e-6)


def test_thresholds_are_the_percentile_of_what_each_place_gave():
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    x = torch.arange(-99.0, 101)[:, None]  # 200 values, of which the ReLU leaves 1 … 100
    for percentile, expected in ((100.0, 100.0), (99.0, 98.0), (75.0, 50.0)):
        prepared = ts.prepare(model, QuantisedClip(LEVELS), x, percentile)
        assert clips(prepared)["1"].thresh.item() == expected
    with pytest.raises(DataError, match="percentile 40 of 1 on the calibration data is 0"):
        ts.prepare(model, QuantisedClip(LEVELS), x, 40.0)


def test_batch_norm_and_dropout_follow_the_mode():
    torch.manual_seed(0)
    prepared, x = ts.prepare(Every().eval(), QuantisedClip(LEVELS, 1.0)), torch.randn(64, 6)
    assert not prepared.training and torch.equal(prepared(x), prepared(x))
    statistics = prepared.bn.running_mean.clone()
    prepared.train()
    assert not torch.equal(prepared(x), prepared(x)) and not torch.equal(prepared.bn.running_mean, statistics)


def test_it_learns_and_its_spikes_give_its_answers():
    torch.manual_seed(0)
    data = ts.data.load("digits")
    model, _ = ts.models.build("zoo:small-cnn", input_shape=data.image_shape)
    images = data.preprocessing(data.train.batch(torch.arange(128))[0])
    prepared = ts.prepare(model, QuantisedClip(LEVELS), images, 99.0)
    started = {name: clip.thresh.item() for name, clip in clips(prepared).items()}
    result = ts.train(prepared, data, ts.Training(epochs=8, learning_rate=0.05, batch_size=64, validation_fraction=0.0))
    assert result.test_accuracy is not None and result.test_accuracy > 0.5  # it learns: chance is 0.1
    assert all(clip.thresh.item() != started[name] for name, clip in clips(prepared).items())
    windows = ts.schedules.LayerSynchronous()
    snn = ts.convert(prepared, ts.recipes.QCFS(timesteps=LEVELS, schedule=windows), images, exact_grid=False)
    test = data.preprocessing(data.test.batch(torch.arange(200))[0])
    with torch.no_grad():
        answers = prepared(test)
    reference = ts.simulate(snn, test, engine="reference").logits[-1]
    near = undecided(snn.source, test)
    assert float(near.double().mean()) < 0.1 and torch.equal(reference.argmax(1)[~near], answers.argmax(1)[~near])


class Always(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(F.relu(x), 0.5)  # in evaluation too


def test_dropout_that_never_rests_is_left_alone():
    prepared, x = ts.prepare(Always().eval(), QuantisedClip(LEVELS, 1.0)), torch.ones(8, 64)
    assert not torch.equal(prepared(x), prepared(x))


class Mode(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if self.training else x


class Looks(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x) if x.sum() > 0 else x


REFUSED = {
    "another way in training": (lambda: ts.prepare(Mode(), QuantisedClip()), UnsupportedModel, "instead of self.training"),
    "looks at values": (lambda: ts.prepare(Looks(), QuantisedClip()), UnsupportedModel, "torch.fx cannot trace Looks"),
    "nothing to replace": (lambda: ts.prepare(nn.Sequential(nn.Linear(2, 2), nn.GELU()), QuantisedClip()), UnsupportedModel, "has no ReLU"),
    "a class": (lambda: ts.prepare(nn.Sequential(nn.ReLU()), QuantisedClip), SettingError, "both torch.nn.Module"),
    "batches": (lambda: ts.prepare(nn.Sequential(nn.ReLU()), QuantisedClip(), [torch.rand(3, 3)]), SettingError, "one batch of inputs"),  # type: ignore[arg-type]
    "nothing to calibrate": (lambda: ts.prepare(nn.Sequential(nn.ReLU()), nn.ReLU6(), torch.rand(3, 3)), SettingError, "ReLU6 has no threshold to calibrate"),
    "no input": (lambda: ts.prepare(nn.Sequential(nn.ReLU()), QuantisedClip(), torch.rand(0, 3)), DataError, "at least one preprocessed input"),
    "bytes": (lambda: ts.prepare(nn.Sequential(nn.ReLU()), QuantisedClip(), torch.ones(2, 3, dtype=torch.uint8)), DataError, "a floating-point batch"),
    "another shape": (lambda: ts.prepare(nn.Sequential(nn.Linear(4, 2), nn.ReLU()), QuantisedClip(), torch.rand(2, 3)), DataError, "cannot process the calibration data"),
    "negative input": (lambda: ts.prepare(nn.Sequential(nn.ReLU()), QuantisedClip(), torch.linspace(-1, 1, 9), input=ClampQuantise(4)), SettingError, "smallest calibration value is -1"),
    "NaN weights": (lambda: ts.prepare(nn.Sequential(nn.PReLU(init=float("nan")), nn.ReLU()), QuantisedClip(), torch.rand(2, 3)), SettingError, "0.weight contains NaN"),
    "percentile": (lambda: ts.prepare(nn.Sequential(nn.ReLU()), QuantisedClip(), torch.rand(3, 3), 0.0), SettingError, "percentile must be"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_prepared_is_refused_with_the_reason(what):
    provoke, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        provoke()
