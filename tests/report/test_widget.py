"""A page in a notebook: the whole page in a frame, which cannot reach what is outside."""

import html
import re

import pytest
import torch

import transpike as ts
from transpike.errors import SettingError


@pytest.fixture(scope="module")
def report() -> ts.Report:
    torch.manual_seed(0)
    x = torch.rand(40, 8)
    net = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    return ts.evaluate(ts.convert(net, ts.recipes.ECC(timesteps=4), x), (x, net(x).argmax(1)))


def test_a_frame_has_the_whole_page_and_no_network(report: ts.Report) -> None:
    pytest.importorskip("matplotlib")
    shown = ts.report.widget(report, height=500, title="A <b>title</b>")._repr_html_()
    found = re.fullmatch(r'<iframe srcdoc="([^"]*)" sandbox="allow-scripts"[^>]*height: 500px[^>]*></iframe>', shown)
    assert found is not None
    page = html.unescape(found[1])
    assert page == ts.report.page(report, title="A <b>title</b>")
    assert "<script>" in page and "<b>title" not in page and not re.search(r'(?:src|href)="https?:', page)


def test_heights_and_results_are_checked(report: ts.Report) -> None:
    with pytest.raises(SettingError, match="height must be an integer number of pixels, at least 100"):
        ts.report.widget(report, height=20)
    with pytest.raises(SettingError, match="at least one result"):
        ts.report.widget([])


def test_its_controls_work_inside_of_the_frame(found, opened) -> None:
    shown = ts.report.widget(found.results[:1])._repr_html_()
    page = opened(f"<!DOCTYPE html><html><body>{shown}</body></html>", 900)
    frame = page.frame_locator("iframe")
    output = frame.locator("#accuracy figure.stepped output")
    first, last = found.results[0].curve[0], found.results[0].curve[-1]
    frame.locator("#accuracy figure.stepped input").press("Home")
    assert output.inner_text().startswith(f"T={first.timesteps}: {first.accuracy:.2%}")
    frame.locator("#accuracy figure.stepped input").press("End")
    assert output.inner_text().startswith(f"T={last.timesteps}: {last.accuracy:.2%}")
