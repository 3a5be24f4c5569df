"""Answers drawn in the first inputs, on a page: boxes or classes of pixels, of both networks over time."""

import hashlib
from collections.abc import Iterable

from transpike.core.marks import Box, Marks, class_name
from transpike.report._pixels import SHARP, coloured, photograph
from transpike.report._section import Panel, Section, Sheet
from transpike.report._style import PAPER
from transpike.workflow.evaluate.pictures import Picture

SAME = 0.5  # intersection over union of two boxes that are one


def sections(pictures: tuple[Picture, ...]) -> list[Section]:
    """The section of the pictures, if there are any."""
    if not pictures:
        return []
    colours = _colours([set().union(*map(_labels, _all(one))) for one in pictures])
    boxes = pictures[0].ann.mask is None
    lead = f"The first {len(pictures)} samples" if len(pictures) > 1 else "The first sample"
    lead += f": {pictures[0].ann.note}." if pictures[0].ann.note else "."
    if boxes:
        lead += f" Boxes of one class with an intersection over union of at least {SAME:g} count as the same."
    sheets = tuple(_sheet(number, one, colours, boxes) for number, one in enumerate(pictures, 1))
    return [Section("pictures", "Answers in pictures", (lead,), sheets=sheets)]


def _colours(together: list[set[int]]) -> dict[int, str]:
    """A colour for each label, another one than those of the labels in the same picture while there are any."""
    palette, found = PAPER.series, dict[int, str]()
    for number, label in enumerate(sorted(set().union(*together))):
        taken = {found.get(other) for labels in together if label in labels for other in labels}
        found[label] = next((colour for colour in palette if colour not in taken), palette[number % len(palette)])
    return found


def _all(one: Picture) -> Iterable[Marks]:
    return (marks for marks in (one.target, one.ann, *one.answers.values()) if marks is not None)


def _labels(marks: Marks) -> set[int]:
    found = {box.label for box in marks.boxes}
    if marks.mask is not None:
        found |= {label for label in marks.mask.unique().tolist() if label >= 0}
    return found


def _sheet(number: int, one: Picture, colours: dict[int, str], boxes: bool) -> Sheet:
    picture = photograph(one.input)
    height, width = one.input.shape[1:]
    panels = [] if boxes else [Panel("input")]
    if one.target is not None:
        panels.append(_panel(f"target{_counted(one.target)}", one.target, colours))
    panels.append(_panel(f"ANN{_counted(one.ann)}", one.ann, colours))
    for t, marks in one.answers.items():
        panels.append(_panel(f"T = {t}{_counted(marks)}{_compared(marks, one.ann)}", marks, colours))
    names: dict[int, str] = {}
    for marks in _all(one):
        names |= {box.label: box.name for box in marks.boxes}
        names |= {label: class_name(label, marks.names) for label in _labels(marks) if label not in names}
    key = tuple((names[label], colours[label]) for label in sorted(names))
    name = "picture-" + hashlib.sha256(f"{number} {picture}".encode()).hexdigest()[:12]
    sharp = max(height, width) <= SHARP
    return Sheet(name, f"sample {number}", picture, int(width), int(height), sharp, tuple(panels), key)


def _panel(caption: str, marks: Marks, colours: dict[int, str]) -> Panel:
    mask = "" if marks.mask is None else coloured(marks.mask, colours)
    return Panel(caption, tuple((box, colours[box.label]) for box in marks.boxes), mask)


def _counted(marks: Marks) -> str:
    if marks.mask is not None:
        return ""
    return f": {len(marks.boxes)} box{'' if len(marks.boxes) == 1 else 'es'}"


def _compared(marks: Marks, ann: Marks) -> str:
    """How much of the ANN's answer the spiking network's has."""
    if marks.mask is not None and ann.mask is not None:
        return f": {float((marks.mask == ann.mask).double().mean()):.1%} of the pixels as the ANN"
    return f", {common(marks.boxes, ann.boxes)} of the ANN's {len(ann.boxes)}"


def common(found: tuple[Box, ...], wanted: tuple[Box, ...]) -> int:
    """How many of ``wanted`` are found, each box of ``found`` once."""
    free, number = list(found), 0
    for box in wanted:
        best = max(free, key=box.overlap, default=None)
        if best is not None and box.overlap(best) >= SAME:
            free.remove(best)
            number += 1
    return number
