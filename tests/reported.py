"""All results of one small network, and the page of all."""

import dataclasses

import torch

import transpike as ts
from stored import stored
from transpike.recipes import BSNN, ECC, FewSteps
from transpike.schedules import LayerSynchronous

SAMPLES = 60
EXPLAINED = 40


@dataclasses.dataclass
class Found:
    snn: ts.SNN
    data: object
    results: list
    html: str


def everything() -> Found:
    """Two evaluations, a cost, an explanation of fewer samples, spikes, a comparison, chips."""
    data = ts.data.load("digits")
    model = stored("small-cnn")
    images = data.train.batch(torch.arange(200))[0]
    snn = ts.convert(model, ECC(12), images, preprocessing=data.preprocessing)
    snn.provenance.update({"model": "zoo:small-cnn", "data": "digits"})
    test = data.test.batches(64, limit=SAMPLES)
    windows = ts.convert(model, ECC(8, schedule=LayerSynchronous()), images, preprocessing=data.preprocessing)
    cost = ts.cost(snn, test, activation_bits=(2, 4))
    results = [
        cost.report, ts.evaluate(windows, test), cost, ts.explain(snn, test, samples=EXPLAINED),
        ts.record(snn, test, samples=2, classes=data.classes),
        ts.compare(
            model, [ECC(8), FewSteps(8), BSNN(8)], images, ts.ComparisonSettings(timesteps=(4, 8)), data=test,
            preprocessing=data.preprocessing,
        ),
        ts.chip_fit(snn, "loihi2"), ts.chip_fit(snn, "xylo"),
    ]  # fmt: skip
    subject = ts.report.Subject(snn, "my nets/net.transpike", "--data digits")
    page = ts.report.page(results, command="transpike report net.transpike", subject=subject)
    return Found(snn, test, results, page)
