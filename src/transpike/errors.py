"""The errors of transpike.

    TranspikeError
    ├── UnsupportedModel         the network cannot be converted as it is         (exit code 3)
    │   └── UnsupportedOperator  … because of operators; the message lists all of them
    ├── NotExact                 a pass that is declared exact changed the function
    ├── SettingError             a setting, or a combination of settings, is invalid       (2)
    ├── DataError                calibration or test data cannot be used                   (5)
    ├── CheckpointError          weights do not fit the network, or cannot be read         (5)
    ├── FileError                a file is damaged, foreign, of another version, not there (5)
    ├── MissingExtra             an optional package is needed                             (2)
    ├── LostProcess              another process of a distributed run ended, or is silent  (5)
    └── GateFailed               a bound given by the user was not met                     (4)

The command line exits with these codes; an OSError, such as a full disk, is 5 as well, an interruption 130.
Every message names the place, the cause and the remedy.
"""

import re

_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""``text`` with control characters as escapes like \x1b; line feeds and tabs stay.

    Names and remarks come from files and data that nobody has read. In a terminal they could move the cursor, hide
    lines, or change the order in which letters are shown; half of a surrogate pair cannot be printed at all.
    """
    return _INVISIBLE.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(text: str) -> str:
    """``printable``, with line feeds and tabs as escapes too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


class TranspikeError(Exception):
    """Base class of all errors that transpike raises deliberately; ``exit_code`` is that of the command line."""

    exit_code = 2

    def __str__(self) -> str:
        return printable(super().__str__())


class UnsupportedModel(TranspikeError):
    """The network cannot be captured or converted as it is."""

    exit_code = 3


class UnsupportedOperator(UnsupportedModel):
    """The network contains operators that transpike does not support; ``places`` lists all of them."""

    def __init__(self, message: str, places: tuple[tuple[str, str, str], ...] = ()) -> None:
        """``places``: (operator, module path, source line) of each operator."""
        super().__init__(message)
        self.places = places


class NotExact(TranspikeError):
    """A pass that is declared exact changed the function of the network."""


class SettingError(TranspikeError, ValueError):
    """A setting is out of range, or two settings contradict each other."""


class DataError(TranspikeError, ValueError):
    """Data is empty, constant, not finite, of the wrong shape, or missing."""

    exit_code = 5


class CheckpointError(TranspikeError):
    """A checkpoint does not fit the network, or is not a safe file."""

    exit_code = 5


class FileError(TranspikeError):
    """A transpike file is truncated, damaged, foreign, or of another version."""

    exit_code = 5


class MissingExtra(TranspikeError, ImportError):
    """An optional package is needed; the message says which extra installs it."""


class LostProcess(TranspikeError):
    """Another process of a distributed run ended, or does not answer."""

    exit_code = 5


class GateFailed(TranspikeError):
    """A bound that the user asked for was not met."""

    exit_code = 4
