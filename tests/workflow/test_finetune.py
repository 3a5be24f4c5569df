"""Fine-tuning: it learns, resumes to the same bits, keeps its constraints, and says what the grid cost."""

import dataclasses
import json
import math

import pytest
import torch
from torch import nn

import transpike as ts
from measured import chance, right
from stored import stored
from transpike.errors import DataError, SettingError
from transpike.training import FineTuning
from transpike.training.spiking import finetuning
from transpike.training.spiking.losses import TET, CrossEntropy, Distillation
from transpike.training.spiking.packing import PackSpikes
from transpike.training.spiking.surrogates import Rectangular, Triangle
from transpike.training.spiking.unrolled import Unrolled
from transpike.workflow.finetune.run import finetune
from transpike.workflow.train import Progress, Row


@pytest.fixture(scope="module")
def digits() -> ts.data.Dataset:
    return ts.data.load("digits")


@pytest.fixture(scope="module")
def source() -> nn.Module:
    return stored("three-neuron-layers")


def converted(source, digits, recipe=None) -> ts.SNN:
    recipe = recipe or ts.recipes.ECC(timesteps=2)
    return ts.convert(source, recipe, digits.train.batches(100, limit=400), preprocessing=digits.preprocessing)


@pytest.fixture(scope="module")
def snn(source, digits) -> ts.SNN:
    return converted(source, digits)


def few(digits, count: int = 200) -> ts.data.Split:
    return digits.train.subset(torch.arange(count))


def same(a: ts.SNN, b: ts.SNN) -> bool:
    first, second = a.graph.parameters(), b.graph.parameters()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


SCHEDULES = [ts.schedules.Streaming(), ts.schedules.LayerSynchronous()]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("normalise", [False, True])
def test_two_steps_gain_clearly_over_the_conversion(source, digits, schedule, normalise):
    plain = converted(source, digits, ts.recipes.ECC(timesteps=2, schedule=schedule))
    tuned = finetune(plain, digits, epochs=3, learning_rate=5e-3, normalise=normalise)
    assert chance(right(tuned, digits), right(plain, digits)) < 0.01
    facts = tuned.provenance["fine_tuning"][0]
    assert facts["grid"]["accuracy_on"] >= facts["grid"]["accuracy_off"] - 0.01
    assert facts["grid"]["largest_logit_change"] > 0 and facts["grid"]["samples"] == 126
    assert facts["before"]["validation_accuracy"] < facts["history"][facts["best_epoch"] - 1]["validation_accuracy"]
    assert tuned.recipe == plain.recipe and tuned.timesteps == 2 and "fine-tuned" in str(tuned)
    assert json.dumps(tuned.provenance) and tuned.exactness.timesteps >= 2


def test_a_tuned_network_is_saved_and_runs_alike_on_every_engine(snn, digits, tmp_path):
    tuned = finetune(snn, few(digits), epochs=1)
    again = ts.load(ts.save(tuned, tmp_path / "net.transpike"))
    x = digits.test.batch(torch.arange(20))[0]
    trace = ts.simulate(again, x, engine="reference")
    assert trace.exact and torch.equal(trace.logits, ts.simulate(tuned, x).logits)
    assert again.provenance["fine_tuning"] == tuned.provenance["fine_tuning"]
    assert len(finetune(again, few(digits), epochs=1).provenance["fine_tuning"]) == 2


def test_only_what_is_named_moves(snn, digits):
    kinds = {"weights": ("weight", "bias"), "thresholds": ("threshold",), "initial": ("initial",)}
    start = snn.graph.parameters()
    for kind, endings in kinds.items():
        tuned = finetune(snn, few(digits), epochs=1, train=kind, loss="distil")
        moved = {name for name, value in tuned.graph.parameters().items() if not torch.equal(value, start[name])}
        assert moved and all(name.endswith(endings) for name in moved)
        assert moved == {name for name in start if name.endswith(endings)}
    # from below 1, beyond which no leak goes, whatever way the loss falls
    leaky = snn.graph.rewrite(
        lambda n: dataclasses.replace(n, op=dataclasses.replace(n.op, leak=0.9)) if hasattr(n.op, "leak") else None
    )
    tuned = finetune(dataclasses.replace(snn, graph=leaky), few(digits), epochs=1, train="leaks", leak_rate=0.01)
    assert torch.equal(tuned.graph.parameters()["0.weight"] if "0.weight" in start else next(iter(start.values())),
                       next(iter(tuned.graph.parameters().values())))  # fmt: skip
    leaks = [node.op.leak for node in tuned.graph.cells if hasattr(node.op, "leak")]
    assert len(leaks) == 3 and all(0 < leak <= 1 and leak != 0.9 for leak in leaks)


def test_weight_decay_is_for_weights_and_neurons_learn_in_their_own_scale(snn, digits):
    from transpike.workflow.finetune.loop import Tuning

    settings = FineTuning(train=("weights", "thresholds", "leaks", "initial"), weight_decay=0.1, threshold_rate=0.5,
                          learning_rate=0.2, leak_rate=0.3, initial_rate=0.4)  # fmt: skip
    tuning = Tuning(snn, digits.train, settings, 2, torch.device("cpu"))
    names = {id(p): name for name, p in tuning.module.named_parameters()}
    seen = set()
    for group in tuning.optimiser.param_groups:
        (parameter,) = group["params"]
        name = names[id(parameter)]
        kind = next(kind for kind, members in tuning.module.groups().items() if name in members)
        theta = tuning.module.tensors()[name.replace(".initial", ".threshold")].mean() if kind != "weights" else 1
        expected = {"weights": 0.2, "thresholds": 0.5 * theta, "leaks": 0.3, "initial": 0.4 * theta}[kind]
        assert group["lr"] == pytest.approx(float(torch.as_tensor(expected).detach())) and group["weight_decay"] == (
            0.1 if kind == "weights" else 0
        )
        seen.add(kind)
    assert seen == {"weights", "thresholds", "leaks", "initial"}


def test_thresholds_stay_positive_and_leaks_in_their_range_whatever_the_rate(snn, digits):
    tuned = finetune(
        snn, few(digits), epochs=1, train=("thresholds", "leaks", "initial"), threshold_rate=3.0, leak_rate=5.0
    )
    for before, node in zip(snn.graph.cells, tuned.graph.cells, strict=True):
        if hasattr(node.op, "leak"):
            assert 0 < node.op.leak <= 1
            assert bool((node.op.threshold >= 0.99e-3 * before.op.threshold.min()).all())
            assert bool(node.op.initial.isfinite().all())


class _KilledError(Exception):
    pass


@pytest.mark.parametrize(
    "extra",
    [
        {"optimiser": "adam"},
        {"optimiser": "amsgrad", "train": ("weights", "thresholds", "leaks", "initial")},
        {"optimiser": "sgd", "learning_rate": 0.01, "augment": "crop", "normalise": True},
        {"validation_fraction": 0.0, "loss": "distil", "normalise": True},
    ],
)
def test_a_resumed_run_ends_in_the_same_bits(snn, digits, tmp_path, extra):
    settings = {"epochs": 3, "batch_size": 40, "warmup_epochs": 1, **extra}
    whole = finetune(snn, few(digits), checkpoint=tmp_path / "whole.safetensors", **settings)

    def kill(news):
        if isinstance(news, Progress) and (news.epoch, news.step) == (3, 2):
            raise _KilledError

    path, rows = tmp_path / "broken.safetensors", []
    with pytest.raises(_KilledError):
        finetune(snn, few(digits), checkpoint=path, progress=kill, **settings)
    resumed = finetune(snn, few(digits), checkpoint=path, progress=lambda n: rows.append(n), **settings)
    assert [row.epoch for row in rows if isinstance(row, Row)] == [3]
    assert same(whole, resumed) and not same(whole, snn)
    losses = [[row["train_loss"] for row in net.provenance["fine_tuning"][0]["history"]] for net in (whole, resumed)]
    assert losses[0] == losses[1]
    assert same(finetune(snn, few(digits), checkpoint=path, **settings), whole)  # a finished run only measures
    with pytest.raises(SettingError, match="batch_size was 40, now 41"):
        finetune(snn, few(digits), checkpoint=path, **settings | {"batch_size": 41})


def deep(steps: int = 6) -> tuple[Unrolled, torch.Tensor]:
    """Four convolutions with spikes between them."""
    torch.manual_seed(0)
    layers = [layer for i in range(4) for layer in (nn.Conv2d(3 if not i else 8, 8, 3, padding=1), nn.ReLU())]
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 64, 10))
    x = torch.randn(8, 3, 8, 8)
    snn = ts.convert(module, ts.recipes.ECC(timesteps=steps), torch.randn(64, 3, 8, 8))
    unrolled = Unrolled(snn.graph, snn.encoder, snn.schedule, snn.readout, steps, Rectangular())
    for name, parameter in unrolled.named_parameters():
        parameter.requires_grad_(name in unrolled.groups()["weights"])
    return unrolled, x


@pytest.mark.parametrize("surrogate", [Rectangular(), Triangle()])
@pytest.mark.parametrize("autocast", [False, True])
def test_packed_spikes_leave_gradients_bit_for_bit(surrogate, autocast):
    module, x = deep()
    module.surrogate = surrogate
    gradients, sizes = [], []
    for active in (False, True):
        with PackSpikes(active) as packing, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = module(x).float().square().sum()
        gradients.append(torch.autograd.grad(loss, list(module.groups()["weights"].values())))
        sizes.append(packing)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True)) and bool(gradients[0][0].any())
    plain, packed = sizes
    assert packed.plain + packed.unpacked == plain.plain and not plain.packed
    bits = 16 if autocast else 32
    assert packed.unpacked == pytest.approx(bits * packed.packed, rel=0.01)
    # spikes are kept by the scan and the next layer's product, and by the scan once more as a mask, or as a potential
    if isinstance(surrogate, Rectangular):
        assert plain.plain > 8 * (packed.packed + packed.plain)
    else:
        assert 1.2 < plain.plain / (packed.packed + packed.plain) < 4


def test_nothing_is_taken_for_spikes_that_is_not(snn):
    from transpike.training.spiking.packing import mark

    with PackSpikes() as packing:
        x = torch.rand(100, requires_grad=True)
        (x * x.sin()).sum().backward()
        first = torch.ones(100)
        mark(first)
        del first  # its memory may be another tensor's now
        y = torch.rand(100, requires_grad=True)
        (y.exp() * y.sin()).sum().backward()
        assert packing.packed == 0 and packing.plain > 0


def test_packing_trains_the_same_network(snn, digits):
    assert same(finetune(snn, few(digits), epochs=1), finetune(snn, few(digits), epochs=1, pack_spikes=True))


def test_losses_are_their_formulas():
    random = torch.Generator().manual_seed(0)
    o, y = torch.randn(3, 4, 5, generator=random), torch.tensor([0, 3, 1, 4])
    answer, teacher = o.mean(0), torch.randn(4, 5, generator=random)
    entropy = lambda z: float((z.logsumexp(1) - z[torch.arange(4), y]).mean())  # noqa: E731
    assert float(CrossEntropy()(o, answer, y, None)) == pytest.approx(entropy(answer), abs=1e-6)
    expected = 0.8 * sum(entropy(step) for step in o) / 3 + 0.2 * float(((o - 2) ** 2).mean())
    assert float(TET(0.2, 2.0)(o, answer, y, None)) == pytest.approx(expected, abs=1e-6)
    p, q = torch.softmax(teacher / 3, 1), torch.softmax(answer / 3, 1)
    distance = 9 * float((p * (p / q).log()).sum(1).mean())
    expected = 0.25 * entropy(answer) + 0.75 * distance
    assert float(Distillation(3.0, 0.75)(o, answer, y, teacher)) == pytest.approx(expected, abs=1e-5)


def test_every_step_counts_under_tet(snn, digits):
    early = [finetune(snn, digits, epochs=2, learning_rate=2e-3, loss=loss, timesteps=4) for loss in (TET(0.0), "ce")]
    assert early[0].timesteps == 4
    assert chance(*(right(net, digits, 1) for net in early)) < 0.01


def test_loaders_tensors_and_presets_are_taken(snn, digits):
    images, labels = few(digits).batch(torch.arange(100))
    a = finetune(snn, (images, labels), "diet-snn", epochs=1)
    b = finetune(
        snn, [(images[:60], labels[:60]), (images[60:], labels[60:])], finetuning.presets["diet-snn"], epochs=1
    )
    c = finetune(snn, digits.train.batches(30, indices=torch.arange(100)), "diet-snn", epochs=1)
    assert same(a, b) and same(a, c)
    assert a.provenance["fine_tuning"][0]["settings"]["surrogate"] == ["Linear", {"height": 0.3, "width": 1.0}]


def test_recordings_are_trained_frame_by_frame():
    torch.manual_seed(0)
    frames = (torch.rand(60, 4, 2, 8, 8) < 0.3).float()
    labels = (frames[:, :, 0].sum((1, 2, 3)) > frames[:, :, 1].sum((1, 2, 3))).long()
    module = nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    recipe = ts.recipes.ECC(timesteps=4, encoder=ts.encoders.EventFrames())
    snn = ts.convert(module, recipe, frames)
    tuned = finetune(snn, (frames, labels), epochs=4, learning_rate=1e-2, batch_size=10, augment="crop")
    history = tuned.provenance["fine_tuning"][0]["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"epochs": 0}, "epochs"),
        ({"epochs": True}, "epochs"),
        ({"train": ()}, "train must name"),
        ({"train": ("weights", "delays")}, "train must name"),
        ({"surrogate": "square"}, "surrogate must be one of"),
        ({"loss": 3}, "loss must be one of"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"threshold_rate": -1.0}, "threshold_rate"),
        ({"momentum": 1.0}, "momentum"),
        ({"optimiser": "lion"}, "optimiser"),
        ({"precision": "float8"}, "precision"),
        ({"warmup_epochs": 5}, "warmup_epochs"),
        ({"layerwise": "backwards"}, "layerwise"),
        ({"timesteps": 0}, "timesteps"),
        ({"rate": 0.1}, "no setting 'rate'"),
        ({"settings": "dream"}, "no preset"),
        ({"threads": 0}, "threads"),
    ],
)
def test_settings_that_make_no_sense_are_refused(snn, digits, wrong, text):
    with pytest.raises(SettingError, match=text):
        finetune(snn, few(digits), **wrong)


def test_data_that_do_not_fit_are_refused(source, snn, digits):
    images, labels = few(digits).batch(torch.arange(50))
    for data, text in (
        (images, "labels"),
        ((images, labels.float()), "class indices"),
        ((images, labels + 5), "5 to 14, but the network has 10 classes"),
        ((images[:1], labels[:1]), "at least two"),
        ((images[:, :, :5], labels), "takes"),
        ([], "no samples"),
    ):
        with pytest.raises(DataError, match=text):
            finetune(snn, data, epochs=1)
    with pytest.raises(DataError, match="diverged"):
        finetune(snn, (images, labels), epochs=3, optimiser="sgd", learning_rate=1e30)
    windows = converted(source, digits, ts.recipes.ECC(timesteps=2, schedule=ts.schedules.LayerSynchronous()))
    with pytest.raises(SettingError, match="leak"):
        finetune(windows, few(digits), train="leaks")
    bursts = converted(source, digits, ts.recipes.FewSteps(timesteps=2, neuron="burst", samples=16))
    with pytest.raises(SettingError, match="no leaks"):
        finetune(bursts, few(digits), train=("weights", "leaks"))
