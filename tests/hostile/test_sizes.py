"""Small files that claim large things, and lists that name files elsewhere: refused before memory or time is spent."""

import gzip
import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import transpike as ts
from event_files import write_aedat3
from transpike import chips, data, energy
from transpike.data import _pickles
from transpike.errors import DataError, FileError, SettingError

IMAGES = np.zeros((3, 8, 8), np.uint8)


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def array(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def labels_of(count: int = 3) -> bytes:
    packed = io.BytesIO()
    np.save(packed, np.arange(count))
    return packed.getvalue()


HEADERS = {
    "32 TiB": (
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4398046511104,), }",
        "needs 35,184,372,088,832 bytes",
    ),
    "a size below zero": ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }", "shape"),
    "a size of 30 digits": (f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({'9' * 30},), }}", "bytes"),
    "True as a size": ("{'descr': '|u1', 'fortran_order': False, 'shape': (True,), }", "shape"),
    "objects": ("{'descr': '|O', 'fortran_order': False, 'shape': (3,), }", "Python objects"),
    "records": (
        "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (3,), }",
        "neither numbers nor short texts",
    ),
    "dates": ("{'descr': '<M8[s]', 'fortran_order': False, 'shape': (3,), }", "neither numbers nor short texts"),
    "brackets": ("(" * 300 + ")" * 300, "not a readable"),
    "an open bracket": ("{'descr': (", "not a readable"),
    "nothing": ("", "not a readable"),
    "a call": ("__import__('os').system('true')", "not a readable"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_of_arrays(tmp_path: Path, case: str) -> None:
    header, words = HEADERS[case]
    path = archive(tmp_path / "a.npz", {"test_images.npy": array(header, bytes(24)), "test_labels.npy": labels_of()})
    with pytest.raises(DataError, match=words):
        data.load(f"npz:{path}")


def test_a_member_that_is_no_array(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"test_images": b"hello", "test_labels.npy": labels_of()})
    with pytest.raises(DataError, match="not a readable"):
        data.load(f"npz:{path}")


def test_a_member_that_claims_more_bytes_than_it_can_hold(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"test_images.npy": array("x", bytes(24)), "test_labels.npy": labels_of()})
    content = bytearray(path.read_bytes())
    place = content.index(b"PK\x01\x02") + 24  # the unpacked size, in the central directory
    content[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    with pytest.raises(DataError, match="declares 2,147,483,648 bytes"):
        data.load(f"npz:{path}")


@pytest.mark.parametrize("label", [2**25, 2**40, 2**63 - 1, 2**64 - 1, 1_000_000])
def test_a_label_that_numbers_no_class(tmp_path: Path, label: int) -> None:
    np.savez(tmp_path / "a.npz", test_images=IMAGES, test_labels=np.array([0, 1, label], np.uint64))
    with pytest.raises(DataError, match=f"there is a label {label:,}|there is a label {label}"):
        data.load(f"npz:{tmp_path / 'a.npz'}")


def test_many_classes_are_possible(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", test_images=IMAGES, test_labels=np.array([0, 1, 21_840]))
    assert len(data.load(f"npz:{tmp_path / 'a.npz'}").classes) == 21_841


def test_a_label_of_recordings_that_numbers_no_class(tmp_path: Path) -> None:
    events = {"t": np.arange(4), "x": np.zeros(4, int), "y": np.zeros(4, int), "p": np.zeros(4, int)}
    arrays = {f"train_{name}": values for name, values in events.items()}
    np.savez(tmp_path / "a.npz", **arrays, train_offsets=np.array([0, 2, 4]), train_labels=np.array([0, 2**40]))
    with pytest.raises(DataError, match="there is a label 1,099,511,627,776"):
        data.load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("size", [(2**62, 2**60), (2**20, 2**20), (4096, 4096), None])
def test_a_sensor_that_no_camera_has(tmp_path: Path, size: tuple[int, int] | None) -> None:
    arrays = {f"train_{name}": np.zeros(4, np.int64) for name in "typ"} | {
        "train_x": np.array([0, 1, 2, 2**40 * (size is None)])
    }
    stated = {} if size is None else {"sensor_size": np.array(size)}
    np.savez(tmp_path / "a.npz", **arrays, **stated, train_offsets=np.array([0, 2, 4]), train_labels=np.array([0, 1]))
    with pytest.raises(DataError, match=r"a sensor of .* pixels"):
        data.load(f"npz:{tmp_path / 'a.npz'}")


@pytest.mark.parametrize("named", [np.array("abc"), np.zeros((2, 2), "U1"), np.zeros(3), np.zeros(3, "c16")])
def test_class_names_that_are_no_list_of_names(tmp_path: Path, named: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", test_images=IMAGES, test_labels=np.arange(3), class_names=named)
    with pytest.raises(DataError, match="not a list of names"):
        data.load(f"npz:{tmp_path / 'a.npz'}")


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def pictures(folder: Path, content: bytes, name: str = "x.png") -> str:
    for split in ("train", "val"):
        (folder / split / "a").mkdir(parents=True)
        (folder / split / "a" / name).write_bytes(content)
    return f"imagefolder:{folder}"


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("size", [(9000, 9000), (15000, 12000), (15000, 14000), (60000, 60000)])
def test_a_picture_that_claims_to_be_huge(tmp_path: Path, size: tuple[int, int]) -> None:
    pytest.importorskip("PIL")
    with pytest.raises(DataError, match=r"x\.png (declares|cannot be read)"):
        data.load(pictures(tmp_path, png(*size)), size=8).test.batch([0])


def test_a_picture_that_is_long_and_narrow(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    packed = io.BytesIO()
    image.new("RGB", (200_000, 1)).save(packed, "PNG")
    with pytest.raises(DataError, match="too long and narrow"):
        data.load(pictures(tmp_path, packed.getvalue()), size=224).test.batch([0])


def test_only_formats_of_pictures_are_decoded(tmp_path: Path) -> None:
    # Pillow gives PostScript to another program, whatever the file is called
    pytest.importorskip("PIL")
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(DataError, match="cannot identify image file"):
        data.load(pictures(tmp_path, script, "x.jpg"), size=8).test.batch([0])


@pytest.mark.parametrize("name", ["../u.aedat", "/etc/passwd", "a/b.aedat", "..", "x\0y", "..\\u.aedat", "n" * 300])
def test_gestures_are_read_from_their_own_folder_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "trials_to_train.txt").write_text(f"{name}\n")
    (tmp_path / "trials_to_test.txt").write_text(f"{name}\n")
    with pytest.raises(DataError, match="is not the name of a file in"):
        data.load(f"events:{tmp_path}")


@pytest.mark.parametrize("name", ["../../x.png", "/etc/passwd", "x\0y.png", ""])
def test_annotated_pictures_are_read_from_their_own_folder_only(tmp_path: Path, name: str) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val/val_annotations.txt").write_text(f"{name}\ta\t0\n")
    with pytest.raises(DataError, match="is not the name of a file in images/"):
        data.load(f"imagefolder:{tmp_path}")


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "trials_to_train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not a text in UTF-8"):
        data.load(f"events:{tmp_path}")


@pytest.mark.parametrize("cell", ["²", "٣", "9" * 5000, "-1", "1e3"])
def test_a_label_of_a_gesture_is_a_whole_number(tmp_path: Path, cell: str) -> None:
    write_aedat3(tmp_path / "u.aedat", np.arange(9), *[np.zeros(9, int)] * 3)
    for name in ("train", "test"):
        (tmp_path / f"trials_to_{name}.txt").write_text("u.aedat\n")
    (tmp_path / "u_labels.csv").write_text(f"class,start,end\n1,0,{cell}\n")
    with pytest.raises(DataError, match="line 2: expected class,start,end in integers"):
        data.load(f"events:{tmp_path}")


def test_a_packed_file_that_claims_more_than_it_can_hold(tmp_path: Path) -> None:
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        header = bytes((0, 0, 8, 3)) + struct.pack(">III", 2**32 - 1, 2**32 - 1, 2**32 - 1)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(header + bytes(100)))
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(bytes((0, 0, 8, 1)) + struct.pack(">I", 1) + b"\0"))
    with pytest.raises(DataError, match="truncated or damaged"):
        data.load("mnist", tmp_path)


def test_a_list_that_holds_itself(tmp_path: Path) -> None:
    endless: list = []
    endless.append(endless)
    (tmp_path / "p").write_bytes(pickle.dumps({"data": endless}, 2))
    with pytest.raises(DataError, match="contains itself"):
        _pickles.read(tmp_path / "p")


def test_a_list_that_doubles_itself(tmp_path: Path) -> None:
    value: list = [1]
    for _ in range(200):
        value = [value, value]
    (tmp_path / "p").write_bytes(pickle.dumps(value, 2))
    found = _pickles.read(tmp_path / "p")  # one by one it would be 2 to the power of 200 lists
    assert found[0] is found[1]


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04]r" + struct.pack("<I", 2**31 - 1) + b".",  # a memory of 2^31 values: 32 GiB
        b"\x80\x02]p2147483647\n.",
        b"\x80\x04\x8e" + struct.pack("<Q", 2**34) + b"x.",  # bytes of 16 GiB
        b"\x80\x05\x96" + struct.pack("<Q", 2**34) + b"x.",
        b"I" + b"9" * 5000 + b"\n.",
        b"\x80\x02" + b"(" * 100_000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    ],
    ids=["memory", "memory in text", "bytes", "byte array", "digits", "marks", "nesting"],
)
def test_pickles_that_ask_for_more_than_they_hold(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)
    with pytest.raises(DataError):
        _pickles.read(tmp_path / "p")


TOML = {
    "digits": ("neurons_total = " + "9" * 5000, "is not TOML"),
    "brackets": ("neurons_total = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "tables": ("neurons_total = " + "{a=" * 1500 + "1" + "}" * 1500, "nested too deeply"),
    "a list as the title": ("title = [1]", "title and vendor must be text"),
    "a large number": ("[limits]\nneurons_total = " + "9" * 400, "must be an integer of at least 0"),
    "a number below zero in a list": ("[limits]\nstrides = [-1]", "must be a list of integers"),
    "a source of numbers": ("[limits]\nlevels = 1\n[[source]]\nlimit = [1]\nsays = 'a'\nurl = 'b'", "must be text"),
}


@pytest.mark.parametrize("case", TOML)
def test_chips(tmp_path: Path, case: str) -> None:
    text, words = TOML[case]
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises((FileError, SettingError), match=words):
        chips.load(tmp_path / "x.toml")


CONSTANTS = {
    "digits": ("model = " + "9" * 5000, "is not TOML"),
    "brackets": ("model = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    "a list as the model": ("model = []", "model must be one of"),
    "a number of 400 digits": (
        "model = 'operations'\n[constants]\nadd = {value = " + "9" * 400 + ", unit = 'pJ', source = 's'}", "must be a number",
    ),
    "not a number": ("model = 'operations'\n[constants]\nadd = {value = nan, unit = 'pJ', source = 's'}", "must be a number"),
    "infinite": ("model = 'operations'\n[constants]\nadd = {value = inf, unit = 'pJ', source = 's'}", "must be a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", CONSTANTS)
def test_constants(tmp_path: Path, case: str) -> None:
    text, words = CONSTANTS[case]
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises((FileError, SettingError), match=words):
        energy.load(tmp_path / "x.toml")


def test_a_file_of_a_network_is_no_folder_of_data(tmp_path: Path) -> None:
    with pytest.raises(FileError):
        ts.load(tmp_path)
