"""The page on exports shows what was measured."""

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_shows_what_the_benchmark_wrote() -> None:
    specification = importlib.util.spec_from_file_location("export_benchmark", ROOT / "benchmarks/export.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    content = json.loads((ROOT / "benchmarks/export.json").read_text())
    assert module.tables(content) in (ROOT / "docs/export.md").read_text(encoding="utf-8"), (
        "run benchmarks/export.py --page"
    )
    for case in content["networks"].values():
        for row in case["formats"].values():
            assert "refused" in row or row["missing"] or row["differing"] == row["totals"] == 0
