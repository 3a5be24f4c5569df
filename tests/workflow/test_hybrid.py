"""Hybrid networks: a part that spikes, and analogue parts before and after it."""

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor, nn

import transpike as ts
from stored import stored
from transpike.cli import main
from transpike.core.answer import AnalogueRest
from transpike.engines import engine_named
from transpike.errors import FileError, SettingError, UnsupportedModel
from transpike.ops.pack import Pack

STEM = ("conv1", "bn1", "relu", "conv2", "bn2", "add", "relu_1", "pool")
WINDOWS = ts.recipes.ECC(timesteps=16, schedule=ts.schedules.LayerSynchronous())
TAIL = ("conv3", "bn3", "relu_2", "mean", "linear")


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    data = ts.data.load("digits")
    x, y = data.test.batch(torch.arange(48))
    return data.preprocessing(x), y


def hybrid(x: Tensor, spiking: object, recipe: object = "ecc", name: str = "small-cnn", **how: object) -> ts.SNN:
    return ts.convert(stored(name), recipe, x, spiking=spiking, **how)


def boundary(snn: ts.SNN, x: Tensor, engine: str = "dense") -> Tensor:
    """What the spiking part gives, decoded, in float64: (batch, *shape), or several side by side."""
    run = engine_named(engine).start(snn.program, snn.entering(snn.prepare(x)), torch.arange(len(x)), (), False)
    run.advance(snn.timesteps)
    return snn.readout.inside.logits(run.reading, snn.timesteps)


@pytest.mark.parametrize("recipe", ["ecc", "sigma-delta", "t2fsnn", WINDOWS])
def test_a_selection_of_all_layers_is_the_plain_conversion(digits, recipe):
    x, _ = digits
    plain, everything = hybrid(x, None, recipe), hybrid(x, "*", recipe)
    assert not everything.is_hybrid and everything.spiking == () and everything.remarks == plain.remarks
    assert torch.equal(plain(x), everything(x))


@pytest.mark.parametrize("recipe", ["ecc", "sigma-delta", "burst-digits", WINDOWS])
@pytest.mark.parametrize("spiking", [STEM, STEM[:3], STEM[:4]], ids=["pool", "relu", "relu and sums"])
def test_the_analogue_part_computes_the_layers_of_the_source_on_what_crosses(digits, recipe, spiking):
    x, _ = digits
    snn = hybrid(x, spiking, recipe)
    assert isinstance(snn.readout, AnalogueRest) and snn.rest is not None
    crossed = boundary(snn, x)
    source, values = snn.source.to(dtype=torch.float64), dict[str, Tensor]()
    last = snn.graph.output
    ends = last.op.structure.named(crossed) if isinstance(last.op, Pack) else {last.name: crossed}
    for node in source:
        if node.name in ends:
            values[node.name] = ends[node.name]
        elif node.inputs and all(name in values for name in node.inputs):
            values[node.name] = node.op.run(*(values[name] for name in node.inputs))
    assert torch.equal(values[source.output.name].float(), snn(x).float())
    for name, value in ends.items():  # and what crosses is near the activation of the source network
        seen: dict[str, Tensor] = {}
        snn.source.run(x, observe=lambda node, _, output, seen=seen: seen.update({node.name: output}))
        assert (value - seen[name]).norm() < 0.35 * seen[name].norm()


def test_every_engine_gives_the_same_answers_and_the_same_traffic(digits):
    x, _ = digits
    snn = hybrid(x, STEM[:4])
    found = [ts.simulate(snn, x[:8], 16, engine=name) for name in ("reference", "dense", "event")]
    for trace in found[1:]:
        assert torch.equal(found[0].logits, trace.logits)
        for one, other in zip(found[0].activity.crossings, trace.activity.crossings, strict=True):
            assert (one.name, one.kind, one.bits) == (other.name, other.kind, other.bits)
            assert torch.equal(one.events, other.events)


def test_traffic_is_counted_spike_by_spike(digits):
    x, _ = digits
    snn = hybrid(x, STEM[:4])
    trace = ts.simulate(snn, x, 16, record=["relu"])
    spikes, sums = trace.activity.crossings
    assert (spikes.name, spikes.kind, spikes.bits) == ("relu", "spikes", 10)  # one of 1024 addresses
    assert torch.equal(spikes.events, trace.trains["relu"].flatten(1).double().sum(1))
    assert (sums.name, sums.kind, sums.number(len(x)), sums.bits) == ("conv2", "sums", 1024, 32)
    half = trace.activity.until(8, snn.program.macs(8)).crossings[0]
    assert torch.equal(half.events, spikes.events[:8])


class Halves(nn.Module):
    """Only even features of the first layer reach the second one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 12), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x))[:, ::2])


@pytest.mark.parametrize("engine", ["reference", "dense", "event"])
def test_spikes_that_nobody_reads_do_not_cross(engine):
    torch.manual_seed(0)
    x = torch.rand(20, 8)
    snn = ts.convert(Halves(), "ecc", x, spiking=["first", "relu", "slice*"])
    trace = ts.simulate(snn, x, 12, record=["relu"], engine=engine)
    assert trace.trains["relu"][..., 1::2].any()
    assert torch.equal(trace.activity.crossings[0].events, trace.trains["relu"][..., ::2].double().sum((1, 2)))


def test_an_analogue_part_before_the_spiking_one_runs_as_in_the_source(digits):
    x, y = digits
    snn = hybrid(x, TAIL, ts.recipes.ECC(timesteps=16))
    assert snn.before is not None and snn.rest is None
    seen: dict[str, Tensor] = {}
    source = snn.source.to(dtype=torch.float64)
    source.run(x.double(), observe=lambda node, _, output: seen.update({node.name: output}))
    assert torch.equal(snn.entering(snn.prepare(x)), seen["pool"].float())
    assert ts.evaluate(snn, (x, y)).hybrid.boundaries[0].kind == "values"
    stream = snn.start(x)
    for _ in range(16):
        last = stream.step()
    assert torch.equal(last, snn(x))


def test_both_sides_are_counted(digits):
    x, y = digits
    models = (ts.energy.Operations(), ts.energy.Lemaire())
    report = ts.evaluate(hybrid(x, STEM), (x, y), energy=models)
    found, macs = report.hybrid, {"conv3": 16 * 32 * 32 * 9 // 2, "linear": 320}
    assert found.analogue_macs == sum(macs.values()) and report.macs == {"conv1": 9216, **macs}
    assert found.spiking_macs == 9216
    assert found.synaptic_operations == report.final.synaptic_operations
    for model in map(str, models):
        assert sum(found.energy_joule[model]) == pytest.approx(report.final.energy_joule[model])
    assert found.energy_joule["operations"][1] == pytest.approx(0.3e-12 * sum(macs.values()))
    assert report.to_json()["hybrid"]["bits"] == found.bits > 0
    assert "Hybrid, per sample at T=64" in ts.report.text(report)
    assert "boundary" in [table.name for table in ts.report.tables(report)]
    cost = ts.cost(hybrid(x, STEM, ts.recipes.ECC(timesteps=8)), (x, y), models=models)
    assert cost.to_json()["hybrid"]["analogue_macs"] == found.analogue_macs
    assert any("transport between" in one for one in cost.models[0].excluded)


def test_the_quantised_baseline_of_a_sigma_delta_hybrid_is_the_whole_network(digits):
    x, y = digits
    for spiking in (STEM[:4], TAIL):
        cost = ts.cost(hybrid(x, spiking, "sigma-delta"), (x, y), models=ts.energy.Operations())
        assert cost.quantised_baseline_value >= 0.9


def test_a_hybrid_network_is_saved_and_loaded(digits, tmp_path):
    x, y = digits
    for number, spiking in enumerate((STEM, TAIL[:3])):
        snn = hybrid(x, spiking)
        again = ts.load(ts.save(snn, tmp_path / f"{number}.transpike"))
        assert torch.equal(snn(x), again(x)) and again.spiking == spiking and str(again) == str(snn)
        assert ts.evaluate(again, (x, y)).hybrid == ts.evaluate(snn, (x, y)).hybrid


def test_parts_that_do_not_fit_together_are_found_in_a_file(digits, tmp_path):
    x, _ = digits
    early, late = hybrid(x, STEM[:3]), hybrid(x, TAIL)
    other = hybrid(x, ("conv2", "bn2", "add", "relu_1", "pool", *TAIL, "relu"))
    ends = ts.convert(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.ReLU(), nn.Linear(10, 1)), "ecc", x, spiking=("1", "2")
    )
    for number, wrong in enumerate((
        replace(late, before=other.before),
        replace(early, calibrated_readout=replace(early.readout, network=ends.rest)),
        replace(early, calibrated_readout=replace(early.readout, network=hybrid(x, STEM).rest)),
    )):  # fmt: skip
        path = ts.save(wrong, tmp_path / f"{number}.transpike")
        with pytest.raises(FileError, match=r"does not (fit|match)"):
            ts.load(path)


def test_its_spiking_part_is_exported(digits, tmp_path):
    x, _ = digits
    snn = hybrid(x, STEM[:4])
    found = ts.export(snn, tmp_path / "golden", "golden", samples=x, limit=4, timesteps=16)
    assert found.verified and [layer.name for layer in found.layers] == ["relu"]
    assert set(found.analogue) >= {"conv3", "linear"} and "conv2" not in found.analogue
    assert "only the spiking part" in str(found) and found.to_json()["analogue"]


def test_explanations_records_and_comparisons(digits):
    x, y = digits
    for spiking in (STEM, TAIL):
        snn = hybrid(x, spiking, ts.recipes.ECC(timesteps=8))
        found = ts.explain(snn, (x, y), changes=False)
        assert {layer.name for layer in found.layers} == set(spiking) & {"relu", "relu_1", "relu_2"}
        assert ts.record(snn, (x, y), samples=1).samples[0].label == int(y[0])
    settings = ts.ComparisonSettings(timesteps=(4, 8), spiking=STEM)
    compared = ts.compare(stored("small-cnn"), ["ecc"], x, settings, data=(x, y))
    assert compared.snn(compared.measured[-1]).spiking == STEM
    assert (
        compared.measured[-1].accuracy
        == ts.evaluate(hybrid(x, STEM, ts.recipes.ECC(timesteps=8)), (x, y)).final.accuracy
    )


@pytest.mark.parametrize(
    ("spiking", "kind", "words"),
    [
        ("nothing", SettingError, "'nothing' selects no layer; modules are conv1, bn1"),
        ("convv1", SettingError, r"did you mean 'conv1'\?"),
        ((), SettingError, "selects nothing"),
        ((3,), SettingError, "patterns of module paths"),
        ("conv1", UnsupportedModel, "nothing would spike: spiking='conv1' selects no activation"),
        (("conv1", "bn1", "relu", "conv3", "bn3", "relu_2"), UnsupportedModel, "conv2, bn2, add, relu_1, pool would be analogue"),
        (("conv2", "bn2"), UnsupportedModel, "add is after the spiking part and also reads relu, which bypasses it"),
        (("add", "relu_1"), UnsupportedModel, "several wires enter the spiking part, relu, bn2"),
    ],
)  # fmt: skip
def test_other_cuts_are_refused_by_name(digits, spiking, kind, words):
    with pytest.raises(kind, match=words):
        hybrid(digits[0], spiking)


def test_functions_for_networks_that_spike_as_a_whole_refuse_hybrids(digits):
    x, y = digits
    snn = hybrid(x, STEM)
    for call in (
        lambda: ts.finetune(snn, (x, y), epochs=1),
        lambda: ts.fit_exit(snn, (x, y)),
        lambda: ts.run_processor(snn, x),
        lambda: ts.generate(snn, x, 1),
    ):
        with pytest.raises(
            SettingError, match=r"does not support hybrid networks: .* conv3, bn3, relu_2, mean, linear"
        ):
            call()


class Attended(nn.Module):
    """A head that spikes cannot represent: a softmax of its own activations as weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(8, 12), nn.ReLU()), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return (x * self.head(x).softmax(1)).cumsum(1)


def test_operators_of_the_analogue_part_need_no_spikes():
    torch.manual_seed(0)
    model, x = Attended(), torch.rand(20, 8)
    with pytest.raises(ts.TranspikeError, match="cumsum"):
        ts.convert(model, "ecc", x)
    snn = ts.convert(model, ts.recipes.ECC(timesteps=64), x, spiking="body")
    assert (snn(x) - snn.source.run(x)).norm() < 0.1 * snn.source.run(x).norm()


def test_frames_and_whole_inputs_enter_the_spiking_part_only(digits):
    x, _ = digits
    with pytest.raises(SettingError, match="input_bits=8 is about the input of the spiking part, but pool before it"):
        hybrid(x, TAIL, input_bits=8)


def test_a_chip_is_asked_about_the_spiking_part(digits):
    found = ts.chip_fit(hybrid(digits[0], STEM), "loihi2")
    assert "conv3" in found.analogue and "run elsewhere" in str(found)
    assert not any(misfit.place == "conv3" for misfit in found.misfits)


def test_the_commands_take_hybrid_networks(digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def told(*words: str) -> dict:
        done = CliRunner().invoke(main, [*words, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    save_file(stored("small-cnn").state_dict(), "weights.safetensors")
    model = ["--model", "zoo:small-cnn", "--weights", "weights.safetensors", "--data", "digits"]
    flags = [word for name in STEM for word in ("--spiking", name)]
    made = told(
        "convert", *model, *flags, "--timesteps", "8", "--calibration-samples", "60", "--output", "net.transpike"
    )
    assert any("hybrid network: 8 layers spike (conv1, bn1" in remark for remark in made["remarks"])
    assert [row["name"] for row in told("inspect", "net.transpike")["analogue"]["rest"]][1:] == list(TAIL)
    report = told("evaluate", "net.transpike", "--data", "digits", "--limit", "40")
    assert report["hybrid"]["spiking"] == list(STEM) and report["hybrid"]["boundaries"][0]["layer"] == "pool"
    assert told("energy", "net.transpike", "--data", "digits", "--limit", "20")["hybrid"]["events"] > 0
    assert told("explain", "net.transpike", "--data", "digits", "--samples", "10", "--no-changes")["layers"]
    compared = told("compare", *model, *flags, "--recipes", "ecc", "--timesteps", "4", "--limit", "20")
    assert any("hybrid network" in remark for remark in compared["rows"][0]["remarks"])
    refused = CliRunner().invoke(main, ["convert", *model, "--spiking", "conv4", "--output", "other.transpike"])
    assert (
        refused.exit_code == 2 and "selects no layer" in refused.stderr and not (tmp_path / "other.transpike").exists()
    )
    told("convert", *model, "--timesteps", "8", "--calibration-samples", "60", "--output", "plain.transpike")
    found = told(
        "cuts", "plain.transpike", "--data", "digits", "--limit", "20", "--answers", "4,8", "--report", "cuts.html"
    )
    assert len(found["rows"]) == 1 + 2 * 4 and (tmp_path / "cuts.html").stat().st_size > 10_000
    refused = CliRunner().invoke(main, ["cuts", "net.transpike", "--data", "digits"])
    assert refused.exit_code == 2 and "cuts does not support hybrid networks" in refused.stderr
