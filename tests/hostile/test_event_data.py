"""Event files and archives to refuse: truncated, damaged, or with numbers that have inconsistent sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_events import archive, gestures, some

from event_files import HEADER3, packet, word, write_aedat2, write_aedat3, write_bin
from transpike import data
from transpike.data import Events, Frames, Recordings
from transpike.data._event_files import read_aedat2, read_aedat3, read_bin
from transpike.errors import DataError, SettingError

ONE = np.zeros(1, np.uint8)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_t": None}, "train_offsets without train_t"),
        ({"train_labels": None}, "without train_labels"),
        ({"train_x": np.full(48 * 150, 16, np.uint8)}, "x from 16 to 16; x must be from 0 to 15"),
        ({"train_y": np.full(48 * 150, -1, np.int8)}, "y from -1 to -1; y must be from 0 to 15"),
        ({"train_p": np.full(48 * 150, 2, np.uint8)}, "p from 2 to 2; p must be from 0 to 1"),
        ({"train_t": np.full(48 * 150, -5, np.int32)}, "times must not be negative"),
        ({"train_x": np.zeros(48 * 150)}, "x is float64"),
        ({"train_x": np.zeros(48 * 150 - 1, np.uint8)}, "one of each per event, 7200 here"),
        ({"train_x": np.zeros((48, 150), np.uint8)}, "one of each per event"),
        ({"train_offsets": np.array([0, 150, 100, 7200])}, "offsets decrease from 150 to 100 at recording 1"),
        ({"train_offsets": np.arange(49) * 150 + 1}, "offsets run from 1 to 7201, not from 0 to 7200"),
        ({"train_offsets": np.arange(48) * 150}, "offsets run from 0 to 7050"),
        ({"train_offsets": np.arange(49) * 150.0}, "offsets are float64"),
        ({"train_offsets": np.zeros(0, np.int64)}, "not N . 1 integers"),
        ({"train_labels": np.zeros(47, np.int64)}, r"labels are int64\[47\], not an integer for each of 48"),
        ({"train_labels": np.zeros(48)}, "labels are float64"),
        ({"train_labels": np.full(48, -1)}, "labels must be integers of at least 0"),
        ({"sensor_size": np.array([16])}, "sensor_size must be .width, height"),
        ({"sensor_size": np.array([0, 16])}, "sensor_size must be .width, height"),
        ({"train_p": np.array([None] * 7200, object)}, "write the arrays as numbers"),
        ({"class_names": np.array(["one"])}, "label 1 is out of range for 1 classes"),
    ],
)
def test_an_archive_that_does_not_fit_itself(tmp_path: Path, changes: dict, words: str) -> None:
    path = archive(tmp_path / "a.npz", **changes)
    with pytest.raises(DataError, match=words):
        data.load(f"npz:{path}")


@pytest.mark.parametrize("keep", [0, 10, 0.3, 0.9])
def test_a_truncated_archive(tmp_path: Path, keep: float) -> None:
    path = archive(tmp_path / "a.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(DataError, match=r"a.npz is not a readable"):
        data.load(f"npz:{path}")


def test_a_damaged_byte_in_an_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz")
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    path.write_bytes(damaged)
    with pytest.raises(DataError):
        data.load(f"npz:{path}")


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", train_images=np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match=r"no recordings found. Expected train_t"):
        data.load(f"events:{tmp_path / 'a.npz'}")
    with pytest.raises(DataError, match="no data at"):
        data.load(f"npz:{tmp_path / 'b.npz'}")


def test_a_silent_recording_is_allowed_and_a_silent_data_set_is_not() -> None:
    events = Events(ONE, ONE, ONE, ONE, 4, 4)
    for kind in ("two-channel", "signed"):
        frames = Frames(Recordings(events, np.array([0, 0, 1, 1])), 3, None, kind)[torch.arange(3)]
        assert frames.abs().sum((1, 2, 3, 4)).tolist() == [0, 1, 0]
    nothing = Events(*[np.zeros(0, np.uint8)] * 4, 4, 4)
    with pytest.raises(DataError, match="there are no events"):
        Recordings(nothing, np.array([0, 0]))


@pytest.mark.parametrize("settings", [{"bins": 0}, {"bins": 5, "span": 4}, {"kind": "grey"}])
def test_frames_that_make_no_sense(settings: dict) -> None:
    with pytest.raises(SettingError):
        Frames(Recordings(Events(ONE, ONE, ONE, ONE, 4, 4), np.array([0, 1])), **settings)


def test_every_truncation_of_a_bin_file(tmp_path: Path) -> None:
    path = write_bin(tmp_path / "Train/3/a.bin", *some(4, 34))
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length % 5 or not length:
            with pytest.raises(DataError, match="truncated"):
                read_bin(path, 34, 34)
            with pytest.raises(DataError, match=f"a.bin is truncated: {length} bytes"):
                data.load(f"events:{tmp_path}")


def test_coordinates_beyond_the_sensor_in_files(tmp_path: Path) -> None:
    write_bin(tmp_path / "Train/0/a.bin", [5], [34], [0], [1])
    with pytest.raises(DataError, match=r"a.bin: x from 34 to 34; x must be from 0 to 33"):
        data.load(f"events:{tmp_path}").train.batch([0])
    with pytest.raises(DataError, match=r"b.aedat: y from 128 to 128"):
        read_aedat3(write_aedat3(tmp_path / "b.aedat", [5] * 9, [0] * 9, [128] * 9, [1] * 9), 128, 128)


def test_truncations_of_aedat_2(tmp_path: Path) -> None:
    path = write_aedat2(tmp_path / "a.aedat", *some(5, 128))
    whole = path.read_bytes()
    start = len(whole) - 5 * 8
    assert len(read_aedat2(path)[0]) == 5
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length < start or (length - start) % 8 or length == start:
            with pytest.raises(DataError, match=r"truncated|does not begin"):
                read_aedat2(path)


def test_truncations_of_aedat_3(tmp_path: Path) -> None:
    path = write_aedat3(tmp_path / "a.aedat", *some(20, 128))
    whole = path.read_bytes()
    assert len(read_aedat3(path, 128, 128)) == 20
    ends = {len(HEADER3)}
    for size in (28 + 7 * 8, 28 + 3 * 8, 28 + 7 * 8, 28 + 6 * 8):
        ends.add(max(ends) + size)
    assert max(ends) == len(whole)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length not in ends or length == len(HEADER3):
            with pytest.raises(DataError, match=r"truncated|does not begin|no valid"):
                read_aedat3(path, 128, 128)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (packet([(word(1, 1, 1, valid=0), 5)]), "no valid polarity events"),
        (packet([(1, 5)], kind=2), "no valid polarity events"),
        (packet([(1, 5), (1, 6)], size=16), "polarity events of 16 bytes"),
        (packet([(1, 5)])[:16] + b"\xff" * 4 + packet([(1, 5)])[20:], "damaged: the packet"),
        (packet([(1, 5)], overflow=-1), "time overflow -1"),
        (packet([(1, 5)])[:4] + b"\x00" * 4 + packet([(1, 5)])[8:], "events of 0 bytes"),
        (packet([(1, 5)])[:16] + b"\xff\xff\xff\x7f" * 2 + packet([(1, 5)])[24:], "truncated: the packet"),
    ],
)
def test_damaged_packets(tmp_path: Path, body: bytes, words: str) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(HEADER3 + body)
    with pytest.raises(DataError, match=words):
        read_aedat3(path, 128, 128)


def test_invalid_events_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(HEADER3 + packet([(word(1, 2, 1), 5), (word(3, 4, 0, valid=0), 6), (word(5, 6, 0), 7)]))
    events = read_aedat3(path, 128, 128)
    assert (events.t.tolist(), events.x.tolist(), events.y.tolist(), events.p.tolist()) == (
        [5, 7],
        [1, 5],
        [2, 6],
        [1, 0],
    )


@pytest.mark.parametrize("first", [b"#!AER-DAT4.0\r\n", b"", b"\x93NUMPY"])
def test_files_of_another_version(tmp_path: Path, first: bytes) -> None:
    path = tmp_path / "a.aedat"
    path.write_bytes(first + b"\x00" * 64)
    for read in (read_aedat2, lambda p: read_aedat3(p, 128, 128)):
        with pytest.raises(DataError, match="only that version is supported"):
            read(path)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("3,100", "line 2: expected class,start,end"),
        ("wave,1,2", "line 2: expected class,start,end"),
        ("12,100,200", "class 12 of 1 to 11"),
        ("0,100,200", "class 0 of 1 to 11"),
        ("3,200,200", "from 200 to 200"),
    ],
)
def test_labels_of_gestures_that_make_no_sense(tmp_path: Path, row: str, words: str) -> None:
    gestures(tmp_path)
    (tmp_path / "user01_lab_labels.csv").write_text(f"class,startTime_usec,endTime_usec\n{row}\n")
    with pytest.raises(DataError, match=words):
        data.load(f"events:{tmp_path}")


@pytest.mark.parametrize("missing", ["user01_lab.aedat", "user01_lab_labels.csv", "trials_to_test.txt"])
def test_missing_files_of_gestures_are_named(tmp_path: Path, missing: str) -> None:
    gestures(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=missing):
        data.load(f"events:{tmp_path}")


def test_folders_without_recordings(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no recordings found. Expected Train/0"):
        data.load(f"events:{tmp_path}")
    (tmp_path / "Train").mkdir()
    with pytest.raises(DataError, match="no recordings"):
        data.load(f"events:{tmp_path}")
    write_aedat2(tmp_path / "cat" / "a.aedat", *some(5, 128))
    (tmp_path / "Train").rmdir()
    with pytest.raises(SettingError, match="test_fraction"):
        data.load(f"events:{tmp_path}", test_fraction=1.0)
