"""The report page inside of a notebook, with its controls."""

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from transpike.core.constraints import check_number
from transpike.report.page import page
from transpike.report.terminal import Result


@dataclass(frozen=True)
class Widget:
    """A page that a notebook shows in a frame of ``height`` pixels; ``content`` is its HTML."""

    content: str = field(repr=False)
    height: int

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.content)}" sandbox="allow-scripts" title="transpike: results" '
            f'style="width: 100%; height: {self.height}px; border: 0"></iframe>'
        )


def widget(results: Result | Sequence[Result], *, height: int = 720, **settings: Any) -> Widget:
    """The page of ``results`` for a notebook: as the last line of a cell it is shown with its sliders and sorting.

    A result alone displays as a summary without controls. The frame has the whole page (``report.page``, which
    documents ``settings``): its style and script stay inside of it, and it loads nothing.
    Raises SettingError for a height below 100 pixels, and what ``page`` raises.
    """
    check_number("height", height, whole=True, low=100, unit="pixels")
    return Widget(page(results, **settings), height)
