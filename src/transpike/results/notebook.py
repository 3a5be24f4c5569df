"""How results show themselves in notebooks."""

from collections.abc import Callable
from typing import Any

painter: Callable[[Any], str] | None = None
"""Makes HTML of a result; the report package puts its own here, which results must not know."""


class Shown:
    """A result that a notebook draws."""

    def _repr_html_(self) -> str | None:
        return None if painter is None else painter(self)
