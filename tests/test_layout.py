"""How modules of the package import each other."""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src"


def modules(root: Path = SOURCE) -> dict[str, ast.Module]:
    """Name → syntax tree of every module under ``root``; a package has the name of its folder."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def at_import_time(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported: not the bodies of functions, nor what only checkers read."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from at_import_time(child)


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


def test_lazy_imports_and_those_for_checkers_are_seen_where_they_should_be() -> None:
    text = "if TYPE_CHECKING:\n    import a\nimport b\ndef f():\n    import c\ntry:\n    from p import d, x\nfinally:\n    0"
    tree, known = ast.parse(text), dict.fromkeys(["a", "b", "c", "p.d", "p"], ast.parse(""))
    assert imported(at_import_time(tree), known) == {"b", "p.d", "p"}
    assert imported(ast.walk(tree), known) == {"a", "b", "c", "p.d", "p"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    assert len(known) > 200
    assert circles({name: imported(at_import_time(tree), known) - {name} for name, tree in known.items()}) == []


def test_inside_core_not_even_lazily_or_for_type_checkers() -> None:
    known = {name: tree for name, tree in modules().items() if name.startswith("transpike.core.")}
    assert len(known) > 20
    assert circles({name: imported(ast.walk(tree), known) for name, tree in known.items()}) == []
