"""The quantised twin, break-even rates, the curve and its front; constants of one's own."""

import dataclasses
import json
import math

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import transpike as ts
from networks import cases, mlp, small_cnn
from transpike.cli import main
from transpike.core.alphabet import BINARY, TERNARY, Alphabet
from transpike.energy import Lemaire, Operations, SpatialDataflow, TTFSProcessor
from transpike.errors import FileError, SettingError
from transpike.recipes import CAT, CQ, ECC, SNM, YOSO, BurstLIP
from transpike.report import energy_card
from transpike.results.quantity import Quantity
from transpike.schedules import LayerSynchronous
from transpike.workflow.cost.quantised_baseline import Counted, levels, quantised


def labelled(case, samples=40):
    """Inputs and the source network's own answers, so that accuracies differ."""
    x = torch.cat([case.x, case.calibration])[:samples]
    return x, case.graph.run(x).argmax(1)


def test_levels_are_the_values_that_a_sum_can_take():
    assert levels(BINARY, 7, None) == 8 and levels(TERNARY, 7, None) == 15
    assert levels(Alphabet("levels", 3), 5, None) == 16 and levels(Alphabet("time", 256), 24, 24) == 25
    assert levels(Alphabet("graded"), 5, None) is None and levels(Alphabet("time", 0), 1, None) is None


@pytest.mark.parametrize(
    ("recipe", "bits"),
    [(ECC(7), 3), (ECC(8), 4), (SNM(7), 4), (BurstLIP(5, gamma=3), 4), (YOSO(24), 5), (YOSO(12), 4)],
    ids=str,
)
def test_the_quantised_baseline_has_as_many_bits_as_levels_need(recipe, bits):
    case = small_cnn()
    snn = ts.convert(case.graph, recipe, case.calibration)
    assert set(quantised(snn, recipe.timesteps).bits.values()) == {bits}


def test_the_quantised_baseline_of_a_network_that_was_trained_with_its_floor_clip_is_that_network():
    """QCFS at 2^b − 1 levels: the quantised twin, the source and the layer-synchronous network are one function."""
    case = small_cnn()
    model = ts.prepare(case.model, ts.activations.QuantisedClip(7), case.calibration).eval()
    snn = ts.convert(model, CQ(7, schedule=LayerSynchronous()), case.calibration)
    quantised_baseline, x = quantised(snn, 7), case.x
    with torch.no_grad():
        assert torch.allclose(quantised_baseline.graph.run(x), model(x), atol=1e-4) and set(
            quantised_baseline.bits.values()
        ) == {3}
    coarse = quantised(snn, 7, activation_bits=1)
    assert not torch.allclose(coarse.graph.run(x), model(x).detach(), atol=1e-2)


def test_weights_of_the_quantised_baseline_are_those_of_the_recipe():
    case = small_cnn()
    snn = ts.convert(case.graph, YOSO(12, weight_bits=5), case.calibration)
    quantised_baseline = quantised(snn, 12)
    weights = [n.op.weight for n in quantised_baseline.graph if hasattr(n.op, "weight") and n.op.weight.ndim > 1]
    assert quantised_baseline.weight_bits == 5 and all(len(w.abs().unique()) <= 16 for w in weights)
    assert quantised(ts.convert(case.graph, ECC(4), case.calibration), 4).weight_bits is None


@settings(max_examples=15)
@given(cases(), st.integers(0, 2**31))
def test_products_without_a_zero_are_counted_as_a_brute_force_counts_them(case, seed):
    snn = ts.convert(case.graph, ECC(3), case.calibration)
    counted = Counted(quantised(snn, 3))
    counted.add(case.x)
    found = {layer.name: layer for layer in counted.activity(8).layers}
    values: dict[str, torch.Tensor] = {}
    counted.quantised_baseline.graph.run(
        case.x, observe=lambda node, inputs, out: values.update({node.name: inputs[0]} if inputs else {})
    )
    for node in counted.quantised_baseline.graph:
        if node.name in found and node.op.weight.ndim > 1:
            ones = dataclasses.replace(node.op, weight=(node.op.weight != 0).float(), bias=None)
            brute = float(ones.run((values[node.name] != 0).float()).double().sum()) / len(case.x)
            assert found[node.name].effective == pytest.approx(brute) and brute <= found[node.name].macs


@pytest.fixture(scope="module")
def result():
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(8), case.calibration)
    return ts.cost(snn, labelled(case), activation_bits=(1, 4), weight_bits=(3, 8)), snn, labelled(case)


def test_at_the_break_even_rate_both_cost_the_same(result):
    found, snn, _ = result
    activity = found.report.activities[found.timesteps]
    checked = 0
    for one in found.models:
        if one.break_even_rate is None:
            continue
        factor = one.break_even_rate / found.spike_rate
        model = ts.energy.table[one.model]()
        assert model.joule(activity.busier(factor)) == pytest.approx(one.ann_joule)
        assert one.break_even_spikes_per_synapse == pytest.approx(factor * found.spikes_per_synapse)
        assert (one.ratio < 1) == (factor > 1)
        checked += 1
    assert checked >= 6 and snn is not None


def test_the_curve_holds_every_answer_and_every_quantised_baseline(result):
    found, _, _ = result
    kinds = [(p.kind, p.timesteps, p.activation_bits, p.weight_bits) for p in found.points]
    assert {t for kind, t, _, w in kinds if kind == "SNN" and w is None} == set(range(1, 9))
    assert {t for kind, t, _, w in kinds if kind == "SNN" and w == 3} == set(range(1, 9))
    assert {(a, w) for kind, _, a, w in kinds if kind == "ANN"} == {
        (2, None), (3, None), (4, None), (3, 3), (3, 8), (1, 3), (1, 8), (4, 3), (4, 8)
    }  # fmt: skip
    # the three levels of T = 2 are too few for the ANN to be as accurate, and 3 bits suffice, fewer than for T = 8
    accuracy = {p.activation_bits: p.accuracy for p in found.points if p.kind == "ANN" and p.weight_bits is None}
    assert found.timesteps == 2 and accuracy[2] < found.report.final.accuracy - 0.005 <= accuracy[3]
    assert set(found.activation_bits.values()) == {3} and found.quantised_baseline_accuracy == accuracy[3]
    for model in ("operations", "lemaire"):
        front = found.front(model)
        joules = [p.energy_joule[model] for p in front]
        assert joules == sorted(joules) and [p.accuracy for p in front] == sorted(p.accuracy for p in front)
        for point in found.points:  # nothing beats the front
            beaten = [
                p for p in front if p.accuracy >= point.accuracy and p.energy_joule[model] <= point.energy_joule[model]
            ]
            assert beaten, point
        assert ": cheapest at " in found.advice(model)


def test_narrower_weights_and_activations_cost_the_ann_less(result):
    found, _, _ = result
    ann = {(p.activation_bits, p.weight_bits): p.energy_joule["operations"] for p in found.points if p.kind == "ANN"}
    assert ann[1, 3] < ann[1, 8] and ann[4, 3] < ann[4, 8]


def test_the_verdict_counts_the_models_that_judge(result):
    found, _, _ = result
    judging = [one for one in found.models if one.ratio is not None and one.judges]
    dear = tuple(dataclasses.replace(one, ratio=2.0, dense_ratio=1.5) for one in found.models if one.ratio is not None)
    assert dataclasses.replace(found, models=dear).verdict == (
        "No energy model favours the SNN at T=2 over the quantised ANN with 3-bit activations"
    )
    cheap = (dataclasses.replace(dear[0], ratio=0.5, dense_ratio=0.2), *dear[1:])
    assert dear[0].judges and dataclasses.replace(found, models=cheap).verdict == (
        f"The SNN at T=2 is cheaper than the quantised ANN with 3-bit activations under 1 of {len(judging)} energy models, and under 1 if the "
        "ANN does not skip zeros"
    )
    assert {one.model for one in judging} == {
        "operations",
        "lemaire",
        "memory-hierarchy",
        "spatial-dataflow",
        "movement",
    }


def test_sensitivity_is_the_ratio_with_half_and_twice_a_constant(result):
    found, _, data = result
    one = next(m for m in found.models if m.model == "operations")
    add = Operations().add
    for factor, ratio in zip((0.5, 2.0), one.sensitivity["add"], strict=True):
        model = Operations(add=Quantity(add.value * factor, add.unit, add.source))
        again = ts.cost(found_snn(result), data, models=model).models[0]
        assert again.ratio == pytest.approx(ratio)


def found_snn(result):
    return result[1]


def test_the_result_is_plain_data_text_and_a_picture(result, tmp_path):
    found, _, _ = result
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["models"][0]["constants"]["add"].startswith("0.1 pJ (Horowitz")
    assert len(content["published_break_even"]) == 3 and content["front"]["operations"]
    words = ts.report.text(found)
    assert "Not counted: " in words and found.verdict in words and "1.72" in words
    for ending in ("json", "txt", "png"):
        assert ts.report.save(found, tmp_path / f"cost.{ending}").stat().st_size > 500


def test_a_generator_of_batches_serves_all_networks():
    case = mlp()
    snn = ts.convert(case.graph, ECC(4), case.calibration)
    x, y = labelled(case)
    batches = ((x[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10))
    found = ts.cost(snn, batches, models=Operations())
    whole = ts.cost(snn, (x, y), models=Operations())
    assert found.quantised_baseline_accuracy == whole.quantised_baseline_accuracy and found.models == whole.models
    assert ts.cost(snn, (x, y), models=Operations(), limit=15).report.samples == 15


def test_the_processor_prices_a_ttfs_network_and_its_quantised_baseline():
    case = small_cnn()
    snn = ts.convert(case.graph, YOSO(12, weight_bits=5), case.calibration)
    found = ts.cost(snn, labelled(case), models=[TTFSProcessor(), SpatialDataflow()])
    assert all(one.ratio is not None for one in found.models) and found.weight_bits == 5


@pytest.mark.parametrize("bits", [0, -3, 2.5, True, 40])
def test_bits_that_cannot_be_are_refused(bits):
    case = mlp()
    snn = ts.convert(case.graph, ECC(4), case.calibration)
    for name in ("activation_bits", "weight_bits"):
        with pytest.raises(SettingError, match="bits"):
            ts.cost(snn, labelled(case), models=Operations(), **{name: (bits,)})


def test_constants_of_ones_own_come_from_a_file(tmp_path):
    file = tmp_path / "chip.toml"
    file.write_text(
        'model = "ttfs-processor"\n[constants]\naccumulate = {value = 0.05, unit = "pJ", source = "our chip, 22 nm"}\n'
        "[settings]\nweight_bits = 4\n"
    )
    model = ts.energy.load(file)
    assert model == TTFSProcessor(accumulate=Quantity(0.05, "pJ", "our chip, 22 nm"), weight_bits=4)
    assert str(model) == "ttfs-processor (weight_bits=4, accumulate=0.05)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = [", "is not TOML"), ('model = "warp"', "model must be one of"), ("", "model must be one of"),
        ('model = "operations"\n[constants]\nmul = {value = 1, unit = "pJ", source = "x"}', "no constant 'mul'; it has"),
        ('model = "operations"\n[constants]\nadd = 0.1', "add must be {value"),
        ('model = "operations"\n[constants]\nadd = {value = 1, unit = "fJ", source = "x"}', "add is in pJ, not in 'fJ'"),
        ('model = "operations"\n[constants]\nadd = {value = "1", unit = "pJ", source = "x"}', "must be a number"),
        ('model = "operations"\n[constants]\nadd = {value = 1, unit = "pJ", source = " "}', "needs a source"),
        ('model = "operations"\n[constants]\nadd = {value = -1, unit = "pJ", source = "x"}', "from 0 to"),
        ('model = "operations"\n[constants]\nadd = {value = nan, unit = "pJ", source = "x"}', "from 0 to"),
        ('model = "operations"\n[settings]\nweight_bits = 4', "no setting 'weight_bits'; it has none"),
        ('model = "ttfs-processor"\n[settings]\nweight_bits = "4"', "weight_bits of ttfs-processor must be a int"),
        ('model = "operations"\nconstant = 3', "constant is unknown"), ('model = "operations"\nconstants = 3', "must be a table"),
    ],
)  # fmt: skip
def test_files_of_constants_that_make_no_sense_are_refused_by_name(tmp_path, text, words):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises((SettingError, FileError), match=words) as error:
        ts.energy.load(file)
    assert (
        "mine.toml" in str(error.value)
        or "of ttfs-processor" in str(error.value)
        or "of operations" in str(error.value)
    )
    with pytest.raises(FileError, match="cannot be read"):
        ts.energy.load(tmp_path / "none.toml")


def test_the_command_says_it_all(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    data = ts.data.load("digits")
    snn = ts.convert(model, ECC(4), data.train.batch(torch.arange(64))[0], preprocessing=data.preprocessing)
    ts.save(snn, tmp_path / "net.transpike")
    (tmp_path / "mine.toml").write_text(
        'model = "lemaire"\n[constants]\nmemory = {value = 1, unit = "pJ", source = "x"}'
    )
    call = [
        "energy",
        str(tmp_path / "net.transpike"),
        "--limit",
        "50",
        "--model",
        "operations",
        "--model",
        str(tmp_path / "mine.toml"),
    ]
    shown = CliRunner().invoke(main, call)
    assert shown.exit_code == 0 and "lemaire" in shown.stdout
    content = json.loads(CliRunner().invoke(main, [*call, "--json", "--activation-bits", "1,2"]).stdout)
    assert content["verdict"] in shown.stdout
    assert [one["model"] for one in content["models"]] == ["operations", "lemaire (memory=1)"]
    assert {p["activation_bits"] for p in content["points"] if p["kind"] == "ANN"} == {1, 2, 3}
    wrong = CliRunner().invoke(main, [*call, "--model", "watts"])
    assert wrong.exit_code == 2 and "must be one of operations" in wrong.output
    assert math.isfinite(content["models"][0]["ratio"])


def test_the_model_of_a_trained_phi_is_its_own_quantised_baseline_in_slots():
    case = small_cnn()
    x = case.calibration.abs()
    model = ts.prepare(case.model, ts.activations.TimeToFirstSpike(12, 2.0), x).eval()
    snn = ts.convert(model, CAT(12, tau=2.0), x)
    assert (
        set(quantised(snn, 12).bits.values()) == {4}
        and Lemaire().joule(snn.run(x, 12, engine=ts.engines.table["auto"]()).activity) > 0
    )


def test_a_network_without_spikes_on_the_data_has_no_ratio_where_the_ann_costs_nothing(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)).eval()
    snn = ts.convert(net, ECC(4, beta=0.0), torch.rand(16, 4)).accepting_any_input()
    data = [(torch.zeros(16, 4), torch.arange(16) % 3)]
    found = ts.cost(snn, data)
    made = json.loads(json.dumps(found.to_json()))
    assert made["spike_rate"] == 0 and any("costs nothing: operations, " in note for note in made["notes"])
    assert {one.ratio is None for one in found.models if one.ann_joule == 0} == {True}
    assert all(one.break_even_missing for one in found.models)
    nothing = "Nothing spikes at T=4, so there is no spiking network to compare with an ANN"
    free = ts.cost(snn, data, models=Operations())
    assert free.verdict == found.verdict == nothing
    for number, one in enumerate((found, free)):
        assert energy_card.text(one) and len(ts.report.tables(one)[0].rows) == len(one.models)
        assert one._repr_html_()
        for ending in ("svg", "html"):
            assert ts.report.save(one, tmp_path / f"{number}.{ending}").stat().st_size > 500


def test_a_network_without_weights_has_no_cost():
    snn = ts.convert(nn.Sequential(nn.ReLU()).eval(), ECC(4), torch.rand(8, 4))
    with pytest.raises(SettingError, match="no layer with weights"):
        ts.cost(snn, [(torch.rand(8, 4), torch.zeros(8, dtype=torch.long))])
