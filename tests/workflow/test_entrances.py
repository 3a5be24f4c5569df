"""What every function that users call refuses, and that the caller's autocast changes nothing."""

import inspect

import pytest
import torch

import transpike as ts
from stored import stored
from transpike.errors import SettingError
from transpike.workflow.cascade import cascade

OF_SNN = (
    ts.evaluate, ts.simulate, ts.cost, ts.explain, ts.fit_exit, ts.answer_early, ts.finetune, ts.record, ts.chip_fit,
    ts.run_processor, ts.export, ts.generate, ts.cuts, ts.verify, ts.push_to_hub, cascade,
)  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, torch.Tensor]:
    x, y = ts.data.load("digits").test.batch(torch.arange(32))
    return x.float() / 255, y


def test_every_function_of_a_converted_network_is_listed_here():
    found = {getattr(ts, name) for name in ts.__all__ if inspect.isfunction(getattr(ts, name))}
    first = {one: next(iter(inspect.signature(one).parameters), "") for one in found}
    assert {one for one, name in first.items() if name == "snn"} - {ts.save} == set(OF_SNN) - {cascade}


@pytest.mark.parametrize("function", OF_SNN, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    ("wrong", "words"),
    [("net.transpike", r"not str: read it with transpike\.load"), (torch.nn.ReLU(), "not ReLU: tran")],
)
def test_something_else_than_a_converted_network_is_refused(function, wrong, words, digits):
    with pytest.raises(SettingError, match=rf"{function.__name__} takes a converted network, an SNN, {words}"):
        function(wrong, digits)


def test_autocast_of_the_caller_changes_nothing(digits):
    x, y = digits
    model = stored("small-cnn")

    def results() -> tuple[torch.Tensor, ...]:
        snn = ts.convert(model, ts.recipes.ECC(timesteps=8), x)
        report = ts.evaluate(snn, (x, y), engine="dense")
        thresholds = [node.op.threshold for node in snn.graph if isinstance(node.op, ts.neurons.IntegrateAndFire)]
        trace = ts.simulate(snn, x, engine="dense")
        accuracies = torch.tensor([report.ann_accuracy, *(answer.agreement for answer in report.curve)])
        return (snn(x), trace.logits, accuracies, *thresholds)

    expected = results()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results()
        assert torch.is_autocast_enabled("cpu")
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_data_with_gradients_is_data(digits):
    x, y = digits
    snn = ts.convert(stored("small-cnn"), "ecc", x.clone().requires_grad_())
    assert ts.evaluate(snn, (x.clone().requires_grad_(), y)).samples == 32
    assert ts.compare(stored("small-cnn"), ["ecc"], x.clone().requires_grad_(), data=(x, y)).rows


@pytest.mark.parametrize("wrong", ["banana", None, True])
def test_on_unsupported_is_error_or_keep(wrong, digits):
    with pytest.raises(SettingError, match="on_unsupported must be one of error, keep, not"):
        ts.convert(stored("small-cnn"), "ecc", digits[0], on_unsupported=wrong)
