"""Softmax, sigmoid and similar functions after the last layer are computed once, on the accumulated answer."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, assert_same_spikes, mlp, run
from stored import stored
from transpike.engines import Reference
from transpike.errors import UnsupportedOperator
from transpike.recipes import ECC
from transpike.workflow.early_exit import answer_early, fit_exit
from transpike.workflow.last_functions import split_answer

ENDS = {
    "softmax": nn.Softmax(1),
    "log_softmax": nn.LogSoftmax(1),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "sigmoid, moved": nn.Sequential(nn.Sigmoid(), nn.Unflatten(1, (3, 1)), nn.Identity()),
}


@pytest.mark.parametrize(
    "schedule", [ts.schedules.Streaming(), ts.schedules.LayerSynchronous()], ids=["steps", "windows"]
)
@pytest.mark.parametrize("end", ENDS)
def test_the_answer_is_the_function_of_the_accumulated_output(end, schedule, tmp_path):
    case, function = mlp(), ENDS[end]
    recipe = ECC(timesteps=12, schedule=schedule)
    bare = ts.convert(case.model, recipe, case.calibration)
    snn = ts.convert(nn.Sequential(case.model, function).eval(), recipe, case.calibration)
    before, after = run(bare, case.x, timesteps=12), run(snn, case.x, timesteps=12)
    for node in bare.graph.cells:
        assert before.trains[node.name].any()
        assert torch.equal(before.trains[node.name], after.trains[f"0.{node.name}"])
    expected = torch.stack([function(answer.double()) for answer in before.logits])
    assert torch.allclose(after.logits.double(), expected, rtol=0, atol=1e-6)  # logits are rounded to float32
    assert torch.allclose(snn.source.run(case.x), function(case.model(case.x)), rtol=0, atol=1e-6)
    assert any("after the last layer" in remark for remark in snn.remarks) and bare.remarks == ()
    for engine in ENGINES:
        assert_same_spikes(after, run(snn, case.x, engine, timesteps=12))
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    assert torch.equal(loaded.run(case.x).logits, after.logits)


def test_every_recipe_ends_with_the_function():
    case = mlp()
    model = nn.Sequential(case.model, nn.Softmax(1)).eval()
    for recipe in (ts.recipes.RMP(timesteps=8), ECC(timesteps=8, readout=ts.readouts.SpikeCount()),
                   ECC(timesteps=8, readout=ts.readouts.DelayedWindow(delay=3))):  # fmt: skip
        bare = ts.convert(case.model, recipe, case.calibration)
        snn = ts.convert(model, recipe, case.calibration)
        expected = torch.softmax(bare.run(case.x).logits.double(), -1)
        assert torch.allclose(snn.run(case.x).logits.double(), expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def pair() -> tuple[ts.SNN, ts.SNN, ts.data.Dataset]:
    """A network that knows the digits, and the same with a log-softmax after it."""
    data, model = ts.data.load("digits"), stored("small-cnn")
    images = data.train.batch(torch.arange(300))[0]
    first, second = (
        ts.convert(one, ECC(24), images, preprocessing=data.preprocessing)
        for one in (model, nn.Sequential(model, nn.LogSoftmax(1)).eval())
    )
    return first, second, data


def test_evaluation_and_explanation_do_not_depend_on_a_softmax(pair):
    bare, snn, data = pair
    test = data.test.batch(torch.arange(120))
    one, other = ts.evaluate(bare, [test]), ts.evaluate(snn, [test])
    assert [answer.accuracy for answer in one.curve] == [answer.accuracy for answer in other.curve]
    assert one.ann_accuracy == other.ann_accuracy > 0.9
    explained = [ts.explain(net, test, samples=40, changes=False) for net in (bare, snn)]
    assert explained[0].accuracy == explained[1].accuracy


def test_an_exit_policy_reads_the_answers_of_the_network(pair):
    _, snn, data = pair
    fitted = fit_exit(snn, data.test.batches(64, limit=300), drop=2.0)
    x = data.test.batch(torch.arange(300, 360))[0]
    whole, found = ts.simulate(fitted, x).logits, answer_early(fitted, x)
    stops = fitted.exit.stops(whole)
    assert torch.equal(found.timesteps, stops) and int(stops.min()) < 24
    assert torch.equal(found.logits, whole.gather(0, (stops - 1)[None, :, None].expand(1, -1, 10))[0])


class Middle(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sigmoid(self.first(x)))


class Twice(Middle):
    """The function has two readers, and both are read by a sum."""

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.sigmoid(self.first(torch.relu(x)))
        return 2 * scores + scores.flip(1)


class OverTheBatch(Middle):
    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.first(x), 0)


@pytest.mark.parametrize("kind", [Middle, OverTheBatch])
def test_the_function_elsewhere_is_refused(kind):
    with pytest.raises(UnsupportedOperator, match=r"after the last layer only|across the batch"):
        ts.convert(kind().eval(), ECC(timesteps=8), torch.rand(8, 5))


def test_sums_and_factors_behind_the_function_are_computed_on_the_answer(tmp_path):
    model, x = Twice().eval(), torch.rand(8, 5)
    snn = ts.convert(model, ECC(timesteps=8), x)
    trace = ts.simulate(snn, x, engine="reference")
    current = snn.run_prepared(x, 8, Reference(), None, (), True)
    assert torch.equal(trace.logits, current.logits) and "computed once for each answer" in snn.remarks[0]
    layers = split_answer(snn.source).layers
    assert layers.output.name == "first" and snn.graph.output.name == "first"
    scores = torch.sigmoid(replace(snn, calibrated_readout=snn.readout.inside).run(x).logits.double())
    assert torch.allclose(trace.logits.double(), 2 * scores + scores.flip(2), rtol=0, atol=1e-6)
    for engine in ENGINES:
        assert torch.equal(ts.simulate(snn, x, engine=engine).logits, trace.logits)
    assert torch.equal(ts.load(ts.save(snn, tmp_path / "net.transpike")).run(x).logits, trace.logits)


def test_a_network_that_is_only_a_function_behind_no_layer_is_converted():
    snn = ts.convert(copy.deepcopy(ENDS["softmax"]), ECC(timesteps=4), torch.rand(8, 5), allow_no_neurons=True)
    x = torch.rand(3, 5)
    assert torch.allclose(snn(x), torch.softmax(x, 1), atol=1e-3)
