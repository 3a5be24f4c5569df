"""Every code block of README and of the pages runs, or says what it needs (tests/blocks.py)."""

import importlib.util
import os
import re
import shutil
import sys
import tomllib
import types
from collections import Counter
from pathlib import Path

import pytest

import transpike as ts
from blocks import LANGUAGES, MARKS, PAGES, ROOT, Block, blocks_of, wrong_calls
from given import GIVEN
from transpike.core import registry

ALL = [block for page in PAGES for block in blocks_of(page)]
PYTHON = {page: found for page in PAGES if (found := [b for b in blocks_of(page) if b.language == "python"])}


def missing(need: str) -> str:
    """Why a block cannot run here, or "": ``need`` is a data set, a module, a program, or something that no test has."""
    if need in ts.data.names:
        folder = Path(os.environ.get("TRANSPIKE_DATA") or ROOT.parent / "shared/data")
        begins = need.replace("-", "_")
        there = folder.is_dir() and any(path.name.startswith(begins) for path in folder.iterdir())
        return "" if there else f"no {need}: set TRANSPIKE_DATA"
    found = importlib.util.find_spec(need) if need.isidentifier() else None
    return "" if found or shutil.which(need) else f"no {need} here"


def why_not(block: Block) -> str:
    """Why a block is not run here, or ""."""
    if "compiled" in block.marks:
        return f"{block.name}: {block.marks['compiled']}"
    if "run by" in block.marks:
        return f"{block.name}: {block.marks['run by']} runs it"
    return "; ".join(f"{block.name}: {why}" for need in block.marked("needs") if (why := missing(need)))


def shortened(code: str) -> str:
    """The code with one epoch for each training without stages, as the tests of every day run it.

    ``-m slow`` runs what is printed.
    """
    return re.sub(r"\bepochs=\d+(?!.*stages)", "epochs=1", code)


def run(found: list[Block], folder: Path, monkeypatch: pytest.MonkeyPatch, *, whole: bool) -> Counter[str]:
    """Run the blocks of a page in their order; give how many of them did and did not run."""
    monkeypatch.chdir(folder)
    done: Counter[str] = Counter()
    module = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    with registry.restored():
        for block in found:
            reason = why_not(block) or ("slow" if "slow" in block.marks and not whole else "")
            text = block.text if whole else shortened(block.text)
            code = compile("\n" * (block.line - 1) + text, str(block.page), "exec")
            assert not wrong_calls(block), f"{block.name}: {wrong_calls(block)}"
            if reason:
                print(f"not run: {reason}")
                done["not run"] += 1
                continue
            space = dict(module.__dict__) if "alone" in block.marks else module.__dict__
            for name in block.marked("given"):
                space.update(GIVEN[name]())
            exec(code, space)
            done["run"] += 1
    return done


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(PYTHON[page], tmp_path, monkeypatch, whole=False)
    if not done["run"]:
        pytest.skip("; ".join(why_not(block) or f"{block.name}: slow" for block in PYTHON[page]))


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_as_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(PYTHON[page], tmp_path, monkeypatch, whole=True)
    if not done["run"]:
        pytest.skip("; ".join(map(why_not, PYTHON[page])))


def test_every_block_has_a_language_and_known_marks() -> None:
    wrong = []
    for block in ALL:
        if block.language not in LANGUAGES:
            wrong.append(f"{block.name}: the language {block.language!r} is none of {', '.join(LANGUAGES)}")
        wrong += [f"{block.name}: no mark is called {mark!r}" for mark in block.marks if mark not in MARKS]
        wrong += [
            f"{block.name}: {mark} needs a reason" for mark in ("slow", "compiled") if block.marks.get(mark) == ""
        ]
        wrong += [f"{block.name}: nothing is given as {name!r}" for name in block.marked("given") if name not in GIVEN]
        for path in block.marked("run by"):
            there = (ROOT / path).is_file() and block.page.name in (ROOT / path).read_text(encoding="utf-8")
            wrong += [] if there else [f"{block.name}: {path} does not run it"]
    assert not wrong, "\n".join(wrong)


def test_how_many_blocks_run() -> None:
    """Most blocks run in the tests of every day; those that do not are named by the skipped tests and below."""
    python = [block for block in ALL if block.language == "python"]
    kinds = Counter(
        "slow"
        if "slow" in block.marks
        else next((m for m in ("compiled", "run by", "needs") if m in block.marks), "run")
        for block in python
    )
    print(f"{len(python)} Python blocks on {len(PYTHON)} pages: {dict(kinds)}")
    for block in python:
        if reason := why_not(block):
            print(f"not run here: {reason}")
    assert kinds["run"] + kinds["run by"] >= 0.6 * len(python), kinds
    assert kinds["compiled"] <= 0.1 * len(python), kinds


@pytest.mark.parametrize("block", [b for b in ALL if b.language == "toml"], ids=lambda block: block.name)
def test_toml_can_be_read(block: Block) -> None:
    assert tomllib.loads(block.text)


def test_a_wrong_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check itself: a name that does not exist, a keyword that no function has, code that fails."""

    def block(text: str, **marks: str) -> Block:
        return Block(ROOT / "README.md", 1, "python", text, marks)

    assert wrong_calls(block("ts.convrt(1)")) == ["ts.convrt does not exist"]
    assert wrong_calls(block("ts.evaluate(a, b, tsk=1)")) == ["ts.evaluate takes no tsk="]
    assert not wrong_calls(block("ts.convert(a, ts.recipes.ECC(8), b)"))
    with pytest.raises(AssertionError, match="does not exist"):
        run([block("ts.convrt(1)", compiled="no reason")], tmp_path, monkeypatch, whole=False)
    with pytest.raises(ZeroDivisionError):
        run([block("a = 1"), block("a / 0")], tmp_path, monkeypatch, whole=False)
    with pytest.raises(NameError):
        run([block("a = 1"), block("del a"), block("a")], tmp_path, monkeypatch, whole=False)
    assert run([block("1 / 0", needs="no_such_module")], tmp_path, monkeypatch, whole=True) == {"not run": 1}
