"""Arrays in pickles, read without running code."""

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from transpike.errors import DataError

# errors of the unpickler for damaged bytes, and for pickles that do not build arrays as numpy does
DAMAGE = (
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    ImportError,
    RecursionError,
)


def read(path: Path) -> Any:
    """The content of a pickle of dicts, lists, texts, numbers and numeric arrays, written by Python 2 or 3.

    A pickle may call any function that it names. This reader imports and calls none of them: the few names that arrays
    need are replaced by records of this module, which are converted to arrays afterwards; any other name raises
    DataError.
    """
    try:
        data = path.read_bytes()
        _check_sizes(data)
        return _arrays(_Unpickler(io.BytesIO(data), encoding="latin1").load(), str(path), {})
    except DataError:  # which is a ValueError
        raise
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except DAMAGE as error:
        raise DataError(f"{path} is not a pickle of arrays, or is truncated: {error!r}") from error


class _Type:
    """A numeric type, as a pickle describes it."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = str(code), "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])

    def dtype(self, place: str) -> np.dtype:
        if not re.fullmatch("b1|[iu][1248]|f[248]", self.code) or self.order not in ("<", ">", "=", "|"):
            raise DataError(f"{place}: arrays of type {self.code!r} are not read; only numbers are")
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """An array before its checks: type, shape and bytes."""

    def __init__(self, *_: Any) -> None:
        self.kind, self.shape, self.columns, self.raw = None, (), False, b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.kind, self.columns, self.raw = state

    def array(self, place: str) -> np.ndarray:
        if not isinstance(self.kind, _Type):
            raise DataError(f"{place}: an array without a type")
        dtype, shape = self.kind.dtype(place), tuple(int(size) for size in self.shape)
        raw = self.raw.encode("latin1") if isinstance(self.raw, str) else self.raw
        if not isinstance(raw, bytes | bytearray) or min(shape, default=0) < 0:
            raise DataError(f"{place}: arrays of Python objects are not read; only numbers are")
        if len(raw) != prod(shape) * dtype.itemsize:
            raise DataError(f"{place}: an array of shape {shape} and type {dtype} cannot have {len(raw)} bytes")
        return np.frombuffer(raw, dtype).reshape(shape, order="F" if self.columns else "C")


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    """An array in protocol 5."""
    made = _Array()
    made.__setstate__((1, shape, kind, order == "F", raw))
    return made


def _encoded(text: Any, coding: Any) -> bytes:
    """Bytes that Python 3 wrote for Python 2."""
    if coding != "latin1" or not isinstance(text, str):
        raise pickle.UnpicklingError(f"bytes in the coding {coding!r}, which numpy arrays do not use")
    return text.encode("latin1")


def _empty() -> bytes:
    """Empty bytes that Python 3 wrote for Python 2."""
    return b""


_KNOWN: dict[tuple[str, str], Callable] = {
    ("multiarray", "_reconstruct"): _Array,
    ("numeric", "_frombuffer"): _from_buffer,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encoded,
    ("__builtin__", "bytes"): _empty,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        short = re.sub(r"^numpy\._?core\.(?=multiarray$|numeric$)", "", module)
        if (short, name) not in _KNOWN or (short in ("multiarray", "numeric") and short == module):
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which an array of numbers does not need: a pickle can run any code, so it "
                "is refused; download the file again"
            )
        return _KNOWN[short, name]


def _check_sizes(data: bytes) -> None:
    """Raises ValueError for texts longer than the file, and for a memory of more values than the file has bytes.

    The unpickler would reserve the memory before it finds out: 13 bytes can ask for 32 GiB.
    """
    for operation, argument, _ in pickletools.genops(data):
        puts = operation.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if puts and not (isinstance(argument, int) and 0 <= argument <= len(data)):
            raise ValueError(f"{len(data)} bytes with the value number {argument}")


def _arrays(value: Any, place: str, done: dict[int, Any]) -> Any:
    """The value with records replaced by arrays. ``done``: id → result, because a pickle may hold one value often."""
    if value is None or isinstance(value, str | bytes | bytearray | int | float):
        return value
    if id(value) in done:
        if done[id(value)] is None:
            raise DataError(f"{place}: a {type(value).__name__} contains itself, which an array of numbers never does")
        return done[id(value)]
    done[id(value)] = None  # in progress
    if isinstance(value, _Array):
        found: Any = value.array(place)
    elif isinstance(value, dict):
        found = {key: _arrays(part, place, done) for key, part in value.items()}
    elif isinstance(value, list | tuple):
        found = type(value)(_arrays(part, place, done) for part in value)
    else:
        raise DataError(
            f"{place}: contains a {type(value).__name__}; only dicts, lists, texts, numbers and arrays are supported"
        )
    done[id(value)] = found
    return found
