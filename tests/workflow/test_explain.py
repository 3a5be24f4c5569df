"""Where the accuracy went: errors that add up, originals that give it back, planted faults that are found first."""

import dataclasses
import json

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import transpike as ts
from faults import neurons, scaled_threshold, without_bias, wrongly_folded
from networks import cases, mlp, small_cnn
from stored import stored
from transpike.cli import main
from transpike.errors import DataError, SettingError
from transpike.recipes import BSNN, CQ, ECC, SNM, T2FSNN, YOSO, FewSteps
from transpike.schedules import LayerSynchronous
from transpike.workflow.explain.case import Case
from transpike.workflow.explain.layer_errors import LayerSums
from transpike.workflow.explain.run import FAULT, Explanation

COSTS = 3.0  # points that a planted fault must cost to count
SAMPLES = 200


@settings(max_examples=15)
@given(
    cases(),
    st.sampled_from(
        [ECC(6, percentile=97.0), SNM(5), ECC(6, schedule=LayerSynchronous()), YOSO(8, tau=2.0, retime=False)]
    ),
)
def test_the_parts_of_every_error_add_up_for_every_sample_and_neuron(case, recipe):
    snn = ts.convert(case.graph, recipe, case.calibration, exact_grid=False)
    x = case.x.abs()
    found = ts.explain(snn, (x, torch.zeros(len(x), dtype=torch.long)), oracle=False, changes=False)
    for one in found.layers:
        total = one.carried + one.clipping + one.flooring + one.unevenness
        scale = one.mean_activation or 1.0
        assert total * scale == pytest.approx(one.rate - one.mean_activation, abs=1e-6 * max(1.0, abs(one.rate)))
        assert one.clipping <= 1e-9 and -1.0 <= one.correlation <= 1.0 + 1e-9 and 0 <= one.dead <= 1


@pytest.mark.parametrize("recipe", [ECC(8, percentile=99.0), SNM(6), YOSO(12)], ids=str)
def test_layers_run_one_by_one_answer_as_the_engine_does(recipe):
    case = small_cnn()
    x = torch.cat([case.x, case.calibration])
    snn = ts.convert(case.graph, recipe, case.calibration, exact_grid=False)
    explained = Case.of(snn, (x, case.graph.run(x).argmax(1)), 40, recipe.timesteps, ts.tasks.Classification())
    right = explained.run(snn.graph)
    predicted = ts.simulate(snn, x[:40], engine="reference").logits[-1].argmax(1)
    assert int((right != (predicted == explained.y)).sum()) <= 1  # a tie in float32
    both, *_ = explained.compared({n.name: LayerSums() for n in neurons(snn.graph)}, False, None, lambda: None)
    assert torch.equal(both, right)


def test_a_network_that_is_its_source_has_no_error_and_nothing_to_regain():
    case = small_cnn()
    model = ts.prepare(case.model, ts.activations.QuantisedClip(6), case.calibration).eval()
    snn = ts.convert(model, CQ(6, schedule=LayerSynchronous()), case.calibration, exact_grid=False)
    x = torch.cat([case.x, case.calibration])
    found = ts.explain(snn, (x, model(x).detach().argmax(1)), changes=False)
    assert found.accuracy == found.ann_accuracy == 1.0 and not found.faults
    assert all(one.unevenness_size < 1e-5 and one.regained == 0 for one in found.layers)


def test_fits_are_those_of_rates_to_activations_and_rnl_says_what_to_expect():
    """K(t) and 2 Ω/t worked out from what the layer sends, sample by sample."""
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(8, granularity="layer", percentile=100.0), case.calibration, exact_grid=False)
    x = torch.cat([case.x, case.calibration])[:20]
    found = ts.explain(snn, (x, torch.zeros(20, dtype=torch.long)), oracle=False, renew=False, changes=False)
    one = found.layers[0]
    assert [t for t, _, _ in one.fits] == [1, 2, 4, 8]
    threshold, activation = snn.graph[one.name].op.threshold, {}
    snn.source.run(x, observe=lambda node, inputs, output: activation.update({node.name: output}))
    rates = (activation[one.name] / threshold).flatten(1).double()
    train = ts.simulate(snn, x, record=[one.name], engine="reference").trains[one.name].flatten(2).double()
    for t, fit, estimate in one.fits:
        k = (rates - train[:t].mean(0)).square().sum(1) / rates.square().sum(1)
        assert fit == pytest.approx(float(k.mean()), rel=1e-5)
        assert estimate == pytest.approx(float((2 * rates.sum(1) / rates.square().sum(1) / t).mean()), rel=1e-5)
    # the first layer hears a constant current: a staircase, whose fit stays below the estimate and falls faster
    assert all(fit < estimate for _, fit, estimate in one.fits)
    assert one.fits[-1][1] < one.fits[0][1] / 8
    assert "Largest error of the rates in" in ts.report.text(found)
    windows = ts.convert(case.graph, ECC(8, schedule=LayerSynchronous()), case.calibration, exact_grid=False)
    found = ts.explain(windows, (x, torch.zeros(20, dtype=torch.long)), oracle=False, renew=False, changes=False)
    assert [t for t, _, _ in found.layers[0].fits] == [8]


@dataclasses.dataclass
class Trained:
    model: nn.Module
    snn: ts.SNN
    data: tuple
    images: torch.Tensor
    preprocessing: object
    base: Explanation

    def explained(self, snn: ts.SNN, **settings):
        return ts.explain(snn, self.data, samples=SAMPLES, **{"changes": False} | settings)

    @property
    def names(self) -> list[str]:
        return [node.name for node in neurons(self.snn.graph)]


@pytest.fixture(scope="module")
def trained() -> Trained:
    data = ts.data.load("digits")
    model = stored("vgg")
    images = data.train.batch(torch.arange(300))[0]
    snn = ts.convert(model, ECC(48), images, preprocessing=data.preprocessing)
    test = data.test.batch(torch.arange(SAMPLES))
    return Trained(model, snn, test, images, data.preprocessing, ts.explain(snn, test, samples=SAMPLES, changes=False))


def planted(case: Trained) -> dict[str, tuple[str, ts.SNN]]:
    """Fault → (where, the network that has it)."""
    found = {}
    norms = [part for part in case.model if isinstance(part, nn.BatchNorm2d)]
    for name in case.names:
        for factor in (0.25, 4.0, 16.0):
            found[f"{factor} × the threshold of {name}"] = name, scaled_threshold(case.snn, name, factor)
        channels = range(case.snn.graph[name].shape[0])
        harmed = [without_bias(case.snn, name, channel) for channel in channels]
        worst = min(harmed, key=lambda snn: ts.evaluate(snn, case.data).final.accuracy)
        found[f"a bias of {name}"] = name, worst
    for name, normal in zip(case.names, norms, strict=False):
        for what in ("mean", "eps"):
            found[f"{name} without its {what}"] = name, wrongly_folded(case.snn, name, normal, what)
    return found


def test_nothing_is_called_a_fault_in_a_network_without_one(trained):
    assert not trained.base.faults and trained.base.ann_accuracy - trained.base.accuracy < 0.01


def test_planted_faults_that_cost_something_are_ranked_first(trained):
    costly, first = [], []
    for what, (name, snn) in planted(trained).items():
        found = trained.explained(snn, oracle=False)
        if 100 * (trained.base.accuracy - found.accuracy) >= COSTS:
            costly.append(what)
            if found.ranked[0].name == name and found.faults and found.faults[0].name == name:
                first.append(what)
    assert len(costly) >= 6 and {what.split(" of ")[0].split(" without ")[-1] for what in costly} >= {
        "0.25 × the threshold"
    }
    assert any("mean" in what for what in costly)
    assert len(first) >= 0.9 * len(costly), set(costly) - set(first)


def test_a_pool_of_single_steps_is_found_in_what_the_layer_behind_it_hears(trained):
    other = ts.convert(trained.model, ECC(48, pooling="or"), trained.images, preprocessing=trained.preprocessing)
    pool = next(node for node in other.graph if "pool" in node.op.describe())
    harmed = dataclasses.replace(trained.snn, graph=trained.snn.graph.replaced(pool))
    found = trained.explained(harmed, oracle=False)
    assert 100 * (trained.base.accuracy - found.accuracy) >= COSTS
    assert found.faults[0].name == trained.names[1] and found.faults[0].fault == "weights"


def test_a_fault_is_told_by_its_part(trained):
    wrong = scaled_threshold(trained.snn, trained.names[1], 0.25)
    first = trained.explained(wrong, oracle=False, changes=True)
    assert (first.faults[0].name, first.faults[0].fault) == (trained.names[1], "neurons")
    assert f"reconvert the neurons of {trained.names[1]}" in [one.what for one in first.changes]
    assert "Layers that recover two points or more" in ts.report.text(first) and first.layers[0].regained is None


def test_a_wrong_output_layer_is_found_by_converting_it_anew(trained):
    output = trained.snn.graph.output
    wrong = dataclasses.replace(output, op=dataclasses.replace(output.op, weight=output.op.weight.flip(0)), origin=())
    harmed = dataclasses.replace(trained.snn, graph=trained.snn.graph.replaced(wrong))
    found = trained.explained(harmed, changes=True, oracle=False)
    assert found.accuracy < 0.5 and found.changes[0].what == f"reconvert {output.name}" and found.changes[0].low > 30


def test_thresholds_by_channel_are_tried_where_the_recipe_has_one_a_layer(trained):
    snn = ts.convert(trained.model, ECC(16, granularity="layer"), trained.images, preprocessing=trained.preprocessing)
    found = trained.explained(snn, changes=True)
    tried = {one.what: one for one in found.changes}
    name = found.first_to_change[0].name
    by_channel = tried[f"channel-wise thresholds on {name}"]
    fine = ts.convert(trained.model, ECC(16), trained.data[0], preprocessing=trained.preprocessing, exact_grid=False)
    changed = dataclasses.replace(
        snn, graph=snn.graph.replaced(dataclasses.replace(snn.graph[name], op=fine.graph[name].op))
    )
    assert by_channel.gain == pytest.approx(100 * (trained.explained(changed).accuracy - found.accuracy))
    assert f"correct the biases before {name}" in tried and any("a window for each layer" in what for what in tried)


def test_a_source_that_does_not_convert_again_is_a_remark(trained, monkeypatch):
    def refuse(*arguments, **settings):
        raise SettingError("not today")

    monkeypatch.setattr("transpike.workflow.explain.case.convert", refuse)
    found = trained.explained(trained.snn, oracle=False)
    assert "not today" in found.remarks[0] and not found.faults and found.layers[0].renewed is None
    assert "not today" in ts.report.text(found)


def test_pools_that_the_recipe_chose_show_in_the_originals(trained):
    snn = ts.convert(trained.model, ECC(48, pooling="or"), trained.images, preprocessing=trained.preprocessing)
    found = trained.explained(snn)
    assert 100 * (trained.base.accuracy - found.accuracy) >= COSTS
    best = found.first_to_change[0]
    assert not found.faults and best.name in trained.names[1:3] and (best.regained or 0) >= FAULT


def test_the_change_that_undoes_a_fault_is_tried_and_its_gain_measured(trained):
    name = trained.names[0]
    harmed = scaled_threshold(trained.snn, name, 0.25)
    found = trained.explained(harmed, changes=True)
    best = found.changes[0]
    assert best.what == f"4 × the threshold of {name}" and best.low > 0
    assert best.gain == pytest.approx(100 * (trained.base.accuracy - found.accuracy))
    assert any(change.what == "raise T to 72" for change in found.changes)
    assert name in ts.report.text(found) and "mostly" in ts.report.text(found)


def test_progress_ends_at_its_total(trained):
    seen = []
    trained.explained(trained.snn, changes=True, progress=lambda done, total: seen.append((done, total)))
    done = [one for one, _ in seen]
    assert done == sorted(set(done)) and seen[-1][0] == seen[-1][1] and len(seen) > 30


def test_the_result_is_plain_data_text_and_a_picture(trained, tmp_path):
    content = json.loads(json.dumps(trained.base.to_json(), allow_nan=False))
    assert [one["name"] for one in content["layers"]] == trained.names and content["faults"] == []
    assert all(len(content["scatter"][name]) > 100 for name in trained.names)
    for ending in ("json", "txt", "png"):
        assert ts.report.save(trained.base, tmp_path / f"why.{ending}").stat().st_size > 100
    ts.save(trained.snn, tmp_path / "net.transpike")
    call = ["explain", str(tmp_path / "net.transpike"), "--samples", "40"]
    shown = CliRunner().invoke(main, call)
    assert shown.exit_code == 0 and "accuracy change" in shown.stdout and "raise T to 72" in shown.stdout
    found = json.loads(CliRunner().invoke(main, [*call, "--json", "--no-oracle", "--no-changes"]).stdout)
    assert found["samples"] == 40 and found["layers"][0]["regained"] is None


def test_what_cannot_be_explained_is_refused_with_the_reason():
    case = small_cnn()
    data = (case.x, torch.zeros(len(case.x), dtype=torch.long))
    for recipe, words in (
        (BSNN(8), "do not support phase cycles"), (T2FSNN(8, tau=3.0, wait_steps=4, epochs=0), "wait steps"),
        (ECC(8, schedule=LayerSynchronous(4)), "wait steps"), (ECC(8, pooling="before-neuron"), "follow a pool"),
    ):  # fmt: skip
        snn = ts.convert(case.graph, recipe, case.calibration.abs())
        with pytest.raises(SettingError, match=words):
            ts.explain(snn, data)
    snn = ts.convert(mlp().graph, FewSteps(4), mlp().calibration)
    with pytest.raises(DataError, match="needs targets"):
        ts.explain(snn, mlp().x)
    for samples in (0, -1, 2.5, True):
        with pytest.raises(SettingError, match="samples must be"):
            ts.explain(snn, data, samples=samples)


def test_a_network_without_spiking_layers_is_explained_by_a_remark(tmp_path):
    snn = ts.convert(nn.Sequential(nn.Linear(4, 3)).eval(), ECC(4), torch.rand(16, 4), allow_no_neurons=True)
    found = ts.explain(snn, [(torch.rand(16, 4), torch.arange(16) % 3)])
    assert not found.layers and found.accuracy == found.ann_accuracy
    assert found.remarks == ("there is no spiking layer to compare with the source network",)
    assert json.dumps(found.to_json()) and found._repr_html_()
    for ending in ("svg", "html"):
        assert ts.report.save(found, tmp_path / f"found.{ending}").stat().st_size > 500
