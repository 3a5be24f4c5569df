"""Several inputs and outputs in every function that judges, explains, records, trains or exits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seeded
import transpike as ts
from transpike.errors import DataError, SettingError
from transpike.recipes import ECC, T2FSNN, StreamingSigmaDelta
from transpike.tasks import Binary, Classification, Fidelity, Regression, TopK
from transpike.workflow.cascade import cascade


class Both(nn.Module):
    """An image and a vector in another range; three outputs of different sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.v = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(5, 8)
        self.o, self.two, self.aux = nn.Linear(4 * 36 + 8, 3), nn.Linear(4 * 36 + 8, 1), nn.Linear(8, 2)
        for parameter in self.parameters():
            parameter.data = seeded.random(*parameter.shape) / 2

    def forward(self, image: Tensor, vector: Tensor) -> dict:
        b = F.relu(self.v(vector / 100))
        h = torch.cat([F.relu(self.c(image)).flatten(1), b], 1)
        return {"logits": self.o(h), "heads": {"two": self.two(h), "numbers": self.aux(b)}}


class One(Both):
    """Its logits alone."""

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(image, vector)["logits"]


def model(kind: type[nn.Module] = Both) -> nn.Module:
    return kind().eval().requires_grad_(False)


COUNT = 80
IMAGE, VECTOR = seeded.random(COUNT, 1, 6, 6).abs(), 100 * seeded.random(COUNT, 5).abs()
ANSWER = model()(IMAGE, VECTOR)
Y, NUMBERS = ANSWER["logits"].argmax(1), ANSWER["heads"]["numbers"]
PARTS = [slice(0, 30), slice(30, COUNT)]
DATA = [((IMAGE[p], VECTOR[p]), Y[p]) for p in PARTS]
NAMED = [({"vector": VECTOR[p], "image": IMAGE[p]},
          {"logits": Y[p], "heads": {"two": (ANSWER["heads"]["two"][p] > 0).long(), "numbers": NUMBERS[p]}})
         for p in PARTS]  # fmt: skip
CALIBRATION = (IMAGE, VECTOR)


@pytest.fixture(scope="module")
def snn() -> ts.SNN:
    return ts.convert(model(), ECC(timesteps=24), CALIBRATION)


@pytest.fixture(scope="module")
def alone() -> ts.SNN:
    """The same network with its logits alone."""
    return ts.convert(model(One), ECC(timesteps=24), CALIBRATION)


def test_explain_judges_one_output_or_the_fidelity_of_all(snn, alone):
    found, other = (ts.explain(one, DATA, **given) for one, given in ((snn, {"output": "logits"}), (alone, {})))
    assert found.ann_accuracy == 1.0 and found.accuracy == other.accuracy
    assert [layer.name for layer in found.layers] == [layer.name for layer in other.layers] == ["relu", "relu_1"]
    for one, two in zip(found.layers, other.layers, strict=True):
        assert one.cosine == pytest.approx(two.cosine, abs=1e-6) and one.regained == two.regained
        assert one.renewed is not None  # the source was converted again from its packed inputs
    named = ts.explain(snn, NAMED, output="heads.numbers", task=Regression(), changes=False)
    assert named.metric.name == "MSE" and named.ann_value == pytest.approx(0, abs=1e-6)
    whole = ts.explain(snn, [(x, None) for x, _ in DATA], changes=False)
    assert whole.task == "fidelity" and 0 < whole.value < 0.5
    assert max(layer.regained for layer in whole.layers) > 0  # the cost of spiking


def test_record_keeps_every_input_and_the_answers_of_one_output(snn, alone):
    found, other = (
        ts.record(one, DATA, samples=2, **given) for one, given in ((snn, {"output": "logits"}), (alone, {}))
    )
    for one, two in zip(found.samples, other.samples, strict=True):
        assert set(one.input) == {"image", "vector"} and torch.equal(one.input["image"], two.input["image"])
        assert one.label == two.label and one.ann_answer == two.ann_answer and one.answers == two.answers
        assert [layer.spikes for layer in one.layers] == [layer.spikes for layer in two.layers]
    whole = ts.record(snn, (IMAGE, VECTOR), samples=1).samples[0]
    assert len(whole.values) == 24 and whole.values[-1] < whole.values[0]
    number = ts.record(snn, NAMED, samples=1, output="heads.numbers", task=Regression()).samples[0]
    assert number.values[-1] < number.values[0] and number.label is None


def test_an_exit_is_about_one_output_and_stops_all(snn, alone):
    many = [((IMAGE, VECTOR), Y)] * 10
    fitted = ts.fit_exit(snn, many, output="logits", drop=2, checkpoints=(3, 12))
    other = ts.fit_exit(alone, many, drop=2, checkpoints=(3, 12))
    assert fitted.exit.output == "logits" and "of logits" in str(fitted.exit)
    assert fitted.exit.thresholds == pytest.approx(other.exit.thresholds) and math.isfinite(fitted.exit.thresholds[0])
    early, plain = ts.answer_early(fitted, (IMAGE, VECTOR)), ts.answer_early(other, (IMAGE, VECTOR))
    assert torch.equal(early.timesteps, plain.timesteps) and torch.equal(early.answer["logits"], plain.logits)
    assert early.answer["heads"]["numbers"].shape == (COUNT, 2) and len(early.timesteps.unique()) > 1
    report = ts.evaluate(fitted, DATA, output="logits")
    assert report.exit.mean_steps == pytest.approx(float(early.timesteps.double().mean()))
    ignored = ts.evaluate(fitted, NAMED, output="heads.two", task=Binary())
    assert ignored.exit is None and any("it is about the output logits" in remark for remark in ignored.remarks)
    with pytest.raises(SettingError, match="several outputs, but classification judges one"):
        ts.fit_exit(snn, many)


def test_the_exit_is_saved_with_its_output(snn, tmp_path):
    fitted = ts.fit_exit(snn, [((IMAGE, VECTOR), Y)] * 10, output="logits", drop=5)
    assert ts.load(ts.save(fitted, tmp_path / "net.transpike")).exit == fitted.exit


@pytest.mark.parametrize("gradients", ["time", "counts"])
def test_finetuning_takes_the_loss_of_one_output(snn, gradients):
    wanted = NUMBERS + 1
    data = [
        (x, {"logits": y, "heads": {"numbers": wanted[p], "two": y}}) for (x, y), p in zip(DATA, PARTS, strict=True)
    ]
    before = ts.evaluate(snn, data, output="heads.numbers", task=Regression()).final.metrics["MSE"].value
    tuned = ts.finetune(
        snn, data, epochs=3, learning_rate=0.02, timesteps=8, output="heads.numbers", task=Regression(),
        gradients=gradients, train="weights", batch_size=20,
    )  # fmt: skip
    after = ts.evaluate(tuned, data, output="heads.numbers", task=Regression(), timesteps=24).final.metrics["MSE"].value
    assert after < 0.7 * before
    facts = tuned.provenance["fine_tuning"][-1]
    assert facts["settings"]["output"] == "heads.numbers" and facts["grid"]["largest_logit_change"] < 1e-2
    assert torch.equal(tuned.graph["o"].op.weight, snn.graph["o"].op.weight)  # the other heads get no gradient
    for node in tuned.source.inputs:
        assert node.op.statistics.samples == tuned.source.inputs[0].op.statistics.samples > 0
    with pytest.raises(SettingError, match="moves the pixels of one image"):
        ts.finetune(snn, data, epochs=1, output="logits", augment="crop")
    with pytest.raises(SettingError, match="several outputs, but regression judges one"):
        ts.finetune(snn, data, epochs=1, task=Regression())
    with pytest.raises(SettingError, match=r"fidelity has no targets to train with.*output=… with one of 'logits'"):
        ts.finetune(snn, data, epochs=1)


@pytest.mark.parametrize("encoder", [ts.encoders.DeterministicCounts(), ts.encoders.Poisson()], ids=str)
@pytest.mark.parametrize("schedule", [ts.schedules.Streaming(), ts.schedules.LayerSynchronous()], ids=str)
def test_a_network_in_training_runs_as_the_engines_with_an_input_range_each(encoder, schedule):
    from transpike.training.spiking.unrolled import Unrolled

    snn = ts.convert(model(), ECC(timesteps=16, encoder=encoder, schedule=schedule), CALIBRATION, exact_grid=False)
    module = Unrolled.of(snn)
    with torch.no_grad():
        answer = module.answers(module(snn.prepare(CALIBRATION)))[-1]
    expected = ts.simulate(snn, CALIBRATION, engine="dense").logits[-1]
    assert float((answer - expected).abs().max()) < 1e-3 * float(expected.abs().max())


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.a, self.b = nn.Embedding(20, 6), nn.Linear(6, 12), nn.Linear(12, 3)
        for parameter in self.parameters():
            parameter.data = seeded.random(*parameter.shape) / 2

    def forward(self, tokens: Tensor) -> Tensor:
        return self.b(F.relu(self.a(self.e(tokens))).mean(1))


def test_whole_numbers_are_explained_recorded_compared_and_trained():
    network, words = Words().eval().requires_grad_(False), torch.arange(40 * 7).reshape(40, 7) % 20
    y = network(words).argmax(1)
    snn = ts.convert(network, ECC(timesteps=24), words)
    data = [((words,), y)]
    assert ts.explain(snn, data).ann_accuracy == 1.0
    assert ts.record(snn, data, samples=1).samples[0].input["tokens"].dtype == torch.int64
    tuned = ts.finetune(snn, data, epochs=1, timesteps=8, learning_rate=1e-3)
    assert tuned(words).shape == (40, 3)
    found = ts.compare(network, ["ecc"], words, ts.ComparisonSettings(timesteps=(24,)), data=data)
    assert found.measured[0].accuracy == ts.evaluate(found.snn(found.measured[0]), data).final.accuracy


def test_a_comparison_judges_one_output_or_the_fidelity_of_all(tmp_path):
    settings = {"timesteps": (8, 24)}
    both = [ECC(), StreamingSigmaDelta(), T2FSNN()]
    one = ts.compare(
        model(), both, CALIBRATION, ts.ComparisonSettings(**settings, judged_output="logits"), data=DATA, store=tmp_path
    )
    assert {row.recipe for row in one.measured} == {"ecc()", "sigma-delta()"} and one.task == Classification()
    assert all("one window of time slots" in row.reason for row in one.refused if row.recipe == "t2fsnn()")
    row = next(row for row in one.measured if row.recipe == "ecc()" and row.timesteps == 24)
    report = ts.evaluate(one.snn(row), DATA, output="logits")
    assert row.accuracy == report.final.accuracy and row.synaptic_operations == report.final.synaptic_operations
    again = ts.compare(
        model(),
        both,
        CALIBRATION,
        ts.ComparisonSettings(**settings, judged_output="logits"),
        data=NAMED,
        store=tmp_path,
    )
    assert [row.accuracy for row in again.measured] == [row.accuracy for row in one.measured]
    whole = ts.compare(model(), ["ecc"], CALIBRATION, ts.ComparisonSettings(**settings), data=CALIBRATION)
    assert whole.task == Fidelity() and whole.measured[-1].value < whole.measured[0].value
    small = ts.compare(model(), ["ecc"], CALIBRATION, ts.ComparisonSettings(**settings, output="logits"), data=DATA)
    assert small.measured[-1].synaptic_operations < row.synaptic_operations  # the other heads are not converted
    with pytest.raises(SettingError, match="several outputs, but classification judges one"):
        ts.compare(model(), ["ecc"], CALIBRATION, ts.ComparisonSettings(task=Classification()), data=DATA)
    with pytest.raises(DataError, match=r"the input vector: the inputs do not look like"):
        far = [((x[0], 100 * x[1]), y) for x, y in DATA]
        ts.compare(model(), ["ecc"], CALIBRATION, ts.ComparisonSettings(judged_output="logits"), data=far)


def test_a_comparison_gives_each_input_its_preprocessing_and_fits_exits():
    given = {"vector": ts.Preprocessing((50.0,), (25.0,)), "image": ts.Preprocessing((0.0,), (1.0,))}
    settings = ts.ComparisonSettings(timesteps=(16,), exits=(ts.exits.Exit("gap", 5),), judged_output="logits")
    many = [((IMAGE, VECTOR), Y)] * 10
    network, plain = model(), [((IMAGE, (VECTOR - 50) / 25), Y)]
    rows = ts.compare(
        network, ["ecc"], CALIBRATION, settings, data=DATA, preprocessing=given, exit_data=many
    ).measured  # fmt: skip
    other = ts.compare(network, ["ecc"], plain, settings, data=plain, exit_data=plain * 10).measured
    assert [row.accuracy for row in rows] == [row.accuracy for row in other] and rows[1].exit is not None
    with pytest.raises(SettingError, match="the network has one input"):
        ts.compare(seeded.network(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), ["ecc"], VECTOR, settings, data=DATA,
                   preprocessing=given)  # fmt: skip


def test_a_cascade_of_several_inputs_and_outputs(snn, alone):
    found = cascade(snn, alone, DATA, screen_output="heads.two")
    passed = ANSWER["heads"]["two"][:, 0] > 0
    expected = torch.where(passed, Y, 0)
    assert found.ann.accuracy == pytest.approx(float((expected == Y).double().mean()))
    assert found.ann.forwarded == pytest.approx(float(passed.double().mean()))
    assert found.snn.samples == COUNT and found.snn.cost.synaptic_operations > 0
    same = cascade(snn, snn, NAMED, screen_output="heads.two", output="logits")
    assert same.ann.confusion == found.ann.confusion
    twice = cascade(snn, snn, NAMED, screen_output="heads.two", output="heads.two", task=Binary())
    assert twice.ann.accuracy == 1.0 and len(twice.ann.confusion) == 2
    for task in (Regression(), TopK(2), ts.tasks.MultiLabel()):
        with pytest.raises(SettingError, match="counts one class per sample"):
            cascade(snn, snn, NAMED, screen_output="heads.two", output="logits", task=task)
    with pytest.raises(SettingError, match="several outputs"):
        cascade(snn, alone, DATA)


def test_a_cost_judges_one_output(snn):
    found = ts.cost(snn, DATA, output="logits", models=[ts.energy.Operations()])
    assert found.report.ann_accuracy == 1.0 and found.quantised_baseline_value > 0.9
    numbers = ts.cost(snn, NAMED, output="heads.numbers", task=Regression(), models=[ts.energy.Operations()])
    assert numbers.metric.name == "MSE" and numbers.quantised_baseline_value < 0.1


def test_training_and_the_processor_refuse_several_inputs_by_name(snn):
    with pytest.raises(DataError, match=r"train\(\) takes networks with one input.*finetune\(\) takes several"):
        ts.train(model(), DATA)
    with pytest.raises(SettingError, match="time slots"):
        ts.convert(model(), T2FSNN(), CALIBRATION)
