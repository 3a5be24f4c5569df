"""Several outputs: one conversion, one run, answers in the structure of the model."""

from collections import namedtuple
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from networks import ENGINES, assert_same_spikes, settle
from transpike.core.structure import Record
from transpike.errors import SettingError
from transpike.ops.pack import Pack
from transpike.recipes import ECC, BurstDigits, StreamingSigmaDelta

Pair = namedtuple("Pair", ["logits", "features"])


def rand(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


class Heads(nn.Module):
    """Detector: two scales of a shared backbone; boxes are decoded, scores pass a sigmoid, a map is upsampled."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, 2, 1), nn.Conv2d(4, 6, 3, 2, 1)
        self.box, self.score, self.up = nn.Conv2d(6, 4, 1), nn.Conv2d(10, 2, 1), nn.Upsample(scale_factor=2)
        self.register_buffer("anchors", torch.rand(4, 1, 1))

    def forward(self, x: Tensor) -> dict:
        f = F.relu(self.a(x))
        g = F.relu(self.b(f))
        box = self.box(g)
        boxes = torch.cat([torch.sigmoid(box[:, :2]) + 0.5, box[:, 2:].exp() * self.anchors[2:]], 1)
        scores = self.score(torch.cat([f, self.up(g)], 1))
        return {
            "boxes": boxes,
            "scores": torch.sigmoid(scores),
            "maps": [F.interpolate(scores, scale_factor=2, mode="bilinear"), (g, None)],
            "anchors": self.anchors,
            "stride": 4,
        }


class Auxiliary(nn.Module):
    """Classifier with an auxiliary head: a named tuple, or the kind of structure that ``kind`` makes."""

    def __init__(self, kind=Pair) -> None:
        super().__init__()
        self.kind, self.body = kind, nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU())
        self.head, self.aux = nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x: Tensor):
        h = self.body(x)
        return self.kind(self.head(h), self.aux(h))


class Encoder(nn.Module):
    """Mean and logarithm of the variance, as of a variational autoencoder."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mu, self.logvar = nn.Linear(6, 16), nn.Linear(16, 4), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.body(x))
        return self.mu(h), self.logvar(h).exp()


@pytest.fixture(scope="module")
def detector() -> tuple[nn.Module, ts.SNN, Tensor]:
    torch.manual_seed(0)
    x = rand(16, 1, 16, 24)
    model = settle(Heads(), x).eval().requires_grad_(False)
    return model, ts.convert(model, ECC(timesteps=48), x), x[:4]


def test_the_answer_has_the_structure_of_the_model(detector, tmp_path):
    model, snn, x = detector
    answer, expected = snn(x), model(x)
    assert list(answer) == list(expected) and isinstance(answer["maps"], list) and isinstance(answer["maps"][1], tuple)
    assert answer["stride"] == 4 and answer["maps"][1][1] is None and torch.equal(answer["anchors"], model.anchors)
    for name in ("boxes", "scores"):
        assert answer[name].shape == expected[name].shape
        assert float((answer[name] - expected[name]).norm() / expected[name].norm()) < 0.1
    assert float((answer["maps"][0] - expected["maps"][0]).norm() / expected["maps"][0].norm()) < 0.1
    whole = snn(x, return_all=True)
    assert whole["boxes"].shape == (48, *expected["boxes"].shape)
    trace = ts.simulate(snn, x)
    assert list(trace.outputs) == ["boxes", "scores", "maps.0", "maps.1.0"]
    assert torch.equal(trace.outputs["boxes"][-1], answer["boxes"]) and torch.equal(
        trace.answer["scores"], answer["scores"]
    )
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    assert torch.equal(loaded.run(x).logits, trace.logits) and torch.equal(loaded(x)["anchors"], model.anchors)


def test_every_engine_gives_the_same_spikes_and_counts_shared_layers_once(detector):
    _, snn, x = detector
    one = ts.simulate(snn, x, engine="reference", record=[n.name for n in snn.graph.cells])
    assert one.exact and all(train.any() for train in one.trains.values())
    for engine in ENGINES:
        other = ts.simulate(snn, x, engine=engine, record=[n.name for n in snn.graph.cells])
        assert other.exact
        assert_same_spikes(one, other)
        assert torch.equal(one.logits, other.logits)
    spikes = {layer.name: float(layer.spikes.sum()) for layer in one.activity.layers}
    assert spikes == {name: float(train.sum()) for name, train in one.trains.items()}


def test_heads_integrate_and_their_last_functions_run_once_on_the_answer(detector):
    model, snn, x = detector
    heads = snn.graph.output
    assert isinstance(heads.op, Pack) and heads.inputs[1:] == ("slice_1", "slice_3", "score")
    assert any("sigmoid and exp and upsampling after the last layers: computed once" in r for r in snn.remarks)
    before = replace(snn, calibrated_readout=snn.readout.inside).run(x).logits[-1].double()
    raw = heads.op.structure.split(before)
    boxes, scores = snn(x)["boxes"], snn(x)["scores"]
    decoded = [torch.sigmoid(raw[1]) + 0.5, raw[2].exp() * model.anchors[2:]]
    assert torch.allclose(boxes.double(), torch.cat(decoded, 1), rtol=0, atol=1e-5)
    assert torch.allclose(scores.double(), torch.sigmoid(raw[3]), rtol=0, atol=1e-5)
    assert torch.allclose(
        F.interpolate(raw[3], scale_factor=2, mode="bilinear"), snn(x)["maps"][0].double(), rtol=0, atol=1e-5
    )


def test_one_of_several_outputs_runs_as_in_a_network_of_its_own(detector):
    model, snn, x = detector
    alone = ts.convert(model, ECC(timesteps=48), rand(16, 1, 16, 24), output="scores")
    assert alone.outputs is None and float((alone(x) - snn(x)["scores"]).abs().max()) < 0.02
    assert "box" not in [node.name for node in alone.graph]


@pytest.mark.parametrize(
    "recipe",
    [StreamingSigmaDelta(), BurstDigits(), ECC(timesteps=64, schedule=ts.schedules.LayerSynchronous())],
    ids=str,
)
def test_other_codes_give_the_same_structure_on_every_engine(recipe):
    model, x = Encoder().eval().requires_grad_(False), rand(24, 6)
    snn = ts.convert(model, recipe, x)
    mu, variance = snn(x)
    assert isinstance(snn(x), tuple) and float((mu - model(x)[0]).abs().max()) < 0.1
    assert bool((variance > 0).all()) and float((variance - model(x)[1]).abs().max()) < 0.1
    traces = [ts.simulate(snn, x, engine=engine) for engine in ("reference", "dense", "auto")]
    assert all(torch.equal(traces[0].logits, trace.logits) for trace in traces)
    assert traces[0].activity.layers[0].spikes.sum() == traces[1].activity.layers[0].spikes.sum()


@pytest.mark.parametrize("kind", [Pair, lambda a, b: (a, b), lambda a, b: [a, b], lambda a, b: {"logits": a, "f": b}])
def test_named_tuples_tuples_lists_and_dictionaries_come_back(kind):
    model, x = Auxiliary(kind).eval().requires_grad_(False), rand(12, 6)
    answer, expected = ts.convert(model, ECC(timesteps=64), x)(x), model(x)
    if isinstance(expected, Pair):
        assert isinstance(answer, Record) and answer.logits is answer[0] is answer["logits"]
        with pytest.raises(AttributeError):
            answer.another  # noqa: B018
    else:
        assert type(answer) is type(expected)
    values = answer.values() if isinstance(answer, dict) else answer
    for got, wanted in zip(values, expected.values() if isinstance(expected, dict) else expected, strict=True):
        assert got.shape == wanted.shape and float((got - wanted).abs().max()) < 0.05


def test_each_output_has_a_grid_of_its_own():
    """A head of values around 1000 must not make that of values around 1 coarse."""

    class Scales(Encoder):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = F.relu(self.body(x))
            return self.mu(h), 4096 * self.logvar(h)

    model, x = Scales().eval().requires_grad_(False), rand(24, 6)
    snn = ts.convert(model, ECC(timesteps=32), x)
    assert snn.exactness.timesteps >= 32 and ts.simulate(snn, x).exact
    alone = ts.convert(model, ECC(timesteps=32), x, output=0)
    assert torch.allclose(snn(x)[0], alone(x), rtol=0, atol=1e-5)


def test_a_task_judges_one_output_and_every_output_has_its_closeness():
    model, x = Auxiliary().eval().requires_grad_(False), rand(40, 6)
    snn, y = ts.convert(model, ECC(timesteps=32), x), model(x).logits.argmax(1)
    report = ts.evaluate(snn, (x, y), output="logits")
    alone = ts.evaluate(ts.convert(model, ECC(timesteps=32), x, output="logits"), (x, y))
    assert report.ann_accuracy == alone.ann_accuracy == 1.0 and report.final.agreement > 0.9
    named = ts.evaluate(snn, [(x, {"logits": y, "features": model(x).features})], output="logits")
    assert [a.accuracy for a in named.curve] == [a.accuracy for a in report.curve]
    other = ts.evaluate(snn, [(x, (y, model(x).features))], output="features", task=ts.tasks.Regression())
    assert other.ann["MSE"].value == pytest.approx(0, abs=1e-9)
    whole = ts.evaluate(snn, x)
    assert list(whole.outputs) == list(report.outputs) == ["logits", "features"]
    last, errors = whole.outputs["features"][-1], (snn(x).features - model(x).features).double()
    expected = float((errors.square().sum() / model(x).features.double().square().sum()).sqrt())
    assert last.relative_error == pytest.approx(expected, rel=1e-4)
    assert whole.outputs["logits"][-1] == report.fidelity[-1] and whole.to_json()["outputs"]["logits"]
    assert ts.cost(snn, x).notes


def test_what_judges_one_output_refuses_several_by_name():
    model, x = Auxiliary().eval().requires_grad_(False), rand(40, 6)
    snn, y = ts.convert(model, ECC(timesteps=8), x), torch.zeros(40).long()
    settings = ts.ComparisonSettings(task=ts.tasks.Classification())
    for judged in (
        lambda: ts.explain(snn, (x, y), task=ts.tasks.Classification()),
        lambda: ts.record(snn, (x, y), task=ts.tasks.Classification()),
        lambda: ts.fit_exit(snn, (x, y)),
        lambda: ts.cost(snn, (x, y), task=ts.tasks.Classification()),
        lambda: ts.compare(model, ["ecc"], x, settings, data=(x, y)),
    ):
        with pytest.raises(
            SettingError, match=r"classification judges one: output=… .*with one of 'logits', 'features'"
        ):
            judged()
    with pytest.raises(SettingError, match=r"classification judges one: output=… .*with one of 'logits'"):
        ts.evaluate(snn, (x, y), task=ts.tasks.Classification())
    with pytest.raises(SettingError, match="there is no output named 'boxes'"):
        ts.evaluate(snn, (x, y), output="boxes")
    with pytest.raises(ts.errors.DataError, match="without the output 'logits'"):
        ts.evaluate(snn, [(x, {"labels": y})], output="logits")
    with pytest.raises(SettingError, match="several outputs are integrated"):
        ts.convert(model, ECC(timesteps=8, readout=ts.readouts.SpikeCount()), x)
    with pytest.raises(SettingError, match="this network has one"):
        ts.evaluate(ts.convert(model, ECC(timesteps=8), x, output="logits"), (x, y), output=0)
