"""Mutations of files: of their bytes, and of what a reader finds in them, so that checks after a checksum are met too."""

import copy
import gzip
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

LONG = "x" * 60_000
NUMBERS = (
    0,
    1,
    -1,
    2,
    255,
    2**24,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
    -(2**31),
    10**400,
    0.5,
    -0.5,
    1e-320,
    1e30,
)
SPECIAL = (float("inf"), float("-inf"), float("nan"), 1e308)
TEXTS = ("", "é\u202e\x00", "\x1b[31m", LONG, "os.system", "../../etc/passwd", "__class__", "5" * 5_000)


def nested(depth: int, key: str = "tuple") -> Any:
    """``{key: [{key: […]}]}``."""
    value: Any = None
    for _ in range(depth):
        value = {key: [value]}
    return value


def hostile(random: Random) -> Any:
    """A JSON value that a reader may not expect."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: random.choice(NUMBERS),
        lambda: random.choice(NUMBERS),
        lambda: random.choice(SPECIAL),
        lambda: random.choice(TEXTS),
        lambda: random.choice((None, True, False, [], {}, [[]], [None], {"": None})),
        lambda: {"tensor": random.choice((None, "nope", [], 3))},
        lambda: {"tuple": random.choice((None, "abc", 3, [], [-1, -1], [2**40, 2**40], [0, 0], [1.5], [None]))},
        lambda: {"dict": random.choice((None, [], {}, {"a": 1}))},
        lambda: {"type": random.choice((None, [], "os.system", "SNN", "Graph", "Input")), "fields": {}},
        lambda: nested(random.choice((3, 30, 150))),
    )
    return random.choice(kinds)()


def paths(value: Any, before: tuple = ()) -> Iterator[tuple]:
    """The path of every part of a JSON value."""
    if before:
        yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from paths(part, (*before, key))


def at(value: Any, path: tuple) -> Any:
    for key in path:
        value = value[key]
    return value


def edited(value: Any, random: Random, names: tuple[str, ...] = ()) -> Any:
    """A copy of a JSON value with one to three edits. ``names``: words of the format, which other values may become."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(paths(value))
        if not places:
            return value
        path = random.choice(places)
        parent, key = at(value, path[:-1]), path[-1]
        edit = random.randrange(10)
        if edit < 4:
            parent[key] = hostile(random)
        elif edit == 4:
            del parent[key]
        elif edit == 5:
            parent[key] = copy.deepcopy(at(value, random.choice(places)))
        elif edit == 6 and isinstance(parent, list):
            parent.insert(random.randrange(len(parent) + 1), copy.deepcopy(parent[key]))
        elif edit == 6 and isinstance(parent, dict):
            parent[random.choice((*TEXTS[:2], "self", "shape", "nodes", "__post_init__", *parent))] = hostile(random)
        elif edit == 7 and isinstance(parent[key], (int, float)):
            number = parent[key]
            real = float(number) if abs(number) < 1e300 else number  # a larger integer has no float
            parent[key] = random.choice((-number, number * 2, number + 1, real * 10**9, str(number), real))
        elif edit == 7 and isinstance(parent[key], str) and names:
            parent[key] = random.choice(names)
        elif edit == 8 and isinstance(parent[key], list):
            random.shuffle(parent[key])
        elif names and isinstance(parent[key], str):
            parent[key] = random.choice(names)
        else:
            parent[key] = random.choice(NUMBERS)
    return value


def bytes_of(data: bytes, random: Random) -> bytes:
    """One to twenty edits of bytes, half of them near the beginning, where headers are."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        if not found:
            break
        place = random.randrange(min(len(found), 200) if random.random() < 0.5 else len(found))
        edit = random.randrange(9)
        if edit == 0:
            found[place] ^= 1 << random.randrange(8)
        elif edit == 1:
            found[place] = random.choice((0, 0xFF, 0x7F, 0x80, 1))
        elif edit == 2:
            del found[random.randrange(len(found)) :]
        elif edit == 3:
            other, length = random.randrange(len(found)), random.randrange(2000)
            found[place : place + length] = found[other : other + length]
        elif edit == 4:
            number = random.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**24, 2**28))
            found[place : place + 4] = struct.pack(random.choice("<>") + "I", number)
        elif edit == 5:
            found[place:place] = random.randbytes(random.randrange(9))
        elif edit == 6:
            found[place : place + 8] = struct.pack("<q", random.choice((-1, 2**62, 2**40, 0, 2**33)))
        elif edit == 7:
            del found[place : place + random.randrange(1, 30)]
        else:
            length = random.randrange(4000)
            found[place : place + length] = bytes(len(found[place : place + length]))
    return bytes(found)


def text_of(data: bytes, random: Random) -> bytes:
    """Edits of the lines and words of a text."""
    if random.random() < 0.25:
        return bytes_of(data, random)
    lines = data.decode().splitlines(keepends=True)
    for _ in range(random.choice((1, 1, 2, 4))):
        if not lines:
            break
        row = random.randrange(len(lines))
        edit = random.randrange(8)
        if edit == 0:
            del lines[row]
        elif edit == 1:
            lines.insert(random.randrange(len(lines) + 1), lines[row])
        elif edit == 2:
            other = random.randrange(len(lines))
            lines[row], lines[other] = lines[other], lines[row]
        else:
            words = lines[row].split(random.choice((" ", "=", ",", '"', " = ")))
            words[random.randrange(len(words))] = random.choice(_WORDS)
            lines[row] = random.choice((" ", " = ", ",", '"', "")).join(words)
    return "".join(lines).encode("utf-8", "surrogatepass")


_WORDS = (
    "0", "-1", "1e999", "nan", "inf", "-inf", "true", "[]", "{}", "[[]]", "9" * 5000, "1" + "0" * 400, "2" * 20, '""', "'",
    "[" * 3000, "[" * 3000 + "]" * 3000, "{a=" * 400 + "1" + "}" * 400, "1979-05-27", "0x7fffffffffffffff", '"\\u0000"',
    "../../x", "\x00", "/etc/passwd", "٣", "=", "#", "\n", '"' + "y" * 5000 + '"', '["a", 1]', "1_0", "0.1", "é\u202e",
)  # fmt: skip


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def tensors_of(tensors: dict[str, Tensor], random: Random) -> dict[str, Tensor]:
    """One to three tensors with another type, shape or content, or missing."""
    found = dict(tensors)
    for _ in range(random.choice((1, 1, 2, 3))):
        if not found:
            break
        name = random.choice(sorted(found))
        if random.random() < 0.05:
            del found[name]
        else:
            try:
                found[name] = _tensor_of(found[name], found, random).contiguous().clone()
            except RuntimeError:  # not every type becomes every other
                continue
    return found


def _tensor_of(value: Tensor, others: dict[str, Tensor], random: Random) -> Tensor:
    flat = value.float().flatten()
    changes: tuple[Callable[[], Tensor], ...] = (
        lambda: torch.where(torch.arange(len(flat)) == 0, random.choice(SPECIAL), flat).reshape(value.shape),
        lambda: flat.reshape(value.shape) * random.choice((0.0, -1.0, 1e-40, 1e30, 1e-9, float("inf"))),
        lambda: value.reshape(-1),
        lambda: value[None].repeat(3, *[1] * value.ndim),
        lambda: torch.zeros(random.choice(((0,), (0, 3), (3, 0, 2), (1,), (), (7, 5, 3, 2, 1, 1)))),
        lambda: value.to(random.choice(_DTYPES)),
        lambda: others[random.choice(sorted(others))].clone(),
        lambda: torch.cat([flat] * 7),
        lambda: value.transpose(0, -1) if value.ndim else value,
        lambda: value[: len(value) // 2] if value.ndim else value,
    )
    return random.choice(changes)()


_DTYPES = (
    torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64, torch.int8,
    torch.uint8, torch.bool, torch.complex64, torch.int32, torch.uint16,
)  # fmt: skip


def header_of(data: bytes, random: Random) -> bytes:
    """Edits of the header of a safetensors file, which may then not fit its tensors."""
    header, body = split(data)
    names = [name for name in header if name != "__metadata__"]
    entry = header[random.choice(names)] if names else {}
    edit = random.randrange(9)
    if edit == 0:
        entry["shape"] = random.choice(([2**40], [2**32, 2**32], [2**63], [-1], [1.5], [], [0, 2**63], None, "x"))
    elif edit == 1:
        entry["dtype"] = random.choice(("F64", "I64", "F8_E4M3", "BOOL", "U8", "XX", None, 3, "F4", "BF16", "C64"))
    elif edit == 2:
        entry["data_offsets"] = random.choice(
            ([0, 2**63], [5, 1], [-4, 0], [0, 0], None, [1e300, 2e300], [0, len(body)])
        )
    elif edit == 3:
        header["__metadata__"] = edited(header.get("__metadata__", {}), random)
    elif edit == 4 and names:
        header[random.choice(TEXTS)] = dict(entry)
    elif edit == 5 and len(names) > 1:
        header[names[0]], header[names[-1]] = header[names[-1]], header[names[0]]
    elif edit == 6:
        body = body + bytes(1000) if random.random() < 0.5 else body[: len(body) // 2]
    elif edit == 7:
        text = b'{"__metadata__":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        return len(text).to_bytes(8, "little") + text
    else:
        return joined(edited(header, random), body)
    return joined(header, body)


def weights_of(data: bytes, random: Random) -> bytes:
    """A safetensors file with other bytes, header, tensors or metadata."""
    kind = random.randrange(5)
    if kind == 0:
        return bytes_of(data, random)
    if kind == 1:
        return header_of(data, random)
    header, _ = split(data)
    metadata, tensors = dict(header.get("__metadata__", {})), safetensors.torch.load(data)
    if kind == 2:
        tensors = tensors_of(tensors, random)
    else:
        name = random.choice(sorted(metadata) or ["format"])
        try:
            inner = edited(json.loads(metadata[name]), random)
            metadata[name] = json.dumps(inner)
        except (KeyError, ValueError):
            metadata[name] = str(random.choice((*TEXTS, *NUMBERS)))
        if random.random() < 0.1:
            metadata[name] = random.choice(("", "{" * 3000, "[" * 100_000, "9" * 5000, "NaN", "null", "[1]", '"x"'))
    return safetensors.torch.save(tensors, {key: str(value) for key, value in metadata.items()})


def tar_of(data: bytes, random: Random) -> bytes:
    """A tar file with other bytes, or with a header of other values that has a valid checksum, or in another order."""
    kind = random.randrange(3)
    blocks = [data[at : at + 512] for at in range(0, len(data), 512)]
    heads = [at for at, block in enumerate(blocks) if block[257:262] == b"ustar"]
    if kind == 0:
        return bytes_of(data, random)
    if kind == 1:
        cut, other = sorted(random.choices(heads, k=2))
        return b"".join(random.choice((blocks[:cut] + blocks[other:], blocks[:other] + blocks[cut:])))
    chosen = random.choice(heads)
    block = bytearray(blocks[chosen])
    place, length = random.choice(((0, 100), (124, 12), (156, 1), (157, 100), (257, 8), (345, 155)))
    values = (
        b"\0", b"\x80" + b"\xff" * 11, b"\xff" * 12, b"\xff" * 11 + b"\0", b"77777777777\0", b"-0000000001", b"x" * length,
        random.randbytes(length), random.choice(b"0123456789xgLKSAVNDM\0").to_bytes(1, "big"), b"../../etc/passwd\0",
    )  # fmt: skip
    block[place : place + length] = random.choice(values)[:length].ljust(length, b"\0")
    block[148:156] = f"{sum(block[:148]) + 8 * 32 + sum(block[156:]):06o}\0 ".encode()
    blocks[chosen] = bytes(block)
    return b"".join(blocks)


def archive_of(data: bytes, random: Random) -> bytes:
    """A NumPy archive with other bytes, or with mutated members that have a valid checksum."""
    kind = random.randrange(4)
    if kind == 0:
        return bytes_of(data, random)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(packed, "w") as new:
        names = archive.namelist()
        chosen = random.choice(names)
        for name in names:
            content = archive.read(name)
            if name != chosen:
                new.writestr(name, content)
            elif kind == 1:
                new.writestr(name, bytes_of(content, random))
            elif kind == 2 or random.random() < 0.7:
                new.writestr(name, array_of(content, random))
            else:
                other = random.choice(("x", "/", "../x.npy", names[0], "test_images.npy", "é\x01.npy", name * 30))
                new.writestr(other, content)
    return packed.getvalue()


def array_of(data: bytes, random: Random) -> bytes:
    """A NumPy array with another header."""
    version = data[6]
    size = struct.unpack("<H" if version == 1 else "<I", data[8 : 10 if version == 1 else 12])[0]
    start = 10 if version == 1 else 12
    before = data[start : start + size].decode()
    kind, order, shape = (
        before.split(f"'{name}': ")[1].split(", '")[0] for name in ("descr", "fortran_order", "shape")
    )
    shape = shape.split("}")[0].rstrip(", ")
    change = random.randrange(4)
    if change != 0:
        shape = random.choice(_SHAPES)
    if change != 1:
        kind = random.choice(_KINDS)
    if random.random() < 0.1:
        order = random.choice(("True", "3", "None"))
    header = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    body = data[start + size :]
    if random.random() < 0.3:
        body = body * 3 if random.random() < 0.5 else random.randbytes(len(body))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


_SHAPES = (
    "(2199023255552,)", "(35184372088832,)", "(-1,)", "()", "(0,)", "(6, 0, 8)", "(6, 8)", "(1, 1, 1, 1, 1)", "(6,)",
    "(99999999999999999999999,)", "(True,)", "('a',)", "[6]", "None", "(6.0, 8, 8)", "(" * 300 + ")" * 300, "(3,)",
    "(0, 2199023255552)", "(6, 1, 1)", "(48, 8)", "(1,)", "(2, 8, 8, 3)", "(4,)",
)  # fmt: skip
_KINDS = (
    "'|u1'", "'<f8'", "'|O'", "'<U3'", "'<M8[s]'", "'<c16'", "'|b1'", "'|V8'", "[('a', '<i4')]", "'>i8'", "'<f2'", "'<u8'",
    "'xx'", "None", "'<i8'", "'|S1'", "'<f4'", "'>u2'", "'<U0'", "'|i1'", "'<m8'",
)  # fmt: skip


def packed_of(data: bytes, random: Random) -> bytes:
    """A gzip file with other bytes, half of the time inside."""
    if random.random() < 0.5:
        return bytes_of(data, random)
    return gzip.compress(bytes_of(gzip.decompress(data), random), mtime=0)


def png_of(data: bytes, random: Random) -> bytes:
    """A PNG with other bytes, or with mutated chunks that have a valid checksum."""
    if random.random() < 0.3:
        return bytes_of(data, random)
    chunks, place = [], 8
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "big")
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = random.randrange(len(chunks))
    name, body = chunks[chosen]
    edit = random.randrange(4)
    if edit == 0 and name == b"IHDR":
        sides = [random.choice((0, 1, 8, 15_000, 60_000, 2**31 - 1, 10**6)) for _ in range(2)]
        body = struct.pack(">II", *sides) + body[8:]
    elif edit == 1 and name == b"IDAT":
        body = zlib.compress(bytes_of(zlib.decompress(body), random))
    elif edit == 2:
        name = random.choice((b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"zTXt", b"IEND", b"eXIf", b"acTL", b"fdAT"))
    else:
        body = bytes_of(body, random)
    chunks[chosen] = (name, body)
    whole = b"".join(struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in chunks)
    return data[:8] + whole


def members_of(data: bytes, random: Random) -> bytes:
    """A zip archive with other bytes, or with a mutated member that has a valid checksum."""
    if random.random() < 0.3:
        return bytes_of(data, random)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(packed, "w") as new:
        names = archive.namelist()
        pickles = [name for name in names if name.endswith(".pkl")]
        chosen = random.choice(pickles if pickles and random.random() < 0.7 else names)
        for name in names:
            content = archive.read(name)
            new.writestr(name, bytes_of(content, random) if name == chosen else content)
    return packed.getvalue()
