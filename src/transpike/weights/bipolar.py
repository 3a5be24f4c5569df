"""Numbers as bits of −1 and +1, and their products from binary products."""

from collections.abc import Callable

import torch
from torch import Tensor

from transpike.errors import DataError, SettingError

MOST_BITS = 16


def bits_of(values: Tensor, bits: int) -> Tensor:
    """``b_m ∈ {−1, 1}`` with ``x = Σ_m 2^m b_m``, m = 0 … M − 1: (bits, *shape), the lowest first.

    ``values`` are odd integers from −(2^M − 1) to 2^M − 1; each has exactly one such form. There is no zero.
    Source: Sun et al. 2019 (AAAI; arXiv 1905.13389). Raises DataError for other values.
    """
    _check(bits)
    values = values if values.is_floating_point() else values.long()  # 8 bits overflow in the sum
    whole = values.round()
    if not bool(((whole == values) & (values.abs() < 2**bits) & (whole.remainder(2) == 1)).all()):
        raise DataError(
            f"{bits} bits of −1 and +1 represent only odd numbers from {1 - 2**bits} to {2**bits - 1}, and no zero: "
            "scale and shift the values first"
        )
    place = ((whole.long() + 2**bits - 1) // 2)[None] >> torch.arange(bits, device=values.device).reshape(
        -1, *(1,) * values.ndim
    )
    return (2 * (place & 1) - 1).to(values.dtype)


def from_bits(planes: Tensor) -> Tensor:
    """``Σ_m 2^m b_m``: the inverse of ``bits_of``."""
    places = 2.0 ** torch.arange(len(planes), device=planes.device, dtype=torch.float64)
    return (planes.double() * places.reshape(-1, *(1,) * (planes.ndim - 1))).sum(0).to(planes.dtype)


def bipolar_product(
    x: Tensor, weight: Tensor, x_bits: int, weight_bits: int, product: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """``product(x, w) = Σ_m Σ_k 2^(m+k) product(b_m, c_k)``: M·K binary products, shifted and added, exactly.

    ``product`` is any bilinear map, such as ``torch.nn.functional.linear`` or ``conv2d`` without padding: padding adds
    zeros, which have no code. As a spike code the M planes are M steps, with spike scale 2^m in step m (BSNN's phases
    use bits of 0 and 1). Source: as ``bits_of``.
    """
    total: Tensor | None = None
    for m, plane in enumerate(bits_of(x, x_bits)):
        for k, part in enumerate(bits_of(weight, weight_bits)):
            term = product(plane, part) * 2.0 ** (m + k)
            total = term if total is None else total + term
    assert total is not None
    return total


def _check(bits: int) -> None:
    if isinstance(bits, bool) or not isinstance(bits, int) or not 1 <= bits <= MOST_BITS:
        raise SettingError(f"bits must be an integer from 1 to {MOST_BITS}, not {bits!r}")
