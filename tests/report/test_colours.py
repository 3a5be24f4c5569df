"""Colours of series: visible on their paper, and different for every kind of colour vision."""

import itertools
import re
from importlib.resources import files

import pytest

from transpike.report._style import DARK, PAPER

SEES = {
    # Machado, Oliveira and Fernandes 2009, severity 1, of linear red, green and blue
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
    "all colours": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
}


def linear(colour: str) -> list[float]:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    return [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]


def brightness(colour: str) -> float:
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear(colour), strict=True))


def lab(colour: str, kind: str) -> tuple[float, float, float]:
    """CIELAB of the colour as it is seen."""
    seen = [min(1.0, max(0.0, sum(a * b for a, b in zip(row, linear(colour), strict=True)))) for row in SEES[kind]]
    rows = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    xyz = [sum(a * b for a, b in zip(row, seen, strict=True)) for row in rows]
    x, y, z = (
        v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116
        for v in (a / b for a, b in zip(xyz, (0.9505, 1.0, 1.089), strict=True))
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("palette", [PAPER, DARK], ids=["light", "dark"])
def test_every_colour_is_visible_on_its_paper(palette) -> None:
    for colour in palette.series:
        low, high = sorted((brightness(colour), brightness(palette.paper)))
        assert (high + 0.05) / (low + 0.05) >= 3, colour  # WCAG, of graphical objects


@pytest.mark.parametrize("palette", [PAPER, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("kind", SEES)
def test_the_first_four_differ_for_every_kind_of_colour_vision(palette, kind) -> None:
    for one, other in itertools.combinations(palette.series[:4], 2):
        distance = sum((a - b) ** 2 for a, b in zip(lab(one, kind), lab(other, kind), strict=True)) ** 0.5
        assert distance >= 15, (one, other)


def test_the_style_sheet_has_the_same_colours() -> None:
    sheet = files("transpike.report").joinpath("templates/style.css").read_text()
    found = re.findall(r"--series-(\d):(#\w+)", sheet)
    light, dark, paper = (dict(found[k : k + 10]) for k in (0, 10, 20))
    assert tuple(light.values()) == tuple(paper.values()) == PAPER.series and tuple(dark.values()) == DARK.series
    assert f"--paper:{DARK.paper}" in sheet and f"--ink:{DARK.ink}" in sheet and f"--ink:{PAPER.ink}" in sheet
