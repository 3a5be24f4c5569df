"""The page: whole in one file, the same numbers as the JSON, safe against what it is given, readable in a browser."""

import dataclasses
import html
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import transpike as ts
from networks import small_cnn
from pages import Tags
from transpike.cli import main
from transpike.errors import SettingError
from transpike.recipes import BSNN, ECC
from transpike.schedules import LayerSynchronous
from transpike.workflow.record import SpikeRecord
from waiting import HANGS


def test_the_page_is_well_formed_and_loads_nothing(found):
    tags = Tags(found.html)
    assert len(tags.ids) == len(set(tags.ids))
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert all(address[1:] in tags.ids for address in tags.addresses if address.startswith("#"))
    outside = set(re.findall(r"https?://[\w./-]+", found.html))
    assert outside <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert "url(http" not in found.html and "@import" not in found.html
    assert not re.search(r"#0[12]0[12]\w\w", found.html), "a colour that represents a variable was left"


def test_every_part_is_there_and_says_what_the_json_says(found):
    text = " ".join(" ".join(Tags(found.html).words).split())
    report, _, cost, why, spikes, comparison, *fits = found.results
    for heading in (
        "Accuracy over time",
        "Latency",
        "Energy",
        "Layers",
        "Causes of the accuracy change",
        "Spikes of some",
        "Chips",
        "Parameters and provenance",
        "Next steps",
        "Glossary",
    ):
        assert heading in text
    assert f"{report.final.accuracy:.2%}" in text and f"{report.ann_accuracy:.2%}" in text
    low, high = report.drop_interval
    assert f"{-100 * high:+.2f} to {-100 * low:+.2f}" in text
    for row in report.layers:
        assert row.name in text and f"{row.spikes:,.0f}" in text
    for one in cost.models:
        assert one.model in text and all(str(value) in text for value in one.constants.values())
    assert cost.verdict in text and all(one.what in text for one in why.changes)
    assert all(row.recipe in text for row in comparison.measured)
    assert all(refusal.reason in text for refusal in comparison.refused)
    assert f"{spikes.samples[0].layers[0].spikes:,.0f} spikes" in text
    assert all(fit.target.title in text and all(one.change in text for one in fit.misfits) for fit in fits)
    assert "transpike report net.transpike" in text and report.provenance["calibration_sha256"] in text


def test_json_holds_every_number_of_every_part(found, tmp_path):
    path = ts.report.save(found.results, tmp_path / "all.json")
    content = json.loads(path.read_text())
    assert list(content) == [
        "report",
        "report-2",
        "cost",
        "explanation",
        "spikes",
        "comparison",
        "chip_fit",
        "chip_fit-2",
    ]
    report, spikes = found.results[0], found.results[4]
    latency = content["report"]["snn"]["latency"]
    assert latency["stays_right"][-1] == pytest.approx(report.final.accuracy)
    snn = content["report"]["snn"]
    assert snn["accuracy_change"] == pytest.approx(snn["accuracy"] - content["report"]["ann"]["accuracy"])
    assert snn["accuracy_change_low"] <= snn["accuracy_change"] <= snn["accuracy_change_high"]
    assert json.dumps(content, allow_nan=False)
    train = spikes.samples[0].layers[0].train
    assert len(content["spikes"]["samples"][0]["layers"][0]["train"]) == int((train != 0).sum())
    text = ts.report.save(found.results[:4], tmp_path / "all.txt").read_text()
    assert "accuracy change" in text and "quantised ANN" in text


def test_latency_is_that_of_every_sample(found):
    report = found.results[0]
    table = torch.stack([report.outcomes[a.timesteps] for a in report.curve])
    settled = []
    for right in table.T.tolist():
        if right[-1]:
            wrong = [t for t, good in enumerate(right) if not good]
            settled.append(report.curve[wrong[-1] + 1 if wrong else 0].total_steps)
    assert report.latency.settled_mean == pytest.approx(sum(settled) / len(settled))
    assert report.latency.settled["p99"] == max(settled) or len(settled) > 100
    first = next(a.total_steps for a in report.curve if report.ann_accuracy - a.accuracy <= 0.01)
    assert report.latency.within[1.0] == first
    nothing = dataclasses.replace(report, outcomes={t: torch.zeros_like(o) for t, o in report.outcomes.items()})
    assert nothing.latency.settled_mean is None and nothing.latency.settled == {}


def test_names_and_remarks_are_text_and_never_markup(found):
    evil = "<script>alert(1)</script>&\"'"
    report = found.results[0]
    rows = tuple(dataclasses.replace(row, name=evil) for row in report.layers)
    harmed = dataclasses.replace(
        report, recipe=evil, layers=rows, remarks=(evil,), provenance={evil: evil}, engine=evil, kernels={evil: evil}
    )
    text = ts.report.page(harmed, title=evil, command=evil, remarks=(evil,))
    assert "<script>alert" not in text and html.escape("<script>alert(1)") in text
    spikes = found.results[4]
    layer = dataclasses.replace(spikes.samples[0].layers[0], name=evil)
    sample = dataclasses.replace(spikes.samples[0], layers=(layer,))
    text = ts.report.page(dataclasses.replace(spikes, samples=(sample,), classes=(evil,) * 10))
    assert "<script>alert" not in text
    Tags(text)


def test_what_cannot_be_on_a_page_is_refused(found, tmp_path):
    cost, spikes = found.results[2], found.results[4]
    for results, words in ((([]), "at least one result"), ([cost, cost], "two"), ([3], "not int")):
        with pytest.raises(SettingError, match=words):
            ts.report.page(results)
    with pytest.raises(
        SettingError,
        match=r"a figure cannot show these results: save them as \.html, \.json, \.txt, \.csv, \.md or \.tex",
    ):
        ts.report.save([cost, spikes], tmp_path / "x.png")
    with pytest.raises(SettingError, match="a figure cannot show"):
        ts.report.save(spikes, tmp_path / "x.png")
    with pytest.raises(SettingError, match=r"\.html"):
        ts.report.save(spikes, tmp_path / "x.doc")
    for draw in (
        lambda path: ts.report.draw({"a": found.results[0]}, path),
        lambda path: ts.report.overview(cost, path),
    ):
        with pytest.raises(SettingError, match=r"a picture is saved as \.png, \.svg or \.pdf, not '\.doc'"):
            draw(tmp_path / "x.doc")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", range(6))
def test_notebooks_show_each_result(found, number):
    text = found.results[number]._repr_html_()
    assert text.startswith('<div class="transpike">') and "<svg" in text and "<script" not in text
    Tags(text)


def test_a_notebook_without_matplotlib_shows_the_text(found, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert found.results[0]._repr_html_().startswith("<pre>ANN ")


def test_pictures_leave_the_backend_of_a_notebook_alone(found, tmp_path):
    import matplotlib

    before = matplotlib.get_backend()
    for number in (0, 2, 3, 5):
        ts.report.save(found.results[number], tmp_path / f"{number}.png")
    assert matplotlib.get_backend() == before
    assert "matplotlib.pyplot" not in sys.modules or not matplotlib.pyplot.get_fignums()


def test_spikes_are_those_of_the_simulation(found):
    spikes: SpikeRecord = found.results[4]
    x, y = next(iter(found.data))
    names = [layer.name for layer in spikes.samples[0].layers]
    trace = ts.simulate(found.snn, x[:2], record=names, engine="reference")
    for index, sample in enumerate(spikes.samples):
        assert sample.label == int(y[index])
        assert sample.answers == tuple(trace.logits[:, index].argmax(-1).tolist())
        assert sample.answers[sample.timesteps.index(sample.settled) :] == (sample.answers[-1],) * (
            len(sample.answers) - sample.timesteps.index(sample.settled)
        )
        for layer in sample.layers:
            train = trace.trains[layer.name][:, index]
            assert layer.spikes == float(train.sum())
            assert torch.equal(layer.train, train.flatten(1)[:, layer.neurons].float())
            assert torch.allclose(layer.map, train.float().mean(0).mean(0), atol=1e-6)
    one = ts.simulate(found.snn, x[:1], engine="reference").activity
    operations = {row.name: float(row.synaptic_operations.sum()) for row in one.layers}
    assert all(layer.synaptic_operations == operations[layer.name] for layer in spikes.samples[0].layers)


@pytest.mark.parametrize("recipe", [ECC(6, schedule=LayerSynchronous()), BSNN(4)], ids=str)
def test_spikes_of_whole_windows_have_no_raster_and_say_so(recipe):
    case = small_cnn()
    snn = ts.convert(case.graph, recipe, case.calibration)
    spikes = ts.record(snn, case.x, samples=2)
    assert not spikes.steps and spikes.samples[0].label is None
    assert "no raster plots" in ts.report.page(spikes) and ts.report.text(spikes).startswith("Sample 1: answer")
    with pytest.raises(SettingError, match="choose from"):
        ts.record(snn, case.x, layers=["conv"])
    with pytest.raises(SettingError, match="samples must be"):
        ts.record(snn, case.x, samples=0)


def test_the_command_writes_the_page_and_the_numbers(found, tmp_path, monkeypatch):
    ts.save(found.snn, tmp_path / "net.transpike")
    monkeypatch.chdir(tmp_path)
    call = ["report", "net.transpike", "--limit", "40", "--explain-samples", "20", "--output", "a.html"]
    shown = CliRunner().invoke(
        main, [*call, "--output", "a.json", "--compare", "ecc,few-steps", "--compare-timesteps", "4"]
    )
    assert shown.exit_code == 0, shown.output
    text, content = Path("a.html").read_text(), json.loads(Path("a.json").read_text())
    assert "transpike report net.transpike --limit 40" in text and "Wrote a.html, a.json" in shown.stdout
    assert set(content) >= {"report", "cost", "explanation", "spikes", "comparison", "chip_fit", "chip_fit-5"}
    # the network's own recipe is compared once, also if it is given
    assert [row["recipe"].partition("(")[0] for row in content["comparison"]["rows"]] == ["ecc", "few-steps"]
    shown = CliRunner().invoke(
        main, [*call, "--without", "energy", "--without", "explain", "--without", "chips", "--json"]
    )
    assert set(json.loads(shown.stdout)) == {"report", "spikes"}
    shown = CliRunner().invoke(main, ["report", "net.transpike", "--output", "a.png"])
    assert shown.exit_code == 2 and "save them as .html, .json, .txt, .csv, .md or .tex" in shown.output


def test_a_network_that_cannot_be_explained_still_has_its_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ts.data.load("digits")
    model, spec = ts.models.build("zoo:small-cnn", num_classes=10, in_channels=1)
    images = data.train.batch(torch.arange(50))[0]
    ts.save(ts.convert(model, BSNN(4), images, preprocessing=spec.preprocessing), "net.transpike")
    shown = CliRunner().invoke(main, ["report", "net.transpike", "--limit", "20"])
    assert shown.exit_code == 0 and "not explained" in shown.stdout
    assert "not explained: explanations do not support phase cycles" in Path("report.html").read_text()


CLIPPED = """() => {
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    if (one.closest("svg") || one.closest(".answers")) continue;  // the words of answers are titles too
    const style = getComputedStyle(one);
    if (style.overflowX !== "visible" && !one.classList.contains("scroll") && one.scrollWidth > one.clientWidth + 1)
      found.push(`${one.tagName}.${one.className} is cut off`);
    if (!one.closest(".scroll") && one.getBoundingClientRect().right > innerWidth + 1)
      found.push(`${one.tagName}.${one.className} leaves the page`);
  }
  for (const picture of document.querySelectorAll("svg")) {
    const frame = picture.getBoundingClientRect();
    for (const text of picture.querySelectorAll("text")) {
      const box = text.getBoundingClientRect();
      if (box.width && (box.left < frame.left - 2 || box.right > frame.right + 2 || box.top < frame.top - 2
          || box.bottom > frame.bottom + 2)) found.push(`"${text.textContent}" leaves ${picture.ariaLabel}`);
    }
  }
  return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_it_whole_without_errors(found, browser, tmp_path, width, scheme):
    (tmp_path / "report.html").write_text(found.html)
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(1000 * HANGS)
    told, asked = [], []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert not told and [url for url in asked if not url.startswith("data:")] == [page.url]
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = (page.evaluate(f"getComputedStyle(document.body).{key}") for key in ("color", "backgroundColor"))
    bright = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (bright[0] > bright[1]) == (scheme == "dark") and abs(bright[0] - bright[1]) > 500
    heading = page.locator("#layers th button").first
    heading.click()
    names = page.locator("#layers tbody td:first-child").all_text_contents()
    heading.click()
    assert (
        names == sorted(names, reverse=True)
        and names[::-1] == page.locator("#layers tbody td:first-child").all_text_contents()
    )
    assert not told
    page.close()


def test_without_javascript_and_on_paper_nothing_is_missing(found, browser, tmp_path):
    (tmp_path / "report.html").write_text(found.html)
    page = browser.new_page(java_script_enabled=False)
    page.set_default_timeout(1000 * HANGS)
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("svg").count() == found.html.count("<svg") and page.locator("h2").count() >= 8
    sheets = page.pdf(format="A4")
    assert sheets.startswith(b"%PDF") and sheets.count(b"/Type /Page") > 3
    page.close()
