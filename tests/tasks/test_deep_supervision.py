"""A U-Net with deep supervision: masks of three sizes from one conversion, each judged by a task of its own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seeded
import transpike as ts
from transpike.errors import DataError, SettingError
from transpike.recipes import ECC, StreamingSigmaDelta
from transpike.tasks import Binary, Fidelity, PixelClassification, Regression

CLASSES, IGNORED = 3, 255


class UNet(nn.Module):
    """Two scales and a bottleneck, with a mask of each in a list, the largest first."""

    def __init__(self) -> None:
        super().__init__()
        self.e1, self.e2, self.b = (nn.Conv2d(a, b, 3, padding=1) for a, b in ((1, 6), (6, 8), (8, 8)))
        self.d2, self.d1 = nn.Conv2d(16, 8, 3, padding=1), nn.Conv2d(14, 6, 3, padding=1)
        self.heads = nn.ModuleList(nn.Conv2d(n, CLASSES, 1) for n in (6, 8, 8))
        for parameter in self.parameters():
            fan = parameter[0].numel() if parameter.ndim > 1 else 4.0
            parameter.data = seeded.random(*parameter.shape) * (2 / fan) ** 0.5

    def forward(self, x: Tensor) -> dict:
        def up(y: Tensor) -> Tensor:
            return F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)

        e1 = F.relu(self.e1(x))
        e2 = F.relu(self.e2(F.avg_pool2d(e1, 2)))
        b = F.relu(self.b(F.avg_pool2d(e2, 2)))
        d2 = F.relu(self.d2(torch.cat([e2, up(b)], 1)))
        d1 = F.relu(self.d1(torch.cat([e1, up(d2)], 1)))
        main, *aux = (head(y) for head, y in zip(self.heads, (d1, d2, b), strict=True))
        return {"mask": main, "aux": aux}


X = seeded.random(24, 1, 16, 16).abs()
MODEL = UNet().eval().requires_grad_(False)
for head, logits in zip(MODEL.heads, (MODEL(X)["mask"], *MODEL(X)["aux"]), strict=True):
    head.bias -= logits.mean((0, 2, 3))  # every class occurs
SIZES = {"mask": 16, "aux.0": 8, "aux.1": 4}


def masks() -> dict:
    """What the network answers, with every seventh pixel turned to the next class and every fifth not labelled."""
    answer = MODEL(X)

    def turned(logits: Tensor) -> Tensor:
        y = logits.argmax(1)
        place = torch.arange(y.numel()).reshape(y.shape)
        return torch.where(place % 5 == 0, IGNORED, torch.where(place % 7 == 0, (y + 1) % CLASSES, y))

    return {"mask": turned(answer["mask"]), "aux": [turned(one) for one in answer["aux"]]}


Y = masks()
TARGETS = dict(zip(SIZES, (Y["mask"], *Y["aux"]), strict=True))


def mean_iou(answer: Tensor, target: Tensor) -> float:
    """From its definition, class by class, without the ignored pixels."""
    a, y = answer[target != IGNORED], target[target != IGNORED]
    shares = [(int(((a == c) & (y == c)).sum()), int(((a == c) | (y == c)).sum())) for c in range(CLASSES)]
    return sum(both / either for both, either in shares if either) / sum(bool(either) for _, either in shares)


@pytest.mark.parametrize("recipe", [ECC(timesteps=64), StreamingSigmaDelta()], ids=str)
def test_every_mask_is_judged_by_its_own_targets(recipe) -> None:
    snn = ts.convert(MODEL, recipe, X)
    assert {name: shape[-1] for name, shape in zip(snn.outputs.names, snn.outputs.shapes, strict=True)} == SIZES
    data = [(X[part], {"mask": Y["mask"][part], "aux": [one[part] for one in Y["aux"]]})
            for part in (slice(0, 10), slice(10, 24))]  # fmt: skip
    answers = {name: value[-1].argmax(1) for name, value in ts.simulate(snn, X).outputs.items()}
    source = snn.outputs.named(snn.source.run(X))
    for name, target in TARGETS.items():
        found = ts.evaluate(snn, data, output=name, task=PixelClassification(ignore_index=IGNORED))
        assert found.ann["mean IoU"].value == pytest.approx(mean_iou(source[name].argmax(1), target))
        assert found.final.metrics["mean IoU"].value == pytest.approx(mean_iou(answers[name], target))
        assert abs(found.final.changes["mean IoU"].value) < 0.05
        assert found.fidelity[-1] == found.outputs[name][-1] and found.outputs[name][-1].argmax_agreement > 0.95
        alone = ts.evaluate(snn, (X, target), output=name, task=PixelClassification(ignore_index=IGNORED))
        assert alone.final.metrics == found.final.metrics
    with pytest.raises(DataError, match=r"needs integers of shape \(24, 4, 4\)"):
        ts.evaluate(snn, (X, TARGETS["mask"]), output="aux.1", task=PixelClassification(ignore_index=IGNORED))
    whole = ts.evaluate(snn, X)
    assert list(whole.outputs) == list(SIZES) and whole.final.score[0] < 0.2


def test_a_smaller_mask_is_explained_and_trained() -> None:
    snn, task = ts.convert(MODEL, ECC(timesteps=8), X), PixelClassification(ignore_index=IGNORED)
    found = ts.explain(snn, (X, TARGETS["aux.1"]), output="aux.1", task=task, samples=8, changes=False)
    assert found.metric.name == "mean IoU" and len(found.layers) == 5
    regained = {layer.name: layer.regained for layer in found.layers}
    assert regained[found.layers[-1].name] == 0  # the decoder does not lead to this mask
    tuned = ts.finetune(
        snn, (X, TARGETS["aux.1"]), output="aux.1", task=task, epochs=4, learning_rate=3e-3, batch_size=8,
        validation_fraction=0.0,
    )  # fmt: skip
    before, after = (ts.evaluate(one, (X, TARGETS["aux.1"]), output="aux.1", task=task) for one in (snn, tuned))
    loss = [task.loss(one.run(X).outputs["aux.1"][-1], TARGETS["aux.1"]) for one in (snn, tuned)]
    assert loss[1] < loss[0] and after.final.metrics["pixel accuracy"].value > 0.5 < before.samples


TASKS = {name: PixelClassification(ignore_index=IGNORED) for name in SIZES}


def test_a_task_for_each_output_measures_them_in_one_run() -> None:
    snn = ts.convert(MODEL, ECC(timesteps=16), X)
    found = ts.evaluate(snn, [(X[part], {"mask": Y["mask"][part], "aux": [one[part] for one in Y["aux"]]})
                              for part in (slice(0, 10), slice(10, 24))], task=TASKS)  # fmt: skip
    assert [metric.name for metric in found.metrics][:3] == [
        "mask: mean IoU",
        "mask: pixel accuracy",
        "aux.0: mean IoU",
    ]
    for name in SIZES:
        alone = ts.evaluate(snn, (X, TARGETS[name]), output=name, task=TASKS[name])
        for metric in ("mean IoU", "pixel accuracy"):
            assert found.ann[f"{name}: {metric}"] == alone.ann[metric]
            assert found.final.metrics[f"{name}: {metric}"] == alone.final.metrics[metric]
            assert found.final.changes[f"{name}: {metric}"] == alone.final.changes[metric]
    mixed = ts.evaluate(snn, (X, {"mask": Y["mask"], "aux": [MODEL(X)["aux"][0], Y["aux"][1]]}),
                        task={"aux.0": Regression(), "mask": TASKS["mask"]})  # fmt: skip
    assert mixed.ann["aux.0: MSE"].value == pytest.approx(0, abs=1e-9) and mixed.metrics[0].name == "aux.0: MSE"
    assert mixed.final.metrics["mask: mean IoU"] == found.final.metrics["mask: mean IoU"]
    assert ts.explain(snn, (X, Y), task=TASKS, samples=8, changes=False).metric.name == "mask: mean IoU"


def test_deep_supervision_trains_the_sum_of_the_losses() -> None:
    snn = ts.convert(MODEL, ECC(timesteps=8), X)
    tuned = ts.finetune(snn, (X, Y), task=TASKS, epochs=4, learning_rate=3e-3, batch_size=8, validation_fraction=0.0)

    def losses(one: ts.SNN) -> dict[str, float]:
        outputs = one.run(X).outputs
        return {name: float(TASKS[name].loss(outputs[name][-1], TARGETS[name])) for name in SIZES}

    before, after, history = losses(snn), losses(tuned), tuned.provenance["fine_tuning"][-1]["history"]
    assert all(after[name] < before[name] for name in SIZES)
    assert history[0]["train_loss"] == pytest.approx(sum(before.values()), rel=0.1)
    assert any(not torch.equal(a.op.weight, b.op.weight) for a, b in zip(snn.graph, tuned.graph, strict=True)
               if a.name.startswith("heads"))  # fmt: skip


def test_tasks_of_outputs_that_cannot_be_joined_are_refused() -> None:
    snn = ts.convert(MODEL, ECC(timesteps=4), X)
    for tasks, targets, reason in (
        ({"mask": TASKS["mask"], "aux.1": Fidelity()}, Y, "which is measured of every output anyway"),
        ({"edges": TASKS["mask"]}, Y, "there is no output named 'edges'"),
        ({}, Y, "one for at least one output"),
        ({"mask": Regression()}, Y, "mask of a batch.*needs one real number per output"),
        ({"mask": Binary()}, Y, "the output mask: binary needs one logit"),
        (TASKS, TARGETS["mask"], "pass targets by output"),
    ):
        with pytest.raises((SettingError, DataError), match=reason):
            ts.evaluate(snn, (X, targets), task=tasks)
    with pytest.raises(SettingError, match="without output=: pass one task"):
        ts.evaluate(snn, (X, Y), output="mask", task=TASKS)
    with pytest.raises(SettingError, match="neither correct nor wrong"):
        ts.fit_exit(snn, (X, Y), task=TASKS["mask"], output="mask")
