"""Several inputs, by position or by name, of real or of integers: one conversion, one run."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import transpike as ts
from networks import ENGINES
from transpike.errors import DataError, SettingError, UnsupportedModel
from transpike.recipes import ECC, BurstDigits, StreamingSigmaDelta


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


class TwoBranches(nn.Module):
    """An image and a vector with another range; the second has its own head."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.v = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(5, 8)
        self.o, self.aux = nn.Linear(4 * 36 + 8, 3), nn.Linear(8, 2)

    def forward(self, image: Tensor, vector: Tensor, scale: float = 1.0) -> dict[str, Tensor]:
        a, b = F.relu(self.c(image)).flatten(1), F.relu(self.v(vector))
        return {"logits": self.o(torch.cat([a, b], 1)), "aux": self.aux(b)}


class Siamese(nn.Module):
    """Both inputs pass the same layers."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.f, self.o = nn.Linear(8, 12), nn.Linear(12, 6), nn.Linear(6, 2)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = (F.relu(self.f(F.relu(self.e(x)))) for x in (first, second))
        return self.o(F.relu(a - b))


class Keywords(Siamese):
    def forward(self, *, first: Tensor, second: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(first, second)


class Structure(Siamese):
    def forward(self, batch: dict) -> Tensor:  # type: ignore[override]
        return super().forward(batch["first"], batch["second"])


class Tokens(nn.Module):
    """Words by number and real features by word."""

    def __init__(self) -> None:
        super().__init__()
        self.e, self.a, self.b = nn.Embedding(20, 6), nn.Linear(6, 12), nn.Linear(12, 3)

    def forward(self, tokens: Tensor, features: Tensor | None = None) -> Tensor:
        h = self.e(tokens)
        h = h if features is None else h + features
        return self.b(F.relu(self.a(h)).mean(1))


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval().requires_grad_(False)


IMAGE, VECTOR, LABELS = rand(32, 1, 6, 6), 100 * rand(32, 5), torch.arange(32) % 3
WORDS = torch.arange(32 * 7).reshape(32, 7) % 20
FORMS = {
    "pairs": [((IMAGE, VECTOR), LABELS)],
    "names": [({"vector": VECTOR, "image": IMAGE}, None)],
    "two arrays": (IMAGE, VECTOR),
    "arrays with targets": ((IMAGE, VECTOR), LABELS),
    "a dictionary": {"vector": VECTOR, "image": IMAGE, "labels": LABELS},
    "flat batches": [(IMAGE, VECTOR, LABELS)],
    "batches of dictionaries": [{"image": IMAGE.numpy(), "vector": VECTOR.numpy()}],
    "a data set": TensorDataset(IMAGE, VECTOR, LABELS),
    "a loader": DataLoader(TensorDataset(IMAGE, VECTOR, LABELS), batch_size=32),
}


@pytest.fixture(scope="module")
def branches() -> tuple[nn.Module, ts.SNN]:
    model = made(TwoBranches)
    return model, ts.convert(model, ECC(timesteps=48), FORMS["pairs"])


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_is_the_same_calibration(branches, form):
    model, snn = branches
    other = ts.convert(model, ECC(timesteps=48), FORMS[form])
    assert other.provenance["calibration_sha256"] == snn.provenance["calibration_sha256"]
    assert [node.name for node in other.graph.inputs] == ["image", "vector"]


def test_it_is_called_as_the_model(branches, tmp_path):
    model, snn = branches
    image, vector, expected = IMAGE[:4], VECTOR[:4], model(IMAGE[:4], VECTOR[:4])
    answer = snn(image, vector)
    for name in ("logits", "aux"):
        assert float((answer[name] - expected[name]).norm() / expected[name].norm()) < 0.05
    for other in (
        snn(vector=vector, image=image), snn(image, vector=vector), snn((image, vector)), snn(image, vector, 48),
        snn({"image": image, "vector": vector}), ts.simulate(snn, (image, vector)).answer, snn.forward(image, vector),
    ):  # fmt: skip
        assert torch.equal(other["logits"], answer["logits"])
    assert torch.equal(snn(image, vector, 8)["aux"], snn.run((image, vector)).outputs["aux"][7])
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    assert torch.equal(loaded(image, vector)["logits"], answer["logits"]) and str(loaded) == str(snn)
    assert "input vector: preprocessing: none; calibrated on 32 samples" in str(snn)


@pytest.mark.parametrize("encoder", [None, ts.encoders.Poisson(), ts.encoders.DeterministicCounts()], ids=str)
@pytest.mark.parametrize("schedule", [ts.schedules.Streaming(), ts.schedules.LayerSynchronous()], ids=str)
def test_every_engine_gives_the_same_spikes_and_each_input_has_its_range(encoder, schedule):
    model, settings = made(TwoBranches), {} if encoder is None else {"encoder": encoder}
    snn = ts.convert(model, ECC(timesteps=64, schedule=schedule, **settings), FORMS["two arrays"])
    traces = [ts.simulate(snn, (IMAGE, VECTOR), engine=engine, record=["relu", "relu_1"]) for engine in ENGINES]
    for trace in traces:
        assert trace.exact and torch.equal(trace.logits, traces[0].logits)
        assert all(torch.equal(trace.trains[name], traces[0].trains[name]) for name in trace.trains)
        for one, other in zip(trace.activity.layers, traces[0].activity.layers, strict=True):
            assert float(one.spikes.sum()) == float(other.spikes.sum()) > 0
    expected, answer = model(IMAGE, VECTOR)["logits"], traces[0].answer["logits"]
    assert float((answer - expected).norm() / expected.norm()) < 0.1  # with one range for both: beyond 0.3
    fans = {layer.name: layer.synapses for layer in traces[0].activity.layers}
    if encoder is not None:
        assert fans["vector"] == 40 and fans["image"] == 4 * 16 * 16  # each input feeds its own branch only


def test_shared_layers_run_for_each_input():
    model, x, y = made(Siamese), rand(24, 8), 3 * rand(24, 8).flip(0)
    snn = ts.convert(model, ECC(timesteps=64), (x, y))
    assert float((snn(x, y) - model(x, y)).abs().max()) < 0.1
    swapped, layers = (
        snn.accepting_any_input().run((y, x)),
        {layer.name: layer for layer in snn.run((x, y)).activity.layers},
    )
    names = [node.name for node in snn.graph.cells]
    assert len(names) == 5 and set(names) <= layers.keys()
    totals = {layer.name: float(layer.spikes.sum()) for layer in swapped.activity.layers}
    assert totals.keys() == layers.keys() and sum(totals.values()) > 0
    assert snn.run((x, y)).activity.macs == {"e": 96, "e_1": 96}  # each once: their inputs are constant


@pytest.mark.parametrize("kind", [Keywords, Structure])
def test_keywords_and_structures_are_inputs(kind):
    model, x, y = made(kind), rand(24, 8), rand(24, 8).flip(0)
    data = [({"second": y, "first": x}, LABELS[:24])]
    snn = ts.convert(model, ECC(timesteps=64), data)
    expected = made(Siamese)(x, y)
    given = {"first": x, "second": y}
    answer = snn(**given) if kind is Keywords else snn(given)
    assert float((answer - expected).abs().max()) < 0.1
    assert torch.equal(ts.convert(made(Siamese), ECC(timesteps=64), (x, y))(x, y), answer)
    report = ts.evaluate(snn, data, task=ts.tasks.Fidelity())
    assert report.fidelity[-1].relative_error < 0.2


@pytest.mark.parametrize("recipe", [ECC(timesteps=64), StreamingSigmaDelta(), BurstDigits()], ids=str)
def test_whole_numbers_are_looked_up_without_spikes_and_multiplications(recipe, tmp_path):
    model = made(Tokens)
    snn = ts.convert(model, recipe, WORDS)
    assert snn.graph.input.op.whole and "look-up of 20 rows" in str(snn.graph)
    assert float((snn(WORDS) - model(WORDS)).abs().max()) < 0.1
    traces = [ts.simulate(snn, WORDS, engine=engine) for engine in ("reference", "dense", "auto")]
    assert all(trace.exact and torch.equal(trace.logits, traces[0].logits) for trace in traces)
    activity = traces[0].activity
    assert "e" not in activity.macs and "e" not in [layer.name for layer in activity.layers]
    assert torch.equal(ts.load(ts.save(snn, tmp_path / "net.transpike"))(WORDS), snn(WORDS))
    mixed = ts.convert(model, recipe, [((WORDS, rand(32, 7, 6)), None)])
    expected = model(WORDS, rand(32, 7, 6))
    assert float((mixed(WORDS, features=rand(32, 7, 6)) - expected).abs().max()) < 0.15


def test_whole_numbers_beside_an_input_of_spikes():
    model, data = made(Tokens), [({"tokens": WORDS, "features": rand(32, 7, 6)}, None)]
    for schedule in (ts.schedules.Streaming(), ts.schedules.LayerSynchronous()):
        snn = ts.convert(model, ECC(timesteps=64, encoder=ts.encoders.DeterministicCounts(), schedule=schedule), data)
        traces = [ts.simulate(snn, data[0][0], engine=engine) for engine in ENGINES]
        assert all(torch.equal(trace.logits, traces[0].logits) for trace in traces)
        assert float((traces[0].answer - model(WORDS, rand(32, 7, 6))).abs().max()) < 0.2


def test_each_input_has_its_preprocessing_and_its_statistics():
    model, given = made(TwoBranches), {"vector": ts.Preprocessing((50.0,), (25.0,))}
    snn = ts.convert(model, ECC(timesteps=48), FORMS["pairs"], preprocessing=given)
    plain = ts.convert(model, ECC(timesteps=48), (IMAGE, (VECTOR - 50) / 25))
    assert torch.equal(snn(IMAGE, VECTOR)["logits"], plain(IMAGE, (VECTOR - 50) / 25)["logits"])
    with pytest.raises(DataError, match=r"the input vector: the inputs do not look like those of the calibration"):
        snn(IMAGE, 1000 * VECTOR)
    warnings = snn.accepting_any_input().run((IMAGE, 1000 * VECTOR)).warnings
    assert len(warnings) == 1 and warnings[0].startswith("the input vector")
    for wrong, reason in (
        (ts.Preprocessing(), "one Preprocessing for all"),
        ({"pixels": ts.Preprocessing()}, "pixels"),
    ):
        with pytest.raises(SettingError, match=reason):
            ts.convert(model, ECC(timesteps=8), FORMS["pairs"], preprocessing=wrong)


def test_evaluation_and_cost_take_several_inputs(branches):
    model, snn = branches
    y = model(IMAGE, VECTOR)["logits"].argmax(1)
    data = [((IMAGE[:20], VECTOR[:20]), y[:20]), ((IMAGE[20:], VECTOR[20:]), y[20:])]
    report = ts.evaluate(snn, data, output="logits")
    assert report.samples == 32 and report.ann_accuracy == 1.0 and report.final.accuracy > 0.9
    assert ts.evaluate(snn, ((IMAGE, VECTOR), y), output="logits").final.accuracy == report.final.accuracy
    assert ts.cost(snn, data).samples == 32
    alone = ts.convert(model, ECC(timesteps=48), FORMS["pairs"], output="aux")
    assert [node.name for node in alone.graph.inputs] == ["image", "vector"]  # its call stays that of the model
    assert float((alone(IMAGE, VECTOR) - model(IMAGE, VECTOR)["aux"]).abs().max()) < 1


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.inner, self.outer = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, ids):
        return self.outer(torch.relu(self.inner(self.table(ids))).mean(1))


def test_whole_numbers_are_given_as_any_other_input():
    """Every form that data of one input have, with targets and without; no batch is taken for a target."""
    ids = torch.randint(0, 9, (40, 5), generator=torch.Generator().manual_seed(0))
    snn = ts.convert(Words().eval(), StreamingSigmaDelta(), ids)
    y = snn(ids).argmax(1)
    halves, labels = ids.split(20), y.split(20)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, y), 16)
    for data in ((ids, y), [((ids,), y)], list(zip(halves, labels, strict=True)), loader):
        assert ts.evaluate(snn, data).final.accuracy == 1.0
    bare = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids), 16)
    for data in (ids, [ids], [(ids,)], list(halves), [(half,) for half in halves], bare):
        assert ts.evaluate(snn, data, task=ts.tasks.Fidelity()).samples == 40


def test_what_cannot_be_an_input_is_refused_by_name(branches):
    model, snn = branches
    for given, reason in (
        ((IMAGE,), "without vector"),
        ((IMAGE, VECTOR[:5]), r"different numbers of samples \(0 32, 1 5\)"),
        ((IMAGE, VECTOR[:, :4]), r"the input vector must have the shape \(batch, 5\), not \(32, 4\)"),
        ((IMAGE, VECTOR / 0), "the input vector contains NaN or infinite"),
        ((IMAGE, torch.tensor(1.0)), "different numbers of samples"),
        ({"image": IMAGE, "picture": VECTOR}, "without vector and with picture"),
        ((IMAGE, "text"), "must be a tensor, not a str"),
        ((IMAGE[:0], VECTOR[:0]), "the batch is empty"),
    ):
        with pytest.raises(DataError, match=reason):
            snn.run(given)
    for data, reason in ((IMAGE, r"takes the inputs image, vector.*is a Tensor.*\(\(image, vector\), target\)"),
                         ([{"image": IMAGE, "label": LABELS}], r"with the keys 'image', 'label'"),
                         ([(IMAGE, "text")], "must be a tensor")):  # fmt: skip
        with pytest.raises(DataError, match=reason):
            ts.convert(model, ECC(timesteps=8), data)
    tokens = ts.convert(made(Tokens), ECC(timesteps=8), WORDS)
    with pytest.raises(DataError, match="looked up among 20 rows, 0 to 19, but contains 20"):
        tokens(WORDS + 1)
    with pytest.raises(DataError, match="must contain integer indices"):
        tokens(WORDS + 0.5)

    class Both(Tokens):
        def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]
            return self.b(F.relu(self.a(self.e(tokens))).mean(1) + tokens.float().mean(1, keepdim=True))

    with pytest.raises(
        UnsupportedModel, match="the input tokens contains integers that are used as indices and also by"
    ):
        ts.convert(made(Both), ECC(timesteps=8), WORDS)
    with pytest.raises(SettingError, match="one window of time slots"):
        ts.convert(made(Siamese), ts.recipes.T2FSNN(), (rand(24, 8), rand(24, 8)))


def test_a_network_of_one_real_input_refuses_several():
    snn = ts.convert(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)), ECC(timesteps=8), rand(16, 4))
    assert torch.equal(snn(input=rand(16, 4)), snn(rand(16, 4)))
    with pytest.raises(DataError, match="must be a tensor of real numbers"):
        snn.run((rand(16, 4), rand(16, 4)))
    assert replace(snn).source.input_shape == (4,)
