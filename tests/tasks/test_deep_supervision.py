"""A U-Net with deep supervision: masks of three sizes from one conversion, each judged by a task of its own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seeded
import transpike as ts
from transpike.errors import DataError
from transpike.recipes import ECC, StreamingSigmaDelta
from transpike.tasks import PixelClassification

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
    with pytest.raises(DataError, match=r"needs whole numbers of shape \(24, 4, 4\)"):
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
