"""A recipe is in when a test of one of its facts names it."""

import ast
import re
from pathlib import Path

import pytest

from transpike import recipes
from transpike.core.naming import is_ours
from transpike.core.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]


def named(path: Path) -> set[str]:
    """What the tests and their helpers in a file name; imports alone do not count."""
    found: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)):
            found |= {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
    return found


@pytest.mark.parametrize("recipe", recipes.members, ids=lambda recipe: recipe.name)
def test_the_docstring_says_what_is_checked_and_where(recipe: type[Recipe]) -> None:
    text = re.sub(r"\s+", " ", recipe.__doc__ or "")
    assert ("Source:" in text and "Differs from the paper" in text) or recipe is recipes.FewSteps
    checked = text.partition("Checked:")[2]
    assert checked, f"{recipe.__name__} does not say which fact is checked"
    files = [ROOT / name for name in re.findall(r"tests/[\w/]+\.py", checked)]
    assert files and all(file.is_file() for file in files)
    assert recipe.__name__ in named(files[0])


def test_every_recipe_is_in_the_table_under_its_own_name() -> None:
    assert [kind for kind in recipes.table.values() if is_ours(kind.__module__)] == list(recipes.members)
    kinds = {kind for kind in vars(recipes).values() if isinstance(kind, type) and issubclass(kind, Recipe)}
    assert {*recipes.members} == kinds - {Recipe}
