"""Rows of result.json: a claim of claims.toml, what was measured for it, on how many samples, and whether it holds.

    python reproductions/bsnn/run.py --judge      # of any folder: judges again what is stored, and measures nothing

A claim says how it is judged before anything is measured:

- ``kind``: "published"; "ours", a bound that no paper claims; "formula", computed without samples; "law", equal by
  construction, so that a run only checks the code. Laws are no claims: docs/claims.md shows them apart.
- ``sense``: "at most", "at least", "within", "below" or "above" ``value``; ``tolerance`` widens the first three.
- ``of``: what the samples are. ``times``: the T that the value rests on, several of them unless ``times_from`` says that
  the paper gives the T ("published"), the network was trained for it ("trained") or it is the length of the data
  ("recording"). No ``times``: nothing runs in time.
- ``reconstructed``: the part of the method that is ours in place of the paper's. ``differs``: what a reader must know.
- ``not_judged``: why a number that is shown decides nothing. ``missing``: what a claim without a number wants.
- ``explanation``: why a claim does not hold, unless the measurement brings a reason of its own.
"""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transpike.results.statistics import wilson

SHARES = ("points", "%")
UNRUN = "its part of the reproduction was not run to the end"
SLACK = 1e-9
STATIC = ("kind", "sense", "of", "times", "times_from", "reconstructed", "differs")


@dataclass(frozen=True)
class Measured:
    """``value`` in the claim's unit on ``n`` samples; ``low`` and ``high`` are 95 % bounds, ``by`` the parts of a mean.

    ``images`` says which samples of the test set they are, where they are not all. ``reason`` is for a value that does not
    hold, ``not_judged`` for one that decides nothing.
    """

    value: float | None = None
    n: int | None = None
    low: float | None = None
    high: float | None = None
    by: Mapping[str, float] = field(default_factory=dict)
    images: str = ""
    reason: str = ""
    not_judged: str = ""


def claims(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = tomllib.loads((folder / "claims.toml").read_text(encoding="utf-8"))["claim"]
    return found


def resolution(unit: str, n: int | None) -> float:
    """What one sample more or less changes, in the claim's unit; 0 where the value is no share of samples."""
    return 100 / n if n and unit.split()[0] in SHARES else 0.0


def room(claim: Mapping[str, Any]) -> float:
    """How far the value may be from the best one: a bound that is finer than a sample cannot be judged."""
    return float(claim["tolerance"] or abs(claim["value"]))


def holds(claim: Mapping[str, Any], found: Measured) -> bool:
    bound, width, value = claim["value"], claim["tolerance"] + SLACK, found.value
    assert value is not None
    if claim["sense"] == "within":
        return abs(value - bound) <= width
    if claim["sense"] == "above":  # by more than chance, where chance is known
        return (value if found.low is None else found.low) > bound
    if claim["sense"] == "below":
        return (value if found.high is None else found.high) < bound
    return value <= bound + width if claim["sense"] == "at most" else value >= bound - width


def status(claim: Mapping[str, Any], found: Measured) -> tuple[str, str]:
    """ "holds", "explained", "not judged" or "not measured", and the reason."""
    if found.value is None:
        return "not measured", claim.get("missing") or found.reason or UNRUN
    step = resolution(claim["unit"], found.n)
    if why := found.not_judged or claim.get("not_judged", ""):
        return "not judged", why
    if (
        claim["kind"] not in ("law", "formula")
        and room(claim) + SLACK < step
        and claim["sense"] not in ("above", "below")
    ):
        return (
            "not judged",
            f"one of {found.n:,} {claim['of']} is {step:.2g} {claim['unit'].split()[0]}, more than the room",
        )
    if claim["sense"] in ("above", "below") and found.low is None and claim["value"] == 0:
        return "not judged", "a difference from 0 needs an interval"
    if holds(claim, found):
        return "holds", ""
    return "explained", found.reason or claim.get("explanation", "")


def rows(folder: Path, found: Mapping[str, Measured], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of result.json, one a claim; ``settings`` (seed, versions, data) are those of the measurements."""
    made = []
    for claim in claims(folder):
        one = found.get(claim["id"], Measured())
        verdict, reason = status(claim, one)
        row = {
            "id": claim["id"], "claim": claim["claim"], "published": claim["value"], "tolerance": claim["tolerance"], "unit": claim["unit"],
            **{name: claim[name] for name in STATIC if name in claim},
            "measured": one.value, "n": one.n, "images": one.images, "low": one.low, "high": one.high, "status": verdict, "reason": reason,
            "setting": claim.get("setting", "cpu-sized"), **settings,
        }  # fmt: skip
        parts = "by_seed" if all(name.startswith("seed") for name in one.by) else "by"
        made.append(row | ({parts: dict(one.by)} if one.by else {}))
    return made


def asked(row: Mapping[str, Any]) -> str:
    """The bound as text: "≤ 3 points lost"."""
    width, value = row["tolerance"], row["published"]
    if row["sense"] == "within":
        return f"{value:g} ± {width:g} {row['unit']}"
    sign = {"at most": "≤", "at least": "≥", "above": ">", "below": "<"}[row["sense"]]
    return f"{sign} {value - width if sign == '≥' else value + width:g} {row['unit']}"


def unpaired(first: float, second: float, n: int) -> tuple[float, float, float]:
    """``first − second`` and 95 % bounds, of two shares of the same n samples whose outcomes were not kept.

    Newcombe 1998, method 10 of unpaired shares: wider than the paired interval as long as both err on the same samples.
    """
    (l1, u1), (l2, u2) = (wilson(round(share * n), n) for share in (first, second))
    difference = first - second
    return (
        difference,
        difference - math.hypot(first - l1, u2 - second),
        difference + math.hypot(u1 - first, second - l2),
    )


def lost(before: float, after: float, n: int, **more: Any) -> Measured:
    """Points between two accuracies in [0, 1] on the same n samples, with unpaired 95 % bounds."""
    value, low, high = (100 * part for part in unpaired(before, after, n))
    return Measured(value, n, low, high, **more)


def mean_of(differences: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The mean of (value, low, high); the mean of the bounds is too wide, because errors are not all on one side."""
    value, low, high = (math.fsum(part) / len(differences) for part in zip(*differences, strict=True))
    return value, low, high


def part_of(n: int, total: int, images: str = "the first") -> str:
    """For ``Measured.images``: stored numbers that do not say which samples they are of took the first ones."""
    return "" if n == total else images


def spaced(total: int, count: int) -> list[int]:
    """``count`` of ``total`` test images, evenly spaced, in order: the first ones need not be like the others."""
    count = min(count, total)
    return [k * total // count for k in range(count)]
