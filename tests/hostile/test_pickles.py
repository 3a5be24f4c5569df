"""Pickles that name what no array needs are refused before anything runs."""

import contextlib
import os
import pickle

import numpy as np
import pytest

from transpike.data import _pickles
from transpike.errors import DataError


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [os.system, eval, print, np.load, getattr, np.save])
def test_calls_are_refused(tmp_path, protocol, call):
    mark = tmp_path / "mark"
    file = tmp_path / "file"
    file.write_bytes(pickle.dumps({"data": Evil(call, f"touch {mark}")}, protocol))
    with pytest.raises(DataError, match="which an array of numbers does not need"):
        _pickles.read(file)
    assert not mark.exists()


def test_a_call_by_the_name_of_a_known_module_is_refused(tmp_path):
    for name in (
        b"numpy\nload",
        b"numpy.core.multiarray\nscalar",
        b"multiarray\n_reconstruct",
        b"_codecs\nlookup",
        b"builtins\neval",
    ):
        (tmp_path / "file").write_bytes(b"c" + name + b"\n(S'x'\ntR.")
        with pytest.raises(DataError, match="refused"):
            _pickles.read(tmp_path / "file")


@pytest.mark.parametrize(
    "value",
    [
        np.array([1, "x"], dtype=object),
        np.array(["text"]),
        np.zeros(2, [("a", "f4"), ("b", "O")]),
        np.zeros(2, complex),
        {1, 2},
        np.zeros(2, "M8[s]"),
    ],
    ids=["objects", "text", "records", "complex", "set", "dates"],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_other_things_are_refused(tmp_path, value, protocol):
    (tmp_path / "file").write_bytes(pickle.dumps(value, protocol))
    with pytest.raises(DataError):
        _pickles.read(tmp_path / "file")


def test_damage_is_refused_everywhere(tmp_path):
    whole = pickle.dumps({"data": np.arange(12.0).reshape(3, 4), "labels": np.arange(3)}, 2)
    file = tmp_path / "file"
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        with pytest.raises(DataError):
            _pickles.read(file)
    for at in range(
        len(whole)
    ):  # a changed byte is refused, or changes a value or a text: it never gets out as another error
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with contextlib.suppress(DataError):
            _pickles.read(file)
    with pytest.raises(DataError):
        _pickles.read(tmp_path / "nowhere")


def test_a_shape_that_its_bytes_do_not_fill_is_refused(tmp_path):
    text = pickle.dumps(np.arange(4.0), 2).replace(b"K\x04\x85", b"K\x05\x85", 1)
    (tmp_path / "file").write_bytes(text)
    with pytest.raises(DataError, match="cannot have 32 bytes"):
        _pickles.read(tmp_path / "file")
