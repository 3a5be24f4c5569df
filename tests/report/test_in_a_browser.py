"""What a reader sees at 360, 768, 1100 and 1440 pixels, steps through with the keyboard, and prints."""

import dataclasses
import re

import pytest

from transpike import report as reports

OPEN = "document.querySelectorAll('details').forEach((one) => (one.open = true))"
HIDDEN = """() => {
  const found = [];
  for (const cell of document.querySelectorAll("tbody td")) {
    if (!/\\d/.test(cell.textContent)) continue;
    const box = cell.getBoundingClientRect(), text = cell.lastElementChild.getBoundingClientRect();
    if (!box.height || box.left < -1 || box.right > innerWidth + 1 || !text.width || text.right > innerWidth + 1)
      found.push(`${cell.dataset.label}: ${cell.textContent}`);
  }
  for (const frame of document.querySelectorAll(".scroll"))
    if (frame.scrollWidth > frame.clientWidth + 1) found.push(`${frame.textContent.slice(0, 40)} scrolls`);
  return found;
}"""


def test_a_phone_shows_every_number_of_every_table(found, opened) -> None:
    page = opened(found.html, 360)
    page.evaluate(OPEN)
    assert page.locator("tbody td").count() > 100 and page.evaluate(HIDDEN) == []
    first = page.locator("#layers tbody tr").first
    assert first.locator("td").nth(4).evaluate("one => getComputedStyle(one, '::before').content") == '"spike rate (%)"'


COVERED = """() => [...document.querySelectorAll("figure svg")].filter((picture) => {
  const key = picture.querySelector("[id*=-legend_]"), frame = picture.querySelector("[id$=-axes_1] > [id$=-patch_2]");
  if (!key || !frame) return false;
  const [a, b] = [key.getBoundingClientRect(), frame.getBoundingClientRect()];
  return a.top < b.bottom - 1 && a.bottom > b.top + 1 && a.left < b.right - 1 && a.right > b.left + 1;
}).map((picture) => picture.ariaLabel)"""


def test_no_legend_covers_a_curve(found, opened) -> None:
    page = opened(found.html, 1440)
    assert page.locator("[id*='-legend_']").count() >= 5 and page.evaluate(COVERED) == []


@pytest.mark.parametrize(("width", "columns"), [(360, 1), (768, 1), (1100, 2), (1440, 2)])
def test_pictures_use_the_width(found, opened, width, columns) -> None:
    page = opened(found.html, width)
    for pair in ("#accuracy .figures figure", "#energy .paired > div"):
        one, other = (page.locator(pair).nth(k).bounding_box() for k in (0, 1))
        assert (abs(one["y"] - other["y"]) < 30) == (columns == 2), pair
        assert (other["x"] > one["x"] + one["width"] - 1) == (columns == 2), pair
    picture = page.locator("#accuracy svg").first.bounding_box()
    assert picture["width"] >= min(500, width - 40)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_keyboard_steps_through_the_accuracy(found, opened) -> None:
    page, report = opened(found.html, 768), found.results[0]
    figure = page.locator("#accuracy figure.stepped")
    slider, output, line = figure.locator("input"), figure.locator("output"), figure.locator(".cursor")
    assert output.inner_text().startswith(f"T={report.recommended.timesteps}: {report.recommended.accuracy:.2%}")
    slider.focus()
    page.keyboard.press("Home")
    places = []
    for answer in report.curve:
        assert output.inner_text().startswith(f"T={answer.timesteps}: {answer.accuracy:.2%} ({answer.low:.2%} to")
        assert slider.get_attribute("aria-valuetext") == output.inner_text()
        places.append(float(line.get_attribute("x1")))
        page.keyboard.press("ArrowRight")
    assert places == sorted(set(places))
    marker = page.locator("#accuracy-tip0-12").bounding_box()  # the last answer
    cursor = line.bounding_box()
    assert abs(cursor["x"] + cursor["width"] / 2 - marker["x"] - marker["width"] / 2) < 1.5
    spot = figure.locator(".spot").bounding_box()
    assert abs(spot["y"] + spot["height"] / 2 - marker["y"] - marker["height"] / 2) < 1.5
    figure.get_by_label("one step back").click()
    assert output.inner_text().startswith("T=11: ")


def test_spikes_are_stepped_through_and_counted(found, opened) -> None:
    page, record = opened(found.html, 1440), found.results[4]
    assert page.locator(".sample:visible").count() == 1
    page.locator(".chooser button").nth(1).press("Enter")
    assert page.locator(".chooser button[aria-pressed=true]").count() == 1
    shown, sample = page.locator(".sample:visible"), record.samples[1]
    assert shown.locator(".name").inner_text() == f"sample 2: {record.classes[sample.label]}"
    slider, output = shown.locator("input"), shown.locator("output")
    slider.focus()
    page.keyboard.press("Home")
    for step in range(1, record.timesteps + 1):
        words = output.inner_text()
        assert f"Step {step} of {record.timesteps}: answer: {record.classes[sample.answers[step - 1]]}" in words
        for layer in sample.layers:
            assert f"{layer.name} {int((layer.train[:step] != 0).sum()):,}" in words
        page.keyboard.press("ArrowRight")
    assert shown.evaluate("one => one.style.getPropertyValue('--at')") == "100"


def test_without_javascript_and_on_paper_every_sample_is_shown(found, opened) -> None:
    page = opened(found.html, 1100, java_script_enabled=False)
    assert page.locator(".sample:visible").count() == 2 and page.locator(".stepper").count() == 0
    paper = opened(found.html, 1100)
    assert paper.locator(".sample:visible").count() == 1
    paper.emulate_media(media="print")
    assert paper.locator(".sample:visible").count() == 2
    assert paper.locator(".stepper:visible").count() == paper.locator("nav:visible").count() == 0


def test_contrast_of_text_is_enough_in_both_themes(found, opened) -> None:
    """WCAG: 4.5 to 1 for text. Soft text, links, and the words for correct and wrong are on the paper or the wash."""

    def light(colour: str) -> float:
        parts = [int(one) / 255 for one in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for scheme in ("light", "dark"):
        page = opened(found.html, 768, color_scheme=scheme)
        probe = "name => { const one = document.createElement('i'); document.body.append(one); "
        probe += "one.style.color = `var(--${name})`; return getComputedStyle(one).color; }"
        for paper in ("paper", "wash"):
            ground = light(page.evaluate(probe, paper))
            for name in ("ink", "soft", "accent", "good", "bad"):
                low, high = sorted((light(page.evaluate(probe, name)), ground))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (scheme, paper, name)


def test_a_page_of_one_answer_has_nothing_to_step_through(found) -> None:
    report = found.results[0]
    only = dataclasses.replace(report, curve=report.curve[-1:])
    page = reports.page(only)
    assert 'data-steps="' not in page and 'data-steps="' in reports.page(report)
    assert "<svg" not in page and f"{report.final.accuracy:.2%}" in page  # a table, not a picture of one point
