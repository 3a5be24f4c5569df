"""The promises of the architecture: budgets, public names, a lean import, documents that exist."""

import ast
import doctest
import importlib
import importlib.util
import inspect
import re
import statistics
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import transpike as ts

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src/transpike").rglob("*.py"))


def test_files_are_short() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert statistics.median(lengths.values()) <= 120
    assert not {str(path): n for path, n in lengths.items() if n > 400}


PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
MOST = 12  # parameters of a function; one that needs more takes a settings object
MORE = {"convert": 14}  # with spiking=, which decides what is converted, and checkpoint=


def test_public_names_are_those_that_the_pages_describe() -> None:  # ruff sorts them
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    described = set(re.findall(r"\bts\.([A-Za-z]\w*)", text))
    assert len(ts.__all__) == len(set(ts.__all__)) and set(ts.__all__) == described
    assert all(hasattr(ts, name) for name in ts.__all__)


def test_a_name_is_imported_from_where_type_checkers_see_it() -> None:
    tree = ast.parse((ROOT / "src/transpike/__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))  # if TYPE_CHECKING
    seen = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {**dict.fromkeys(ts._FOLDERS, "transpike"), **{n: f"transpike.{m}" for n, m in ts._HOMES.items()}}


@pytest.mark.parametrize("old", sorted(ts._MOVED))
def test_a_name_that_has_moved_says_where_it_is(old: str) -> None:
    new = ts._MOVED[old]
    with pytest.raises(AttributeError, match=f"it is transpike.{re.escape(new)} now"):
        getattr(ts, old)
    found = ts
    for part in new.split("."):
        found = getattr(found, part)
    assert old not in ts.__all__


def test_a_name_that_never_was_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'transpike' has no attribute 'nothing'"):
        _ = ts.nothing


def _functions() -> dict[str, Callable]:
    """The public functions of transpike and of its public modules, by name; what a package gives, not the modules."""
    spaces = {"": ts} | {
        f"{name}.": getattr(ts, name) for name in ts.__all__ if isinstance(getattr(ts, name), ModuleType)
    }
    return {
        space + name: thing
        for space, module in spaces.items()
        for name, thing in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(thing) and thing.__module__.startswith("transpike")
    }


@pytest.mark.parametrize("name", sorted(_functions()))
def test_no_public_function_has_many_parameters(name: str) -> None:
    assert len(inspect.signature(_functions()[name]).parameters) <= MORE.get(name, MOST)


def test_import_adds_to_torch_only_what_was_chosen_for_it() -> None:
    """What an import costs is what it imports. Measured in packages, since seconds are the machine's."""
    everything = "import transpike; [getattr(transpike, name) for name in transpike.__all__]"
    code = f"import sys, torch; before = {{*sys.modules}}; {everything}; print(*({{*sys.modules}} - before))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    added = {name.partition(".")[0] for name in answer.stdout.split()} - sys.stdlib_module_names
    added = {name for name in added if not name.startswith(("_cython", "cython"))}  # made by compiled modules
    # neither what is optional, nor click and jinja2, which wait until they are needed; rich has helpers
    assert added <= {"transpike", "numpy", "safetensors", "rich", "pygments", "markdown_it", "mdurl", "markupsafe"}


def test_no_path_of_this_machine_is_in_the_sources() -> None:
    places = (f"{ROOT}/", f"{Path.home()}/")
    assert not [path for path in SOURCES if any(place in path.read_text() for place in places)]


ARGMAX = {
    "core/input_check.py": "the channel that differs most",
    "data/mitbih.py": "the beat with the largest lead",
    "workflow/early_exit.py": "the first checkpoint that stops, the best temperature",
    "workflow/evaluate/exit_report.py": "the first correct step",
    "workflow/generate.py": "the next number of a sequence",
}
"""Uses that do not judge answers."""


def test_only_tasks_decide_which_answer_is_the_largest() -> None:
    """Everything else asks the task, or it would be wrong for other tasks than classification."""
    package = ROOT / "src/transpike"
    found = {
        path.relative_to(package).as_posix() for path in SOURCES if re.search(r"(?<!y)\.argmax\(", path.read_text())
    }
    assert {name for name in found if not name.startswith("tasks/")} == {*ARGMAX, "core/like_module.py"}  # a hint there


def test_links_in_documents_lead_somewhere() -> None:
    broken = []
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if not target.startswith("http") and not (document.parent / target).exists():
                broken.append(f"{document.name}: {target}")
    assert not broken


def _benchmark(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / f"benchmarks/{name}.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_readme_and_the_page_of_results_show_what_the_benchmarks_wrote() -> None:
    tables = _benchmark("tables")
    assert tables.results() in (ROOT / "docs/results.md").read_text(encoding="utf-8"), "run benchmarks/tables.py"
    assert tables.headlines() in (ROOT / "README.md").read_text(encoding="utf-8"), "run benchmarks/tables.py"


def test_the_page_of_benchmarks_has_date_and_machine_of_every_file() -> None:
    module = _benchmark("benchmarks_page")
    assert module.dated() == module.dates(), "a file with numbers has changed: run benchmarks/benchmarks_page.py"
    assert module.page() == (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8"), (
        "run benchmarks/benchmarks_page.py"
    )


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    pictures = re.findall(r'(?:src|srcset)="([^"]+)"', text.partition("\n## ")[0])
    assert pictures and all((ROOT / path).is_file() for path in pictures), "a picture before the first section"


def test_the_page_of_speed_says_what_was_measured() -> None:
    page = _benchmark("speed_page").page()
    assert page == (ROOT / "docs/speed.md").read_text(encoding="utf-8"), "run benchmarks/speed_page.py"


def test_the_page_of_methods_says_what_the_recipes_are_and_what_was_measured() -> None:
    page = _benchmark("methods_page").page()
    assert page == (ROOT / "docs/methods.md").read_text(encoding="utf-8"), "run benchmarks/methods_page.py"
    assert all(f"| `{recipe.name}` |" in page for recipe in ts.recipes.members)


def test_the_page_of_scale_says_what_was_measured() -> None:
    assert _benchmark("scale").table() in (ROOT / "docs/scale.md").read_text(encoding="utf-8"), (
        "run benchmarks/scale.py --page"
    )


def test_the_page_of_few_steps_says_what_was_measured() -> None:
    page = (ROOT / "docs/few-steps.md").read_text(encoding="utf-8")
    assert _benchmark("reconstruction").table() in page, "run benchmarks/reconstruction.py --page"


def test_the_page_of_smooth_activations_says_what_was_measured() -> None:
    page = _benchmark("any_activation_page").page()
    assert page == (ROOT / "docs/any-activation.md").read_text(encoding="utf-8"), (
        "run benchmarks/any_activation_page.py"
    )


def test_the_page_of_nir_files_says_what_was_measured() -> None:
    page = _benchmark("nir_importers").page()
    assert page == (ROOT / "docs/nir.md").read_text(encoding="utf-8"), "run benchmarks/nir_importers.py"


@pytest.mark.parametrize("path", [path for path in SOURCES if ">>>" in path.read_text()], ids=lambda path: path.stem)
def test_examples_in_docstrings_are_true(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
    module = importlib.import_module(name)
    found = doctest.testmod(module, extraglobs={"torch": torch})
    assert found.attempted and not found.failed


def test_every_published_number_has_a_row_with_a_status_and_a_reason() -> None:
    claims = _benchmark("claims_page")
    runs, register = claims.measured(), claims.registered()
    rows = {f"{folder}/{row['id']}": row for folder, found in runs.items() for row in found}
    for name, row in rows.items():
        assert row["status"] in claims.STATUSES, name
        assert (row["measured"] is None) == (row["status"] == "not measured"), name
        assert row["status"] != "explained" or row["reason"], name
    names = [claim["id"] for claim in register]
    assert len(set(names)) == len(names) and len(register) > 500
    for claim in register:
        assert claim["status"] in ("explained", "not measured") and claim["missing"] and claim["source"], claim["id"]
        assert not claim["nearest"] or claim["nearest"] in rows, claim["id"]
    for paper in ("ECC", "CAT", "CQ", "CQ+", "VR", "BSNN", "EEG", "ECG"):
        assert any(claim["paper"].startswith(paper) for claim in register), paper
    page = claims.page()
    assert page == (ROOT / "docs/claims.md").read_text(encoding="utf-8"), "run benchmarks/claims_page.py"
    for claim in tomllib.loads((ROOT / "reproductions/ttfs/claims.toml").read_text())["claim"]:
        assert claim["claim"].replace("|", "\\|") in page
