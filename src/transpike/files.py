"""Save and load spiking networks as safetensors and JSON, without pickle."""

import dataclasses
import importlib.metadata
import json
import math
from math import prod
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from transpike.codes.time_code import TimeCode
from transpike.core import format1, registry
from transpike.core.annotated import fits, wrong_fields
from transpike.core.answer import AnalogueRest, FunctionOfAnswer
from transpike.core.codec import classes_in, decode, encode, not_known
from transpike.core.digest import content_digest
from transpike.core.encoder import Encoder
from transpike.core.exit import ExitPolicy
from transpike.core.graph import Graph, Input, Node, PackedInput
from transpike.core.input_statistics import InputStatistics
from transpike.core.naming import distribution_of, is_ours, qualified
from transpike.core.preprocessing import Preprocessing
from transpike.core.readout import Readout
from transpike.core.recipe import Recipe
from transpike.core.schedule import check_timesteps
from transpike.core.structure import Branch, Fixed, Leaf, Structure
from transpike.errors import FileError, SettingError, TranspikeError
from transpike.hub.address import address_of
from transpike.hub.client import download
from transpike.models import trained
from transpike.results.writing import check_writable, tensor_bytes, write_atomically
from transpike.snn import SNN

VERSION = 2
READS = (1, 2)
"""Versions of the format that ``load`` reads; ``core.format1`` maps the names of version 1."""
ZOO = "zoo:"
"""Before a name, in place of a file: the converted network that comes with the package."""
LARGEST_HEADER = 64 * 2**20
"""Bytes; the header of a typical file has a few hundred kilobytes."""
LARGEST_TRIAL = 2**26
"""Elements of all layers; a network with more is not tried out when it is loaded, because of the memory."""
DTYPES = (
    torch.float32,
    torch.float64,
    torch.float16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)
"""Types of tensors that networks have."""

_KINDS: dict[str, Any] = {
    "graph": Graph,
    "source": Graph,
    "recipe": Recipe,
    "encoder": Encoder,
    "grid_timesteps": int | None,
    "preprocessing": Preprocessing | None,
    "readout": Readout | None,
    "exit": ExitPolicy | None,
    "inputs": InputStatistics | None,
    "before": Graph | None,
}
_OPTIONAL = ("readout", "exit", "inputs", "before")  # files without them have none, or are older
PROVENANCE: dict[str, type] = {
    "seed": int,
    "calibration_samples": int,
    "data_options": dict,
    "fine_tuning": list,
    "metrics": dict,
    "versions": dict,
}
"""Entries of the provenance that are read again, and their types."""
_FIELDS = ("graph", "source", "recipe", "encoder", "preprocessing", "exact_grid", "ranges", "grid_timesteps")
for _part in (
    Graph, Node, Input, PackedInput, Preprocessing, TimeCode, ExitPolicy, FunctionOfAnswer, AnalogueRest,
    InputStatistics, Structure, Branch, Fixed, Leaf,
):  # fmt: skip
    registry.families["part"].add(_part)


def save(snn: SNN, path: str | Path, *, metrics: dict[str, Any] | None = None) -> Path:
    """Write ``snn`` to ``path``; ``metrics`` (JSON) are stored next to its provenance. Returns the path.

    The file is safetensors; its header holds the graph, the recipe and the provenance as JSON, the names of the
    plug-ins whose classes the network uses, and a SHA-256 checksum of the content. An existing file is replaced only
    after the new one is complete.

    Raises FileError if the disk cannot be written, and, before anything is written, if ``load`` could not read the
    result: for classes that are not registered (the message lists all of them) and for values that change in the
    round trip. SettingError for an address of a hub.
    """
    if address_of(path) is not None:
        raise SettingError(f"{path} is an address of a hub: transpike.push_to_hub(snn, …) uploads a network")
    check_writable(path)
    tensors: dict[str, Tensor] = {}
    try:
        content = _content(snn, tensors, metrics)
        text = json.dumps(content, sort_keys=True)
        _check_round_trip(snn, json.loads(text), tensors)
        metadata = {"transpike": str(VERSION), "content": text, "sha256": content_digest(text, tensors)}
        data = tensor_bytes(tensors, metadata)
        if (size := int.from_bytes(data[:8], "little")) > LARGEST_HEADER:
            raise FileError(
                f"its header would have {size:,} bytes, but at most {LARGEST_HEADER:,} are read: store fewer metrics"
            )
    except (TranspikeError, SafetensorError, TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is not written, because it could not be loaded again: {error}") from error
    write_atomically(path, data)
    return Path(path)


def _content(snn: SNN, tensors: dict[str, Tensor], metrics: dict[str, Any] | None) -> dict[str, Any]:
    """The network as plain data; its tensors go into ``tensors``. Raises FileError for unregistered classes."""
    if type(snn) is not SNN:
        raise FileError(f"a file contains an SNN, not a {type(snn).__name__}")
    parts = {name: getattr(snn, name) for name in _FIELDS}
    parts |= {"readout": snn.calibrated_readout} if snn.calibrated_readout is not None else {}
    parts |= {name: value for name in ("exit", "inputs", "before") if (value := getattr(snn, name)) is not None}
    kinds = sorted(classes_in(parts), key=qualified)
    if unregistered := [kind for kind in kinds if registry.file_name(kind) is None]:
        names = ", ".join(f"{kind.__qualname__} of {kind.__module__}" for kind in unregistered)
        raise FileError(
            f"it contains {names}, which is not registered, so no other program could load it: put @transpike.register "
            f"on {'the class' if len(unregistered) == 1 else 'each of these classes'}, above @dataclass(frozen=True)"
        )
    content = {name: encode(part, tensors, name) for name, part in parts.items()}
    outside = {kind.__module__ for kind in kinds if not is_ours(kind.__module__)}
    provenance = snn.provenance | ({"metrics": metrics} if metrics else {})
    return content | {
        "rates": snn.rates,
        "remarks": list(snn.remarks),
        **({"spiking": list(snn.spiking)} if snn.spiking else {}),
        "provenance": provenance,
        "plugins": {module.partition(".")[0]: list(distribution_of(module) or ()) for module in outside},
    }


def _check_round_trip(snn: SNN, content: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Decode ``content`` and compare it with ``snn``. Raises FileError if a field differs."""
    found = _network(content, tensors)
    for field in dataclasses.fields(SNN):
        if field.name not in ("provenance", "remarks") and not _same(
            before := getattr(snn, field.name), after := getattr(found, field.name)
        ):
            differs = type(before).__name__ if type(before) is not type(after) else _difference(before, after)
            raise FileError(f"its {field.name} would be different after loading ({differs})")


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, Tensor):
        equal = isinstance(after, Tensor) and before.dtype == after.dtype and before.shape == after.shape
        return equal and torch.allclose(before.detach().cpu(), after, rtol=0.0, atol=0.0, equal_nan=True)
    return type(before) is type(after) and not _difference(before, after)


def _difference(before: Any, after: Any) -> str:
    """The name of the first difference between two values of one type; "" if they are equal."""
    if isinstance(before, (tuple, dict)):
        items = list(before.items() if isinstance(before, dict) else enumerate(before))
        others = dict(after.items() if isinstance(after, dict) else enumerate(after))
        if len(items) != len(others):
            return type(before).__name__
        return next((str(key) for key, item in items if not _same(item, others.get(key))), "")
    if dataclasses.is_dataclass(before):
        names = [f.name for f in dataclasses.fields(before)]
        wrong = [name for name in names if not _same(getattr(before, name), getattr(after, name))]
        return f"{type(before).__name__}.{wrong[0]}" if wrong else ""
    return "" if before == after or (before != before and after != after) else repr(before)


def load(path: str | Path) -> SNN:
    """Read a network that ``save`` wrote, in format version 1 or 2; ``zoo:NAME`` is one that comes with transpike.

    ``path`` may be an address ``hf://user/name[@revision][/FILE.transpike]`` of the Hugging Face Hub (docs/hub.md):
    only this file is downloaded, and it is read in the same way. Classes are looked up in the registry and never
    imported by name: a plug-in must be installed, or the program must register its classes before loading. Raises
    FileError for a file that is truncated, damaged, foreign or of another version, and for classes that are not
    registered; the message names the plug-in that wrote them. Raises SettingError for a network that does not come
    converted (``transpike.models.pretrained`` lists those that it has), and what ``transpike.hub.client.download``
    raises for an address.
    """
    if str(path).startswith(ZOO):
        path = trained(str(path)).converted_path()
    address = address_of(path)
    stored = Path(path) if address is None else download(address)
    path = stored if address is None else f"{address} (in the cache: {stored})"
    try:
        data = stored.read_bytes()
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror or error}") from error
    metadata = _metadata(data, path)
    version = metadata.get("transpike")
    if version not in [str(read) for read in READS]:
        raise FileError(
            f"{path} has format version {version!r}, this transpike reads {' and '.join(map(str, READS))}; "
            "convert the network again or install the matching version"
        )
    try:
        tensors = safetensors.torch.load(data)
    except (SafetensorError, ValueError, RuntimeError, KeyError, TypeError, OverflowError) as error:
        raise FileError(f"{path} is truncated or damaged ({error}); make it again or restore a copy") from error
    if foreign := sorted({str(value.dtype) for value in tensors.values()} - {str(kind) for kind in DTYPES}):
        raise FileError(f"{path} contains tensors of {', '.join(foreign)}, which a spiking network does not have")
    text = metadata.get("content", "")
    if content_digest(text, tensors) != metadata.get("sha256"):
        raise FileError(f"{path} is damaged: its checksum does not match its content; make it again or restore a copy")
    try:
        content = json.loads(text)
        snn = _network(format1.content(content) if version == "1" else content, tensors)
        _try_out(snn)
    except Exception as error:  # classes, torch and numpy may raise anything for values that no network has
        raise FileError(
            f"{path} does not contain a spiking network that this version can read: {_said(error)}"
        ) from error
    return snn


def _said(error: Exception) -> str:
    """The message of an error, with its type if it is not one of transpike's; quoted values are shortened."""
    text = str(error) if isinstance(error, TranspikeError) else f"{type(error).__name__}: {error}"
    return text if len(text) < 1000 else f"{text[:1000]} …"


def _try_out(snn: SNN) -> None:
    """Make what engines run, and run the source network on zeros. Raises if parts of the network do not fit together.

    Shapes are known before; this finds tensors of another type, settings that contradict each other, and ranges of
    other layers. The program is kept for the first run, so that the only cost is one forward pass.
    """
    if sum(prod(node.shape) for graph in (snn.graph, snn.source) for node in graph) > LARGEST_TRIAL:
        return
    _ = str(snn), snn.program
    with torch.no_grad():
        nothing = torch.zeros(1, *snn.source.input_shape)
        answer = snn.source.run(nothing)
        if snn.before is not None and snn.entering(nothing).shape[1:] != snn.graph.input_shape:
            raise FileError("the analogue part before the spiking part does not match it")
        if snn.rest is not None:
            fits = snn.rest.input_shape == snn.graph.output.shape
            if not fits or snn.rest.output.shape != answer.shape[1:]:
                raise FileError("the analogue part after the spiking part does not match it")


def _network(content: dict[str, Any], tensors: dict[str, Tensor]) -> SNN:
    """The network from a file's content. Raises FileError; classes raise their own errors for invalid fields."""
    if not isinstance(content, dict):
        raise FileError(f"its content is a {type(content).__name__}")
    plugins = dict(content.get("plugins", {}))
    parts = (*_FIELDS, *_OPTIONAL)
    fields = {
        name: decode(content[name], tensors, lambda name: _not_registered(name, plugins))
        for name in parts
        if name in content
    }
    if wrong := [name for name, kind in _KINDS.items() if not isinstance(fields.get(name), kind)]:
        raise FileError(f"its {', '.join(wrong)} has the wrong type")
    found = {
        "calibrated_readout": fields.pop("readout", None),
        "exit": fields.pop("exit", None),
        "inputs": fields.pop("inputs", None),
        "before": fields.pop("before", None),
        "spiking": tuple(content.get("spiking", ())),
        **fields,
        "rates": content["rates"],
        "remarks": tuple(content["remarks"]),
        "provenance": content["provenance"],
    }
    wrong = wrong_fields(SNN, found) + [
        f"provenance: {name} is not a {kind.__name__}"
        for name, kind in PROVENANCE.items()
        if not isinstance(found["provenance"], dict) or not fits(found["provenance"].get(name, kind()), kind)
    ]
    if wrong:
        raise FileError("; ".join(wrong))
    _check_layers(found["graph"], found["ranges"], found["rates"], found["grid_timesteps"])
    return SNN(**found)


def _check_layers(graph: Graph, ranges: dict[str, Tensor], rates: dict[str, float], steps: int | None) -> None:
    """Raises FileError for ranges and rates that are not those of the graph's layers, and for an impossible grid."""
    names = {node.name for node in graph}
    if unknown := sorted((ranges.keys() | rates.keys()) - names):
        raise FileError(f"its ranges and rates name {', '.join(unknown)[:200]}, which are not layers of the network")
    for name, value in ranges.items():
        sizes = {1, *graph[name].shape}  # earlier versions had the features of products on other axes
        if not value.is_floating_point() or value.numel() not in sizes or not bool(torch.isfinite(value).all()):
            what = f"{value.dtype} {list(value.shape)}"
            raise FileError(f"the range of {name} is {what}, not one finite number for each of its channels")
    if wrong := [name for name, rate in rates.items() if not 0 <= rate < math.inf]:
        raise FileError(f"the spike rates of {', '.join(wrong)[:200]} are not numbers of at least 0")
    if steps is not None:
        check_timesteps(steps)


def _not_registered(name: Any, plugins: dict[str, Any]) -> str:
    """The message for a class that is not registered: the plug-in that wrote it, and the version installed here."""
    if not isinstance(name, str) or ":" not in name:
        return not_known(name)
    package = name.partition(":")[0]
    wrote: list[Any] = plugins.get(package) or []
    if len(wrote) != 2:
        return (
            f"it contains {name}, which is not registered here and does not belong to an installed plug-in: run the "
            f"code that defines it, with @transpike.register on it, before loading{registry.hint()}"
        )
    distribution, version = wrote
    try:
        there = importlib.metadata.version(str(distribution))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return (
            f"it contains {name} of the plug-in {distribution} {version}, which is not installed: install "
            f"{distribution}, or import the module that registers the class"
        )
    return (
        f"it contains {name} of the plug-in {distribution} {version}; {distribution} {there} is installed and has not "
        f"registered it: install {version}, or import the module that registers the class{registry.hint()}"
    )


def _metadata(data: bytes, path: str | Path) -> dict[str, str]:
    """The metadata of the header, after a check that the header exists and has a plausible size."""
    size = int.from_bytes(data[:8], "little") if len(data) >= 8 else 0
    if not 2 <= size <= LARGEST_HEADER or 8 + size > len(data):
        if data[:2] == b"PK" or data[:1] == b"\x80":
            raise FileError(f"{path} is a pickle or a zip archive, not a transpike file; transpike never unpickles")
        raise FileError(f"{path} is truncated, damaged or not a transpike file: its header would be {size} bytes long")
    try:
        metadata = dict(json.loads(data[8 : 8 + size]).get("__metadata__") or {})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is damaged or not a transpike file: its header cannot be read") from error
    if not all(isinstance(value, str) for value in metadata.values()):
        raise FileError(f"{path} is damaged or not a transpike file: the metadata of its header is not text")
    if "transpike" not in metadata:
        raise FileError(f"{path} is a safetensors file without a spiking network; pass weights with --weights instead")
    return metadata
