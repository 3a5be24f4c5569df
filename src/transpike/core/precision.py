"""Computation in the precision of the networks, whatever the caller's autocast says."""

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def without_autocast(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator: ``function`` runs with autocast off.

    Thresholds, the exact grid and the counts hold for float32 and float64. Inside ``with torch.autocast(…)`` the same
    calls would round to 8 bits, and engines would give different spikes that are called exact.
    """

    @functools.wraps(function)
    def wrapped(*values: Arguments.args, **named: Arguments.kwargs) -> Result:
        with contextlib.ExitStack() as stack:
            for kind in ("cpu", "cuda"):
                if torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            return function(*values, **named)

    return wrapped
