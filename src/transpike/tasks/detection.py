"""Boxes in images: mean average precision."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.constraints import check_settings, setting
from transpike.core.marks import Box, Marks, class_name
from transpike.core.task import MeasuredTask, Metric
from transpike.errors import DataError, MissingExtra, SettingError

FOUND, GIVEN = 6, 5  # numbers of a detection (box, score, label) and of a target (label, box)
METRICS = {"mAP": "map", "mAP 50": "map_50", "mAP 75": "map_75"}
"""Name → key in torchmetrics: mean over IoU thresholds 0.5 to 0.95, and at 0.5 and 0.75."""
DRAWN = 50
"""Boxes in one picture of a report, at most."""
FRACTIONS = 2.0
"""A box whose numbers are all at most this counts in images as given in fractions of width and height, not pixels."""


@dataclass(frozen=True, repr=False)
class Detection(MeasuredTask):
    """Mean average precision of the boxes that ``decode(answer)`` finds, as COCO defines it (torchmetrics).

    ``decode`` returns for each sample a dictionary of ``boxes`` (n, 4), ``scores`` (n,) and ``labels`` (n,). Targets
    are dictionaries of ``boxes`` and ``labels`` per sample, or a tensor (samples, n, 5) of label and box, NaN where a
    sample has fewer boxes. ``box_format``: xyxy, xywh or cxcywh. The ``most`` certain detections of a sample count.
    Intervals need a mean average precision for each resampling, which takes seconds for a thousand images: there are
    none unless ``resamplings`` is positive. Needs the extra ``detection`` (torchmetrics, pycocotools, torchvision).
    Reports show images with boxes, in pixels or in fractions of width and height: those with a score of at least
    ``least_drawn``, labelled with ``names``; ``colours`` is the order of the input's channels.
    Source: Lin et al. 2014 (COCO).
    """

    name: ClassVar[str] = "detection"
    decode: Callable[[Any], list[dict[str, Tensor]]]
    box_format: str = setting("xyxy", "Format of boxes.", choices=("xyxy", "xywh", "cxcywh"))
    most: int = setting(100, "Maximum number of detections per sample.", low=1)
    resamplings: int = setting(0, "Number of resamplings for intervals.", low=0)
    least_drawn: float = setting(0.4, "Smallest score of boxes drawn in reports.", low=0.0)
    names: tuple[str, ...] = ()
    colours: str = setting("rgb", "Order of the input channels, for images in reports.", choices=("rgb", "bgr"))

    def __post_init__(self) -> None:
        if not callable(self.decode):
            raise SettingError(f"decode must be a function of the answers of a batch, not {self.decode!r}")
        if not isinstance(self.names, tuple) or not all(isinstance(name, str) for name in self.names):
            raise SettingError(f"names must be a tuple of the names of classes, not {self.names!r}")
        check_settings(self)

    def __str__(self) -> str:
        return f"detection({self._named})"

    def __repr__(self) -> str:
        """Without the address of the function, so that it is the same in every process."""
        place = f"{getattr(self.decode, '__module__', '')}.{getattr(self.decode, '__qualname__', self._named)}"
        return f"Detection({place}, {self.box_format}, {self.most}, {self.resamplings})"

    @property
    def _named(self) -> str:
        return getattr(self.decode, "__name__", type(self.decode).__name__)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(Metric(name, higher_is_better=True, share=True) for name in METRICS)

    def room(self, value: float) -> float:
        return 0.005

    @property
    def room_in_words(self) -> str:
        return "half a point"

    def check(self, shape: tuple[int, ...], samples: int, target: Tensor, where: str = "a batch") -> Tensor:
        """(samples, most, 5), NaN where there is no box. Raises MissingExtra too, before the work."""
        self._average_precision()
        if target.ndim != 3 or target.shape[::2] != (samples, GIVEN) or not target.is_floating_point():
            raise DataError(
                f"the targets of {where} are {str(target.dtype).removeprefix('torch.')} of shape "
                f"{tuple(target.shape)}, but {self} needs dictionaries of boxes (n, 4) and labels (n,) for {samples} "
                f"samples, or real numbers ({samples}, n, 5): label and box, NaN where there is none"
            )
        if target.shape[1] > self.most:
            raise DataError(
                f"a sample of {where} has {target.shape[1]} boxes, but {self} takes {self.most}: raise most"
            )
        target = F.pad(target, (0, 0, 0, self.most - target.shape[1]), value=torch.nan)
        empty = target.isnan().any(-1)
        there = target[~empty]
        if bool(empty.all(1).logical_not().any()) and (
            not bool(torch.isfinite(there).all()) or bool((there[:, 0] != there[:, 0].round()).any())
        ):
            raise DataError(f"the targets of {where} contain labels that are not integers, or infinite boxes")
        return target.double()

    def statistics(self, output: Tensor, target: Tensor) -> Tensor:
        """The detections and targets of each sample, padded with NaN: no sums, but what ``from_rows`` reads."""
        found = self.decode(output)
        samples = len(target)
        if not isinstance(found, (list, tuple)) or len(found) != samples:
            raise SettingError(
                f"{self._named}(answer) must return a list of {samples} dictionaries, one per sample, not "
                f"{type(found).__name__}{f' of {len(found)}' if isinstance(found, (list, tuple)) else ''}"
            )
        rows = torch.full((samples, self.most * (FOUND + GIVEN)), torch.nan, dtype=torch.float64)
        for row, one in zip(rows, found, strict=True):
            boxes = self._boxes(one)[: self.most]
            row[: boxes.numel()] = boxes.flatten()
        rows[:, self.most * FOUND :] = target.flatten(1).cpu()
        return rows

    def _boxes(self, one: Any) -> Tensor:
        """(n, 6) box, score and label, the most certain first."""
        keys = ("boxes", "scores", "labels")
        parts = [one[key] for key in keys if isinstance(one, dict) and isinstance(one.get(key), Tensor)]
        if len(parts) < len(keys):
            raise SettingError(f"{self._named}(answer) must return dictionaries of the tensors {', '.join(keys)}")
        boxes, scores, labels = (part.detach().double().cpu() for part in parts)
        if scores.ndim != 1 or boxes.shape != (len(scores), 4) or scores.shape != labels.shape:
            shapes = ", ".join(f"{key} {tuple(part.shape)}" for key, part in zip(keys, parts, strict=True))
            raise SettingError(
                f"{self._named}(answer) must return boxes (n, 4), scores (n,) and labels (n,), not {shapes}"
            )
        if not bool(torch.isfinite(boxes).all() and torch.isfinite(scores).all()):
            raise DataError(f"{self._named}(answer) returned boxes or scores that are NaN or infinite")
        order = scores.argsort(descending=True, stable=True)
        return torch.cat([boxes, scores[:, None], labels[:, None]], 1)[order]

    def values(self, sums: Tensor) -> Tensor:
        raise TypeError("a mean average precision is not a function of sums over samples: see from_rows")

    def from_rows(self, rows: Tensor) -> Tensor:
        if rows.ndim > 2:
            return torch.stack([self.from_rows(rows[:, k]) for k in range(rows.shape[1])])
        measure = self._average_precision()
        found, given = rows.split([self.most * FOUND, self.most * GIVEN], 1)
        for boxes, targets in zip(found.unflatten(1, (-1, FOUND)), given.unflatten(1, (-1, GIVEN)), strict=True):
            boxes, targets = boxes[~boxes[:, 0].isnan()], targets[~targets[:, 0].isnan()]
            measure.update(
                [{"boxes": boxes[:, :4].float(), "scores": boxes[:, 4].float(), "labels": boxes[:, 5].long()}],
                [{"boxes": targets[:, 1:].float(), "labels": targets[:, 0].long()}],
            )
        measured = measure.compute()
        values = torch.stack([torch.as_tensor(measured[key], dtype=torch.float64) for key in METRICS.values()])
        return torch.where(values < 0, torch.nan, values)  # torchmetrics: −1 where there is nothing to find

    def draws(self, rows: Tensor) -> Tensor | None:
        if not self.resamplings:
            return None
        random = torch.Generator().manual_seed(0)
        drawn = (torch.randint(len(rows), (len(rows),), generator=random) for _ in range(self.resamplings))
        return torch.stack([self.from_rows(rows[chosen]) for chosen in drawn])

    def marks(self, answer: Tensor, size: tuple[int, int]) -> Marks | None:
        (found,) = self.decode(answer[None])
        rows = self._boxes(found)
        rows = rows[rows[:, 4] >= self.least_drawn][:DRAWN]
        note = f"boxes with a score of at least {self.least_drawn:g}, at most {DRAWN} in an image"
        return Marks(tuple(self._drawn(row[:4], row[5], float(row[4]), size) for row in rows), note=note)

    def target_marks(self, target: Tensor, size: tuple[int, int]) -> Marks | None:
        rows = target[~target.isnan().any(-1)]
        return Marks(tuple(self._drawn(row[1:], row[0], None, size) for row in rows))

    def _drawn(self, box: Tensor, label: Tensor, score: float | None, size: tuple[int, int]) -> Box:
        """A box as fractions of the image."""
        first, second, third, fourth = box.tolist()
        if self.box_format == "cxcywh":
            first, second = first - third / 2, second - fourth / 2
        if self.box_format != "xyxy":
            third, fourth = first + third, second + fourth
        height, width = size if float(box.abs().max()) > FRACTIONS else (1, 1)
        number = int(label)
        edges = (first / width, second / height, third / width, fourth / height)
        return Box(*edges, number, class_name(number, self.names), score)

    def picture(self, sample: Tensor) -> Tensor | None:
        found = super().picture(sample)
        return found if found is None or self.colours == "rgb" else found.flip(0)

    def _average_precision(self) -> Any:
        """torchmetrics' metric; raises MissingExtra where it, or the COCO package that it needs, is not installed."""
        try:
            from torchmetrics.detection.mean_ap import MeanAveragePrecision

            box_format: Any = self.box_format
            return MeanAveragePrecision(
                box_format=box_format, max_detection_thresholds=[1, min(10, self.most), self.most]
            )
        except ImportError as error:  # torchmetrics raises ModuleNotFoundError when the metric is made
            raise MissingExtra(
                f"{self} is measured by torchmetrics, pycocotools and torchvision: pip install "
                f"'transpike[detection]' ({error})"
            ) from error
