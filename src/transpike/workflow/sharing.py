"""Results that conversions and evaluations of the same network and data share."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from transpike.core.digest import digest
from transpike.core.graph import Graph

ANSWERS = 2**26
"""Bytes of answers of source networks that are kept."""


@dataclass(eq=False)
class Shared:
    """``passes``: what a pass found, by the graph, the data and all passes before it; of the last conversion only.

    ``answers``: those of source networks, by network and inputs, as many as fit into ``ANSWERS``; ``sources``: what
    networks that live are called there.
    """

    passes: dict[str, dict[Any, Any]] = field(default_factory=dict)
    answers: dict[str, Tensor] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    sources: WeakKeyDictionary[Graph, str] = field(default_factory=WeakKeyDictionary)

    def name_of(self, source: Graph) -> str:
        """What tells a source network from others, found once for each."""
        if source not in self.sources:
            self.sources[source] = f"{digest(source.parameters())} {source}"
        return self.sources[source]

    def of_pass(self, place: str) -> dict[Any, Any]:
        """What was found at a place, and what will be."""
        self.used.add(place)
        return self.passes.setdefault(place, {})

    def forget(self) -> None:
        """Drop what the conversion that ends did not use."""
        self.passes = {place: found for place, found in self.passes.items() if place in self.used}
        self.used = set()


_current: ContextVar[Shared | None] = ContextVar("shared", default=None)


@contextmanager
def sharing(found: Shared) -> Iterator[None]:
    """Conversions and evaluations inside it keep in ``found``, and take from it, what they find out about the same
    graph and data.

    Only what does not depend on other settings, like the number of time steps: results are the same as without it.
    """
    before = _current.set(found)
    try:
        yield
    finally:
        _current.reset(before)


def current() -> Shared | None:
    """The shared results; None outside of ``sharing``."""
    return _current.get()


def answer_of(source: Graph, x: Tensor) -> Tensor:
    """The answers of the source network to ``x`` (batch, *shape)."""
    found = _current.get()
    if found is None:
        return source.run(x)
    key = f"{digest({'x': x})} {x.device} {found.name_of(source)}"
    if key not in found.answers:
        answer = source.run(x)
        if answer.nbytes + sum(one.nbytes for one in found.answers.values()) > ANSWERS:
            return answer
        found.answers[key] = answer
    return found.answers[key]
