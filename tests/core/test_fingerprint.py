"""The digest of code from outside: it changes with whatever the code does, or says that it cannot know."""

import importlib
import os
import pickle
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import plugged
import transpike as ts
from transpike.core.fingerprint import code_of

BASE = """
    import functools
    import numpy as np
    import torch
    from dataclasses import dataclass, field
    from typing import ClassVar, Literal
    import transpike as ts
    import other_code
    from other_code import helper

    SHARE = 0.25
    TABLE = {"a": (1, 2)}
    WEIGHTS = torch.arange(3.0)
    NUMBERS = np.arange(3)

    class Root:
        bonus = 0.0

        def more(self):
            return self.bonus

    @dataclass(frozen=True)
    class Mine(Root, ts.recipes.ECC):
        "A recipe of somebody's own."
        name: ClassVar[str] = "mine"
        kind: Literal["a", "b"] = "a"
        sizes: tuple = field(default_factory=tuple)

        @property
        def shifts(self):
            return (ts.passes.InitialPotential(helper(SHARE) + other_code.K),)

        @functools.cached_property
        def slow(self):
            return [n for n in TABLE if n] or (lambda x: WEIGHTS[0] + NUMBERS[0])(1)

        @torch.no_grad()
        def wrapped(self):
            return super().more()

        @staticmethod
        def aside(x, y=3):
            return x + y
"""
OTHER = """
    K = 0.0

    def helper(x):
        return x
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ModuleType]]:
    """Writes and imports the two modules anew, with words of them replaced."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def load(*changes: tuple[str, str]) -> ModuleType:
        texts = {"other_code": OTHER, "mine_code": BASE}
        for old, new in changes:
            assert sum(text.count(old) for text in texts.values()) >= 1, old
            texts = {name: text.replace(old, new) for name, text in texts.items()}
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module("mine_code")

    yield load
    for name in ("other_code", "mine_code"):
        sys.modules.pop(name, None)


def digest(module: ModuleType) -> str:
    code = code_of(module.Mine())
    assert code.digest, code.reason
    return code.digest


EDITS = {
    "a number in a global": ("SHARE = 0.25", "SHARE = 0.5"),
    "a method": ("helper(SHARE) +", "helper(SHARE) + 0.1 +"),
    "a function of another module": ("return x\n", "return x / 2\n"),
    "a value of another module": ("K = 0.0", "K = 0.125"),
    "a value inside a table": ('"a": (1, 2)', '"a": (1, 3)'),
    "a tensor": ("arange(3.0)", "arange(3.0) + 1"),
    "an array": ("np.arange(3)", "np.arange(4)"),
    "a base class": ("return self.bonus", "return -self.bonus"),
    "a class attribute of a base": ("bonus = 0.0", "bonus = 1.0"),
    "a lambda": ("WEIGHTS[0] + NUMBERS[0]", "WEIGHTS[1] + NUMBERS[0]"),
    "a condition in a comprehension": ("if n]", "if not n]"),
    "a wrapped method": ("super().more()", "super().more() + 1"),
    "a default of a function": ("y=3", "y=4"),
    "a default of a field": ('] = "a"', '] = "b"'),
    "a factory of a field": ("default_factory=tuple", "default_factory=lambda: (1,)"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_every_edit_that_could_change_a_result_changes_the_digest(modules, edit):
    assert digest(modules()) != digest(modules(edit))


def test_what_changes_nothing_keeps_the_digest(modules):
    before = digest(modules())
    assert digest(modules()) == before
    assert digest(modules(("A recipe of somebody's own.", "Another docstring"))) == before
    assert digest(modules(("SHARE = 0.25", "# a remark\n    SHARE = 0.25"))) == before
    assert digest(modules(("class Root:", "UNUSED = 3\n\n    class Root:"))) == before


def test_a_global_that_is_changed_while_the_program_runs_counts(modules):
    module = modules()
    before = digest(module)
    module.SHARE = 0.5
    changed = digest(module)
    module.SHARE = 0.25
    module.other_code.K = 0.5
    assert len({before, changed, digest(module)}) == 3


def test_the_digest_is_of_the_code_that_runs_not_of_a_file_that_was_edited_since(modules, tmp_path):
    module = modules()
    before = digest(module)
    path = tmp_path / "mine_code.py"
    path.write_text(path.read_text().replace("SHARE = 0.25", "SHARE = 0.5"))
    assert digest(module) == before


def test_the_digest_is_the_same_in_another_process(modules, tmp_path):
    before = digest(modules())
    code = "import mine_code; from transpike.core.fingerprint import code_of; print(code_of(mine_code.Mine()).digest)"
    for seed in "12":
        done = subprocess.run(
            [sys.executable, "-B", "-c", code], capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(tmp_path), "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.stdout.strip() == before


def make(share: float) -> type:
    class Inner(ts.recipes.ECC):
        name = "inner"

        @property
        def shifts(self) -> tuple:
            return (ts.passes.InitialPotential(share),)

    return Inner


def renamed(share: float) -> type:
    """As if it were not made inside a function; its method still uses what is around it."""
    kind = make(share)
    kind.__qualname__ = "Inner"
    return kind


def without_file() -> type:
    space = {"__name__": "nowhere", "ts": ts}
    exec("class Inner(ts.recipes.ECC):\n    name = 'inner'", space)
    return space["Inner"]


def opaque() -> type:
    return type("Opaque", (ts.recipes.ECC,), {"name": "opaque", "__module__": __name__, "secret": iter(())})


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (lambda: make(0.5), "defined inside a function"),
        (lambda: renamed(0.5), "inside a function|uses share of the enclosing function"),
        (without_file, "nowhere, which has no file"),
        (opaque, "Opaque.secret is a tuple_iterator"),
    ],
)
def test_code_that_cannot_be_known_is_not_guessed(kind, reason):
    code = code_of(kind()())
    assert code.digest is None
    assert re.search(reason, code.reason), code.reason


RUN = "return super().more()"
IMPORTS = {
    "a name, renamed": (RUN, "from other_code import K as k; return k", r"Mine.wrapped imports other_code while"),
    "a module": (RUN, "import other_code as o; return o.K", "imports other_code while"),
    "a module, in a lambda": ("WEIGHTS[0] + NUMBERS[0]", "[None for a in (1,) if __import__('b')]", "by __import__"),
    "a relative name": (RUN, "from .json import K; return K", r"imports \.json while"),
    "another package": (RUN, "import click; return click", "imports click while"),
    "by name": (RUN, "return __import__('other_code').K", "imports code while it runs, by __import__"),
    "by importlib": (RUN, "import importlib; return importlib.import_module('other_code').K", "by importlib"),
    "by a renamed importlib": ("import functools", "import functools; import importlib as i", "i in Mine.wrapped"),
    "by a renamed function": ("import functools", "import functools; from importlib import import_module as i", "i in"),
    "by a renamed built-in": ("import functools", "import functools; i = __import__", "i in Mine.wrapped"),
}


@pytest.mark.parametrize(("old", "new", "reason"), IMPORTS.values(), ids=IMPORTS)
def test_code_that_is_imported_while_it_runs_cannot_be_known(modules, old, new, reason):
    changes = [(old, new)]
    if old == "import functools":
        changes.append((RUN, "return i('other_code').K" if "i = __" in new else "return i.x"))
    code = code_of(modules(*changes).Mine())
    assert code.digest is None and re.search(reason, code.reason), code.reason


def test_imports_of_packages_that_their_version_represents_may_stand_anywhere(modules):
    lines = "import math, os.path; import torch.nn as nn; import numpy; from transpike import ops; return 0"
    assert digest(modules()) != digest(modules((RUN, lines)))


def test_values_in_function_attributes_cannot_be_known(modules):
    module = modules()
    before = digest(module)
    module.helper.k = 3
    code = code_of(module.Mine())
    assert code.digest is None and code.reason == "helper keeps values in its attributes: k"
    del module.helper.k
    assert digest(module) == before
    module.helper.__wrapped__ = module.Root.more
    assert digest(module) != before


def test_nothing_from_outside_has_an_empty_digest():
    for kind in ts.recipes.members:
        recipe = kind()
        assert (
            code_of(recipe, *recipe.passes, ts.Preprocessing(), *(model() for model in ts.energy.members)).digest == ""
        )


def test_classes_of_every_family_can_be_known():
    for kind in plugged.CLASSES:
        if kind is not plugged.SoftClip:
            assert code_of(kind).digest, kind
    assert code_of(plugged.OurECC()).digest != code_of(plugged.OurECC(share=plugged.Share(0.25))).digest


def test_a_digest_does_not_depend_on_what_the_process_has_done():
    recipe = plugged.RefractoryECC()
    before = code_of(recipe, *recipe.passes).digest
    assert before is not None
    pickle.loads(pickle.dumps(recipe))  # which notes the names of slots in the class
    pickle.loads(pickle.dumps(recipe.passes))
    assert code_of(recipe, *recipe.passes).digest == before
    code = "import plugged; from transpike.core.fingerprint import code_of; r = plugged.RefractoryECC()"
    code += "; print(code_of(r, *r.passes).digest)"
    environment = {**os.environ, "PYTHONPATH": str(Path(plugged.__file__).parent)}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert other.stdout.split() == [before]
