"""Event files written byte by byte as their documents say, independently of the readers under test."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


def write_bin(path: Path, t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike) -> Path:
    """N-MNIST: x, y, then polarity in the highest bit of 24, microseconds in the others."""
    rows = zip(*(np.asarray(v).tolist() for v in (t, x, y, p)), strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(bytes((a, b)) + (on << 23 | time).to_bytes(3, "big") for time, a, b, on in rows))
    return path


def write_aedat2(path: Path, t: ArrayLike, x: ArrayLike, y: ArrayLike, bit: ArrayLike, extra: bytes = b"") -> Path:
    """A DVS128's raw x and y fields and its polarity bit."""
    rows = zip(*(np.asarray(v).tolist() for v in (t, x, y, bit)), strict=True)
    body = b"".join(struct.pack(">ii", b << 8 | a << 1 | on, time) for time, a, b, on in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"#!AER-DAT2.0\r\n# This is a raw AE data file\r\n# AEChip: DVS128\r\n" + extra + body)
    return path


HEADER3 = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DVS128\r\n#Start-Time: 2016-01-01\r\n#!END-HEADER\r\n"


def packet(words: list[tuple[int, int]], kind: int = 1, overflow: int = 0, size: int = 8) -> bytes:
    """One packet of AEDAT 3.1; ``words`` are (data, time)."""
    body = b"".join(struct.pack("<Ii", data, time) for data, time in words)
    number = len(body) // size
    return struct.pack("<hhiiiiii", kind, 1, size, 4, overflow, number, number, number) + body


def word(x: int, y: int, p: int, valid: int = 1) -> int:
    return x << 17 | y << 2 | p << 1 | valid


def write_aedat3(path: Path, t: ArrayLike, x: ArrayLike, y: ArrayLike, p: ArrayLike, each: int = 7) -> Path:
    """Polarity packets of ``each`` events, a packet of another kind after the first."""
    rows = list(zip(*(np.asarray(v).tolist() for v in (t, x, y, p)), strict=True))
    packets = []
    for overflow in sorted({time >> 31 for time, *_ in rows}):  # of which a packet has one
        part = [row for row in rows if row[0] >> 31 == overflow]
        packets += [
            packet([(word(a, b, on), time & 0x7FFFFFFF) for time, a, b, on in part[i : i + each]], overflow=overflow)
            for i in range(0, len(part), each)
        ]
    packets.insert(1, packet([(0, 0), (1, 1), (2, 2)], kind=0))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(HEADER3 + b"".join(packets))
    return path
