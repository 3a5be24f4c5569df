"""What a release says about itself agrees in every place, and its tools check what they claim to check."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def script(path: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert found is not None and found.loader is not None
    module = sys.modules[found.name] = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_versions_of_python_are_the_same_everywhere() -> None:
    tested = script("tests/pythons.py").PYTHONS
    classifiers = [text.rpartition(" ")[2] for text in PROJECT["project"]["classifiers"] if ":: 3." in text]
    makefile = re.search(r"^PYTHONS \?= (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    workflow = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/tests.yml").read_text(encoding="utf-8"))
    assert makefile is not None and workflow is not None
    assert list(tested) == classifiers == makefile[1].split() == re.findall(r"[\d.]+", workflow[1])
    assert PROJECT["project"]["requires-python"] == f">={tested[0]}"


def test_the_citation_says_what_the_package_says() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"license: {PROJECT['project']['license']}\n" in citation
    for author in PROJECT["project"]["authors"]:
        assert f'- name: "{author["name"]}"' in citation


def test_the_selection_of_tests_exists() -> None:
    assert all((ROOT / path).exists() for path in script("tests/pythons.py").SHORT)


@pytest.mark.parametrize("whole", [True, False])
def test_make_hands_the_tests_that_it_is_given_to_pytest(whole: bool) -> None:
    """PYTHONS takes many words: what follows it is not one of them."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    given = ["test-pythons", "PYTHONS=3.12 3.13", "TESTS=tests/cli -x", *(["WHOLE=1"] if whole else [])]
    printed = subprocess.run(["make", "-n", *given], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shlex.split(next(line for line in printed.splitlines() if "tests/pythons.py" in line))
    options, tests = script("tests/pythons.py").arguments_of(words[words.index("tests/pythons.py") + 1 :])
    assert options.pythons == ["3.12", "3.13"] and options.whole is whole and tests == ["tests/cli", "-x"]


def test_a_step_that_fails_ends_the_check_of_a_wheel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """tests/campaigns/installed.py ends with 1 at a command that fails, a wrong version, a package from elsewhere."""
    installed = script("tests/campaigns/installed.py")
    walk = installed.Walk(tmp_path, str(Path(sys.executable).parent))
    assert walk.step("a step", sys.executable, "-c", "print(1)") == "1\n" and len(walk.steps) == 1
    with pytest.raises(SystemExit, match="1"):
        walk.step("a step that fails", sys.executable, "-c", "raise ValueError('why')")
    assert "ValueError: why" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="1"):  # this environment has another version than the wheel
        installed.check(walk, Path("transpike-99.0-py3-none-any.whl"))
    assert "the wheel's version 99.0" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("git") is None, reason="no git")
def test_an_archive_names_its_commit(tmp_path: Path) -> None:
    """``git archive`` fills .git_archival.txt, from which setuptools-scm reads the version where there is no repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("no repository: this is an archive")
    command = ["git", "archive", "HEAD", ".git_archival.txt", ".gitattributes"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    path = tmp_path / "a.tar"
    path.write_bytes(archive.stdout)
    with tarfile.open(path) as unpacked:
        file = unpacked.extractfile(".git_archival.txt")
        assert file is not None
        text = file.read().decode()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"node: {head.stdout.strip()}\n" in text
