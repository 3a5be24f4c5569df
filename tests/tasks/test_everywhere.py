"""What compares, prices, explains, records and stops early asks the task: metrics and their direction come from it."""

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from seeded import network, random
from transpike import report
from transpike.errors import DataError, GateFailed, SettingError
from transpike.tasks import Fidelity, PixelClassification, Regression
from transpike.workflow.compare.rows import Refusal

N = 40
X = torch.rand(N, 6, generator=torch.Generator().manual_seed(0))


LINE = network(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))
TARGETS = LINE(X).detach() + random(N, 2) / 10
SNN = ts.convert(LINE, ts.recipes.ECC(8), X)
IMAGES = torch.rand(12, 2, 6, 6, generator=torch.Generator().manual_seed(1))
MAPS = network(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
CLASSES = MAPS(IMAGES).argmax(1)
CLASSES[:, 0] = 255
CLASSES[:5, 3] = (CLASSES[:5, 3] + 1) % 3
SEGMENTER = ts.convert(MAPS, ts.recipes.ECC(8), IMAGES)
MASKS = PixelClassification(ignore_index=255)
CASES = {
    "regression": (LINE, SNN, X, TARGETS, Regression()),
    "segmentation": (MAPS, SEGMENTER, IMAGES, CLASSES, MASKS),
    "fidelity": (LINE, SNN, X, None, Fidelity()),
}


def metric(task, output: Tensor, target: Tensor | None, ann: Tensor) -> float:
    """The first metric by its definition, from the outputs of the whole set."""
    if isinstance(task, Fidelity):
        return float((output - ann).norm() / ann.norm())
    if isinstance(task, Regression):
        return float((output - target).square().mean())
    shares = []
    answer, valid = output.argmax(1), target != 255
    for c in range(3):
        both, either = ((answer == c) & (target == c)) & valid, ((answer == c) | (target == c)) & valid
        shares += [float(both.sum() / either.sum())] if either.any() else []
    return sum(shares) / len(shares)


def given(x: Tensor, y: Tensor | None):
    return x if y is None else (x, y)


@pytest.fixture(scope="module", params=CASES)
def compared(request):
    module, _, x, y, task = CASES[request.param]
    settings = ts.ComparisonSettings(timesteps=(2, 8), task=task)
    return ts.compare(module, [ts.recipes.ECC(), "few-steps"], x, settings, data=given(x, y)), *CASES[request.param]


def test_a_comparison_has_the_metrics_of_the_task_and_is_ordered_by_the_first(compared) -> None:
    found, module, snn, x, y, task = compared
    ann = module(x).detach()
    first = next(row for row in found.measured if row.recipe.startswith("ecc") and row.timesteps == 8)
    name = task.first.name
    assert first.value == pytest.approx(metric(task, snn(x), y, ann), rel=1e-4)
    assert first.bounds[0] < first.value < first.bounds[1]
    if y is not None:
        assert first.ann_value == pytest.approx(metric(task, ann, y, ann), rel=1e-5)
        change = first.value - first.ann_value
        assert first.changes[name].value == pytest.approx(change, abs=1e-9)
        assert first.loss[0] == pytest.approx(-change if task.first.higher_is_better else change, abs=1e-9)
    values = [row.value for row in found.front()]  # more steps only for a better value
    assert values == sorted(values, reverse=not task.first.higher_is_better)
    one, other = (row.value for row in found.measured if row.timesteps == 8)
    gain = (one - other if task.first.higher_is_better else other - one) * (100 if task.first.share else 1)
    names = [row.recipe for row in found.measured if row.timesteps == 8]
    difference = found.difference(*names, total_steps=10**6)
    assert difference.points == pytest.approx(gain, abs=1e-9) and difference.low <= difference.points <= difference.high
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["metrics"][0]["name"] == name and plain["rows"][0]["metrics"][name]["value"] == found.measured[0].value


def test_a_selection_is_in_the_metrics_of_the_task(compared) -> None:
    found, _, _, _, _, task = compared
    word, aim = task.first.word, "max" if task.first.higher_is_better else "min"
    best = max(found.measured, key=lambda row: row.rank)
    assert found.pick(f"{aim}={word}").value == best.value
    assert found.pick("drop<=1000 min=synops").synaptic_operations == min(r.synaptic_operations for r in found.measured)
    scale = 100 if task.first.share else 1
    near = found.pick(f"drop<={scale * best.loss[0] + 1e-6:.9f} min=steps")
    assert near.loss[0] <= best.loss[0] + 1e-7
    with pytest.raises(GateFailed, match=r"no row satisfies 'drop<=-1000 min=steps'; nearest: .* has drop"):
        found.pick("drop<=-1000 min=steps")
    with pytest.raises(SettingError, match=rf"'accuracy>=90' is not a condition .*{word}<=… or >=…"):
        found.pick("accuracy>=90 min=steps")
    other = "min" if aim == "max" else "max"
    with pytest.raises(SettingError, match=rf"'{other}={word}' is not a condition"):
        found.pick(f"{other}={word}")


def test_the_picked_network_is_that_of_the_row(compared) -> None:
    found, _, _, x, y, task = compared
    row = found.pick("min=steps")
    again = ts.evaluate(found.snn(row), given(x, y), answers=(row.timesteps,), task=task)
    assert again.final.metrics == row.metrics


def test_a_row_without_a_result_has_a_place_in_the_table() -> None:
    settings = ts.ComparisonSettings(timesteps=(4, 8), task=MASKS)
    found = ts.compare(MAPS, ["ecc"], IMAGES, settings, data=(IMAGES, CLASSES))
    refused = [Refusal("bsnn()", t, ts.recipes.BSNN(), "of this network") for t in (4, 8)]
    found = dataclasses.replace(found, rows=(*found.rows, *refused))
    table = report.tables(found)[0]
    place = [column.heading for column in table.columns].index("mean IoU")
    assert [row[place] for row in table.rows[2:]] == ["refused"] * 2
    assert table.rows[0][place] == 100 * found.measured[0].value


def test_a_store_gives_the_same_rows_again(tmp_path) -> None:
    settings = ts.ComparisonSettings(timesteps=(4,), task=MASKS)
    runs = [
        ts.compare(MAPS, [ts.recipes.ECC()], IMAGES, settings, data=(IMAGES, CLASSES), store=tmp_path) for _ in range(2)
    ]
    assert runs[0].to_json() == runs[1].to_json()
    assert torch.equal(runs[0].measured[0].statistics, runs[1].measured[0].statistics)
    path = next(tmp_path.glob("ecc-*.json"))
    content = json.loads(path.read_text())
    content["cells"][0]["metrics"]["mean IoU"]["value"] = "much"
    path.write_text(json.dumps(content))
    assert "measured again" in " ".join(
        ts.compare(MAPS, [ts.recipes.ECC()], IMAGES, settings, data=(IMAGES, CLASSES), store=tmp_path).remarks
    )


@pytest.mark.parametrize("name", CASES)
def test_a_cost_is_that_of_a_quantised_ann_that_is_as_good_in_the_metric(name: str) -> None:
    module, snn, x, y, task = CASES[name]
    found = ts.cost(snn, given(x, y), activation_bits=(1, 8), task=task)
    assert found.metric == task.first and found.report is not None
    last = found.report.final.metrics[task.first.name].value
    assert found.points[-1].value is not None and found.room == task.room(last)
    wide = next(p for p in found.points if p.kind == "ANN" and p.activation_bits == 8)
    exact = metric(task, module(x).detach(), y, module(x).detach())
    assert wide.value == pytest.approx(exact, rel=0.1, abs=0.02)
    pair = found.metric.rank(found.quantised_baseline_value)
    widths = [p for p in found.points if p.kind == "ANN"]
    good = [p.activation_bits for p in widths if found.metric.rank(p.value) >= found.metric.rank(last) - found.room]
    chosen = max(found.activation_bits.values())
    assert (chosen == min(good) and pair >= found.metric.rank(last) - found.room) if good else found.notes
    ranks = [found.metric.rank(point.value) for point in found.front(found.judged[0].model)]
    assert ranks == sorted(ranks)
    plain = found.to_json()
    assert plain["metric"]["name"] == task.first.name and plain["points"][0]["value"] == found.points[0].value
    assert "accuracy" not in plain["twin"]


@pytest.mark.parametrize("name", CASES)
def test_an_explanation_is_in_the_first_metric(name: str) -> None:
    module, snn, x, y, task = CASES[name]
    found = ts.explain(snn, given(x, y), task=task)
    ann = module(x).detach()
    assert found.ann_value == pytest.approx(metric(task, ann, y, ann), rel=1e-4, abs=1e-6)
    assert found.value == pytest.approx(metric(task, snn(x), y, ann), rel=0.02)
    scale = 100 if task.first.share else 1
    gap = scale * (found.metric.rank(found.ann_value) - found.metric.rank(found.value))
    # with one spiking layer, its original is the source network
    assert found.layers[0].regained == pytest.approx(gap, abs=1e-4 * scale)
    assert found.fault == pytest.approx(4 * scale * task.room(found.value))
    assert all(one.gain >= other.gain for one, other in zip(found.changes, found.changes[1:], strict=False))
    more = next(one for one in found.changes if one.what == "raise T to 12")
    later = ts.evaluate(snn, given(x, y), answers=(12,), timesteps=12, task=task).final.metrics[task.first.name].value
    assert more.gain == pytest.approx(
        scale * (found.metric.rank(later) - found.metric.rank(found.value)), abs=2e-3 * scale
    )
    plain = found.to_json()
    assert plain["metric"]["name"] == task.first.name and "accuracy" not in plain
    with pytest.raises(AttributeError, match=f"has no accuracy, but {task.first.name}"):
        found.accuracy  # noqa: B018


@pytest.mark.parametrize("name", CASES)
def test_recorded_spikes_come_with_the_metric_of_each_sample(name: str) -> None:
    module, snn, x, y, task = CASES[name]
    found = ts.record(snn, given(x, y), samples=2, task=task)
    ann = module(x[1:2]).detach()
    expected = metric(task, snn(x[1:2]), None if y is None else y[1:2], ann)
    one = found.samples[1]
    assert one.values[-1] == pytest.approx(expected, rel=1e-4) and len(one.values) == snn.timesteps
    assert one.answers == () and one.ann_answer is None and one.label is None
    assert found.to_json()["samples"][1]["values"] == list(one.values)
    assert f"{task.first.name} {task.first.text(one.values[-1])}" in report.text(found)
    assert ts.record(snn, x, samples=1, task=Regression()).samples[0].values == ()  # no target


def results(name: str):
    _, snn, x, y, task = CASES[name]
    data = given(x, y)
    settings = ts.ComparisonSettings(timesteps=(4, 8), task=task)
    yield ts.compare(CASES[name][0], [ts.recipes.ECC()], x, settings, data=data)
    yield ts.cost(snn, data, task=task)
    yield ts.explain(snn, data, task=task)
    yield ts.record(snn, data, samples=2, task=task)


@pytest.mark.parametrize("name", CASES)
def test_every_presentation_names_the_metric_and_no_accuracy(name: str, tmp_path, capsys) -> None:
    for number, result in enumerate(results(name)):
        report.show(result)
        shown = capsys.readouterr().out
        texts = [shown, report.text(result)]
        for ending in ("html", "csv", "md", "tex", "txt", "json"):
            texts.append(report.save(result, tmp_path / f"{number}.{ending}").read_text())
        word = CASES[name][4].first.name
        for text in texts:
            body = text.split("</style>")[-1]
            assert name == "segmentation" or "accuracy" not in body  # it has a pixel accuracy
        assert word in shown + texts[2]
        if number < 3:  # recorded spikes have no picture
            assert report.save(result, tmp_path / f"{number}.png").stat().st_size > 1000


@pytest.mark.parametrize("task", [Regression(), MASKS, Fidelity()])
def test_an_early_exit_is_refused_with_the_reason(task) -> None:
    with pytest.raises(SettingError, match=rf"loses? a correct answer, but an answer of {task.name}.* is neither"):
        ts.fit_exit(SNN, (X, TARGETS), task=task)
    with pytest.raises(SettingError, match="neither correct nor wrong: evaluate"):
        ts.ComparisonSettings(task=task, exits=(ts.exits.Exit(),))


BAD = {
    "shape": (TARGETS[:, :1], r"targets of .* are float32 of shape .*1\), and regression needs"),
    "NaN": (torch.full_like(TARGETS, math.nan), "NaN or infinite"),
    "too few": (TARGETS[:-1], "inputs and"),
    "complex": (TARGETS.to(torch.complex64), "complex64"),
}
USES = {
    "evaluate": lambda y: ts.evaluate(SNN, [(X, y)], task=Regression()),
    "compare": lambda y: ts.compare(LINE, ["ecc"], X, ts.ComparisonSettings(task=Regression()), data=[(X, y)]),
    "cost": lambda y: ts.cost(SNN, [(X, y)], task=Regression()),
    "explain": lambda y: ts.explain(SNN, [(X, y)], task=Regression()),
    "record": lambda y: ts.record(SNN, [(X, y)], task=Regression()),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", BAD)
def test_targets_that_do_not_fit_are_refused_everywhere(use: str, kind: str) -> None:
    y, words = BAD[kind]
    with pytest.raises(DataError, match=f"{words}|needs one real number per output"):
        USES[use](y)
