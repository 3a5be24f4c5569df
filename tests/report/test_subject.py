"""What a page says about the network: its settings and size, chips, commands that work, terms that it uses."""

import dataclasses
import re
import shlex

import pytest
import torch

import transpike as ts
from pages import Tags
from transpike import report as reports
from transpike.cli import main
from transpike.errors import SettingError
from transpike.report import _glossary
from transpike.report._numbers import size


@pytest.fixture(scope="module")
def tags(found) -> Tags:
    return Tags(found.html)


def test_every_setting_of_the_recipe_and_the_size_are_named(found, tmp_path) -> None:
    path = ts.save(found.snn, tmp_path / "net.transpike")
    page = Tags(reports.page(found.results[0], subject=reports.Subject(found.snn, path)))
    rows = {row["setting"]: row["value"] for table in page.tables for row in table if "setting" in row}
    assert rows["recipe: timesteps"] == "12" and rows["recipe: schedule"] == repr(found.snn.recipe.schedule)
    count = sum(v.numel() for node in found.snn.graph for k, v in node.op.tensors().items() if k in ("weight", "bias"))
    assert rows["parameters"] == f"{count:,}" and count > 1000
    assert rows["file"] == f"{path}, {size(path.stat().st_size)}" and rows["file"] in page.text
    assert rows["seed"] == str(found.snn.provenance["seed"]) and "torch" in rows["versions"]


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (21_437, "21.4 kB"),
        (999_600, "1 MB"),
        (1_073_000, "1.07 MB"),
    ],
)
def test_sizes_are_short(length: int, text: str) -> None:
    assert size(length) == text


def test_every_command_is_one_that_the_command_line_understands(found, tags, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my nets").mkdir()
    ts.save(found.snn, "my nets/net.transpike")  # finetune asks for a file that exists
    lines = tags.codes["next"]
    assert {"evaluate", "exit", "energy", "compare", "verify", "export"} <= {shlex.split(line)[1] for line in lines}
    for line in lines:
        _, name, *words = shlex.split(line)
        command = main.get_command(None, name)
        context = command.make_context(name, words)
        assert context.params.get("data_name", "digits") == "digits"
        if name != "compare":
            assert str(context.params["file"]) == "my nets/net.transpike"


def test_a_network_that_lost_accuracy_is_to_be_fine_tuned(found) -> None:
    report = found.results[0]
    worse = {t: torch.zeros_like(right) for t, right in report.outcomes.items()}
    curve = tuple(dataclasses.replace(answer, accuracy=0.0) for answer in report.curve)
    bad = dataclasses.replace(report, curve=curve, outcomes=worse)
    page = Tags(reports.page(bad, subject=reports.Subject(file="net.transpike", data="--data digits")))
    assert "transpike finetune net.transpike --data digits --output net-tuned.transpike" in page.text
    assert "transpike exit" not in page.text
    assert "Next steps" not in Tags(reports.page(bad)).text  # no file, no commands


def test_chips_are_in_one_table_and_violated_limits_are_folded(found, tags) -> None:
    fits = found.results[6:8]
    table = next(table for table in tags.tables if table and "known limits" in table[-1])
    rows = {row["chip"]: row for row in table if row}
    for fit in fits:
        row = rows[fit.target.title]
        assert row["fits"] == ("yes" if fit.fits else "no") and row["known limits"] == str(len(fit.checked))
        assert row["limits without a public source"] == str(len(fit.unknown))
    alone = reports.page(fits[0])
    assert fits[0].target.title in alone and reports.text(fits[0]) == str(fits[0])


def test_a_glossary_has_the_terms_of_the_page_and_no_others(found, tags) -> None:
    terms = dict(_glossary.used(" ".join(text for name, text in tags.sections.items() if name != "glossary")))
    assert {"SNN", "spike rate", "Pareto front", "stable correct", "carried", "raster"} <= set(terms)
    assert all(
        term in tags.sections["glossary"] and meaning in tags.sections["glossary"] for term, meaning in terms.items()
    )
    chips = Tags(reports.page(found.results[6])).text
    assert "Pareto front" not in chips and "stable correct" not in chips
    for term, (pattern, meaning) in _glossary.TERMS.items():
        assert re.search(pattern, term, re.IGNORECASE) or term in ("T, time steps", "point"), term
        assert meaning.endswith(".")


def test_the_overview_is_small_and_needs_an_evaluation(found, tmp_path) -> None:
    cost = found.results[2]
    light = reports.overview(cost, tmp_path / "light.png").read_bytes()
    dark = reports.overview(cost, tmp_path / "dark.png", dark=True).read_bytes()
    assert light != dark and max(len(light), len(dark)) < 150_000
    text = reports.overview(cost, tmp_path / "a.svg").read_text()
    assert "time step" in text and "energy model" in text and all(one.model[:20] in text for one in cost.judged)
    with pytest.raises(SettingError, match="needs a cost with an evaluation"):
        reports.overview(ts.cost(found.snn, next(iter(found.data))[0]), tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_files_of_a_network_on_a_hub_go_into_the_current_folder() -> None:
    subject = reports.Subject(None, "hf://user/net@main")
    assert subject.command("evaluate") == "transpike evaluate hf://user/net@main" and subject.bytes is None
    assert subject.beside("-exit.transpike") == "net-exit.transpike"
