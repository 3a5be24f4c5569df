"""Products of activations and a constant, as einsum writes them: what is moved, and the matrix that multiplies."""

from dataclasses import dataclass
from math import prod

from torch import Tensor

from transpike.core.call import Refused


@dataclass(frozen=True)
class Contraction:
    """``y = W x`` for each group and each kept position.

    ``order`` are the wire's axes in the order kept, contracted, or groups, contracted, kept if there are groups; the
    batch is axis 0. ``entering`` is the shape in this order. ``matrix`` is (groups, outputs, inputs). ``groups``,
    ``outer`` and ``kept`` are shapes; ``back`` takes (kept, outer), or (groups, outer, kept), to the answer's order.
    """

    order: tuple[int, ...]
    entering: tuple[int, ...]
    matrix: Tensor
    groups: tuple[int, ...]
    outer: tuple[int, ...]
    kept: tuple[int, ...]
    back: tuple[int, ...]


def contraction(wire: str, shape: tuple[int, ...], labels: str, weight: Tensor, answer: str) -> Contraction:
    """The plan for axes with these labels (einsum); ``wire`` begins with the batch, which ``shape`` does not have.

    Raises Refused where samples are mixed, or an operand has a label twice.
    """
    batch = wire[0]
    if any(len(set(text)) != len(text) for text in (wire, labels, answer)):
        raise Refused("it takes a diagonal")
    size = dict(zip(wire[1:], shape, strict=True))
    for label, length in reversed(list(zip(labels, weight.shape, strict=True))):
        if length == 1 and (label in size or label == batch):  # broadcasts
            weight, labels = weight.squeeze(labels.index(label)), labels.replace(label, "")
        size.setdefault(label, length)
    if batch in labels or answer[:1] != batch:
        raise Refused("it works across the batch axis")
    for label in [label for label in labels if label not in wire and label not in answer]:
        weight, labels = weight.sum(labels.index(label)), labels.replace(label, "")
    for label in wire[1:]:
        if label not in labels and label not in answer:  # the sum over an axis has the weights 1
            weight, labels = weight[..., None].expand(*weight.shape, size[label]), labels + label
    groups = [label for label in wire[1:] if label in labels and label in answer]
    inner = [label for label in wire[1:] if label in labels and label not in answer]
    kept = [label for label in wire[1:] if label not in labels]
    outer = [label for label in answer[1:] if label not in wire]
    axes, result = (
        ([*groups, *inner, *kept], [*groups, *outer, *kept]) if groups else ([*kept, *inner], [*kept, *outer])
    )
    matrix = weight.permute([labels.index(label) for label in (*groups, *outer, *inner)])
    sizes = [tuple(size[label] for label in part) for part in (groups, outer, inner, kept)]
    return Contraction(
        (0, *(wire.index(label) for label in axes)),
        tuple(size[label] for label in axes),
        matrix.reshape(prod(sizes[0]), prod(sizes[1]), prod(sizes[2])),
        sizes[0],
        sizes[1],
        sizes[3],
        (0, *(result.index(label) + 1 for label in answer[1:])),
    )


def equation(text: str, ranks: list[int]) -> tuple[list[str], str]:
    """The labels of each operand and of the answer; "…" becomes capital Greek letters, aligned at its end."""
    inputs, arrow, answer = text.replace(" ", "").replace("...", "…").partition("->")
    operands, longest = inputs.split(","), 0
    for index, (labels, rank) in enumerate(zip(operands, ranks, strict=True)):
        if "…" in labels:
            count = rank - len(labels) + 1
            longest = max(longest, count)
            operands[index] = labels.replace("…", _ELLIPSIS[len(_ELLIPSIS) - count :])
    dots = _ELLIPSIS[len(_ELLIPSIS) - longest :] if longest else ""
    if not arrow:
        every = "".join(operands)
        answer = dots + "".join(sorted(label for label in set(every) if every.count(label) == 1 and label not in dots))
    return operands, answer.replace("…", dots)


def product(left: int, right: int) -> tuple[list[str], str]:
    """The labels of ``torch.matmul`` for operands with these numbers of axes."""
    first = "k" if left == 1 else _ELLIPSIS[len(_ELLIPSIS) - left + 2 :] * (left > 2) + "ik"
    second = "k" if right == 1 else _ELLIPSIS[len(_ELLIPSIS) - right + 2 :] * (right > 2) + "kj"
    longest = max(left, right) - 2
    dots = _ELLIPSIS[len(_ELLIPSIS) - longest :] if longest > 0 else ""
    return [first, second], dots + "i" * (left > 1) + "j" * (right > 1)


_ELLIPSIS = "ΑΒΓΔΕΖΗΘ"
