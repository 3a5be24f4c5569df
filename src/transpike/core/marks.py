"""Marks of an answer in its input image: boxes, or a class for every pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor

COLOURS = (1, 3, 4)
"""Numbers of channels that a picture may have in its last axis."""


@dataclass(frozen=True)
class Box:
    """``left`` to ``bottom`` as fractions of the picture's width and height; ``score``: None in a target."""

    left: float
    top: float
    right: float
    bottom: float
    label: int
    name: str
    score: float | None = None

    @property
    def area(self) -> float:
        return max(self.right - self.left, 0.0) * max(self.bottom - self.top, 0.0)

    def overlap(self, other: "Box") -> float:
        """Intersection over union; 0 of boxes of two classes."""
        if self.label != other.label:
            return 0.0
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        common = max(width, 0.0) * max(height, 0.0)
        either = self.area + other.area - common
        return common / either if either > 0 else 0.0


@dataclass(frozen=True, eq=False)
class Marks:
    """``boxes``, or a ``mask``: (height, width) class indices, stretched over the picture, negative where nothing is.

    ``names``: of the classes of a mask, by number; a class without one is called by its number. ``note``: a sentence
    about what is left out.
    """

    boxes: tuple[Box, ...] = ()
    mask: Tensor | None = None
    names: tuple[str, ...] = ()
    note: str = ""


def class_name(label: int, names: tuple[str, ...]) -> str:
    """The name of a class, else its number in words."""
    return names[label] if 0 <= label < len(names) else f"class {label}"


def as_picture(sample: Tensor) -> Tensor | None:
    """(channels, height, width) of a sample that is a picture, also with channels last; the mean of several frames.

    None for signals, tokens and features.
    """
    x = sample.detach().cpu().float()
    x = x.mean(0) if x.ndim == 4 else x
    if x.ndim == 3 and x.shape[2] in COLOURS and x.shape[0] not in COLOURS:
        x = x.movedim(2, 0)
    if x.ndim != 3 or min(x.shape[1:]) < 2 or not bool(torch.isfinite(x).all()):
        return None
    return x
