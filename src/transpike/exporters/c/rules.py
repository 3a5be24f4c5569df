"""The C text of neurons that send several levels, or levels of either sign."""

from dataclasses import dataclass

from transpike.lowering.whole import Layer

FLOORED = """/* a / b, rounded down, for b > 0. */
static inline int64_t floored(int64_t a, int64_t b) {
  return a / b - (a % b < 0);
}"""

NEAREST = """/* The sign of a times the largest power of two p, at most most, with 4 |a| >= 3 p unit; 0 if there is
   none. A negative one is at most room. */
static inline int32_t nearest(int64_t a, int64_t unit, int32_t most, int64_t room) {
  const int64_t size = a < 0 ? -a : a;
  for (int32_t p = most; p > 0; p /= 2) {
    if (4 * size >= 3 * unit * p && (a > 0 || room >= p)) return a < 0 ? -p : p;
  }
  return 0;
}"""

DIGITS = """/* Signed powers of two, one after the other from most down, of what is left of a. */
static inline int32_t digits(int64_t a, int64_t unit, int32_t most) {
  int32_t found = 0;
  for (int32_t p = most; p > 0; p /= 2) {
    if (4 * (a < 0 ? -a : a) < 3 * unit * p) continue;
    found += a < 0 ? -p : p;
    a += a < 0 ? p * unit : -p * unit;
  }
  return found;
}"""

HELPERS = {"floored(": FLOORED, "nearest(": NEAREST, "digits(": DIGITS}
"""What its text calls → the function."""


@dataclass(frozen=True)
class Numbers:
    """Expressions for the numbers of one neuron, in C."""

    threshold: str
    below: str = ""
    rising: str = ""
    falling: str = ""
    offset: str = ""
    divisor: str = ""
    low: str = ""
    high: str = ""
    reach: str = ""
    times: str = "1"


def level_lines(layer: Layer, numbers: Numbers, sent: str) -> list[str]:
    """Lines that declare ``level`` for the potential u; ``sent`` is the sum of the levels so far."""
    rule, theta = layer.rule, numbers.threshold
    if rule.kind == "levels":
        return [
            "int32_t level = 0;",
            f"if (u >= {theta}) level = u / {theta} > {rule.most} ? {rule.most} : (int32_t)(u / {theta});",
        ]
    if rule.takes_back:
        once = f" && {sent} > 0" if rule.remembers else ""
        return [f"const int32_t level = (u >= {theta}) - (u <= -(int64_t){numbers.below}{once});"]
    if rule.follow is None:
        room = sent if rule.kind == "nearest" else rule.most
        return [f"const int32_t level = nearest(u, {theta}, {rule.most}, {room});"]
    slope = numbers.rising if numbers.rising == numbers.falling else f"(u < 0 ? {numbers.falling} : {numbers.rising})"
    lines, estimate = [], "u"
    if numbers.reach:
        lines = [f"const int64_t reach = {numbers.reach};"]
        estimate = "(u > reach ? reach : u < -reach ? -reach : u)"
    lines += [f"int64_t left = floored((int64_t){slope} * {estimate} + {numbers.offset}, {numbers.divisor});"]
    lines += [f"if (left < {numbers.low}) left = {numbers.low};"] if numbers.low else []
    lines += [f"if (left > {numbers.high}) left = {numbers.high};"] if numbers.high else []
    lines += [f"left *= {numbers.times};"] if numbers.times != "1" else []
    lines.append(f"left -= (int64_t){theta} * {sent};")
    if rule.kind == "all":
        return [*lines, f"const int32_t level = digits(left, {theta}, {rule.most});"]
    return [*lines, f"const int32_t level = nearest(left, {theta}, {rule.most}, {rule.most});"]
