"""Networks in which nothing spikes: refused unless they are asked for, reported as what they are, and never picked."""

import dataclasses
import io
import itertools

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console
from torch import nn

import transpike as ts
from transpike.cli import main
from transpike.errors import GateFailed, UnsupportedModel, UnsupportedOperator
from transpike.lowering.activity import multiplications

T = 16
torch.manual_seed(0)
X, Y = torch.rand(64, 12), torch.arange(64) % 5


def network(*activations: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    widths = (12, *[16] * len(activations), 5)
    layers = [nn.Linear(*pair) for pair in itertools.pairwise(widths)]
    return nn.Sequential(layers[0], *(part for pair in zip(activations, layers[1:], strict=True) for part in pair))


ANALOGUE = network(nn.SiLU(), nn.ELU())


@pytest.fixture(scope="module")
def kept() -> ts.SNN:
    return ts.convert(ANALOGUE, ts.recipes.ECC(T), X, on_unsupported="keep", allow_no_neurons=True)


@pytest.fixture(scope="module")
def silent() -> ts.SNN:
    """Neurons that do not fire on inputs below 0."""
    model = network(nn.ReLU())
    model[0].bias.data.zero_()
    model[0].weight.data.abs_()
    return ts.convert(model, ts.recipes.ECC(T), X)


def test_the_advice_to_keep_operators_says_what_keeping_costs() -> None:
    with pytest.raises(UnsupportedOperator) as refused:
        ts.convert(ANALOGUE, ts.recipes.ECC(T), X)
    assert 'on_unsupported="keep"' in str(refused.value)
    assert "real numbers" in str(refused.value) and "multiply in every time step" in str(refused.value)


@pytest.mark.parametrize(("model", "words"), [(ANALOGUE, "1 (silu (analogue)), 3 (elu (analogue))"), (
    network(), "the network has no activation")])  # fmt: skip
@pytest.mark.parametrize("recipe", [ts.recipes.ECC(T), ts.recipes.SNM(timesteps=T)])
def test_a_network_in_which_nothing_can_spike_is_refused(model, words, recipe) -> None:
    with pytest.raises(UnsupportedModel) as refused:
        ts.convert(model, recipe, X, on_unsupported="keep")
    assert "nothing would spike" in str(refused.value) and words in str(refused.value)
    assert "allow_no_neurons=True (--allow-no-neurons)" in str(refused.value)
    assert isinstance(ts.convert(model, recipe, X, on_unsupported="keep", allow_no_neurons=True), ts.SNN)


def test_one_layer_of_neurons_is_enough() -> None:
    snn = ts.convert(network(nn.SiLU(), nn.ReLU()), ts.recipes.ECC(T), X, on_unsupported="keep")
    assert not any("nothing can spike" in remark for remark in ts.evaluate(snn, (X, Y)).remarks)


def test_an_evaluation_leads_with_it_and_counts_the_multiplications(kept: ts.SNN) -> None:
    report = ts.evaluate(kept, (X, Y))
    assert report.final.spikes == 0 and report.final.accuracy == report.ann_accuracy
    # the first layer once, because its input is constant; the layers after analogue activations in every step
    once, later = 12 * 16, 16 * 16 + 16 * 5  # SiLU and ELU are counted as evaluations
    assert report.final.macs == once + T * later
    times = report.final.macs / multiplications(kept.source)
    assert report.remarks[0] == (
        f"nothing can spike: the network has no neuron, and computes with real numbers in all layers, {times:.3g} times "
        f"the multiplications of the ANN at T={T}"
    )
    assert f"Note: {report.remarks[0]}" in ts.report.text(report)


def test_neurons_that_do_not_fire_are_said(silent: ts.SNN) -> None:
    report = ts.evaluate(silent, (-X, Y))
    assert report.final.spikes == 0 and report.remarks[0].startswith("no neuron fired")


def test_cost_report_and_explanation_work_without_a_spike(kept: ts.SNN, silent: ts.SNN, tmp_path) -> None:
    for snn, data in ((kept, (X, Y)), (silent, (-X, Y))):
        cost = ts.cost(snn, data, activation_bits=(4,), weight_bits=(4,))
        assert cost.verdict.startswith("Nothing spikes") and "cheaper" not in cost.verdict
        assert all(one.break_even_rate is None for one in cost.models)
        results = [cost, ts.explain(snn, data, samples=16), ts.record(snn, data, samples=2)]
        for name in ("all.html", "all.json", "all.txt"):
            ts.report.save(results, tmp_path / name)
        assert "Nothing spikes" in (tmp_path / "all.html").read_text()
        for one in (cost.report, *results):
            text = io.StringIO()
            ts.report.show(one, Console(file=text, width=100))
            assert text.getvalue()
        for one in results[:2]:
            ts.report.save(one, tmp_path / "one.png")


def test_what_does_not_spike_is_never_picked_and_on_no_front() -> None:
    model = network(nn.ReLU())
    found = ts.compare(model, [ts.recipes.ECC()], X, ts.ComparisonSettings(timesteps=(1, 8)), data=(X, Y))
    one, eight = found.measured
    mute = dataclasses.replace(one, accuracy=1.0, drop=-1.0, spikes=0.0, spike_rate=0.0, synaptic_operations=0.0)
    table = dataclasses.replace(found, rows=(mute, eight))
    assert table.pick("drop<=100 min=synops") is eight and table.pick("max=accuracy") is eight
    assert table.front("synaptic_operations") == (eight,) == table.front("total_steps")
    assert "fewest synaptic operations" not in ts.report.text(dataclasses.replace(table, rows=(mute,)))
    with pytest.raises(GateFailed, match=r"ecc\(\) at T=1 sends no spikes"):
        dataclasses.replace(table, rows=(mute,)).pick("drop<=100 min=synops")


def test_a_comparison_refuses_recipes_under_which_nothing_spikes() -> None:
    settings = ts.ComparisonSettings(timesteps=(4,), on_unsupported="keep")
    found = ts.compare(ANALOGUE, [ts.recipes.ECC()], X, settings, data=(X, Y))
    assert not found.measured and "nothing would spike" in found.refused[0].reason


def test_the_command_line_takes_it(tmp_path) -> None:
    (tmp_path / "analogue.py").write_text(
        "from torch import nn\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.SiLU(), nn.Linear(8, 10))\n"
    )
    words = ["convert", "--model", "py:analogue:build", "--data", "digits", "--on-unsupported", "keep", "--output"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        refused = CliRunner().invoke(main, [*words, str(tmp_path / "net.transpike")])
        assert refused.exit_code == 3 and "--allow-no-neurons" in refused.output
        assert not (tmp_path / "net.transpike").exists()
        done = CliRunner().invoke(main, [*words, str(tmp_path / "net.transpike"), "--allow-no-neurons"])
    assert done.exit_code == 0, done.output
    assert "nothing can spike" in done.output
