"""The instruction sets of the native library, and the one that the environment variable TRANSPIKE_ISA chooses."""

import ctypes
import os

from transpike.errors import SettingError

VARIABLE = "TRANSPIKE_ISA"
SETS = ("baseline", "NEON", "AVX2", "AVX-512")


def wanted() -> str | None:
    """The set that TRANSPIKE_ISA names, in any case and with or without the hyphen; None where it is not set.

    Raises SettingError for a name that is not an instruction set.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return None
    for name in SETS:
        if name.lower().replace("-", "") == given.lower().replace("-", ""):
            return name
    raise SettingError(f"{VARIABLE}={given!r} is not an instruction set; it can be {', '.join(SETS)}, or not set")


def choose(library: ctypes.CDLL, name: str) -> None:
    """Let the library use this set. Raises SettingError if the library or this processor does not have it."""
    if library.tp_force(name.encode()):
        return
    built = name in compiled(library)
    why = "this processor lacks it" if built else "the native library was built without it"
    raise SettingError(f"{VARIABLE} names {name}, but {why}; available: {', '.join(available(library))}")


def compiled(library: ctypes.CDLL) -> tuple[str, ...]:
    """The sets that the library was built for."""
    return tuple(name for name in SETS if library.tp_compiled(name.encode()))


def available(library: ctypes.CDLL) -> tuple[str, ...]:
    """Those of them that this processor has; the set in use stays the same."""
    before = library.tp_instructions()
    found = tuple(name for name in compiled(library) if library.tp_force(name.encode()))
    library.tp_force(before)
    return found
