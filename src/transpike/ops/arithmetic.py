"""Counts of the arithmetic of torch operators: multiplications, and evaluations of other functions.

The operator runs on meta tensors, in torch's decomposition. Sums, averages, comparisons and moves have no
multiplications; transpike does not count an average's division, because the next weights can include it. Matrix
products and convolutions are counted by ``torch.utils.flop_counter`` (two operations per product).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

BATCH = 2
"""Samples of the trial run; a batch of one could be removed by ``squeeze``."""
FREE = frozenset((
    "abs", "add", "alias", "amax", "amin", "any", "arange", "argmax", "argmin", "as_strided", "bitwise_and",
    "bitwise_not", "bitwise_or", "broadcast_to", "cat", "ceil", "chunk", "clamp", "clamp_max", "clamp_min",
    "clone", "constant_pad_nd", "contiguous", "copy", "cumsum", "detach", "diagonal", "embedding", "empty",
    "empty_like", "eq", "expand", "fill", "flatten", "flip", "floor", "full", "full_like", "gather", "ge", "gt",
    "hardshrink", "hardtanh", "index", "index_select", "isnan", "le", "lift_fresh_copy", "logical_and",
    "logical_not", "logical_or", "lt", "masked_fill", "max", "max_pool2d_with_indices", "max_pool3d_with_indices",
    "maximum", "mean", "min", "minimum", "narrow", "ne", "neg", "new_empty", "new_full", "new_ones", "new_zeros",
    "ones", "ones_like", "permute", "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d", "reflection_pad2d",
    "relu", "relu_", "repeat", "replication_pad1d", "replication_pad2d", "reshape", "roll", "round", "rsub",
    "scalar_tensor", "select", "sgn", "sign", "slice", "softshrink", "sort", "split", "split_with_sizes",
    "squeeze", "stack", "sub", "sum", "t", "threshold", "tile", "to", "_to_copy", "topk", "transpose", "tril",
    "triu", "unbind", "unfold", "unsqueeze", "view", "view_as_real", "_unsafe_view", "upsample_nearest1d",
    "upsample_nearest2d", "upsample_nearest3d", "where", "zeros", "zeros_like", "avg_pool1d", "avg_pool2d",
    "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d", "adaptive_max_pool3d",
))  # fmt: skip
"""Operators without multiplications: moves, comparisons, sums, averages."""
ONE_EACH = frozenset((
    "mul", "leaky_relu", "_prelu_kernel", "square", "cumprod", "addcmul", "lerp", "hardswish", "hardsigmoid",
))  # fmt: skip
"""Operators with one multiplication per output element."""
EVALUATED = frozenset((
    "acos", "asin", "atan", "atan2", "celu", "cos", "cosh", "elu", "erf", "erfc", "erfinv", "exp", "exp2",
    "expm1", "gelu", "log", "log10", "log1p", "log2", "log_sigmoid", "log_sigmoid_forward", "logit",
    "mish", "pow", "reciprocal", "remainder", "rsqrt", "selu", "sigmoid", "silu", "sin", "sinh", "softplus",
    "sqrt", "tan", "tanh", "logsumexp",
))  # fmt: skip
"""Operators with one evaluation of their function per output element."""


NORMS = frozenset((
    "native_layer_norm", "native_group_norm", "_native_batch_norm_legit", "var", "var_mean", "std",
))  # fmt: skip
"""Operators that compute means and variances of rows."""


@dataclass(frozen=True)
class Arithmetic:
    """Per sample: ``multiplications``, None if their number is unknown, and ``evaluations`` by function.

    ``unknown`` names the operators of torch without a count.
    """

    multiplications: int | None
    evaluations: dict[str, int] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def arithmetic(run: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]) -> Arithmetic:
    """The counts of ``run`` for inputs of these shapes (without the batch)."""
    counter = _Counting()
    with torch.inference_mode(False), torch.no_grad(), counter:
        run(*(torch.empty((BATCH, *shape), device="meta") for shape in shapes))
    evaluations = {name: -(-count // BATCH) for name, count in counter.evaluations.items()}
    unknown = tuple(dict.fromkeys(counter.unknown))
    return Arithmetic(None if unknown else -(-counter.multiplications // BATCH), evaluations, unknown)


class _Counting(TorchDispatchMode):
    """Sums the counts of the operators in a call."""

    def __init__(self) -> None:
        from torch.utils.flop_counter import flop_registry  # not needed to import transpike

        super().__init__()
        self.flops = flop_registry
        self.multiplications = 0
        self.evaluations: Counter[str] = Counter()
        self.unknown: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, known = kwargs or {}, func._overloadpacket in self.flops
        if not known:  # an operator that decomposes is counted by its parts
            with self:
                answer = func.decompose(*args, **kwargs)
            if answer is not NotImplemented:
                return answer
        answer = func(*args, **kwargs)
        if known:
            flops = self.flops[func._overloadpacket](*args, **kwargs, out_val=answer)
            self.multiplications += flops // 2
        else:
            first = answer[0] if isinstance(answer, (tuple, list)) else answer
            self._add(func._overloadpacket.__name__, args, first.numel() if isinstance(first, Tensor) else 0)
        return answer

    def _add(self, name: str, args: tuple[Any, ...], count: int) -> None:
        pure = name if name in FREE or name in ONE_EACH or name in EVALUATED else name.removesuffix("_")
        if pure in FREE:
            return
        if pure in ONE_EACH:
            self.multiplications += count
        elif pure == "div":  # division by a number is a multiplication
            by_wire = isinstance(args[1], Tensor)
            self.multiplications += 0 if by_wire else count
            self.evaluations.update({"division": count} if by_wire else {})
        elif pure == "pow" and args[1:] == (2,):
            self.multiplications += count
        elif pure == "glu":
            self.multiplications += count
            self.evaluations["sigmoid"] += count
        elif pure in EVALUATED:
            self.evaluations[pure] += count
        elif pure in ("_softmax", "_safe_softmax"):
            self.evaluations.update({"exp": count, "division": count})
        elif pure == "_log_softmax":
            self.evaluations.update({"exp": count, "log": count // args[0].shape[args[1]]})
        elif pure in NORMS:
            self._add_norm(pure, args, count)
        elif pure == "native_batch_norm" or pure == "_native_batch_norm_legit_no_training":
            self.multiplications += count  # one factor per channel, computed from the running statistics
        else:
            self.unknown.append(name)

    def _add_norm(self, name: str, args: tuple[Any, ...], count: int) -> None:
        """Per element a square, a product with 1/σ and one with the weight; one 1/σ per row."""
        x = args[0]
        if name.startswith(("var", "std")):
            self.multiplications += x.numel()
            self.evaluations.update({"sqrt": count} if name == "std" else {})
            return
        if name == "native_layer_norm":
            weight, rows = args[2], x.numel() // max(1, _product(args[1]))
        elif name == "_native_batch_norm_legit":  # of single samples: instance normalisation
            weight, rows = args[1], x.shape[1]
        else:
            weight, rows = args[1], args[3] * args[6]
        self.multiplications += count * (3 if weight is not None else 2)
        self.evaluations["rsqrt"] += int(rows)


def _product(sizes: Any) -> int:
    total = 1
    for size in sizes:
        total *= int(size)
    return total
