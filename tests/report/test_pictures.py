"""Answers drawn in pictures: what tasks mark, what an evaluation keeps of it, and what a page shows."""

import base64
import dataclasses
import io
import re

import matplotlib.image
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from pages import Tags
from seeded import network, random
from transpike import report
from transpike.core.marks import Box, Marks, as_picture
from transpike.errors import SettingError
from transpike.report._page_pictures import common
from transpike.report._pixels import photograph
from transpike.tasks import Detection, PixelClassification
from transpike.workflow.evaluate.pictures import Picture, shown_steps
from waiting import HANGS

SIZE = (20, 40)  # height and width
CLASSES = 12
SEGMENTER = network(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, CLASSES, 1))
IMAGES = random(9, 3, *SIZE)
TARGETS = SEGMENTER(IMAGES).argmax(1).detach()
SNN = ts.convert(SEGMENTER, ts.recipes.ECC(16), IMAGES)


def decode(answer: Tensor) -> list[dict[str, Tensor]]:
    """Three boxes, of scores 0.9, 0.5 and 0.1."""
    boxes, scores = torch.tensor([[4.0, 2.0, 8.0, 6.0]]).expand(3, 4), torch.tensor([0.1, 0.9, 0.5])
    return [{"boxes": boxes, "scores": scores, "labels": torch.tensor([0, 1, 7])} for _ in answer]


@pytest.mark.parametrize(
    ("box_format", "edges"),
    {"xyxy": (4, 2, 8, 6), "xywh": (4, 2, 12, 8), "cxcywh": (0, -1, 8, 5)}.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_boxes_are_drawn_where_their_format_says(box_format, edges):
    task = Detection(decode, box_format, names=("cat", "dog"))
    marks = task.marks(torch.zeros(5), SIZE)
    assert [(box.name, box.label, round(box.score, 4)) for box in marks.boxes] == [("dog", 1, 0.9), ("class 7", 7, 0.5)]
    height, width = SIZE
    wanted = (edges[0] / width, edges[1] / height, edges[2] / width, edges[3] / height)
    for box in marks.boxes:
        assert (box.left, box.top, box.right, box.bottom) == pytest.approx(wanted)
    (target,) = task.target_marks(torch.tensor([[1.0, 4, 2, 8, 6], [torch.nan] * 5]), SIZE).boxes
    assert target == Box(
        *(marks.boxes[0].left, marks.boxes[0].top, marks.boxes[0].right, marks.boxes[0].bottom), 1, "dog"
    )
    (scaled,) = task.target_marks(torch.tensor([[1.0, 4 / width, 2 / height, 8 / width, 6 / height]]), SIZE).boxes
    for edge in ("left", "top", "right", "bottom"):  # fractions are the same box
        assert getattr(scaled, edge) == pytest.approx(getattr(target, edge))


def test_uncertain_boxes_are_not_drawn_and_colours_are_those_of_the_input():
    assert len(Detection(decode, least_drawn=0.0).marks(torch.zeros(5), SIZE).boxes) == 3
    crowd = [{"boxes": torch.rand(80, 4), "scores": torch.rand(80), "labels": torch.zeros(80)}]
    marks = Detection(lambda answer: crowd, least_drawn=0.0).marks(torch.zeros(5), SIZE)
    assert len(marks.boxes) == 50 and min(box.score for box in marks.boxes) >= float(crowd[0]["scores"].sort()[0][29])
    assert torch.equal(Detection(decode, colours="bgr").picture(IMAGES[0]), IMAGES[0].flip(0))
    assert torch.equal(Detection(decode).picture(IMAGES[0]), IMAGES[0])
    for settings in ({"colours": "hsv"}, {"names": "cat"}, {"least_drawn": -1.0}):
        with pytest.raises(SettingError):
            Detection(decode, **settings)
    with pytest.raises(SettingError, match="names must be a tuple"):
        PixelClassification(names=["cat"])


def test_pictures_of_inputs():
    assert torch.equal(as_picture(IMAGES[0].movedim(0, 2)), IMAGES[0])  # channels last
    assert torch.equal(as_picture(IMAGES[:2]), IMAGES[:2].mean(0))  # frames
    for nothing in (random(9), random(4, 9), torch.full((3, 4, 4), torch.nan), random(3, 1, 9)):
        assert as_picture(nothing) is None


def test_an_evaluation_keeps_the_first_pictures_whatever_its_batches():
    task = PixelClassification(ignore_index=3)
    whole = ts.evaluate(SNN, (IMAGES, TARGETS), task=task)
    parts = ts.evaluate(SNN, [(IMAGES[:3], TARGETS[:3]), (IMAGES[3:], TARGETS[3:])], task=task)
    assert len(whole.pictures) == len(parts.pictures) == 4
    for k, (one, other) in enumerate(zip(whole.pictures, parts.pictures, strict=True)):
        assert torch.equal(one.input, IMAGES[k]) and torch.equal(other.input, IMAGES[k])
        assert torch.equal(one.ann.mask, SEGMENTER(IMAGES[k : k + 1])[0].argmax(0))
        assert torch.equal(one.target.mask, TARGETS[k].masked_fill(TARGETS[k] == 3, -1))
        assert tuple(one.answers) == tuple(other.answers) == (1, 2, 4, 8, 16)
        logits = ts.simulate(SNN, IMAGES[k : k + 1]).logits[:, 0]
        for t, marks in one.answers.items():
            assert torch.equal(marks.mask, logits[t - 1].argmax(0)) and torch.equal(other.answers[t].mask, marks.mask)
    assert "pictures" not in whole.to_json()


def test_answers_of_other_tasks_and_inputs_are_not_drawn():
    classes = ts.convert(network(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), ts.recipes.ECC(4), random(9, 6))
    assert ts.evaluate(classes, (random(9, 6), torch.arange(9) % 3)).pictures == ()
    assert ts.evaluate(SNN, (IMAGES, TARGETS), task=ts.tasks.Fidelity()).pictures == ()
    line = network(nn.Conv1d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 4, 1))
    snn = ts.convert(line, ts.recipes.ECC(4), random(9, 3, 9))
    found = ts.evaluate(snn, (random(9, 3, 9), torch.arange(81).reshape(9, 9) % 4), task=PixelClassification())
    assert found.pictures == () and "Answers in pictures" not in report.page(found)


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ((8,), (8,)),
        (tuple(range(1, 7)), (1, 2, 4, 6)),
        (tuple(range(1, 101)), (1, 2, 4, 8, 16, 100)),
        ((3, 8, 16), (8, 16)),
    ],
)
def test_steps_that_are_shown(asked, shown):
    assert shown_steps(asked) == shown


def test_every_box_finds_one_of_the_same_class():
    def box(left: float, label: int = 0) -> Box:
        return Box(left, 0.0, left + 0.4, 1.0, label, "")

    assert common((box(0.0), box(0.5)), (box(0.05), box(0.5))) == 2
    assert common((box(0.0),), (box(0.05), box(0.0))) == 1  # each box of the answer once
    assert common((box(0.0, 1),), (box(0.0),)) == common((), (box(0.0),)) == 0
    assert common((box(0.3),), (box(0.0),)) == 0  # a union seven times as large
    assert Box(0.5, 0.0, 0.5, 1.0, 0, "").overlap(Box(0.5, 0.0, 0.5, 1.0, 0, "")) == 0.0  # no area


@pytest.fixture(scope="module")
def page() -> str:
    evil = "</title><script>alert(1)</script>\x1b[31m"
    found = ts.evaluate(SNN, (IMAGES, TARGETS), task=PixelClassification(ignore_index=3, names=("sky", evil)))
    return report.page(found)


def test_a_page_shows_masks_and_how_much_of_them_both_networks_share(page):
    tags = Tags(page)
    text = " ".join(" ".join(tags.words).split())
    assert "sky" in text and "<script>alert" not in page and "\x1b" not in page
    assert len(tags.ids) == len(set(tags.ids))
    assert all(address.startswith(("data:", "#")) for address in tags.addresses)
    assert all(address[1:] in tags.ids for address in tags.addresses if address.startswith("#"))
    for k in range(4):
        ann = SEGMENTER(IMAGES[k : k + 1])[0].argmax(0)
        for t in (1, 2, 4, 8, 16):
            same = float((ts.simulate(SNN, IMAGES[k : k + 1]).logits[t - 1, 0].argmax(0) == ann).double().mean())
            assert f"T = {t}: {same:.1%} of the pixels as the ANN" in text
    drawn = page[page.index('id="pictures"') :]
    first = drawn[drawn.index("sample 1") : drawn.index("sample 2")]
    assert first.count("<svg") == 8 and first.count("data:image/png") == 8 and first.count("<use") == 7
    assert "data:image/png" in ts.evaluate(SNN, (IMAGES, TARGETS), task=PixelClassification())._repr_html_()


def test_boxes_on_a_page_lie_where_they_belong_and_large_pictures_are_small_files():
    found = ts.evaluate(SNN, (IMAGES, TARGETS), task=PixelClassification())
    boxes = (Box(0.25, 0.5, 0.75, 1.0, 3, "cat", 0.87), Box(0.0, 0.0, 0.1, 0.1, 4, "dog & co", 0.5))
    photograph = torch.rand(3, 600, 1200, generator=torch.Generator().manual_seed(1))
    picture = Picture(photograph, Marks(boxes[:1]), Marks(boxes, note="only some"), {1: Marks(), 8: Marks(boxes[:1])})
    text = report.page(dataclasses.replace(found, pictures=(picture,)))
    words = " ".join(" ".join(Tags(text).words).split())
    assert "The first sample: only some." in words
    assert "target: 1 box " in words and "ANN: 2 boxes" in words and "T = 1: 0 boxes, 0 of the ANN's 2" in words
    assert "T = 8: 1 box, 1 of the ANN's 2" in words and "cat, score 0.87" in words
    assert (
        text.count('<rect x="300.0" y="300.0" width="600.0" height="300.0"') == 6
    )  # dark below bright, in three panels
    assert text.count("data:image/jpeg") == 1
    assert len(text) < len(report.page(dataclasses.replace(found, pictures=()))) + 150_000
    colours = dict(re.findall(r'<i style="background:(#\w+)"></i>([^<]+)', text))
    assert sorted(colours.values()) == ["cat", "dog &amp; co"]  # two colours


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_fit_a_telephone(page, browser, tmp_path, scheme):
    (tmp_path / "page.html").write_text(page)
    shown = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme=scheme)
    shown.set_default_timeout(1000 * HANGS)
    shown.goto((tmp_path / "page.html").as_uri())
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360
    widths = shown.evaluate(
        "[...document.querySelectorAll('.panels svg')].map((one) => one.getBoundingClientRect().width)"
    )
    assert len(widths) == 32 and min(widths) >= 120
    shown.close()


def test_values_between_0_and_1_are_shown_as_they_are_and_others_from_low_to_high():
    def pixels(x: Tensor) -> np.ndarray:
        return matplotlib.image.imread(io.BytesIO(base64.b64decode(photograph(x).partition(",")[2])))[::30, ::30, 0]

    x = torch.tensor([[0.1, 0.9], [0.5, 0.3]]).repeat_interleave(60, 0).repeat_interleave(60, 1)[None]
    assert pixels(x)[::2, ::2] == pytest.approx(np.array([[0.1, 0.9], [0.5, 0.3]]), abs=1 / 255)
    assert pixels(x * 255)[::2, ::2] == pytest.approx(np.array([[0.0, 1.0], [0.5, 0.25]]), abs=1 / 255)
    assert pixels(x / 10)[::2, ::2] == pytest.approx(np.array([[0.0, 1.0], [0.5, 0.25]]), abs=1 / 255)
