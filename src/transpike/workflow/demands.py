"""What functions demand of a network: one input, one output."""

import functools
from collections.abc import Callable

from transpike.core.inputs import InputNames
from transpike.core.precision import Arguments, Result
from transpike.core.structure import Structure
from transpike.errors import SettingError
from transpike.snn import SNN


def judges_one_output(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator of functions that judge the answers of networks: those with several outputs are refused."""

    @functools.wraps(function)
    def wrapped(*values: Arguments.args, **named: Arguments.kwargs) -> Result:
        for given in (*values, *named.values()):
            if isinstance(given, SNN):
                check_one_output(given.outputs, function.__name__)
        return function(*values, **named)

    return wrapped


def takes_one_input(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorator of functions for networks with one input: others are refused."""

    @functools.wraps(function)
    def wrapped(*values: Arguments.args, **named: Arguments.kwargs) -> Result:
        for given in (*values, *named.values()):
            if isinstance(given, SNN) and InputNames.of(given.source.inputs) is not None:
                raise SettingError(
                    f"{function.__name__} takes networks with one input of real numbers, and this one has the inputs "
                    f"{', '.join(node.name for node in given.source.inputs)}; simulate(), evaluate() and cost() run it"
                )
        return function(*values, **named)

    return wrapped


def check_one_output(structure: Structure | None, what: str) -> None:
    """Raises SettingError for several outputs, where ``what`` judges one."""
    if structure is not None:
        names = ", ".join(map(repr, structure.names))
        raise SettingError(
            f"{what} judges one output, and the network has several: convert the model with output=… (--output-name), "
            f"one of {names}; evaluate(…, output=…) judges one of several"
        )
