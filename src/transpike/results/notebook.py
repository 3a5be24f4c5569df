"""Display of results in notebooks."""

import importlib
from collections.abc import Callable
from typing import Any

painter: Callable[[Any], str] | None = None
"""Renders a result as HTML. The report package sets it, because results must not import report."""


class Shown:
    """A result that a notebook displays as HTML."""

    def _repr_html_(self) -> str | None:
        importlib.import_module("transpike.report")  # sets the painter, if nothing has imported it yet
        return None if painter is None else painter(self)
