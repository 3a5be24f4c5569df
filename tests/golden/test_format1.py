"""Files of format version 1 load, and give the spikes that they gave in the version that wrote them.

The files, inputs and outcomes were made with transpike before format 2; they are never made anew. All networks lie on
the exact grid, so that every engine must give the same trains, logits and counts, bit for bit, on every machine.
"""

import hashlib
import json
from pathlib import Path

import pytest
import safetensors.torch
from torch import Tensor

import transpike as ts
from networks import ENGINES
from transpike.core import format1
from transpike.core.codec import decode, encode
from transpike.errors import TranspikeError
from transpike.exits import ExitPolicy
from transpike.recipes import ECC

FOLDER = Path(__file__).parent / "format1"
OUTCOMES = json.loads((FOLDER / "outcomes.json").read_text())
INPUTS = safetensors.torch.load_file(FOLDER / "inputs.safetensors")
SLOTS = ("yoso",)  # an engine that works out windows of first spikes at once gives each window as one step
ALL = {(name, engine) for name in OUTCOMES for engine in (*ENGINES, "auto")}


def digest(value: Tensor) -> str:
    value = value.detach().cpu().double().contiguous()
    return hashlib.sha256(str(tuple(value.shape)).encode() + value.numpy().tobytes()).hexdigest()[:16]


def loaded(name: str) -> tuple[ts.SNN, Tensor]:
    return ts.load(FOLDER / f"{name}.transpike"), INPUTS[name]


@pytest.mark.parametrize(("name", "engine"), sorted(ALL))
def test_a_file_of_format_1_gives_the_spikes_that_it_gave(name: str, engine: str) -> None:
    snn, x = loaded(name)
    expected = OUTCOMES[name]
    trace = ts.simulate(snn, x, engine=engine, record=list(expected["trains"]))
    assert trace.exact and digest(trace.logits) == expected["logits"]
    trains = {k: train.sum(0, keepdim=True) if name in SLOTS else train for k, train in trace.trains.items()}
    assert {layer: digest(train) for layer, train in trains.items()} == expected["trains"]
    assert trace.activity.macs == expected["macs"]
    for layer in trace.activity.layers:
        spikes, operations, updates, synapses, biases, resets, bits, neurons, role = expected["layers"][layer.name]
        assert (float(layer.spikes.sum()), float(layer.synaptic_operations.sum())) == (spikes, operations), layer.name
        assert (layer.updates, layer.synapses, layer.biases, layer.resets) == (updates, synapses, biases, resets)
        assert (layer.payload_bits, layer.neurons, layer.role) == (bits, neurons, role)


def test_an_exit_policy_of_format_1_stops_where_it_stopped() -> None:
    snn, x = loaded("ecc-exit")
    assert isinstance(snn.exit, ExitPolicy) and snn.provenance["metrics"] == {"accuracy": 0.5}
    answers = ts.answer_early(snn, x)
    assert answers.timesteps.tolist() == OUTCOMES["ecc-exit"]["stops"] and len(set(answers.timesteps.tolist())) > 1
    assert digest(answers.logits) == OUTCOMES["ecc-exit"]["early"]


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_a_file_of_format_1_is_written_as_format_2_and_says_the_same(name: str, tmp_path: Path) -> None:
    snn, x = loaded(name)
    data = ts.save(snn, tmp_path / "net.transpike").read_bytes()
    size = int.from_bytes(data[:8], "little")
    assert json.loads(data[8 : 8 + size])["__metadata__"]["transpike"] == "2"
    again = ts.load(tmp_path / "net.transpike")
    assert again.recipe == snn.recipe and again.remarks == snn.remarks and again.provenance == snn.provenance
    assert digest(ts.simulate(again, x).logits) == OUTCOMES[name]["logits"]


# --- names that have changed since


def test_old_names_of_classes_fields_and_words_are_read_as_todays() -> None:
    encoded = encode((ECC(timesteps=8, pooling="or"), {"a": ECC(beta=0.25)}), {}, "recipes")
    old = json.loads(json.dumps(encoded).replace('"ECC"', '"Current"').replace('"timesteps"', '"T"'))
    old["tuple"][0]["fields"]["pooling"] = "any"
    names = (
        {"Current": "ECC"},
        {"Current": {"T": "timesteps"}, "ConstantCurrent": {"T": "never"}},
        {("Current", "pooling"): {"any": "or"}},
    )
    assert decode(format1.translated(old, *names), {}) == (ECC(timesteps=8, pooling="or"), {"a": ECC(beta=0.25)})
    with pytest.raises(TranspikeError, match="Current"):
        decode(old, {})


def test_names_of_tensors_and_what_is_no_class_stay() -> None:
    value = {"type": "Linear", "fields": {"weight": {"tensor": "graph.weight"}, "bias": None}}
    new = format1.translated(value, {"Linear": "Dense"}, {"Linear": {"weight": "w"}}, {})
    assert new == {"type": "Dense", "fields": {"w": {"tensor": "graph.weight"}, "bias": None}}
    for odd in (7, "Linear", None, {"type": 3}, {"tuple": 3}, {"type": "Linear", "fields": 3}):
        assert format1.translated(odd, {"Linear": "Dense"}) == odd


def test_outer_parts_may_be_renamed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(format1.FIELDS, "SNN", {"exact_grid": "grid"})
    assert format1.content({"exact_grid": True, "rates": {"tuple": []}}) == {"grid": True, "rates": {"tuple": []}}
