"""The files that event cameras' data sets come in, byte by byte. Every reader refuses what does not fit whole.

Tested on files that the tests generate in these layouts; real CIFAR10-DVS and DVS128 Gesture files were not at hand.
"""

from pathlib import Path

import numpy as np

from transpike.data._recordings import Events
from transpike.errors import DataError

POLARITY_EVENT = 1
PACKET_HEADER = np.dtype(
    [("kind", "<i2"), ("source", "<i2")]
    + [(name, "<i4") for name in ("size", "time_offset", "time_overflow", "capacity", "number", "valid")]
)
ADDRESS_BITS = 15  # of a DVS128: what lies above marks events that are no pixel's


def read_bin(path: Path, width: int, height: int) -> Events:
    """N-MNIST's .bin: 40 bits an event, most significant first: x (8), y (8), polarity (1), microseconds (23).

    Source: the page of the data set (G. Orchard et al., Front. Neurosci. 9:437, 2015), section on its files.
    """
    data = np.frombuffer(_bytes(path), np.uint8)
    if not len(data) or len(data) % 5:
        raise DataError(f"{path} is truncated or no N-MNIST recording: {len(data)} bytes are not events of 5 bytes")
    rows = data.reshape(-1, 5)
    high, middle, low = (rows[:, i].astype(np.int32) for i in (2, 3, 4))
    t = (high & 0x7F) << 16 | middle << 8 | low
    return Events(t, rows[:, 0], rows[:, 1], rows[:, 2] >> 7, width, height, str(path))


def read_aedat2(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """AEDAT 2.0 of a DVS128: (t, x field, y field, polarity), t from the first event on.

    Text lines that begin with #, the first ``#!AER-DAT2.0``; then for each event, big-endian, int32 address and int32
    microseconds. Address: bit 0 polarity, bits 1 to 7 x, bits 8 to 14 y, both as the chip counts them; events with a
    higher bit are synchronisation marks and are left out.
    Source: iniVation's page on AEDAT 2.0 and 1.0. It calls bit 0 = 1 brighter; the software that wrote these
    files (jAER, class DVS128) and the chip mean the opposite, 0 is brighter, and that is what is read here.
    """
    data = _bytes(path)
    start = _after_lines(path, data, b"#!AER-DAT2.0")
    if len(data) == start or (len(data) - start) % 8:
        raise DataError(f"{path} is truncated: {len(data) - start} bytes after the header are not events of 8 bytes")
    pairs = np.frombuffer(data, ">i4", offset=start).reshape(-1, 2)
    address, t = pairs[:, 0].astype(np.int32), pairs[:, 1].astype(np.int64)
    pixels = address >> ADDRESS_BITS == 0
    address, t = address[pixels], t[pixels]
    if not len(t):
        raise DataError(f"{path} holds no events of pixels")
    return t - t.min(), address >> 1 & 0x7F, address >> 8 & 0x7F, 1 - (address & 1)


def read_aedat3(path: Path, width: int, height: int) -> Events:
    """AEDAT 3.1: the polarity events that are marked valid; t as in the file.

    Text lines that begin with #, the first ``#!AER-DAT3.1``, the last ``#!END-HEADER``; then packets, little-endian: a
    header of 28 bytes (int16 type, int16 source, int32 each: bytes an event, offset of the time in it, overflow of the
    time, capacity, number of events, valid ones) and the events. A polarity event (type 1) is uint32 data and int32
    microseconds, to which 2³¹ is added for each overflow; data: bit 0 valid, bit 1 polarity (1 brighter), bits 2 to 16
    y from the top, bits 17 to 31 x from the left. Packets of other types are skipped.
    Source: iniVation's page on AEDAT 3.1, and the README of DVS128 Gesture.
    """
    data = _bytes(path)
    position, words, times = _after_lines(path, data, b"#!AER-DAT3.1", b"#!END-HEADER"), [], []
    while position < len(data):
        if position + PACKET_HEADER.itemsize > len(data):
            raise DataError(f"{path} is truncated: byte {position} begins a packet, but not all of its header is there")
        header = np.frombuffer(data, PACKET_HEADER, 1, position)[0]
        position += PACKET_HEADER.itemsize
        kind, size, number = int(header["kind"]), int(header["size"]), int(header["number"])
        if size < 1 or number < 0 or header["capacity"] != number or header["time_overflow"] < 0:
            raise DataError(
                f"{path} is damaged: the packet before byte {position} has {number} events of {size} bytes in room "
                f"for {header['capacity']}, time overflow {header['time_overflow']}"
            )
        end = position + size * number
        if end > len(data):
            raise DataError(f"{path} is truncated: the packet at byte {position} goes to {end} of {len(data)} bytes")
        if kind == POLARITY_EVENT:
            if size != 8:
                raise DataError(f"{path} is damaged: polarity events of {size} bytes at byte {position}, not 8")
            events = np.frombuffer(data, "<u4", 2 * number, position).reshape(-1, 2)
            events = events[events[:, 0] & 1 == 1]
            words.append(events[:, 0])
            times.append(events[:, 1].astype(np.int64) + (int(header["time_overflow"]) << 31))
        position = end
    if not sum(map(len, words)):
        raise DataError(f"{path} holds no valid polarity events")
    word, t = np.concatenate(words), np.concatenate(times)
    x, y, p = (word >> 17).astype(np.int16), (word >> 2 & 0x7FFF).astype(np.int16), (word >> 1 & 1).astype(np.uint8)
    return Events(t, x, y, p, width, height, str(path))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _after_lines(path: Path, data: bytes, first: bytes, last: bytes | None = None) -> int:
    """Where the text at the file's beginning ends: after the line ``last``, else where a line does not begin with #."""
    if not data.startswith(first):
        found = data[:14].split(b"\r")[0]
        raise DataError(f"{path} does not begin with {first.decode()}, but with {found!r}; only that version is read")
    position = 0
    while data[position : position + 1] == b"#":
        end = data.find(b"\n", position) + 1
        if not end:  # no address of a DVS128 begins with #, so this is no data
            raise DataError(f"{path} is truncated: its header does not end")
        line, position = data[position:end].rstrip(), end
        if line == last:
            return position
    if last is not None:
        raise DataError(f"{path} is truncated: its header does not end with {last.decode()}")
    return position
