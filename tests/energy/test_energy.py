"""Energy models: counts times constants, every constant with its source, in evaluate and in compare."""

import math
import re

import pytest
import torch

import transpike as ts
from networks import small_cnn
from transpike.activations import QuantisedClip
from transpike.codes.time_code import TimeCode
from transpike.core.activity import Activity, LayerActivity
from transpike.energy import Operations, TTFSProcessor
from transpike.errors import SettingError
from transpike.recipes import COS, DCGS, ECC, PASCAL, QCFS, S4NN, T2FSNN, YOSO, ExactMapping, LinearTTFS


def one_layer(alphabet: str = "first spike") -> Activity:
    """Two samples: 10 and 20 spikes of 64 neurons, each with a fan-out of 9, in 24 slots."""
    layer = LayerActivity(
        "a", "neuron", "neuron", 64, alphabet, torch.tensor([30.0]), torch.tensor([270.0]), 2 * 64 * 24,
        code=TimeCode(24) if alphabet == "first spike" else None,
    )  # fmt: skip
    return Activity((layer,), 2, {"stem": 1000})


def test_a_first_spike_costs_look_up_shift_sorting_queue_and_timer_beside_its_accumulate():
    rows = {row.cause: row for row in TTFSProcessor().rows(one_layer())}
    products, spikes = 135.0, 15.0
    expected = {
        "exponent addition": (products, 0.03), "kernel look-up": (products, 0.03), "shift": (products, 0.03),
        "accumulate": (products, 0.1), "weight fetch": (products, 5 * 20 / 64), "sorting": (spikes * 6, 0.03),
        "spike queue": (2 * spikes, (6 + 8) * 10 / 64), "timer: threshold comparison": (64 * 24, 0.1),
        "window counter": (24, 0.03), "analogue multiply-accumulate": (1000, 0.3),
    }  # fmt: skip
    assert rows.keys() == expected.keys()
    for cause, (count, picojoule) in expected.items():
        assert rows[cause].count == pytest.approx(count)
        assert rows[cause].joule == pytest.approx(count * picojoule * 1e-12)
    assert TTFSProcessor().joule(one_layer()) == pytest.approx(sum(c * p for c, p in expected.values()) * 1e-12)


def test_the_processor_is_for_first_spikes_only():
    assert TTFSProcessor().joule(one_layer("binary")) is None
    assert Operations().joule(one_layer("binary")) == pytest.approx((135 * 0.1 + 64 * 24 * 0.1 + 1000 * 0.3) * 1e-12)


@pytest.mark.parametrize(
    "recipe", [YOSO(12), LinearTTFS(12), T2FSNN(12, tau=3.0, weight_bits=5), S4NN(12, threshold=1.0), ExactMapping()], ids=lambda r: r.name
)  # fmt: skip
def test_the_processor_has_no_number_for_other_kernels_weights_and_neurons(recipe):
    case = small_cnn()
    snn = ts.convert(case.graph, recipe, case.calibration.abs())
    activity = snn.run(case.x.abs(), snn.timesteps, engine=ts.engines.table["auto"]()).activity
    assert TTFSProcessor().joule(activity) is None and Operations().joule(activity) > 0


def test_pools_and_relays_have_no_thresholds_to_compare():
    case = small_cnn()  # with a maximum pool
    snn = ts.convert(case.graph, YOSO(12, weight_bits=5), case.calibration)
    activity = snn.run(case.x, 12, engine=ts.engines.table["auto"]()).activity
    cells = {layer.name for layer in activity.layers if layer.role == "cell"}
    compared = {row.layer for row in TTFSProcessor().rows(activity) if row.cause.startswith("timer")}
    compared |= {row.layer for row in Operations().rows(activity) if row.cause.startswith("threshold")}
    assert cells and compared and not cells & compared


@pytest.mark.parametrize(
    "energy", ["operations", Operations, None, [Operations(), Operations()], [Operations(), "ttfs-processor"]]
)
def test_what_is_no_energy_model_is_refused_before_the_run(energy):
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(timesteps=2), case.calibration)
    with pytest.raises(SettingError, match=r"transpike\.energy|twice"):
        ts.evaluate(snn, (case.x, torch.zeros(len(case.x), dtype=torch.long)), energy=energy)


def test_models_say_their_settings_and_refuse_impossible_ones():
    few = TTFSProcessor(weight_bits=8)
    case = small_cnn()
    snn = ts.convert(case.graph, YOSO(12, weight_bits=5), case.calibration)
    found = ts.evaluate(snn, (case.x, torch.zeros(len(case.x), dtype=torch.long)), energy=[TTFSProcessor(), few])
    assert found.final.energy_joule.keys() == {"ttfs-processor", "ttfs-processor (weight_bits=8)"}
    for settings in ({"weight_bits": -50}, {"accumulate": 0.2}, {"slot_bits": 2.5}, {"weight_bits": True}):
        with pytest.raises(SettingError, match=f"{next(iter(settings))} of ttfs-processor must be"):
            TTFSProcessor(**settings)


@pytest.mark.parametrize("kind", ts.energy.members, ids=lambda kind: kind.name)
def test_every_constant_has_a_unit_and_a_source_and_exclusions_are_listed(kind):
    model = kind()
    assert model.constants and model.excluded and ts.energy.table[kind.name] is kind
    for quantity in model.constants.values():
        assert quantity.unit.startswith("pJ") or quantity.unit in ("products", "hops")
        assert re.search(r"\b(19|20)\d\d\b", quantity.source) or re.search("assumption|unverified", quantity.source)
        assert math.isfinite(quantity.value) and quantity.value > 0


def test_each_answer_of_a_stream_costs_what_happened_until_then():
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(timesteps=8), case.calibration)
    labels = torch.zeros(len(case.x), dtype=torch.long)
    report = ts.evaluate(snn, (case.x, labels), energy=[Operations(), TTFSProcessor()])
    joules = [answer.energy_joule["operations"] for answer in report.curve]
    assert joules == sorted(joules) and joules[0] > 0
    assert all(answer.energy_joule["ttfs-processor"] is None for answer in report.curve)
    neurons = sum(row.neurons for row in report.layers if row.role == "neuron")
    for answer, joule in zip(report.curve, joules, strict=True):
        counted = 0.1 * answer.synaptic_operations + 0.3 * answer.macs + 0.1 * neurons * answer.timesteps
        assert joule == pytest.approx(counted * 1e-12)


def test_energy_stands_beside_accuracy_and_latency_in_one_comparison(tmp_path, capsys):
    case = small_cnn()
    x = case.calibration.abs()
    data = (case.x.abs(), torch.zeros(len(case.x), dtype=torch.long))
    found = ts.compare(
        case.graph,
        [YOSO(weight_bits=5), ECC()],
        x,
        ts.ComparisonSettings(timesteps=(12,), energy=[Operations(), TTFSProcessor()]),
        data=data,
        store=tmp_path,
    )
    first, second = found.measured
    assert first.energy_joule["ttfs-processor"] > 0 and second.energy_joule["ttfs-processor"] is None
    assert first.total_steps != second.total_steps and found.to_json()["rows"][0]["energy_joule"] == first.energy_joule
    again = ts.compare(
        case.graph, [YOSO(), ECC()], x, ts.ComparisonSettings(timesteps=(12,)), data=data, store=tmp_path
    )
    assert again.measured[0].energy_joule == {}  # another question, another entry of the store
    from rich.console import Console

    ts.report.comparison.show(found, Console(width=120))
    assert "(µJ per" in capsys.readouterr().out


@pytest.mark.parametrize("model", list(ts.energy.table))
def test_a_threshold_for_each_neuron_is_no_convolution(model):
    """Its gains are a weight for every element, each read by one spike."""
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(8, granularity="neuron"), case.calibration)
    activity = snn.run(case.x, 8, engine=ts.engines.table["auto"]()).activity
    scales = [c for c in activity.connections if c.weights == c.inputs == c.outputs]
    joule = ts.energy.table[model]().joule(activity)
    assert scales and all(c.kernel == c.stride == () for c in scales) and (joule is None or joule > 0)


def test_lemaire_reads_one_weight_for_a_spike_through_a_scale():
    from transpike.energy.lemaire import _fans

    case = small_cnn()
    snn = ts.convert(case.graph, ECC(8, granularity="neuron"), case.calibration)
    activity = snn.run(case.x, 8, engine=ts.engines.table["auto"]()).activity
    for c in activity.connections:
        if c.weights == c.inputs == c.outputs:
            assert _fans(c) == (1, 1)
        elif not c.kernel:
            assert _fans(c) == (c.outputs, c.outputs)


@pytest.mark.parametrize(
    ("recipe", "updates"), [(COS(4), 8), (COS(4, rounds=3), 16), (PASCAL(4), 7), (QCFS(4), 4)], ids=str
)
def test_membrane_updates_of_rehearsals_and_of_settling_are_counted(recipe, updates):
    model = torch.nn.Sequential(torch.nn.Linear(3, 5), QuantisedClip(4, 1.0), torch.nn.Linear(5, 2))
    snn = ts.convert(model, recipe, torch.rand(32, 3))
    activity = ts.simulate(snn, torch.rand(6, 3)).activity
    assert activity.updates == 5 * updates
    assert ts.evaluate(snn, (torch.rand(6, 3), torch.zeros(6).long())).to_json()["membrane_updates"] == 5 * updates


def test_what_stays_analogue_in_differences_is_counted_alike_everywhere():
    """Behind a pool that stays analogue real numbers come in every step; the first layer's come once."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Conv2d(4, 4, 3), torch.nn.ReLU(),
        torch.nn.Flatten(), torch.nn.Linear(4, 2),
    )  # fmt: skip
    x = torch.rand(16, 1, 8, 8)
    snn = ts.convert(model, DCGS(timesteps=5), x)
    activity = ts.simulate(snn, x).activity
    assert activity.macs["0"] == 4 * 36 * 9 and activity.macs["3"] == 5 * 4 * 4 * 9
    report = ts.evaluate(snn, (x, torch.zeros(16).long()))
    assert report.final.macs == sum(activity.macs.values()) == report.to_json()["macs"]
