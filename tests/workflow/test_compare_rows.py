"""What is made of rows: fronts, sentences that pick, and differences with paired intervals."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from compared import Told
from transpike.core.installation import sources
from transpike.errors import DataError, GateFailed, SettingError
from transpike.recipes import ECC
from transpike.report._numbers import short
from transpike.results.statistics import paired_difference
from transpike.workflow.compare.pick import pick
from transpike.workflow.compare.rows import Row, front


def row(
    accuracy: float = 0.9, steps: int = 8, operations: float = 1e6, recipe: str = "ecc()", **settings: object
) -> Row:
    """A row with these numbers, the ANN being right on 90 %."""
    values = {
        "recipe": recipe, "timesteps": steps, "made_by": ECC(timesteps=steps), "total_steps": steps, "accuracy": accuracy,
        "low": accuracy, "high": accuracy, "ann_accuracy": 0.9, "ann_macs": 100, "drop": 0.9 - accuracy, "drop_low": 0.0,
        "drop_high": 0.0, "agreement": 1.0, "synaptic_operations": operations, "spikes": 10.0, "spike_rate": 0.1, "macs": 5,
        "alphabets": ("binary",), "signed": False, "schedule": "streaming", "exact": True, "exact_why": "", "remarks": (),
        "energy_joule": {}, "seconds": 1.0, "outcomes": torch.tensor([True]),
    }  # fmt: skip
    return Row(**values | settings)


def table(*rows: Row, samples: int = 1) -> ts.Comparison:
    return ts.Comparison(rows, samples, (8,), "auto", (), {}, lambda recipe: None)


A = row(0.90, 64, 5e6, "a")
B = row(0.89, 16, 2e6, "b", alphabets=("ternary",), signed=True)
C = row(0.85, 4, 1e6, "c", made_by=Told(), spike_rate=0.3)
D = row(0.89, 16, 1e6, "d", alphabets=("4 levels", "binary"), macs=50, spikes=5.0)


@pytest.mark.parametrize(
    ("text", "picked"),
    [
        ("max=accuracy", "a"),
        ("min=steps", "c"),
        ("drop<=1.5 min=steps", "d"),  # as many steps as b, and fewer operations
        ("drop<=1.5 steps<=16 alphabet=ternary min=synops", "b"),
        ("min=synops", "c"),  # as many operations as d, and fewer steps
        ("training-free=yes min=synops", "d"),
        ("training-free=no max=accuracy", "c"),
        ("signed=yes min=drop", "b"),
        ("accuracy>=90 min=synops", "a"),
        ("rate<=0.2 min=steps", "d"),
        ("synops>=2e6 min=steps", "b"),
        ("macs>=50 min=steps", "d"),
        ("min=spikes", "d"),
        ("alphabet=binary signed=no steps>=5 max=accuracy", "a"),
    ],
)
def test_a_sentence_picks_a_row(text: str, picked: str) -> None:
    assert table(A, B, C, D).pick(text).recipe == picked


def test_equal_rows_go_by_steps_operations_accuracy_and_order() -> None:
    assert table(row(recipe="later"), row(steps=4, recipe="sooner")).pick("min=drop").recipe == "sooner"
    assert table(row(0.8, recipe="worse"), row(recipe="better")).pick("min=steps").recipe == "better"
    assert table(row(recipe="first"), row(recipe="second")).pick("min=steps").recipe == "first"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop<=1", "0 objectives"),
        ("min=drop max=accuracy", "2 objectives"),
        ("dorp<=1 min=steps", "'dorp<=1'.*synops.*training-free"),
        ("drop<1 min=steps", "'drop<1'"),
        ("drop=1 min=steps", "'drop=1'"),
        ("drop<=nan min=steps", "'drop<=nan'"),
        ("drop<=much min=steps", "'drop<=much'"),
        ("alphabet<=binary min=steps", "'alphabet<=binary'"),
        ("alphabet=latin min=steps", "'alphabet=latin'.*binary"),
        ("signed=maybe min=steps", "'signed=maybe'"),
        ("min=accuracy", "'min=accuracy'.*max=accuracy"),
        ("best", "'best'"),
        ("", "0 objectives"),
    ],
)
def test_words_that_say_nothing_are_named(text: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        table(A).pick(text)


def test_a_gate_that_no_row_passes_names_the_nearest_misses() -> None:
    with pytest.raises(
        GateFailed, match=r"nearest: b at T=16 has steps 16, not <= 15; c at T=4 has drop 5, .*; a at T=64 has"
    ):
        table(A, B, C).pick("drop<=1.5 steps<=15 min=synops")


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=24),
    st.sampled_from(["total_steps", "synaptic_operations"]),
)
def test_a_front_holds_all_that_nothing_beats_and_nothing_else(points: list[tuple[int, int]], cost: str) -> None:
    rows = [row(accuracy / 6, steps if cost == "total_steps" else 1, steps) for accuracy, steps in points]

    def beats(a: Row, b: Row) -> bool:
        costs = getattr(a, cost), getattr(b, cost)
        return a.accuracy >= b.accuracy and costs[0] <= costs[1] and (a.accuracy, costs[0]) != (b.accuracy, costs[1])

    found = front(rows, cost)
    assert all((one in found) != any(beats(other, one) for other in rows) for one in rows)
    assert [getattr(one, cost) for one in found] == sorted(getattr(one, cost) for one in found)


def test_a_front_is_drawn_against_a_cost() -> None:
    with pytest.raises(SettingError, match="total_steps"):
        table(A).front("seconds")


def test_recipes_are_compared_pairwise_by_what_they_have_answered() -> None:
    first, second = outcomes(36, 12, 2, 0)
    comparison = table(
        row(0.96, 8, recipe="a", outcomes=first), row(0.0, 4, recipe="b", outcomes=~first),
        row(0.76, 16, recipe="b", outcomes=second), samples=50,
    )  # fmt: skip
    difference = comparison.difference("a", "b", 16)
    assert difference.points == pytest.approx(20) and difference.samples == 50
    assert (difference.low, difference.high) == pytest.approx((5.69, 34.04), abs=0.005)
    assert comparison.difference("b", "a", 8).points == pytest.approx(-92)
    with pytest.raises(DataError, match=r"a \(from 8 steps\)"):
        comparison.difference("a", "b", 5)


# --- the paired interval


def outcomes(a: int, b: int, c: int, d: int) -> tuple[Tensor, Tensor]:
    """Right or wrong: a both, b only the first, c only the second, d neither."""
    first, second = [1] * (a + b) + [0] * (c + d), [1] * a + [0] * b + [1] * c + [0] * d
    return torch.tensor(first).bool(), torch.tensor(second).bool()


def test_the_paired_interval_is_newcombes() -> None:
    # Newcombe 1998, method 10, on his example of 36, 12, 2, 0: 0.0569 to 0.3404
    assert paired_difference(*outcomes(36, 12, 2, 0)) == pytest.approx((0.2, 0.0569, 0.3404), abs=5e-5)
    # by hand: Wilson's limits of 8/10 and 6/10 are 0.490162 to 0.943318 and 0.312674 to 0.831820; a = 5, b = 3, c = 1,
    # d = 1: ad − bc = 2 < n/2, so φ = 0: 0.2 − √(0.309838² + 0.231820²) and 0.2 + √(0.143318² + 0.287326²)
    assert paired_difference(*outcomes(5, 3, 1, 1)) == pytest.approx((0.2, -0.186963, 0.521086), abs=2e-5)
    # a = 6, b = 2, c = 0, d = 2: φ = (12 − 5)/√(8·2·6·4) = 0.357217, so both roots lose 2φ times the product
    assert paired_difference(*outcomes(6, 2, 0, 2)) == pytest.approx((0.2, -0.113727, 0.471434), abs=2e-5)


@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any))
def test_the_paired_interval_holds_the_difference_and_turns_with_it(counts: tuple[int, int, int, int]) -> None:
    first, second = outcomes(*counts)
    value, low, high = paired_difference(first, second)
    assert -1 <= low <= value <= high <= 1 and high > low
    assert value == pytest.approx((counts[1] - counts[2]) / sum(counts))
    assert paired_difference(second, first) == pytest.approx((-value, -high, -low))


@pytest.mark.parametrize("chances", [(0.83, 0.06, 0.03, 0.08), (0.5, 0.02, 0.02, 0.46), (0.95, 0.02, 0.0, 0.03)])
def test_the_paired_interval_covers_the_truth(chances: tuple[float, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    covered, times = 0, 1500
    for _ in range(times):
        kinds = torch.multinomial(torch.tensor(chances), 300, replacement=True, generator=random)
        _, low, high = paired_difference(kinds < 2, (kinds == 0) | (kinds == 2))
        covered += low <= chances[1] - chances[2] <= high
    assert 0.93 <= covered / times <= 0.99


def test_other_samples_are_not_paired() -> None:
    with pytest.raises(DataError, match="cannot be paired"):
        paired_difference(torch.ones(3).bool(), torch.ones(4).bool())


def test_numbers_have_no_exponents():
    assert [short(x) for x in (0.0, 0.0512, 43.71, 999.4, 999.6, 1434.4, 12345678.0)] == [
        "0", "0.0512", "43.7", "999", "1,000", "1,434", "12,345,678"
    ]  # fmt: skip


def test_the_key_of_a_stored_result_knows_every_source_that_decides_it():
    known = sources()
    package = Path(ts.__file__).parent
    assert {"snn.py", "__init__.py", "neurons/burst.py", "engines/event/run.py", "workflow/convert.py"} <= known.keys()
    unknown = {path.relative_to(package).as_posix() for path in package.rglob("*.py")} - known.keys()
    assert unknown and {name.split("/")[0] for name in unknown} == {"cli", "report"}


def test_a_bound_that_is_met_exactly_is_met() -> None:
    exact = row(drop=0.935 - 0.925)  # 0.010000000000000009
    assert exact.drop > 0.01 and pick([exact], "drop<=1 min=synops") is exact
    with pytest.raises(GateFailed):
        pick([row(drop=0.0101)], "drop<=1 min=synops")


@pytest.mark.parametrize("value", ["0.9", "1", "0.05"])
def test_an_accuracy_is_a_percentage_and_no_fraction(value: str) -> None:
    with pytest.raises(SettingError, match=r"the accuracy is in percent; write accuracy>="):
        pick([row()], f"accuracy>={value} min=synops")
