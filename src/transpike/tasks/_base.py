"""Common checks of tasks with classes."""

import torch
from torch import Tensor

from transpike.errors import DataError

TWO_OUTPUTS = (
    "use two outputs (for a last layer with weights w and bias b: weights (0, w) and biases (0, b), so that class "
    "1 is the answer where the output is positive)"
)


def returned(shape: tuple[int, ...]) -> str:
    """The shape of an output batch as text, from that of one sample."""
    return f"(batch, {', '.join(map(str, shape))})" if shape else "(batch,)"


def zeros_and_ones(target: Tensor) -> Tensor:
    """Targets that are bool, or real numbers of which each is 0 or 1, as int64; others as they are."""
    whole = target.is_floating_point() and bool(((target == 0) | (target == 1)).all())
    return target.long() if whole or target.dtype == torch.bool else target


def check_logits(shape: tuple[int, ...], task: object, fewest: int = 2) -> None:
    """Raises DataError unless ``shape``, that of one sample's output, is (classes,) with at least ``fewest`` classes.

    One output has no other class to exceed: its argmax is class 0 whatever the network answers.
    """
    if shape in ((), (1,)):
        raise DataError(
            f"the network has a single output, {returned(shape)}, but {task} compares the logits of at least {fewest} "
            f"classes. For a classifier of two classes {TWO_OUTPUTS}; evaluate(), compare(), "
            "cost(), explain(), fit_exit() and finetune() take its one logit with task=transpike.tasks.Binary(), and "
            "the errors of a regression with task=transpike.tasks.Regression()"
        )
    if len(shape) != 1:
        raise DataError(
            f"{task} needs logits (batch, classes), but the network returns {returned(shape)}: simulate() runs it and "
            "cost() counts its energy without a task; evaluate(…, task=…) judges it with "
            "transpike.tasks.PixelClassification() (class indices of pixels), Sequence() (of tokens), Regression() "
            "(real targets), or with a function of (answer, target) that returns a number per sample"
        )
    if shape[0] < fewest:
        raise DataError(
            f"{task} needs logits of at least {fewest} classes, but the network returns {returned(shape)}: with fewer "
            "classes every answer would count as correct"
        )


def class_numbers(y: Tensor, samples: int, classes: int, where: str = "a batch") -> Tensor:
    """``y`` as (samples,) int64; raises DataError unless it holds one class index, 0 to classes − 1, per sample.

    A column (samples, 1) is accepted. Real numbers are not, whole or not: they may be the targets of a regression.
    """
    wanted = f"(batch,) class indices, integers from 0 to {classes - 1}"
    given = f"the targets of {where} are {str(y.dtype).removeprefix('torch.')} of shape {tuple(y.shape)}"
    if y.ndim and y.shape[0] != samples:
        raise DataError(f"{where} contains {samples} inputs and {len(y)} targets; pass one class index per input")
    if y.ndim == 2 and y.shape[1] == classes:
        raise DataError(
            f"{given}, but the task needs {wanted}: for one-hot labels write y.argmax(1); soft labels and several "
            "classes per sample are not supported"
        )
    y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if y.ndim != 1:
        raise DataError(f"{given}, but the task needs {wanted}")
    if y.dtype == torch.bool or y.is_floating_point() or y.is_complex():
        raise DataError(
            f"{given}, but the task needs {wanted}: for class indices write y.long(); real targets, as of a "
            "regression, have no accuracy"
        )
    if samples and not (int(y.min()) >= 0 and int(y.max()) < classes):
        raise DataError(
            f"the targets of {where} are {int(y.min())} to {int(y.max())}, but the network has {classes} "
            f"classes, 0 to {classes - 1}{_remedy(int(y.min()), int(y.max()), classes)}"
        )
    return y.long()


def in_range(y: Tensor, classes: int, ignored: int | None, where: str) -> Tensor:
    """Class indices ``y``; raises DataError unless all but the ``ignored`` ones are from 0 to classes − 1."""
    counted = y if ignored is None else y[y != ignored]
    if counted.numel() and not (int(counted.min()) >= 0 and int(counted.max()) < classes):
        raise DataError(
            f"the targets of {where} are {int(counted.min())} to {int(counted.max())}, but the network has "
            f"{classes} classes, 0 to {classes - 1}: exclude classes that must not count with ignore_index"
        )
    return y


def _remedy(low: int, high: int, classes: int) -> str:
    if low >= 1 and high == classes:
        return ": for class indices that start at 1 write y - 1"
    if low < 0 and high < classes:
        return ": drop samples without a class (often -1), or start class indices at 0"
    return ""
