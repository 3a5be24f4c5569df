"""Tensors in files of ``torch.save``, read without running code.

Such a file is a pickle, which may call any function that it names. This reader imports and calls none of them: storages
and tensors become records of this module that are checked before memory is read, any other class an inert record of its
name and state. Format: torch/serialization.py, the zip format (from 1.6) and the earlier one.
"""

import io
import pickle
import shlex
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import torch
from torch import Tensor

from transpike.errors import CheckpointError

MAGIC = bytes.fromhex("80028a0a6cfc9c46f9206aa850192e")
"""The beginning of the earlier format: a pickle of one number."""
TYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}  # fmt: skip
DAMAGE = (
    pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, OSError, ValueError, LookupError, TypeError,
    AttributeError, ArithmeticError, RuntimeError, MemoryError, RecursionError, NotImplementedError,
)  # fmt: skip
"""What the unpickler and the zip reader raise for damaged bytes."""


def read(path: Path) -> Any:
    """The content of a file of ``torch.save`` with tensors, and with records for all other objects.

    Raises CheckpointError for a damaged file, and for other pickles and TorchScript programs, with a command that
    converts them.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                return _read_zip(path, file)
            file.seek(0)
            return _read_stream(path, file)
    except DAMAGE as error:
        raise CheckpointError(f"{path} is not a file of torch.save, or is truncated or damaged: {error!r}") from error


def _read_zip(path: Path, file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = {one.filename: one for one in archive.infolist()}
        main = next((name for name in names if name.endswith("/data.pkl")), None)
        if main is None:
            raise CheckpointError(f"{path} is a zip archive without weights of torch.save")
        root = main.removesuffix("data.pkl")
        if root + "constants.pkl" in names:
            raise CheckpointError(
                f"{path} is a TorchScript program, not weights. If you trust its origin, extract its weights:\n"
                + command(path, "torch.jit.load({path}, map_location='cpu').state_dict()")
            )

        def record(name: str) -> bytes:
            if names[root + name].compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"the record {name} is compressed")  # torch.save never does
            return archive.read(root + name)

        if root + "byteorder" in names and record("byteorder") != b"little":
            raise CheckpointError(f"{path} was written on a machine with another byte order; save it again on this one")
        unpickler = _Unpickler(io.BytesIO(record("data.pkl")), encoding="utf-8")
        found = unpickler.load()
        return _finished(found, lambda key: record(f"data/{key}"))


def _read_stream(path: Path, file: BinaryIO) -> Any:
    """The format before torch 1.6: five pickles, then the bytes of every storage after its number of elements."""
    size = path.stat().st_size
    if file.read(len(MAGIC)) != MAGIC:
        raise CheckpointError(
            f"{path} is a pickle that torch.save did not write. A pickle can run any code when it is opened, so it "
            "is not read. If you trust its origin, convert it once:\n"
            + command(path, "pickle.loads(pathlib.Path({path}).read_bytes())", "import pathlib, pickle, torch")
        )
    for _ in ("version", "system"):
        _Unpickler(file, encoding="utf-8").load()
    unpickler = _Unpickler(file, encoding="utf-8")
    found, raw = unpickler.load(), dict[str, bytes]()
    for key in _Unpickler(file, encoding="utf-8").load():
        (count,) = struct.unpack("<q", file.read(8))
        count *= unpickler.types[key].itemsize
        if not 0 <= count <= size:
            raise ValueError(f"a storage of {count} bytes")
        raw[key] = file.read(count)
    return _finished(found, raw.__getitem__)


def command(path: Path, reads: str, imports: str = "import torch") -> str:
    """A line for a shell that writes what ``reads`` gives as a file of ``torch.save`` next to ``path``."""
    target = str(path.with_suffix("")) + "-weights.pth"
    return shell_line(f"{imports}; torch.save({reads.format(path=repr(str(path)))}, {target!r})")


def shell_line(code: str) -> str:
    """The line for a shell that runs ``code`` in Python."""
    quoted = shlex.quote(code) if set(code) & set('"$`\\!') else f'"{code}"'
    return f"    python -c {quoted}"


class Record(dict):
    """An object of a class that is not imported: its ``state``, and its items if it is a kind of dict."""

    origin = ""
    state: Any = None
    arguments: list[Any]
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__

    def __new__(cls, *arguments: Any, **_: Any) -> Self:  # a pickle may make an object without __init__
        made = super().__new__(cls)
        made.arguments = list(arguments)
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, value: Any) -> None:
        self.arguments.append(value)


class Names(dict):
    """An OrderedDict with attributes, as ``state_dict()`` gives; the attributes are dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


@dataclass(frozen=True)
class _Storage:
    dtype: torch.dtype
    key: str


@dataclass(frozen=True)
class _Strided:
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def tensor(self, raw: Tensor) -> Tensor:
        """Raises ValueError where the tensor does not lie within its storage."""
        numbers = (self.offset, *self.size, *self.stride)
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or len(self.size) != len(self.stride):
            raise ValueError(f"a tensor of size {self.size} and stride {self.stride}")
        if 0 in self.size:
            return torch.empty(self.size, dtype=self.storage.dtype)
        last, width = self.offset, self.storage.dtype.itemsize
        last += sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if (last + 1) * width > len(raw):
            raise ValueError(f"a tensor of size {self.size} in a storage of {len(raw)} bytes")
        return raw[: len(raw) // width * width].view(self.storage.dtype).as_strided(self.size, self.stride, self.offset)


def _strided(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Strided:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    return _Strided(storage, offset, tuple(size), tuple(stride))


def _parameter(data: Any, *_: Any) -> Any:
    return data


_KNOWN: dict[tuple[str, str], Callable] = {
    ("collections", "OrderedDict"): Names,
    ("torch._utils", "_rebuild_tensor_v2"): _strided,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
}


# the reader in Python: the one in C allocates as much memory as an index in the file asks for
class _Unpickler(pickle._Unpickler):
    def __init__(self, file: Any, **settings: Any) -> None:
        super().__init__(file, **settings)
        self.types: dict[str, torch.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _KNOWN.get((module, name)) or type(name, (Record,), {"origin": f"{module}.{name}"})

    def persistent_load(self, pid: Any) -> Any:
        kind, storage, key, *_ = pid
        if kind == "module":  # a class with its source code, in the earlier format
            return storage
        origin = getattr(storage, "origin", "").rpartition(".")[2]
        if kind != "storage" or origin not in TYPES:
            raise ValueError(f"a storage of type {origin or storage!r}")
        self.types[str(key)] = TYPES[origin]
        return _Storage(TYPES[origin], str(key))


def _finished(found: Any, storage: Callable[[str], bytes]) -> Any:
    """``found`` with tensors in its dictionaries in place of their records; what shares a storage still does."""
    raw: dict[str, Tensor] = {}
    made: dict[_Strided, Tensor] = {}
    for one in _parts(found):
        for key, value in one.items() if isinstance(one, dict) else ():
            if isinstance(value, _Strided):
                name = value.storage.key
                if name not in raw:
                    data = storage(name)
                    raw[name] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.empty(0)
                if value not in made:
                    made[value] = value.tensor(raw[name])
                one[key] = made[value]
    return found


def _parts(found: Any) -> list[Any]:
    """Everything that ``found`` holds, once each."""
    parts, seen, stack = [], set(), [found]
    while stack:
        one = stack.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        parts.append(one)
        if isinstance(one, Record):
            stack += [one.state, *one.arguments]
        stack += one.values() if isinstance(one, Mapping) else one if isinstance(one, list | tuple) else ()
    return parts
