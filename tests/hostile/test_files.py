"""Files that are cut, damaged, foreign or interrupted: an error with a remedy, never another network."""

import errno
import io
import json
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import transpike as ts
from networks import assert_same_spikes, cells, mlp, small_cnn
from transpike.errors import FileError
from transpike.files import LARGEST_HEADER, VERSION
from transpike.recipes import ECC
from waiting import HANGS

slow_setup = settings(
    max_examples=120,
    suppress_health_check=[*settings.default.suppress_health_check, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def snn() -> ts.SNN:
    case = mlp()
    return ts.convert(case.graph, ECC(timesteps=4), case.calibration)


@pytest.fixture(scope="module")
def content(snn, tmp_path_factory) -> bytes:
    return ts.save(snn, tmp_path_factory.mktemp("files") / "net.transpike").read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "net.transpike"


def refused(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(FileError, match=message) as caught:
        ts.load(path)
    assert str(path) in str(caught.value)


def rewritten(content: bytes, change: object) -> bytes:
    """The file with its header's JSON changed by ``change(header, content)``, checksum left as it was."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    inner = json.loads(header["__metadata__"]["content"])
    change(header, inner)
    header["__metadata__"]["content"] = json.dumps(inner, sort_keys=True)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def resigned(snn: ts.SNN, path: Path, change: object) -> bytes:
    """A file with a valid checksum over changed content: what a faulty or hostile writer would make."""
    from transpike.core.digest import content_digest

    data = ts.save(snn, path).read_bytes()
    tensors = safetensors.torch.load(data)
    size = int.from_bytes(data[:8], "little")
    inner = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["content"])
    change(inner, tensors)
    text = json.dumps(inner, sort_keys=True)
    metadata = {"transpike": str(VERSION), "content": text, "sha256": content_digest(text, tensors)}
    return safetensors.torch.save(tensors, metadata)


def test_what_is_loaded_fires_like_what_was_saved(tmp_path):
    case = small_cnn()
    snn = ts.convert(case.graph, ECC(timesteps=8), case.calibration, preprocessing=ts.Preprocessing((0.1,), (0.9,)))
    loaded = ts.load(ts.save(snn, tmp_path / "net.transpike"))
    before, after = (ts.simulate(s, case.x, record=cells(s)) for s in (snn, loaded))
    assert_same_spikes(before, after)
    assert str(loaded) == str(snn) and loaded.provenance == snn.provenance and loaded.remarks == snn.remarks


def test_a_header_of_any_length_can_be_read(snn, tmp_path):
    # its first byte is the low byte of a length, and may look like the beginning of a pickle
    path = tmp_path / "net.transpike"
    seen = set()
    for length in range(0, 264, 4):
        seen.add(ts.save(snn, path, metrics={"padding": "x" * length}).read_bytes()[0])
        assert ts.load(path).provenance["metrics"] == {"padding": "x" * length}
    assert 0x80 in seen and len(seen) == 32


@slow_setup
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(content, damaged, share):
    refused(damaged, content[: int(share * len(content))], "truncated|damaged|not a transpike file")


@pytest.mark.parametrize("part", ["near the beginning", "anywhere"])
@slow_setup
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_noticed_or_changes_nothing(snn, content, damaged, part, share, bit):
    data = bytearray(content)
    data[int(share * (len(data) if part == "anywhere" else 400))] ^= 1 << bit
    damaged.write_bytes(data)
    try:
        loaded = ts.load(damaged)
    except FileError:
        return
    assert _same(loaded, snn)


def _same(a: ts.SNN, b: ts.SNN) -> bool:
    mine, theirs = a.graph.parameters(), b.graph.parameters()
    equal = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    return equal and str(a) == str(b) and a.recipe == b.recipe and a.encoder == b.encoder


@slow_setup
@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused(damaged, data):
    refused(damaged, data, "truncated|damaged|not a transpike file|pickle")


def test_bytes_after_the_end_are_refused(content, damaged):
    refused(damaged, content + b"\0" * 16, "truncated or damaged")


@pytest.mark.parametrize("size", [LARGEST_HEADER + 1, 2**63, 2**64 - 1, 0, 1])
def test_an_unbelievable_header_is_not_read(content, damaged, size):
    refused(damaged, size.to_bytes(8, "little") + content[8:], "header would be|cannot be read|pickle")


@pytest.mark.parametrize("text", ["[]", "3", '"a"', "null", '{"__metadata__": 3}', '{"__metadata__": []}', "{" * 5000])
def test_a_header_that_is_not_one_is_refused(damaged, text):
    data = text.encode()
    refused(damaged, len(data).to_bytes(8, "little") + data, "damaged|not a transpike file|without a spiking network")


@pytest.mark.parametrize("version", ["0", "3", "latest", ""])
def test_another_version_names_both_and_a_way_out(content, damaged, version):
    def change(header: dict, inner: dict) -> None:
        header["__metadata__"]["transpike"] = version

    refused(damaged, rewritten(content, change), f"version '{version}', this transpike reads 1 and 2; convert")


def test_a_plain_safetensors_file_is_refused_with_a_hint(damaged):
    refused(damaged, safetensors.torch.save({"weight": torch.ones(2)}), "without a spiking network.*--weights")


def test_a_pickle_is_refused_without_being_opened(damaged, tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "boom",))

    refused(damaged, pickle.dumps(Bomb()), "never unpickles")
    assert not (tmp_path / "boom").exists()


def test_a_torch_checkpoint_is_refused(damaged):
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, buffer)
    refused(damaged, buffer.getvalue(), "zip archive, not a transpike file")


def test_a_zip_archive_is_refused(damaged):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    refused(damaged, buffer.getvalue(), "zip archive")


def test_changed_content_does_not_pass_the_checksum(content, damaged):
    def change(header: dict, inner: dict) -> None:
        inner["recipe"]["fields"]["timesteps"] = 5

    refused(damaged, rewritten(content, change), "checksum does not match")


def test_a_changed_rate_does_not_pass_the_checksum(content, damaged):
    def change(header: dict, inner: dict) -> None:
        inner["provenance"]["seed"] = 99

    refused(damaged, rewritten(content, change), "checksum does not match")


def test_a_type_of_a_later_version_is_named(snn, damaged):
    def change(inner: dict, tensors: dict) -> None:
        inner["recipe"]["type"] = "Telepathy"

    damaged.write_bytes(resigned(snn, damaged, change))
    with pytest.raises(FileError, match="'Telepathy', which this version"):
        ts.load(damaged)


def test_a_tensor_that_is_missing_is_named(snn, damaged):
    def change(inner: dict, tensors: dict) -> None:
        del tensors[next(iter(sorted(tensors)))]

    damaged.write_bytes(resigned(snn, damaged, change))
    with pytest.raises(FileError, match="has no tensor"):
        ts.load(damaged)


@pytest.mark.parametrize("key", ["graph", "recipe", "rates", "provenance"])
def test_a_missing_part_is_a_file_error(snn, damaged, key):
    def change(inner: dict, tensors: dict) -> None:
        del inner[key]

    damaged.write_bytes(resigned(snn, damaged, change))
    with pytest.raises(FileError, match=key):
        ts.load(damaged)


@pytest.mark.parametrize(
    "value",
    [{"type": "ECC"}, {"type": ["ECC"], "fields": {}}, {"tuple": 3}, {"type": "ECC", "fields": {"nonsense": 1}}, 7],
)
def test_nonsense_in_place_of_a_part_is_a_file_error(snn, damaged, value):
    def change(inner: dict, tensors: dict) -> None:
        inner["recipe"] = value

    damaged.write_bytes(resigned(snn, damaged, change))
    with pytest.raises(FileError):
        ts.load(damaged)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match=r"nothing\.transpike cannot be read.*No such file"):
        ts.load(tmp_path / "nothing.transpike")


def test_a_directory_is_not_a_file(tmp_path):
    with pytest.raises(FileError, match="cannot be read"):
        ts.load(tmp_path)


def test_saving_over_a_directory_is_refused(snn, tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        ts.save(snn, tmp_path)
    assert list(tmp_path.iterdir()) == [] and not list(tmp_path.parent.glob(".*.part"))


def test_saving_into_a_missing_folder_is_refused(snn, tmp_path):
    with pytest.raises(FileError, match="cannot be written"):
        ts.save(snn, tmp_path / "missing" / "net.transpike")


@pytest.mark.parametrize("call", ["fsync", "write", "replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(snn, content, tmp_path, monkeypatch, call):
    path = tmp_path / "net.transpike"
    path.write_bytes(b"the old file")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "write":
        opened = Path.open
        monkeypatch.setattr(
            Path, "open", lambda self, mode: _Full(opened(self, mode), full) if mode == "xb" else opened(self, mode)
        )
    else:
        monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "replace")), full)
    with pytest.raises(FileError, match=r"No space left on device.*an existing file is unchanged"):
        ts.save(snn, path)
    monkeypatch.undo()
    assert path.read_bytes() == b"the old file"
    assert [p.name for p in tmp_path.iterdir()] == ["net.transpike"]


class _Full:
    """A file on a disk that is full."""

    def __init__(self, file: object, write: object) -> None:
        self.file, self.write = file, write

    def __enter__(self) -> "_Full":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def fileno(self) -> int:
        return self.file.fileno()


def test_a_new_file_may_be_read_by_whoever_may_read_the_folder(snn, tmp_path):
    path = ts.save(snn, tmp_path / "net.transpike")
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask


KILLED = """
import os, signal, sys
from transpike.results.writing import write_atomically
def stop(descriptor):
    print("writing", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
os.fsync = stop
write_atomically(sys.argv[1], b"new" * 100000)
"""


def test_a_process_killed_while_writing_leaves_the_old_file(content, tmp_path):
    path = tmp_path / "net.transpike"
    path.write_bytes(content)
    environment = {**os.environ, "PYTHONPATH": str(Path(ts.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], capture_output=True, env=environment, timeout=HANGS
    )
    assert done.returncode == -signal.SIGKILL and done.stdout == b"writing\n"
    assert path.read_bytes() == content and len(list(tmp_path.iterdir())) == 2
    ts.save(ts.load(path), path)
    assert list(tmp_path.iterdir()) == [path]  # the next writer removes what the killed one left
