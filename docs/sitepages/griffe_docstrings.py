"""An extension of Griffe, which reads the docstrings for mkdocstrings: it prepares them for Markdown."""

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sitepages.docstrings import markdown


class Docstrings(griffe.Extension):
    """Changes each docstring once, when its object has been read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)
