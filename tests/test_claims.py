"""A linter for claims: each row of reproductions/*/result.json says on how much it rests, and can be wrong."""

import importlib.util
import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(path.parent for path in ROOT.glob("reproductions/*/claims.toml"))
Row = dict[str, Any]


def _judging() -> ModuleType:
    found = importlib.util.spec_from_file_location("judging_of_claims", ROOT / "reproductions/judging.py")
    assert found is not None and found.loader is not None
    module = sys.modules[found.name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


judging = _judging()


def rows(folder: Path) -> list[Row]:
    found: list[Row] = json.loads((folder / "result.json").read_text(encoding="utf-8"))["rows"]
    return found


ALL = {f"{folder.name}/{row['id']}": row for folder in FOLDERS for row in rows(folder)}

# The rules. Each takes a row and gives what is wrong with it, or "".


def has_samples(row: Row) -> str:
    counted = row["kind"] in ("law", "formula") or row["measured"] is None
    return "" if counted or (row["n"] and row.get("of")) else "no n, or not of what"


def no_finer_than_a_sample(row: Row) -> str:
    """1/n in points: a bound below it holds or fails by nothing that was measured."""
    if row["status"] not in ("holds", "explained") or row["kind"] in ("law", "formula"):
        return ""
    if row["sense"] in ("above", "below") and not row["published"]:
        return "" if row["low"] is not None and row["high"] is not None else "a gain over 0 without an interval"
    width = judging.room({**row, "value": row["published"]})
    return "" if width + 1e-9 >= judging.resolution(row["unit"], row["n"]) else "a bound finer than one sample"


def not_at_one_chosen_time(row: Row) -> str:
    times, why = row.get("times", []), row.get("times_from", "")
    if why not in ("", "published", "trained", "recording"):
        return f"times_from is {why!r}"
    runs = re.search(r"\bT ?= ?\d|streaming|\bSNN\b|spik|neurons|convers", row["claim"], re.IGNORECASE)
    if not times and row["kind"] in ("published", "ours") and runs and row["measured"] is not None:
        return "it runs in time and names no T"
    if len(times) == 1 and not why:
        return "judged at one T that we chose"
    single = re.findall(r"\bT ?= ?(\d+)", row["claim"] + row["unit"])
    return "" if not times or {int(t) for t in single} <= {*times} else "the text names a T that was not judged"


def not_true_by_construction(row: Row) -> str:
    exact = not row["published"] and row["tolerance"] <= 1e-6 and row["sense"] in ("at most", "within")
    return "" if exact == (row["kind"] == "law") else "an equality is a law, and nothing else is"


RECONSTRUCTIONS = ("BSNN", "bistable", "ReLU-CM", "ReLU-SC", "CAT", "YOSO")


def says_what_is_reconstructed(row: Row) -> str:
    named = any(re.search(rf"\b{name}\b", row["claim"], re.IGNORECASE) for name in RECONSTRUCTIONS)
    needed = (named or row["kind"] == "formula") and row["measured"] is not None
    return "" if not needed or row.get("reconstructed") else "a reconstruction is not called one"


def says_why(row: Row) -> str:
    if (row["measured"] is None) != (row["status"] == "not measured"):
        return "measured, or not"
    return "" if row["status"] == "holds" or row["reason"] else "no reason"


RULES: tuple[Callable[[Row], str], ...] = (
    has_samples, no_finer_than_a_sample, not_at_one_chosen_time, not_true_by_construction, says_what_is_reconstructed, says_why,
)  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_all_rows_keep_the_rule(rule: Callable[[Row], str]) -> None:
    assert {name: fault for name, row in ALL.items() if (fault := rule(row))} == {}
    assert len(ALL) > 60


GOOD: Row = {
    "id": "x", "claim": "few-steps, VGG-7: streaming against its own ANN", "kind": "ours", "published": 0.0, "tolerance": 0.5,
    "sense": "at most", "unit": "points lost", "of": "test images", "times": [8, 16, 32], "measured": 0.3, "n": 10_000,
    "low": None, "high": None, "status": "holds", "reason": "",
}  # fmt: skip
BROKEN: dict[str, tuple[Callable[[Row], str], Row]] = {
    "n is missing": (has_samples, {"n": None}),
    "n of nothing": (has_samples, {"of": ""}),
    "a bound of 0.5 points on 100 images": (no_finer_than_a_sample, {"n": 100}),
    "a gain without an interval": (no_finer_than_a_sample, {"sense": "above", "tolerance": 0.0}),
    "one chosen T": (not_at_one_chosen_time, {"times": [256]}),
    "no T at all": (not_at_one_chosen_time, {"times": []}),
    "a T of the text alone": (not_at_one_chosen_time, {"claim": "loses nothing at T=64"}),
    "an excuse for one T": (not_at_one_chosen_time, {"times": [256], "times_from": "best"}),
    "nothing may differ, as a claim": (not_true_by_construction, {"tolerance": 0.0, "unit": "levels"}),
    "a loss as a law": (not_true_by_construction, {"kind": "law"}),
    "a reconstruction as the original": (says_what_is_reconstructed, {"claim": "BSNN needs few steps"}),
    "a formula as decoded": (says_what_is_reconstructed, {"kind": "formula"}),
    "explained by nothing": (says_why, {"status": "explained"}),
    "not judged, without a reason": (says_why, {"status": "not judged"}),
    "held without a number": (says_why, {"measured": None}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_sees_what_it_is_for(name: str) -> None:
    rule, change = BROKEN[name]
    assert not rule(GOOD) and rule(GOOD | change)
    assert {one for one, _ in BROKEN.values()} == {*RULES}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_statuses_are_those_that_the_claims_and_the_numbers_give(folder: Path) -> None:
    claims = judging.claims(folder)
    assert [claim["id"] for claim in claims] == [row["id"] for row in rows(folder)]
    for claim, row in zip(claims, rows(folder), strict=True):
        found = judging.Measured(row["measured"], row["n"], row["low"], row["high"], reason=row["reason"])
        if row["status"] == "not judged":
            found = judging.Measured(row["measured"], row["n"], row["low"], row["high"], not_judged=row["reason"])
        assert judging.status(claim, found)[0] == row["status"], row["id"]
        for name in judging.STATIC:
            assert row.get(name) == claim.get(name), row["id"]
        assert (row["claim"], row["published"], row["tolerance"]) == (
            claim["claim"],
            claim["value"],
            claim["tolerance"],
        )


CLAIM = {
    "id": "x",
    "kind": "ours",
    "value": 0.0,
    "tolerance": 0.5,
    "sense": "at most",
    "unit": "points lost",
    "of": "images",
}


@pytest.mark.parametrize(
    ("change", "found", "expected"),
    [
        ({}, judging.Measured(0.5, 200), "holds"),
        ({}, judging.Measured(0.51, 10_000), "explained"),
        ({}, judging.Measured(), "not measured"),
        ({}, judging.Measured(0.0, 100), "not judged"),  # one of 100 images is a point
        ({"kind": "law", "tolerance": 0.0}, judging.Measured(0, 16), "holds"),
        ({"kind": "law", "tolerance": 0.0}, judging.Measured(1, 16), "explained"),
        ({"sense": "above", "tolerance": 0.0}, judging.Measured(3.0, 100), "not judged"),  # of chance nothing is known
        ({"sense": "above", "tolerance": 0.0}, judging.Measured(3.0, 100, -0.1, 6.0), "explained"),
        ({"sense": "above", "tolerance": 0.0}, judging.Measured(3.0, 100, 0.1, 6.0), "holds"),
        ({"sense": "below", "value": 1.0, "unit": "ratio"}, judging.Measured(0.9, 100), "holds"),
        ({"sense": "at least", "value": 92.0, "tolerance": 0.0}, judging.Measured(91.9, 1000), "explained"),
        ({"sense": "at least", "value": 92.0, "tolerance": 0.5}, judging.Measured(91.6, 1000), "holds"),
        ({"sense": "within", "value": 0.85, "tolerance": 0.005}, judging.Measured(0.856, None), "explained"),
        ({}, judging.Measured(0.1, 10_000, not_judged="the network is useless"), "not judged"),
        ({"not_judged": "calibrated for this T alone"}, judging.Measured(0.1, 10_000), "not judged"),
    ],
)  # fmt: skip
def test_rows_are_judged_by_bound_sense_and_samples(change: Row, found: Any, expected: str) -> None:
    assert judging.status(CLAIM | change, found)[0] == expected


def test_intervals_of_unpaired_shares_are_newcombes() -> None:
    """By hand from Wilson's limits of 80 and 60 of 100: 0.7112 to 0.8666, and 0.5020 to 0.6906."""
    difference, low, high = judging.unpaired(0.8, 0.6, 100)
    assert (
        difference == pytest.approx(0.2)
        and low == pytest.approx(0.2 - (0.0888**2 + 0.0906**2) ** 0.5, abs=2e-4)
        and high == pytest.approx(0.2 + (0.0666**2 + 0.0980**2) ** 0.5, abs=2e-4)
    )
    assert judging.mean_of([(1.0, 0.0, 3.0), (3.0, 2.0, 5.0)]) == (2.0, 1.0, 4.0)
    assert judging.spaced(10, 4) == [0, 2, 5, 7] and judging.spaced(3, 10) == [0, 1, 2]


PUBLISHED = {
    "ECC": (71.2, 66.79, 65.61, 60.0, 1551.0, 62.5), "STBP-tdBN": (93.15, 67.8, 67.05), "RNL": (8.6, 0.265),
    "Gradient rewiring": (0.73,), "Reconsidering the energy efficiency of SNNs, versions 4": (5.7,),
    "Reconsidering the energy efficiency of SNNs, versions 2": (6.4,),
}  # fmt: skip


@pytest.mark.parametrize("paper", PUBLISHED)
def test_numbers_of_abstracts_and_tables_are_on_the_page(paper: str) -> None:
    register = tomllib.loads((ROOT / "reproductions/papers.toml").read_text(encoding="utf-8"))["claim"]
    of = {claim["value"] for claim in register if claim["paper"].startswith(paper)}
    assert {*PUBLISHED[paper]} <= of
