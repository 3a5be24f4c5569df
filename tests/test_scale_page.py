"""What the page about scale computes from a measurement."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FOUND = {
    "machine": {"cpu": "a processor"}, "images": 1, "timesteps": 8, "macs": 4_000_000_000, "operations": 8e9,
    "conversion_seconds": 20.0, "seconds_per_image": 0.25, "peak_bytes": 2**31, "network_bytes": 100_000_000,
    "picture_bytes": 602_112, "result_bytes": 10_000, "start_seconds": 10.0, "cluster_seconds": None,
    "one_evaluation": {
        "file_bytes": 125_000_000, "load_seconds": 9.9, "exchange_bytes": 100_000, "unpack_seconds": 0.001,
        "group_seconds": 20.0, "gather_seconds": 0.002,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "benchmarks/scale.py"
    specification = importlib.util.spec_from_file_location("scale", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_one_evaluation_by_hand(scale: ModuleType) -> None:
    """6,250 batches of 8: 391 rounds for 16 processes, 7 for 1,024."""
    one, many = (scale.computed_evaluation(FOUND, nodes) for nodes in (1, 64))
    assert one["pictures of a process"] == 391 * 8 and many["pictures of a process"] == 7 * 8
    assert one["evaluation"] == 391 * 8 * 0.25 and many["evaluation"] == 14
    assert one["start"] == many["start"] == pytest.approx(20 + 9.9 + 0.1)
    assert one["pictures"] == pytest.approx(50_000 * 150_528 / 1.25e9) and many["pictures"] == one["pictures"] / 64
    assert one["exchange"] == pytest.approx(391 * (15 * 0.002 + 16 * 0.001))
    assert many["exchange"] == pytest.approx(7 * (1023 * 0.002 + 1024 * 0.001 + 16 * 1024 * 100_000 / 1.25e9))


def test_the_page_says_what_was_measured_computed_and_dominates(scale: ModuleType) -> None:
    text = scale.table(FOUND)
    rows = [line for line in text.splitlines() if line.startswith(("| 1 |", "| 8 |", "| 64 |"))]
    assert len(rows) == 6
    assert (
        rows[3].endswith("| 1.0 × | evaluation |")
        and rows[4].endswith("| evaluation |")
        and rows[5].endswith("| exchange |")
    )
    assert "Measured, with two processes here: start 20.0 s" in text and "Computed: 16 processes" in text
    assert "One evaluation" not in scale.table({k: v for k, v in FOUND.items() if k != "one_evaluation"})
