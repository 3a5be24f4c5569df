"""The version is one: that of the installed package, which the build took from the tags of the repository."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import transpike as ts
from commands import run

SOURCES = Path(ts.__file__).parents[1]


def test_every_place_says_the_same_version() -> None:
    version = importlib.metadata.version("transpike")
    assert ts.__version__ == version
    assert run("--version").output.split() == ["transpike,", "version", version]
    assert run("doctor").output.startswith(f"transpike {version}, ")


def test_a_version_is_one_that_indexes_take() -> None:
    assert re.fullmatch(r"\d+(\.\d+)+((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?", ts.__version__)


def test_sources_that_are_not_installed_say_that_their_version_is_unknown() -> None:
    code = (
        "import importlib.metadata as m, sys\n"
        "def missing(name): raise m.PackageNotFoundError(name)\n"
        "m.version = missing\n"
        "from transpike.core.version import __version__; print(__version__)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=SOURCES, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "0+unknown"
