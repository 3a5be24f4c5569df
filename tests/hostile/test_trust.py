"""What a file may make transpike do: nothing but become a network. Programs are code, and opened only if trusted."""

import contextlib
import json
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

import transpike as ts
from commands import run
from transpike import data, models
from transpike.cli import _base
from transpike.core.digest import content_digest
from transpike.errors import CheckpointError, FileError, SettingError

GOLDEN = Path(__file__).parents[1] / "golden/format1/ecc.transpike"


class Evil:
    """Its pickle makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "net.pt2"
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10)).eval()
    batch = {"input": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(model, (torch.zeros(2, 1, 8, 8),), dynamic_shapes=batch), path)
    return path


def with_member(path: Path, name: str, content: bytes) -> Path:
    """The archive with another content of the member whose name ends with ``name``."""
    with zipfile.ZipFile(path) as archive:
        members = {member: archive.read(member) for member in archive.namelist()}
    changed = [member for member in members if member.endswith(name)]
    assert changed
    new = path.with_name("evil.pt2")
    with zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:
        for member, before in members.items():
            archive.writestr(member, content if member in changed else before)
    return new


def test_a_program_is_not_opened_unless_it_is_trusted(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "it-ran"
    torch.save({"x": Evil(mark)}, tmp_path / "pickle")
    evil = with_member(program, "data/sample_inputs/model.pt", (tmp_path / "pickle").read_bytes())
    with pytest.raises(CheckpointError, match=r"can run any code.*--trust \(trust=True in Python\)"):
        models.build(f"file:{evil}")
    assert "can run any code" in run("inspect", "--model", f"file:{evil}", code=5).output
    assert not mark.exists()
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # torch's remarks about the pickle
    with contextlib.suppress(CheckpointError):
        models.build(f"file:{evil}", trust=True)
    assert mark.exists()  # else the test would also pass with a pickle that does nothing


@pytest.mark.parametrize("place", ["guards", "sizes"])
def test_a_text_in_a_program_is_code_too(program: Path, tmp_path: Path, place: str) -> None:
    # why a check of the pickles in a program would not be enough: torch 2.13 evaluates both of these texts
    mark = tmp_path / "it-ran"
    code = f"__import__('os').mkdir({str(mark)!r}) is None"
    with zipfile.ZipFile(program) as archive:
        name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
        graph = json.loads(archive.read(name))
    if place == "guards":
        graph["guards_code"] = [code]
    else:
        value = next(iter(graph["graph_module"]["graph"]["tensor_values"].values()))
        value["sizes"][0] = {"as_expr": {"expr_str": code, "hint": {"as_int": 2}}}
    evil = with_member(program, "models/model.json", json.dumps(graph).encode())
    with pytest.raises(CheckpointError, match="can run any code"):
        models.build(f"file:{evil}", input_shape=(1, 8, 8))
    assert not mark.exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # torch's own, when it exports the program again
def test_a_trusted_program_is_opened(program: Path) -> None:
    module, found = models.build(f"file:{program}", trust=True)
    assert found.input_shape == (1, 8, 8) and module(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert "--trust" in run("convert", "--help").output
    assert "linear 64→8" in run("inspect", "--model", f"file:{program}", "--trust").output


def saved(tmp_path: Path, **changes: Any) -> Path:
    """A network whose provenance holds ``changes``, with a valid checksum."""
    snn = ts.load(GOLDEN)
    snn.provenance.update(changes)
    return ts.save(snn, tmp_path / "net.transpike")


GOOD: list[dict[str, Any]] = [
    {}, {"bins": 20}, {"bins": 1, "span": None, "frames": "two-channel"}, {"span": 1000, "frames": "signed"},
]  # fmt: skip
BAD: list[Any] = [
    {"root": "/"}, {"download": True}, {"kind": "KMNIST"}, {"paths": "/etc/passwd"}, {"path": "x.npz"},
    {"directory": "/"}, {"files": []}, {"name": "x"}, {"preprocessing": None}, {"size": 32}, {"split_seed": 1},
    {"bins": 0}, {"bins": True}, {"bins": "4"}, {"bins": 2**40}, {"bins": 4.0}, {"bins": None}, {"span": -1},
    {"span": 2**60}, {"frames": "other"}, {"frames": ["signed"]}, {"bins": 4, "data_dir": "/"}, {"": 1}, [1], "bins", 3,
]  # fmt: skip


@pytest.mark.parametrize("options", GOOD, ids=str)
def test_options_of_recordings_are_taken_from_a_file(options: dict[str, Any]) -> None:
    assert data.recording_options(options) == options


@pytest.mark.parametrize("options", BAD, ids=str)
def test_other_options_are_not(options: Any) -> None:
    with pytest.raises(FileError, match="not those of recordings"):
        data.recording_options(options)


@pytest.mark.parametrize("option", ["path", "paths", "directory", "files", "root", "kind", "download"])
def test_the_place_of_a_data_set_is_no_option(tmp_path: Path, option: str) -> None:
    for name in ("digits", "cifar10", f"npz:{tmp_path / 'a.npz'}", f"imagefolder:{tmp_path}", f"events:{tmp_path}"):
        with pytest.raises(SettingError, match=f"has no option {option}"):
            data.load(name, tmp_path, **{option: "anywhere"})


def test_a_file_does_not_choose_what_a_reader_of_data_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[dict[str, Any]] = []
    monkeypatch.setitem(data.sources, "torchvision-sets", lambda **arguments: called.append(arguments))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    anywhere = tmp_path / "anywhere"
    path = saved(tmp_path, data_options={"kind": "KMNIST", "root": str(anywhere), "download": True})
    output = run("evaluate", path, "--data", "cifar10", "--data-dir", tmp_path, code=5).output
    assert "not those of recordings" in output and "root" in output
    assert not called and not anywhere.exists()


def test_the_options_that_are_stored_are_those_that_are_accepted(tmp_path: Path) -> None:
    snn = ts.load(GOLDEN)
    recordings = data.Dataset(
        "x", data.Split(torch.zeros(2, 3, 1, 4, 4), torch.arange(2)), data.Split(torch.zeros(0, 1, 1, 1), torch.arange(0)),
        ("a", "b"), ts.Preprocessing(),
    )  # fmt: skip
    import click

    with click.Context(click.Command("convert")) as context:
        context.meta[_base.__name__] = {"span": 5, "frames": "signed"}
        _base.note_origin(snn, "zoo:small-cnn", None, recordings)
    assert data.recording_options(snn.provenance["data_options"]) == {"bins": 3, "span": 5, "frames": "signed"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", "x"), ("calibration_samples", 1.5), ("data_options", [1]), ("fine_tuning", {}), ("seed", True)],
)
def test_provenance_of_another_type_is_refused(tmp_path: Path, name: str, value: Any) -> None:
    path = tmp_path / "net.transpike"
    content = GOLDEN.read_bytes()
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    inner = json.loads(header["__metadata__"]["content"])
    inner["provenance"][name] = value
    text = json.dumps(inner)
    path.write_bytes(
        safetensors.torch.save(tensors, {"transpike": "1", "content": text, "sha256": content_digest(text, tensors)})
    )
    with pytest.raises(FileError, match=f"provenance: {name} is not"):
        ts.load(path)
