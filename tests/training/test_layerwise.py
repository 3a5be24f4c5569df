"""Layer-wise fine-tuning and tandem learning: who learns when, from what, and that a stop changes nothing."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from measured import chance, right
from stored import stored
from transpike.errors import SettingError
from transpike.training.spiking.layer_stages import place, stages
from transpike.training.spiking.layerwise import LayerwiseSchedule
from transpike.training.spiking.packing import PackSpikes
from transpike.training.spiking.tandem import Tandem
from transpike.training.spiking.unrolled import Unrolled
from transpike.workflow.finetune.run import finetune
from transpike.workflow.train import Progress, Row


@pytest.fixture(scope="module")
def digits() -> ts.data.Dataset:
    return ts.data.load("digits")


@pytest.fixture(scope="module")
def source() -> nn.Module:
    return stored("without-norms")


@pytest.fixture(scope="module")
def snn(source, digits) -> ts.SNN:
    recipe = ts.recipes.ECC(timesteps=2, beta=0.0)
    return ts.convert(source, recipe, digits.train.batches(100, limit=400), preprocessing=digits.preprocessing)


def few(digits, count: int = 300) -> ts.data.Split:
    return digits.train.subset(torch.arange(count))


def unrolled(snn: ts.SNN, kind=Unrolled, steps: int | None = None) -> Unrolled:
    return kind(snn.graph, snn.encoder, snn.schedule, snn.readout, steps or snn.timesteps)


def weights(snn: ts.SNN) -> dict[str, Tensor]:
    return {name: value for name, value in snn.graph.parameters().items() if name.endswith(("weight", "bias"))}


def test_stages_go_through_the_network(snn):
    module = unrolled(snn)
    neurons = [node.name for node in snn.graph.cells]
    rest = stages(module, LayerwiseSchedule("rest", "task"), ("weights", "thresholds"))
    assert [stage.name for stage in rest] == neurons and [len(stage.spiking) for stage in rest] == [1, 2, 3]
    sizes = [len(stage.trained) for stage in rest]
    assert sizes == [6, 4, 2] and all(name.endswith(("weight", "bias")) for name in rest[0].trained)
    layers = stages(module, LayerwiseSchedule("layer"), ("weights", "thresholds"))
    assert [stage.followed for stage in layers] == [(name,) for name in (*neurons, snn.graph.output.name)]
    assert [len(stage.trained) for stage in layers] == [3, 3, 3, 2]
    assert not frozenset.intersection(*(stage.trained for stage in layers))
    (each,) = stages(module, LayerwiseSchedule("each"), ("weights",))
    assert each.followed == (*neurons, snn.graph.output.name) and len(each.trained) == 8
    with pytest.raises(SettingError, match="no stage has parameters"):
        stages(module, LayerwiseSchedule("rest", "task"), ("thresholds",))


def rows(*losses: float) -> list[Row]:
    return [Row(n + 1, 0.1, loss, 0.5, loss, 0.5, 1.0) for n, loss in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "stage", "begins", "best"),
    [
        ((), 0, True, 0),
        ((3.0,), 0, False, 1),
        ((3.0, 2.0, 2.5), 0, False, 2),
        ((3.0, 2.0, 2.5, 2.6), 1, True, 2),  # two epochs without a better one
        ((3.0, 2.0, 2.5, 2.6, 9.0), 1, False, 5),  # the next stage has a best of its own
        ((5.0, 4.0, 3.0, 2.0), 1, True, 4),  # no stage is longer than four
    ],
)
def test_a_history_tells_the_stage(losses, stage, begins, best):
    found = place(rows(*losses), LayerwiseSchedule(patience=2, epochs=4))
    assert (found.stage, found.begins) == (stage, begins)
    assert found.best == best


@pytest.mark.parametrize(
    "schedule",
    [
        LayerwiseSchedule("rest", "task", patience=2, epochs=3, last_rate=0.5),
        LayerwiseSchedule("layer", "features", patience=2, epochs=3),
        LayerwiseSchedule("each", "features+distil", patience=2, epochs=4),
    ],
    ids=["rest", "layer", "each"],
)
def test_each_schedule_gains_over_the_conversion(snn, digits, schedule):
    seen: list[Row] = []
    tuned = finetune(snn, digits, layerwise=schedule, train="weights", learning_rate=2e-3, loss="distil",
                     progress=lambda news: seen.append(news))  # fmt: skip
    assert chance(right(tuned, digits), right(snn, digits)) < 0.01
    steps = [news for news in seen if isinstance(news, Progress)]
    assert steps[-1].epoch <= steps[-1].epochs


def test_a_prefix_that_spikes_is_frozen(snn, digits):
    tuned = finetune(snn, few(digits), layerwise=LayerwiseSchedule("rest", "task"), train="weights")
    before, after = weights(snn), weights(tuned)
    same = [torch.equal(before[name], after[name]) for name in before]
    assert same == [True, True, *[False] * 6]  # the first layer spikes from the first stage on


def test_layers_do_not_hear_of_each_other(snn, digits):
    module = unrolled(snn)
    module.cut = True
    neurons = [node.name for node in snn.graph.cells]
    seen = module.watched(snn.prepare(digits.train.batch(torch.arange(20))[0]), neurons)
    names = list(module.groups()["weights"])
    for number, name in enumerate(neurons):
        parameters = [module.groups()["weights"][key] for key in names]
        found = torch.autograd.grad(seen[name].charge.sum(), parameters, allow_unused=True, retain_graph=True)
        moved = [gradient is not None for gradient in found]
        assert moved == [index // 2 == number for index in range(len(names))]


def test_following_features_brings_them_nearer(snn, digits):
    x = snn.prepare(digits.test.batch(torch.arange(200))[0])
    tuned = finetune(snn, digits, layerwise=LayerwiseSchedule("layer", "features", epochs=2), train=("weights", "thresholds"),
                     learning_rate=2e-3)  # fmt: skip
    errors = []
    for net in (snn, tuned):
        source: dict[str, Tensor] = {}
        snn.source.run(x, observe=lambda node, _, output, to=source: to.update({node.name: output}))
        names = [node.name for node in net.graph.cells]
        with torch.no_grad():
            seen = unrolled(net).watched(x, names)
        errors.append([float(F.mse_loss(seen[n].charge.mean(0), source[n]).detach()) for n in names])
    assert all(after < before for before, after in zip(*errors, strict=True))


def test_finished_layers_have_few_weights(snn, digits):
    tuned = finetune(snn, few(digits), layerwise=LayerwiseSchedule("layer", "features", weight_bits=4), train="weights")
    for name, value in weights(tuned).items():
        if name.endswith("weight"):
            levels = value.flatten(1) / value.flatten(1).abs().amax(1, keepdim=True) * 7
            assert torch.allclose(levels, levels.round(), atol=1e-4) and len(levels.round().unique()) <= 15


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("kind", ["rest", "layer"])
@pytest.mark.parametrize("killed", [2, 3, 4])
def test_a_resumed_schedule_ends_in_the_same_bits(snn, digits, tmp_path, kind, killed):
    schedule = LayerwiseSchedule(kind, "task" if kind == "rest" else "features", patience=2, epochs=2, weight_bits=5)
    settings = {"layerwise": schedule, "train": "weights", "batch_size": 100}
    whole = finetune(snn, few(digits), **settings)

    def kill(news):
        if isinstance(news, Progress) and (news.epoch, news.step) == (killed, 2):
            raise _KilledError

    path = tmp_path / "broken.safetensors"
    with pytest.raises(_KilledError):
        finetune(snn, few(digits), checkpoint=path, progress=kill, **settings)
    resumed = finetune(snn, few(digits), checkpoint=path, **settings)
    a, b = whole.graph.parameters(), resumed.graph.parameters()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_tandem_gradients_are_those_of_the_source_on_the_counts(snn, digits):
    x = snn.prepare(digits.train.batch(torch.arange(20))[0])
    module = unrolled(snn, Tandem, 5)
    names = [node.name for node in snn.graph.cells]
    seen = module.watched(x, names)
    currents = module(x)
    plain = unrolled(snn, steps=5)
    assert torch.allclose(currents, plain(x), atol=1e-5)  # forward nothing is different
    cotangent = torch.randn(currents.shape[1:], generator=torch.Generator().manual_seed(0))
    found = torch.autograd.grad((currents.mean(0) * cotangent).sum(), list(module.groups()["weights"].values()))
    phi = [seen[name].charge.mean(0).detach() for name in names]
    w = list(module.groups()["weights"].values())
    z = [F.linear(phi[0].flatten(1), w[2], w[3]), F.linear(phi[1], w[4], w[5])]
    g = cotangent
    expected = {7: g.sum(0), 6: g.T @ phi[2]}
    g = (g @ w[6]) * (z[1] > 0)
    expected |= {5: g.sum(0), 4: g.T @ phi[1]}
    g = (g @ w[4]) * (z[0] > 0)
    expected |= {3: g.sum(0), 2: g.T @ phi[0].flatten(1)}
    for index, value in expected.items():
        assert torch.allclose(found[index], value, rtol=1e-3, atol=1e-5), index


def test_memory_of_tandem_learning_does_not_grow_with_time(snn, digits):
    x = snn.prepare(digits.train.batch(torch.arange(20))[0])
    kept = {}
    for kind in (Tandem, Unrolled):
        for steps in (2, 16):
            with PackSpikes(active=False) as packing:
                unrolled(snn, kind, steps)(x)
            kept[kind, steps] = packing.plain
    assert kept[Tandem, 2] == kept[Tandem, 16] and kept[Unrolled, 16] > 4 * kept[Unrolled, 2]


def test_tandem_learning_gains_over_the_conversion(snn, digits):
    tuned = finetune(snn, digits, "tandem", epochs=4)
    assert chance(right(tuned, digits), right(snn, digits)) < 0.01


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"gradients": "counts"}, "only train weights"),
        ({"gradients": "counts", "train": "weights", "layerwise": "fast-snn"}, "through time"),
        ({"gradients": "counts", "train": "weights", "normalise": True}, "normalise"),
        ({"layerwise": LayerwiseSchedule(weight_bits=4), "normalise": True, "train": "weights"}, "rounded"),
    ],
)
def test_what_does_not_go_together_is_refused(snn, digits, wrong, text):
    with pytest.raises(SettingError, match=text):
        finetune(snn, few(digits), **wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"trains": "all"}, {"objective": "kd"}, {"trains": "rest"}, {"trains": "each", "objective": "task"}, {"epochs": 0},
     {"patience": True}, {"last_rate": 0.0}, {"weight_bits": 1}],
)  # fmt: skip
def test_schedules_that_make_no_sense_are_refused(wrong):
    with pytest.raises(SettingError):
        LayerwiseSchedule(**wrong)


def test_windows_need_no_tandem(source, digits):
    recipe = ts.recipes.ECC(timesteps=2, schedule=ts.schedules.LayerSynchronous())
    snn = ts.convert(source, recipe, digits.train.batches(100, limit=400), preprocessing=digits.preprocessing)
    with pytest.raises(SettingError, match="straight-through"):
        finetune(snn, few(digits), "tandem", epochs=1)
