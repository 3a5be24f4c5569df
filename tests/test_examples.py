"""Every example runs."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

from waiting import HANGS

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", str(path), "1"], check=True, capture_output=True, timeout=HANGS)


def test_the_example_plug_in_passes_its_own_tests() -> None:
    """In a process of their own: those of transpike see no plug-in (conftest.py)."""
    try:
        importlib.metadata.version("transpike-example-plugin")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not installed: make install, or pip install --no-deps --editable examples/plugin")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(FOLDER / "plugin/tests")]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    found = subprocess.run(command, capture_output=True, text=True, timeout=HANGS, cwd=FOLDER.parent, env=environment)
    assert found.returncode == 0 and "skipped" not in found.stdout, found.stdout + found.stderr
