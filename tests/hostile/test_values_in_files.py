"""Files with a valid checksum whose values no network has: refused when they are loaded, by name."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

import transpike as ts
from transpike.core.digest import content_digest
from transpike.errors import FileError

GOLDEN = Path(__file__).parents[1] / "golden/format1"
Change = Callable[[dict[str, Any], dict[str, Tensor]], None]


def changed(name: str, path: Path, change: Change) -> Path:
    """The golden file with a change of its content and tensors, and a checksum that fits."""
    content = (GOLDEN / f"{name}.transpike").read_bytes()
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    inner = json.loads(header["__metadata__"]["content"])
    change(inner, tensors)
    text = json.dumps(inner)
    try:
        digest = content_digest(text, tensors)
    except TypeError:  # numpy has no such type: the file could not be made by transpike
        digest = ""
    metadata = {"transpike": header["__metadata__"]["transpike"], "content": text, "sha256": digest}
    path.write_bytes(safetensors.torch.save({k: v.contiguous() for k, v in tensors.items()}, metadata))
    return path


def tensor_named(tensors: dict[str, Tensor], part: str) -> str:
    return next(name for name in sorted(tensors) if part in name)


def test_the_file_itself_is_loaded(tmp_path: Path) -> None:
    ts.load(changed("ecc", tmp_path / "net.transpike", lambda inner, tensors: None))


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64])
def test_tensors_of_types_that_no_network_has(tmp_path: Path, kind: torch.dtype) -> None:
    def change(inner: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        name = tensor_named(tensors, "weight")
        tensors[name] = tensors[name].to(kind)

    with pytest.raises(FileError, match=str(kind)):
        ts.load(changed("ecc", tmp_path / "net.transpike", change))


@pytest.mark.parametrize("kind", [torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool])
def test_a_layer_with_a_weight_of_another_type_than_its_inputs(tmp_path: Path, kind: torch.dtype) -> None:
    def change(inner: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        name = next(name for name in sorted(tensors) if name.startswith("source") and "weight" in name)
        tensors[name] = tensors[name].to(kind)

    with pytest.raises(FileError, match="does not contain a spiking network"):
        ts.load(changed("ecc", tmp_path / "net.transpike", change))


@pytest.mark.parametrize("part", ["bias", "ranges", "weight", "threshold"])
def test_tensors_of_other_shapes(tmp_path: Path, part: str) -> None:
    def change(inner: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        name = tensor_named(tensors, part)
        tensors[name] = torch.cat([tensors[name].flatten()] * 7)

    with pytest.raises(FileError, match="does not contain a spiking network"):
        ts.load(changed("ecc", tmp_path / "net.transpike", change))


NONSENSE = {
    "rates of text": ("rates", {"1": "a"}, "rates is a dict"),
    "rates that are a list": ("rates", [1], "rates is a list"),
    "rates below zero": ("rates", {"1": -1.0}, "spike rates of 1 are not numbers of at least 0"),
    "rates that are infinite": ("rates", {"1": float("inf")}, "spike rates of 1"),
    "rates of no layer": ("rates", {"nowhere": 0.1}, "nowhere, which are not layers"),
    "ranges of no layer": ("ranges", {"dict": {"nowhere": {"tensor": "T"}}}, "nowhere, which are not layers"),
    "ranges of text": ("ranges", {"dict": {"1": "a"}}, "ranges is a dict"),
    "preprocessing of another type": ("preprocessing", {"type": "Streaming", "fields": {}}, "preprocessing has the wrong type"),
    "preprocessing by text": (
        "preprocessing", {"type": "Preprocessing", "fields": {"mean": "0", "std": {"tuple": [1.0]}}}, "mean is '0'",
    ),
    "preprocessing by NaN": (
        "preprocessing", {"type": "Preprocessing", "fields": {"mean": {"tuple": [float("nan")]}}}, "mean",
    ),
    "preprocessing that divides by 0": (
        "preprocessing", {"type": "Preprocessing", "fields": {"std": {"tuple": [0.0]}}}, "std",
    ),
    "an encoder in place of a recipe": ("recipe", {"type": "ConstantCurrent", "fields": {}}, "recipe has the wrong type"),
    "an exact grid by text": ("exact_grid", "yes", "exact_grid is 'yes', not bool"),
    "a grid of no steps": ("grid_timesteps", 0, "timesteps must be an integer"),
    "a grid of endless steps": ("grid_timesteps", 2**40, "timesteps must be an integer"),
    "remarks of numbers": ("remarks", [1], "remarks is a tuple"),
    "a provenance that is a list": ("provenance", [], "provenance is a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", NONSENSE)
def test_parts_of_another_kind(tmp_path: Path, case: str) -> None:
    part, value, words = NONSENSE[case]

    def change(inner: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        tensors["T"] = torch.ones(1)
        inner[part] = value

    with pytest.raises(FileError, match=words):
        ts.load(changed("ecc", tmp_path / "net.transpike", change))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("stride", {"tuple": [0, 0]}, "does not fit inputs"),
        ("stride", {"tuple": [1.5, 1]}, "stride is a tuple, not tuple"),
        ("groups", True, "groups is True, not int"),
        ("groups", "1", "groups is '1', not int"),
        ("padding", None, "padding is None"),
        ("weight", None, "weight is None, not Tensor"),
    ],
)
def test_a_field_of_another_type_is_named(tmp_path: Path, field: str, value: Any, words: str) -> None:
    def change(inner: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        nodes = inner["source"]["fields"]["nodes"]["tuple"]
        conv = next(node["fields"]["op"] for node in nodes if node["fields"]["op"]["type"] == "Conv")
        conv["fields"][field] = value

    with pytest.raises(FileError, match=words):
        ts.load(changed("ecc", tmp_path / "net.transpike", change))


@pytest.mark.parametrize("depth", [300, 3000, 100_000])
def test_deep_nesting_is_refused(tmp_path: Path, depth: int) -> None:
    content = (GOLDEN / "ecc.transpike").read_bytes()
    tensors = safetensors.torch.load(content)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    text = header["__metadata__"]["content"].replace(
        '"remarks": ', '"recipe": ' + '{"tuple": [' * depth + "]}" * depth + ', "remarks": ', 1
    )
    metadata = {"transpike": "1", "content": text, "sha256": content_digest(text, tensors)}
    (tmp_path / "net.transpike").write_bytes(safetensors.torch.save(tensors, metadata))
    with pytest.raises(FileError, match="does not contain a spiking network"):
        ts.load(tmp_path / "net.transpike")


def test_a_large_network_is_not_tried_out_when_it_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # its layers may need more memory than this machine has; shapes and types are checked nevertheless
    monkeypatch.setattr("transpike.files.LARGEST_TRIAL", 10)
    loaded = ts.load(GOLDEN / "ecc.transpike")
    assert "program" not in vars(loaded)
