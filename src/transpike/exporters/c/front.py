"""The C text of a charge that comes from integers: the first layer of weights, once for each sample."""

import numpy as np

from transpike.exporters.c.layout import Array, sources_of
from transpike.exporters.c.plan import Parameter
from transpike.exporters.c.terms import Constants, Terms, comment
from transpike.lowering.whole import Front, Term
from transpike.lowering.whole_terms import charge_shape

ROUNDED = """/* a / 2^k, rounded to the nearest, halves to even; without shifts of negative numbers. */
static int64_t rounded(int64_t a, int32_t k) {
  const int64_t one = INT64_C(1) << k;
  int64_t whole = a / one, rest = a % one;
  if (rest < 0) {
    --whole;
    rest += one;
  }
  return whole + (2 * rest > one || (2 * rest == one && whole % 2 != 0));
}"""


def front_lines(
    terms: Terms, front: Front, name: str, given: Parameter, target: Array, charge: str, kind: str
) -> list[str]:
    """Loops over all outputs: unlike events, an input of pixels has hardly any zeros.

    They fill ``charge``, of type ``kind`` and in the order of ``target``.
    """
    term = front.term
    x = Array("", term.shape, term.shape, term.kind == "conv" and len(term.shape) > 1)
    found, read = sources_of(term, given.array, x), f"{given.argument}[{{0}}]"
    if not np.array_equal(found, np.arange(given.array.size)):
        order = terms.constants.add(f"order_{name}", np.where(found < 0, given.array.size, found), str(x.size))
        read = f"{given.argument}[{order}[{{0}}]]"
        if (found < 0).any():
            read = f"({order}[{{0}}] < {given.array.size} ? {read} : 0)"
    shift = terms.value(f"shift_{name}", target.spread(front.shift), target, "i", "o")
    sizes = charge_shape(term)[1:] if term.kind == "conv" else term.shape[:-1]
    loops = [f"for (int32_t o{axis} = 0; o{axis} < {size}; ++o{axis}) {{" for axis, size in enumerate(sizes)]
    return [
        f"/* {comment(term.name)}: the charge of every step, from integers */",
        "{",
        "int32_t i = 0;",
        *loops,
        f"for (int32_t o = 0; o < {len(term.weight)}; ++o, ++i) {{",
        "int64_t sum = 0;",
        *(_convolution if term.kind == "conv" else _linear)(terms.constants, term, f"w_{name}", read),
        f"{charge}[i] = ({kind})rounded(sum, {shift});",
        *["}"] * (len(sizes) + 2),
    ]


def _convolution(constants: Constants, term: Term, name: str, read: str) -> list[str]:
    outputs, per_group, *kernel = term.weight.shape
    channels, *inner = term.shape
    order = (0, *range(2, term.weight.ndim), 1)
    weights = constants.add(name, term.weight.transpose(order), str(term.weight.size))
    lines, position, tap = [], "", "o"
    for axis, size in enumerate(inner):
        start = f"o{axis} * {term.stride[axis]} - {term.padding[axis]} + k{axis} * {term.dilation[axis]}"
        lines += [
            f"for (int32_t k{axis} = 0; k{axis} < {kernel[axis]}; ++k{axis}) {{",
            f"const int32_t q{axis} = {start};",
            f"if (q{axis} < 0 || q{axis} >= {size}) continue;",
        ]
        position = f"({position} * {size} + q{axis})" if position else f"q{axis}"
        tap = f"({tap} * {kernel[axis]} + k{axis})"
    group = f" + o / {outputs // term.groups} * {per_group}" if term.groups > 1 else ""
    return [
        *lines,
        f"for (int32_t c = 0; c < {per_group}; ++c) {{",
        f"sum += (int64_t){weights}[{tap} * {per_group} + c] * {read.format(f'{position} * {channels}{group} + c')};",
        *["}"] * (len(inner) + 1),
    ]


def _linear(constants: Constants, term: Term, name: str, read: str) -> list[str]:
    outputs, inputs = term.weight.shape
    weights = constants.add(name, term.weight, f"{outputs} * {inputs}")
    position = ""
    for axis, size in enumerate(term.shape[:-1]):
        position = f"({position} * {size} + o{axis})" if position else f"o{axis}"
    start = f"{position} * {inputs} + c" if position else "c"
    return [
        f"for (int32_t c = 0; c < {inputs}; ++c) {{",
        f"sum += (int64_t){weights}[o * {inputs} + c] * {read.format(start)};",
        "}",
    ]
