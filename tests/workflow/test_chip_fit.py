"""Chips: descriptions with sources, and every limit with a network that passes it and one that does not."""

import dataclasses
import json
import tomllib
from importlib.resources import files

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import transpike as ts
from gated import network
from networks import Residual, small_cnn
from transpike.chips import NAMES, Chip
from transpike.cli import main
from transpike.encoders import DeterministicCounts
from transpike.errors import FileError, SettingError
from transpike.recipes import ECC, SNM, YOSO, BurstLIP, StreamingSigmaDelta
from transpike.workflow.chip_fit.checks import CHECKS

GENEROUS = Chip(
    "generous", "A chip that takes everything", max_layers=99, neurons_total=10**9, synapses_total=10**9,
    kernel_memory_words=(10**6,) * 9, neuron_memory_words=(10**6,) * 9, bias_memory_words=(10**4,) * 9, destinations=9,
    fan_in=10**6, fan_out=10**6, inputs=10**6, outputs=10**6, input_channels=10**4, output_channels=10**4, max_input_size=(999, 999),
    max_output_size=(999, 999), kernel_sizes=tuple(range(1, 30)), strides=(1, 2, 3, 4), padding_max=9,
    pool_sizes=tuple(range(1, 99)), weight_bits=16, threshold_bits=40, levels=99, resets=("soft", "hard"),
    alphabets=("binary", "ternary", "levels", "phase", "time", "graded"), pooling=("average", "max"),
    operators=("conv1d", "conv2d", "conv3d", "conv-transpose", "linear", "scale"), groups=True, dilation=True, residual=True,
    biases=True, negative_spikes=True, analogue_input=True,
)  # fmt: skip


def everything(recipe=None) -> ts.SNN:
    """Strided, grouped, dilated and padded convolutions, both pools, a shortcut, a linear layer."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=2), nn.ReLU())
    model = nn.Sequential(
        nn.Conv2d(2, 4, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2), Residual(body, nn.ReLU()), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip
    return ts.convert(model, recipe or ECC(8, weight_bits=8), torch.rand(32, 2, 16, 16))


def test_what_is_generous_takes_everything():
    found = ts.chip_fit(everything(), GENEROUS)
    assert found.fits and set(found.checked) == set(CHECKS) and not found.unknown


# limit → (a value that the network does not keep, a word of what to do)
TIGHT = {
    "operators": (("conv2d",), "another layer"), "kernel_sizes": ((1, 3), "another kernel"),
    "strides": ((1,), "another stride"), "padding_max": (0, "less padding"), "groups": (False, "dense"),
    "dilation": (False, "stride"), "pooling": (("average",), "average pooling"), "pool_sizes": ((4,), "smaller pools"),
    "residual": (False, "without shortcuts"), "max_layers": (2, "fewer weight layers"),
    "neurons_total": (100, "narrower"), "synapses_total": (100, "prune"),
    "kernel_memory_words": ((8,), "smaller"), "destinations": (1, "branches"), "fan_in": (10, "prune"),
    "fan_out": (5, "prune"), "inputs": (100, "smaller input"), "outputs": (2, "fewer classes"),
    "input_channels": (3, "narrower"), "output_channels": (3, "narrower"),
    "max_input_size": ((8, 8), "resolution"), "max_output_size": ((4, 4), "resolution"),
    "weight_bits": (4, "weight_bits=4"), "threshold_bits": (2, "fewer weight bits"),
    "resets": (("hard",), "reset='hard'"), "alphabets": (("graded",), "binary spikes"), "biases": (False, "without biases"),
    "analogue_input": (False, "DeterministicCounts"),
}  # fmt: skip


@pytest.mark.parametrize("limit", TIGHT)
def test_each_limit_is_found_alone_with_what_to_change(limit):
    value, word = TIGHT[limit]
    found = ts.chip_fit(everything(), dataclasses.replace(GENEROUS, **{limit: value}))
    assert found.misfits and {misfit.limit for misfit in found.misfits} == {limit}
    assert all(word in misfit.change for misfit in found.misfits), [str(m) for m in found.misfits]


def test_levels_and_signs_are_found_where_spikes_have_them():
    few, positive = dataclasses.replace(GENEROUS, levels=2), dataclasses.replace(GENEROUS, negative_spikes=False)
    burst = everything(BurstLIP(4, gamma=3, weight_bits=8))
    assert {m.limit for m in ts.chip_fit(burst, few).misfits} == {"levels"} and ts.chip_fit(burst, GENEROUS).fits
    signed = everything(SNM(4, weight_bits=8))
    assert {m.limit for m in ts.chip_fit(signed, positive).misfits} == {"negative_spikes"}
    assert {"levels", "negative_spikes", *TIGHT} == set(CHECKS)


def test_real_weights_and_time_codes_are_no_binary_chip_s():
    chip = dataclasses.replace(GENEROUS, alphabets=("binary",))
    found = ts.chip_fit(everything(YOSO(12)), chip)
    assert {"alphabets", "weight_bits"} == {m.limit for m in found.misfits}
    assert "convert with weight_bits=16" in str(found)


def test_layers_are_matched_with_cores_not_taken_in_order():
    """Two layers, of which only one core takes the large one: whatever the order of cores."""
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2)
    )
    snn = ts.convert(model, ECC(4), torch.rand(8, 1, 8, 8))
    # weights: 1·2^(4+1) = 32, 2·2^(4+4) = 512, 2^(8+1) = 512; neurons: 2·2^6, 16·2^4, 2
    rooms = {
        "kernel_memory_words": (512, 512, 32),
        "neuron_memory_words": (999, 4, 128),
        "bias_memory_words": (99, 99, 99),
    }
    for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        chip = Chip("t", "t", **{name: tuple(values[i] for i in order) for name, values in rooms.items()})
        assert ts.chip_fit(snn, chip).fits
    small = Chip("t", "t", **rooms | {"kernel_memory_words": (512, 511, 32)})
    assert [m.limit for m in ts.chip_fit(snn, small).misfits] == ["kernel_memory_words"]


def test_a_network_made_for_speck_fits_speck():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(256, 10),
    )  # fmt: skip
    snn = ts.convert(model, ECC(16, weight_bits=8, encoder=DeterministicCounts()), torch.rand(32, 2, 16, 16))
    found = ts.chip_fit(snn, "speck")
    assert found.fits, str(found)
    assert f"fits, {len(found.checked)} known limits are met" in str(found) and "limits without a public source" in str(
        found
    )
    assert not ts.chip_fit(everything(), "speck").fits


@pytest.mark.parametrize("name", NAMES)
def test_every_limit_of_every_chip_has_a_source(name):
    target = ts.chips.load(name)
    content = tomllib.loads(files("transpike.chips").joinpath(f"{name}.toml").read_text())
    assert content["limits"].keys() == {source.limit for source in target.sources} and len(content["limits"]) > 8
    for source in target.sources:
        assert source.url.startswith("http") and source.says and source.kind
        assert source.confidence in ("stated", "derived")
    case = small_cnn()
    found = ts.chip_fit(ts.convert(case.graph, ECC(4), case.calibration), name)
    assert not set(found.checked) & set(found.unknown) and json.dumps(found.to_json())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits", "is not TOML"), ("[limits]\nneurons = 3", "there is no limit named 'neurons'"), ("volts = 3", "not volts"),
        ("[limits]\nfan_in = 3", "fan_in needs a"), ("[limits]\nfan_in = -3", "fan_in must be an integer of at least 0"),
        ("[limits]\nfan_in = true", "must be an integer"), ("[limits]\nbiases = 1", "must be a bool"),
        ("[limits]\nstrides = 2", "must be a list of int"), ('[limits]\nresets = ["soft", "gentle"]', "not gentle"),
        ('[limits]\n[[source]]\nlimit = "fan_in"\nsays = "x"\nurl = "x"', "not in .limits."),
        ('[limits]\n[[source]]\nlimit = "fan_in"', "has limit, says and url"),
        ('[limits]\nfan_in = 1\n[[source]]\nlimit = "fan_in"\nsays = "x"\nurl = "x"\nyear = 3', "year of a .*must be text"),
    ],
)  # fmt: skip
def test_descriptions_that_make_no_sense_are_refused_by_name(tmp_path, text, words):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises((SettingError, FileError), match=words) as error:
        ts.chips.load(file)
    assert "mine.toml" in str(error.value)


def test_unknown_targets_are_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(SettingError, match=r"akida, loihi2, speck, spinnaker2, xylo, or pass a .toml"):
        ts.chips.load("northpole")
    with pytest.raises(FileError, match="cannot be read"):
        ts.chips.load(tmp_path / "none.toml")


def test_inspect_exits_with_4_where_a_network_does_not_fit(tmp_path):
    file = ts.save(everything(), tmp_path / "net.transpike")
    shown = CliRunner().invoke(main, ["inspect", str(file), "--fit", "speck"])
    assert shown.exit_code == 4 and "pooling of max" in shown.output and "does not fit SynSense Speck" in shown.output
    content = CliRunner().invoke(main, ["inspect", str(file), "--fit", "speck", "--fit", "xylo", "--json"])
    assert content.exit_code == 4 and len(json.loads(content.stdout)["fit"]) == 2
    mine = tmp_path / "mine.toml"
    mine.write_text('[limits]\nmax_layers = 9\n[[source]]\nlimit = "max_layers"\nsays = "nine"\nurl = "http://x"')
    assert CliRunner().invoke(main, ["inspect", str(file), "--fit", str(mine)]).exit_code == 0
    assert CliRunner().invoke(main, ["inspect", "--fit", "speck"]).exit_code == 2


def test_thresholds_of_neurons_are_no_kernels():
    snn = everything(ECC(8, granularity="neuron"))
    found = ts.chip_fit(snn, dataclasses.replace(GENEROUS, kernel_sizes=(2, 3, 5)))
    assert not [misfit for misfit in found.misfits if misfit.limit == "kernel_sizes"]


def test_products_and_analogue_operators_between_neurons_are_named():
    excitation, x = network("excitation")
    norm, tokens = network("layer-norm")
    for model, batch, what in (
        (excitation, x, "of product between"),
        (norm, tokens, "of layer_norm (analogue) between"),
    ):
        fit = ts.chip_fit(ts.convert(model, StreamingSigmaDelta(), batch), "loihi2")
        assert any(what in str(misfit) for misfit in fit.misfits)
