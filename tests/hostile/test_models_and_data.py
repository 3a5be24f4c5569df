"""Networks, data and settings to refuse: each with the right error, the place, and the remedy."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, mlp, network, small_cnn
from transpike.errors import DataError, SettingError, UnsupportedModel, UnsupportedOperator
from transpike.recipes import ECC, ThresholdBalancing, WeightNormalisation

X = torch.rand(16, 4, generator=torch.Generator().manual_seed(0))


class Odd(nn.Module):
    """Two layers that nobody can turn into spikes, one of them written as a function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(4, 4), nn.Sequential(nn.GELU()), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gate(self.first(x))
        return self.last(torch.softmax(x, 1))


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self, x)


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))


def converted(**settings: object) -> ts.SNN:
    return ts.convert(plain(), ECC(timesteps=4, **settings), X)


def test_every_unknown_operator_is_listed_with_its_place():
    with pytest.raises(UnsupportedOperator) as caught:
        ts.capture(Odd(), X)
    places = {operator.split(".")[0]: (path, line) for operator, path, line in caught.value.places}
    assert set(places) == {"gelu", "softmax"}
    assert places["gelu"][0] == "gate.0" and places["softmax"][0] == ""
    text = str(caught.value)
    assert "2 places" in text and "gate.0" in text and "the model itself" in text
    assert "on_unsupported" in text


def test_an_unknown_operator_names_the_line_of_the_user_s_source():
    with pytest.raises(UnsupportedOperator) as caught:
        ts.capture(Odd(), X)
    for _, _, line in caught.value.places:
        file, number = line.rsplit(":", 1)
        assert file.endswith("test_models_and_data.py") and number.isdigit()


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: m.fc(x) * x[:, :3], "multiplies two activations"),
        (lambda m, x: m.fc(x) / (x[:, :3] + 2), "divides by an activation"),
        (lambda m, x: torch.clamp(m.fc(x), 0.5, 1), "does not contain zero"),
        (lambda m, x: m.fc(x) - m.fc(x).mean(0, keepdim=True), "averages over the batch"),
        (lambda m, x: torch.where(m.fc(x) > 0, m.fc(x), 0.1 * m.fc(x)), "only x where x > 0, else 0"),
        (lambda m, x: m.fc(x) * (m.fc(x) > 0.5), "only x where x > 0, else 0"),
        (lambda m, x: m.fc(x) + (m.fc(x) > 0), "as a part of a ReLU"),
        (lambda m, x: torch.maximum(m.fc(x), x[:, :3]), r"only max\(x, 0\)"),
        (lambda m, x: torch.nn.functional.threshold(m.fc(x), 0.1, 0), "jumps at 0.1"),
        (lambda m, x: m.fc(x).long() + 1, "into torch.int64"),
        (lambda m, x: m.fc(x).flip(0), "across the batch axis"),
        (lambda m, x: m.fc(x).repeat(2, 1).relu_()[:4], "across the batch axis"),
        (lambda m, x: m.fc(x)[[1, 0]], "a part of the batch"),
        (lambda m, x: m.fc(x) @ m.fc(x).T, "relates samples to each other"),
        (lambda m, x: torch.einsum("bi,bj->bij", m.fc(x), m.fc(x)), "multiplies two activations"),
        (lambda m, x: torch.ones(3, len(x)) @ m.fc(x), "across the batch axis|combines the batch"),
        (lambda m, x: m.fc(x).max(1)[1] * 1.0, "output 1 of it"),
        (lambda m, x: m.fc(x).amax(0), "over the batch"),
        (lambda m, x: m.fc(x).sum(), "across the batch"),
        (lambda m, x: m.fc(x) + torch.rand_like(x[:, :3]), "random numbers"),
        (lambda m, x: torch.nn.functional.instance_norm(m.fc(x)[:, None]), "the statistics of each sample"),
        (lambda m, x: torch.nn.functional.layer_norm(m.fc(x), (3,)), "nn.BatchNorm"),
        (lambda m, x: torch.nn.functional.silu(m.fc(x)), "nn.ReLU"),
        (lambda m, x: m.fc(x) + torch.randn(3, 4, generator=torch.Generator())[:, 0], "is not a tensor"),
    ],
    ids=[
        "product",
        "quotient",
        "a clamp without zero",
        "batch mean",
        "leaky",
        "another place",
        "a bare comparison",
        "of two",
        "a jump",
        "integers",
        "flip of the batch",
        "repeated batch",
        "order of the batch",
        "x xᵀ",
        "outer",
        "product over the batch",
        "indices",
        "maximum of the batch",
        "sum of all",
        "random",
        "instance norm",
        "layer norm",
        "silu",
        "generator",
    ],
)
def test_a_known_operator_in_an_unknown_use_says_why(function, reason):
    with pytest.raises(UnsupportedOperator, match=reason):
        ts.capture(Apply(function), X)


def test_an_output_that_is_not_there_is_refused_with_the_choices():
    model = Apply(lambda m, x: {"logits": m.fc(x), "hidden": torch.relu(m.fc(x))})
    with pytest.raises(UnsupportedModel, match=r"no output 'probabilities'.*'logits'"):
        ts.capture(model, X, output="probabilities")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda m, x: {"a": m.fc.weight * 2, "b": torch.ones(3)}, "no output of the model depends on its input"),
        (lambda m, x: {"a": m.fc(x), "b": x.shape[0]}, "the model's output b is SymInt.*output="),
        (lambda m, x: {"a": m.fc(x), (1, 2): m.fc(x)}, "text nor an integer"),
        (lambda m, x: (m.fc(x), m.fc(x).mean()), "across the batch"),
        (lambda m, x: None, "returns no tensor"),
    ],
)
def test_outputs_that_cannot_be_returned_are_refused(function, reason):
    with pytest.raises(UnsupportedModel, match=reason):
        ts.capture(Apply(function), X)


def test_a_model_that_ignores_its_input_is_refused():
    with pytest.raises(UnsupportedModel, match="does not depend on its input"):
        ts.capture(Apply(lambda m, x: m.fc.weight * 2), X)


def test_control_flow_on_data_is_refused_with_a_way_out():
    with pytest.raises(UnsupportedModel, match="control flow of the model depends on values"):
        ts.capture(Apply(lambda m, x: m.fc(x) if x.sum() > 0 else x), X)


def test_what_is_not_a_module_is_refused():
    with pytest.raises(SettingError, match=r"nn\.Module, not dict"):
        ts.capture({"weight": X}, X)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_broken_weights_are_named(value):
    model = plain()
    with torch.no_grad():
        model[2].weight[0, 0] = value
    with pytest.raises(SettingError, match=r"2\.weight contains NaN or infinite.*train or load"):
        ts.convert(model, ECC(timesteps=4), X)


def test_broken_running_statistics_are_named():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    model[1].running_var[0] = float("nan")
    with pytest.raises(SettingError, match=r"1\.running_var contains NaN"):
        ts.convert(model, ECC(timesteps=4), X)


def _with_nan() -> Tensor:
    x = X.clone()
    x[3, 1] = float("nan")
    return x


BAD_CALIBRATION = {
    "nothing": (None, "pass calibration="),
    "an empty tensor": (X[:0], "0 calibration samples.*at least 8"),
    "too few samples": (X[:7], "7 calibration samples.*at least 8"),
    "an empty loader": ([], "0 calibration samples.*at least 8"),
    "NaN": (_with_nan(), "batch 0 contains NaN or infinite.*clean"),
    "infinity in the second batch": ([X, X / 0], "batch 1 contains NaN or infinite"),
    "constant": (torch.full((16, 4), 0.5), "value 0.5; use real"),
    "no batch axis": ([X[0]], "samples as its first axis"),
    "a number": (3, "tensor or array.*not an int"),
    "text": (["a", "b"], "must be a tensor.*not a str"),
    "mixed shapes": ([X, X[:, :3]], "batch 1 contains samples of shape"),
}


@pytest.mark.parametrize("case", BAD_CALIBRATION)
def test_calibration_data_that_cannot_be_used(case):
    data, message = BAD_CALIBRATION[case]
    with pytest.raises(DataError, match=message):
        ts.convert(plain(), ECC(timesteps=4), data)


def test_calibration_data_of_another_shape_names_both_shapes():
    graph = ts.capture(plain(), X)
    with pytest.raises(DataError, match=r"\(5,\), not \(4,\)"):
        ts.convert(graph, ECC(timesteps=4), torch.rand(16, 5))


def test_a_model_that_cannot_take_the_data_names_the_shape():
    with pytest.raises(UnsupportedModel, match=r"input of shape \(8, 5\)"):
        ts.convert(plain(), ECC(timesteps=4), torch.rand(16, 5))


def test_a_dead_layer_is_named_with_a_way_out():
    model = plain()
    with torch.no_grad():
        model[0].weight.fill_(-1.0)
        model[0].bias.fill_(-1.0)
    with pytest.raises(DataError, match=r"\b1\b.*calibration data.*threshold would be 0.*remove"):
        ts.convert(model, ECC(timesteps=4), X)


def test_a_dead_channel_is_mentioned_and_not_refused():
    model = plain()
    with torch.no_grad():
        model[0].weight[2] = -1.0
        model[0].bias[2] = -1.0
    snn = ts.convert(model, ECC(timesteps=4), X)
    about = [remark for remark in snn.remarks if "channel" in remark and "threshold" in remark]
    assert len(about) == 1 and "1" in about[0].split(":")[-1]  # the layer's name


@pytest.mark.parametrize("recipe", [ECC, WeightNormalisation, ThresholdBalancing])
@pytest.mark.parametrize("timesteps", [0, -3, True, 4.0, None, "8"])
def test_a_number_of_steps_is_a_whole_number_of_at_least_one(recipe, timesteps):
    with pytest.raises(SettingError, match="timesteps must be an integer of at least 1"):
        recipe(timesteps=timesteps)


@pytest.mark.parametrize("timesteps", [0, -3, True, 4.0, "8"])
def test_simulate_checks_the_number_of_steps(timesteps):
    with pytest.raises(SettingError, match="timesteps must be an integer of at least 1"):
        ts.simulate(converted(), X, timesteps)


@pytest.mark.parametrize("timesteps", [0, -3, True, 4.0, "8"])
def test_evaluate_checks_the_number_of_steps(timesteps):
    with pytest.raises(SettingError, match="timesteps must be an integer of at least 1"):
        ts.evaluate(converted(), (X, torch.zeros(16, dtype=torch.long)), timesteps=timesteps)


BAD_SETTINGS = {
    "beta of one": ({"beta": 1.0}, r"beta must be in \[0, 1\)"),
    "negative beta": ({"beta": -0.1}, r"beta must be in \[0, 1\)"),
    "beta is not a number": ({"beta": float("nan")}, r"beta must be in \[0, 1\)"),
    "hard reset with beta": ({"beta": 0.5, "reset": "hard"}, "hard reset discards.*set beta=0"),
    "hard reset in windows": (
        {"reset": "hard", "schedule": ts.schedules.LayerSynchronous()}, "hard reset or a leak loses.*reset='soft'",
    ),
    "percentile of zero": ({"percentile": 0.0}, r"percentile must be in \(0, 100\]"),
    "percentile above 100": ({"percentile": 101.0}, r"percentile must be in \(0, 100\]"),
    "unknown granularity": ({"granularity": "pixel"}, "granularity must be 'layer', 'channel' or 'neuron'"),
    "unknown pooling": ({"pooling": "average"}, "pooling must be one of lateral-inhibition"),
    "one bit": ({"weight_bits": 1}, "weight bits must be between 2 and 16"),
    "unknown reset": ({"reset": "firm"}, "reset must be 'soft' or 'hard'"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_make_no_sense_are_refused_when_the_recipe_is_made(case):
    settings, message = BAD_SETTINGS[case]
    with pytest.raises(SettingError, match=message):
        ECC(timesteps=4, **settings)


def test_a_recipe_must_be_a_recipe():
    with pytest.raises(SettingError, match=r"one of transpike\.recipes, .* not dict"):
        ts.convert(plain(), {"ecc": 1}, X)


@pytest.mark.parametrize("shape", [(3, 5), (4,), (3, 4, 1), ()])
def test_an_input_of_the_wrong_shape_names_the_right_one(shape):
    with pytest.raises(DataError, match=r"takes \(batch, 4\)"):
        ts.simulate(converted(), torch.zeros(shape))


def test_a_broken_input_is_refused():
    with pytest.raises(DataError, match="NaN or infinite"):
        ts.simulate(converted(), _with_nan())


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_an_empty_batch_is_refused(engine):
    with pytest.raises(DataError, match="batch is empty; pass at least one sample"):
        ts.simulate(converted(), X[:0], engine=engine)


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_recording_an_unknown_layer_lists_those_that_there_are(engine):
    with pytest.raises(SettingError, match=r"there is no spiking layer named nonsense; choose from .*1.*input"):
        ts.simulate(converted(), X, record=["nonsense"], engine=engine)


def test_an_unknown_engine_lists_the_others():
    with pytest.raises(
        SettingError, match="there is no engine named 'loihi'; choose from auto, dense, event, reference"
    ):
        ts.simulate(converted(), X, engine="loihi")


@pytest.mark.parametrize("memory", [0, -5])
def test_a_memory_budget_is_positive(memory):
    with pytest.raises(SettingError, match="memory limit must be positive"):
        ts.simulate(converted(), X, memory=memory)


def test_the_reference_engine_has_no_memory_budget():
    with pytest.raises(SettingError, match="reference engine has no memory limit"):
        ts.simulate(converted(), X, engine="reference", memory=100)


def test_an_unknown_layer_of_a_graph_lists_the_others():
    with pytest.raises(SettingError, match="there is no layer named 'nonsense'; the layers are input, 0, 1, 2"):
        ts.capture(plain(), X)["nonsense"]


def test_evaluation_without_targets_says_what_it_wants():
    with pytest.raises(DataError, match=r"needs targets: pass batches of \(input, target\)"):
        ts.evaluate(converted(), X)


def test_evaluation_with_too_few_targets_counts_both():
    with pytest.raises(DataError, match="16 inputs and 5 targets"):
        ts.evaluate(converted(), [(X, torch.zeros(5, dtype=torch.long))])


def test_evaluation_without_samples_is_refused():
    with pytest.raises(DataError, match="no samples"):
        ts.evaluate(converted(), [])


def test_a_shared_activation_before_a_pool_names_both_and_the_other_rule():
    class Shared(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(x)
            return nn.functional.max_pool2d(x, 2).flatten(1) + nn.functional.avg_pool2d(x, 2).flatten(1)

    x = torch.rand(16, 1, 4, 4)
    with pytest.raises(UnsupportedModel, match=r"max_pool2d cannot move before relu.*lateral-inhibition"):
        ts.convert(Shared(), ECC(timesteps=4, pooling="before-neuron"), x)


def test_an_uneven_adaptive_maximum_is_refused_with_its_sizes():
    model = nn.Sequential(nn.ReLU(), nn.AdaptiveMaxPool1d(3), nn.Flatten())
    with pytest.raises(UnsupportedModel, match="windows of different sizes"):
        ts.convert(model, ECC(timesteps=4), torch.rand(16, 2, 7))


@pytest.mark.parametrize("case", [small_cnn(), mlp(), network(3)], ids=["small_cnn", "mlp", "network(3)"])
def test_a_model_is_left_as_it_was(case):
    before = {name: value.clone() for name, value in case.model.state_dict().items()}
    case.model.train()
    ts.convert(case.model, ECC(timesteps=4), case.calibration)
    assert case.model.training
    after = case.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    case.model.eval()
