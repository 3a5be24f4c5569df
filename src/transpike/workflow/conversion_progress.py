"""How far a conversion is: the work of all passes together."""

from collections.abc import Callable

Notify = Callable[[str, int, int], None]
Part = Callable[[float, float], None]
"""Receives (work done, all work) of one stage, in any unit."""


class ConversionProgress:
    """Tells ``notify(stage, done, total)`` about all stages of a conversion together, which never falls.

    The unit is about a forward pass of one sample through the source network; ``work`` is that of all stages.
    """

    def __init__(self, notify: Notify | None, work: float) -> None:
        self.notify, self.total = notify, max(1, round(work))
        self.before = self.most = 0.0

    def stage(self, name: str, work: float) -> Part:
        """Begins a stage of this ``work``; those before it are over."""
        start, self.before = self.before, self.before + work

        def tell(done: float, all_: float) -> None:
            share = done / all_ if all_ else 1.0
            self.most = max(self.most, start + work * min(share, 1.0))
            if self.notify is not None and work:
                self.notify(name, min(int(self.most), self.total), self.total)

        tell(0, 1)
        return tell

    def finish(self, name: str) -> None:
        """The conversion is done."""
        self.most = self.total
        if self.notify is not None:
            self.notify(name, self.total, self.total)
