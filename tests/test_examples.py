"""Every example runs."""

import subprocess
import sys
from pathlib import Path

import pytest

from waiting import HANGS

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", str(path), "1"], check=True, capture_output=True, timeout=HANGS)
