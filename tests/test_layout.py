"""How modules of the package import each other."""

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

import transpike as ts
from transpike.core import renamed
from transpike.workflow.simulate import engine_named

SOURCE = Path(__file__).resolve().parents[1] / "src"


def modules(root: Path = SOURCE) -> dict[str, ast.Module]:
    """Name → syntax tree of every module under ``root``; a package has the name of its folder."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def imported(statements: Iterable[ast.AST], known: Mapping[str, ast.Module]) -> set[str]:
    """The modules of the package that these statements name."""
    names = set()
    for statement in statements:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            assert not statement.level, f"line {statement.lineno}: imports are written in full"
            whole = {alias.name: f"{statement.module}.{alias.name}" for alias in statement.names}
            names |= {name if name in known else str(statement.module) for name in whole.values()}
    return names & known.keys()


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """The largest groups of modules each of which imports every other, directly or not (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in imports.get(name, ()):
            if other not in order:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == order[name]:
            group = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(group) > 1 or name in imports.get(name, ()):
                found.append(sorted(group))

    for name in imports:
        if name not in order:
            visit(name)
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"a"}}) == [["a"]] and circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_lazy_imports_and_those_for_checkers_are_seen() -> None:
    text = "if TYPE_CHECKING:\n    import a\nimport b\ndef f():\n    import c\ntry:\n    from p import d, x\nfinally:\n    0"
    tree, known = ast.parse(text), dict.fromkeys(["a", "b", "c", "p.d", "p"], ast.parse(""))
    assert imported(ast.walk(tree), known) == {"a", "b", "c", "p.d", "p"}


def test_no_module_imports_itself_by_way_of_others_not_even_lazily_or_for_type_checkers() -> None:
    known = modules()
    assert len(known) > 200
    assert circles({name: imported(ast.walk(tree), known) - {name} for name, tree in known.items()}) == []


ROOT_MODULES = {"__main__", "errors", "files", "snn"}
"""``__main__`` makes ``python -m transpike`` work, and Python asks for it there."""
FOLDERS = {
    "activations", "chips", "cli", "codes", "core", "data", "encoders", "energy", "engines", "exits", "exporters", "hub", "lowering",
    "models", "neurons", "ops", "passes", "readouts", "recipes", "report", "results", "schedules", "tasks", "testing", "training",
    "weights", "workflow",
}  # fmt: skip
NOUNS = (
    "activations", "chips", "encoders", "energy", "exits", "neurons", "ops", "passes", "readouts", "recipes", "schedules",
    "tasks", "weights",
)  # fmt: skip
SHARED = {
    "activations": {"source", "staircase"},
    "neurons": {"apart", "delay", "maximum_in_time"},
    "ops": {"arithmetic", "scale", "shape", "wiring"},
    "passes": {"shift"},
}
"""Folder → its modules that hold what several members are made of, as ``_base`` does, and that other folders ask for."""
DERIVED = {
    "activations.first_spike": "activations.relu",  # the clip that a first spike represents
    "ops.linear": "ops.conv",  # a product with a matrix for each channel
    "passes.neurons.first_spikes": "passes.thresholds.squared_error",
    "passes.thresholds.sensitivity": "passes.thresholds.squared_error",
    "readouts.after_pre_simulation": "readouts.delayed_window",
}
"""Member → the member that it is a special case of, or measures with. No others."""


def test_nothing_else_lies_at_the_root() -> None:
    inside = {path for path in (SOURCE / "transpike").iterdir() if path.name not in ("__pycache__", "py.typed")}
    assert {path.name for path in inside if path.is_dir()} == FOLDERS
    assert {path.stem for path in inside if path.suffix == ".py"} - {"__init__"} <= ROOT_MODULES
    assert all(path.is_dir() or path.suffix == ".py" for path in inside)


def is_private_of_another_folder(importer: str, name: str) -> bool:
    """True for a name with a part that begins with _, after a folder of the package that the importer is not in."""
    parts = name.split(".")
    return any(part.startswith("_") for part in parts[1:]) and importer.split(".")[:2] != parts[:2]


def test_a_private_module_is_seen_from_another_folder_only() -> None:
    assert is_private_of_another_folder("transpike.recipes.ecc", "transpike.passes._base")
    assert not is_private_of_another_folder("transpike.passes.neurons.use_cells", "transpike.passes._base")
    assert not is_private_of_another_folder("transpike.recipes.ecc", "transpike.passes.shift")


def test_no_private_module_is_imported_from_another_folder() -> None:
    known = modules()
    pairs = [(name, other) for name, tree in known.items() for other in imported(ast.walk(tree), known)]
    assert len(pairs) > 1000 and not [pair for pair in pairs if is_private_of_another_folder(*pair)]


def test_members_of_a_folder_do_not_import_each_other() -> None:
    known = modules()
    members = {
        name.removeprefix("transpike.")
        for name in known
        if name.count(".") > 1 and name.split(".")[1] in NOUNS and (SOURCE / (name.replace(".", "/") + ".py")).exists()
    }
    found = {}
    for name in members:
        folder = name.split(".")[0]
        for other in imported(ast.walk(known[f"transpike.{name}"]), known):
            other = other.removeprefix("transpike.")
            shared = other.split(".")[-1] in SHARED.get(folder, ()) or other.split(".")[-1].startswith("_")
            if other in members - {name} and other.split(".")[0] == folder and not shared:
                found[name] = other
    assert found == DERIVED


def test_no_submodule_has_the_name_of_a_public_function() -> None:
    functions = {name for name in ts.__all__ if inspect.isfunction(getattr(ts, name))}
    beside = {path.stem for path in (SOURCE / "transpike").iterdir()}
    assert len(functions) > 15 and not functions & beside
    for name in functions:
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(f"transpike.{name}")


@pytest.mark.parametrize("old", sorted(renamed.MODULES))
def test_an_old_module_says_where_its_content_is(old: str) -> None:
    new = renamed.MODULES[old]
    with pytest.raises(ModuleNotFoundError, match=f"transpike.{re.escape(old)} is now transpike.{re.escape(new)}"):
        importlib.import_module(f"transpike.{old}")
    assert importlib.import_module(f"transpike.{new}")


@pytest.mark.parametrize(("folder", "old"), [(folder, old) for folder, names in renamed.NAMES.items() for old in names])
def test_an_old_name_says_the_new_one(folder: str, old: str) -> None:
    space, new = getattr(ts, folder), renamed.NAMES[folder][old]
    with pytest.raises(AttributeError, match=rf"{folder}\.{old} is now transpike\.{folder}\.{new}"):
        getattr(space, old)
    assert getattr(space, new) and old not in vars(space)


@pytest.mark.parametrize(
    ("made", "new"),
    [
        (lambda: ts.recipes.HMT(rungs=6), "threshold_count=6"),
        (lambda: ts.recipes.SRP(rehearsal=2), "pre_simulation_steps=2"),
        (lambda: ts.schedules.LayerSynchronous(hold=3), "wait_steps=3"),
    ],
)
def test_an_old_setting_says_the_new_one(made: Callable[[], object], new: str) -> None:
    with pytest.raises(ts.TranspikeError, match=new):
        made()


def test_an_old_engine_says_the_new_one() -> None:
    for old, new in renamed.ENGINES.items():
        assert new in ts.engines.table and old not in ts.engines.table
        with pytest.raises(ts.TranspikeError, match=f"{old}' has been renamed to '{new}'"):
            engine_named(old)


@pytest.mark.parametrize(
    ("contract", "old"), [(contract, old) for contract, names in renamed.MEMBERS.items() for old in names]
)
def test_a_subclass_that_overrides_an_old_name_is_refused(contract: type, old: str) -> None:
    """Nothing asks for the old name, so that the override would do nothing."""
    base = {"Cell": ts.neurons.IntegrateAndFire, "Op": ts.ops.Linear, "Recipe": ts.recipes.ECC}[contract]
    new = renamed.MEMBERS[contract][old]
    assert hasattr(base, new) and not hasattr(base, old)
    with pytest.raises(ts.TranspikeError, match=f"Mine defines '{old}', which has been renamed to '{new}'"):
        type("Mine", (base,), {old: None, "__module__": "mine"})


@pytest.mark.parametrize(
    ("statement", "new"),
    [
        ("from transpike import steps", "transpike.passes"),
        ("from transpike import targets", "transpike.chips"),
        ("from transpike import fit", "transpike.workflow.chip_fit"),
        ("from transpike.neurons import Latch", "transpike.neurons.Integrator"),
        ("from transpike.steps import InitialPotential", "transpike.passes"),
        ("from transpike.compare import Comparison", "transpike.workflow.compare"),
    ],
)
def test_an_import_of_an_old_name_says_the_new_one(statement: str, new: str) -> None:
    with pytest.raises(ImportError, match=f"is now {re.escape(new)}"):
        exec(statement, {})


def test_an_old_name_in_a_mixin_is_refused() -> None:
    mixin = type("Mixin", (), {"steps": ()})
    with pytest.raises(ts.TranspikeError, match="defines 'steps', which has been renamed to 'passes'"):
        type("Mine", (mixin, ts.recipes.ECC), {"__module__": "mine"})
