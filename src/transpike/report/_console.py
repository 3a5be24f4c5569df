"""A console that prints names and remarks as they are, without what they could do to a terminal."""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderHook, RenderResult
from rich.segment import Segment

from transpike.results.terminal import beneath, shown


def standard() -> Console:
    """A console on standard output."""
    return Console(file=beneath(sys.stdout))


@contextlib.contextmanager
def escaping(console: Console) -> Iterator[Console]:
    """Context in which ``console`` shows control characters as escapes, and brackets as brackets, not as styles."""
    console.push_render_hook(_Hook())
    try:
        yield console
    finally:
        console.pop_render_hook()


class _Hook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Escaped(one) for one in renderables]


class _Escaped:
    def __init__(self, inner: ConsoleRenderable) -> None:
        self.inner = inner

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self.inner, options.update(markup=False)):
            text, style, control = segment
            yield segment if control else Segment(shown(text, console.encoding), style)
