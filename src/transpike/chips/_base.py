"""The description of a chip: its limits, each None where no public document states one."""

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike.core.toml import read_toml
from transpike.errors import SettingError

RESETS, POOLS = ("soft", "hard"), ("average", "max")
ALPHABETS = ("binary", "ternary", "levels", "phase", "time", "graded")
OPERATORS = ("conv1d", "conv2d", "conv3d", "conv-transpose", "linear", "scale")
MOST = 2**63
WORDS = {"resets": RESETS, "pooling": POOLS, "alphabets": ALPHABETS, "operators": OPERATORS}


@dataclass(frozen=True)
class Source:
    """The source of a limit: its statement ``says``, ``kind`` of document, ``confidence`` "stated" or "derived"."""

    limit: str
    says: str
    url: str
    kind: str = ""
    confidence: str = ""


@dataclass(frozen=True)
class Chip:
    """Limits of a chip; None is not known. Counts are per chip, sizes (height, width), bits include the sign.

    ``destinations``: number of layers that receive the output of one layer; ``fan_in``, ``fan_out``: synapses of one
    neuron; ``inputs``, ``outputs``: elements at the input and output of the chip; channels and sizes are those of one
    convolution. The three memories are lists with one entry per core, and each core holds one layer of weights, as in
    DYNAP-CNN chips: words of ``c 2^(⌈log2 K²⌉ + ⌈log2 f⌉)`` weights, ``f 2^(⌈log2 h⌉ + ⌈log2 w⌉)`` neurons and f biases
    (c channels in, f out). ``levels``: the largest level of one spike.
    """

    name: str
    title: str
    vendor: str = ""
    max_layers: int | None = None
    neurons_total: int | None = None
    synapses_total: int | None = None
    kernel_memory_words: tuple[int, ...] | None = None
    neuron_memory_words: tuple[int, ...] | None = None
    bias_memory_words: tuple[int, ...] | None = None
    destinations: int | None = None
    fan_in: int | None = None
    fan_out: int | None = None
    inputs: int | None = None
    outputs: int | None = None
    input_channels: int | None = None
    output_channels: int | None = None
    max_input_size: tuple[int, ...] | None = None
    max_output_size: tuple[int, ...] | None = None
    kernel_sizes: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    padding_max: int | None = None
    pool_sizes: tuple[int, ...] | None = None
    weight_bits: int | None = None
    threshold_bits: int | None = None
    levels: int | None = None
    resets: tuple[str, ...] | None = None
    alphabets: tuple[str, ...] | None = None
    pooling: tuple[str, ...] | None = None
    operators: tuple[str, ...] | None = None
    groups: bool | None = None
    dilation: bool | None = None
    residual: bool | None = None
    biases: bool | None = None
    negative_spikes: bool | None = None
    analogue_input: bool | None = None
    sources: tuple[Source, ...] = ()

    def source(self, limit: str) -> Source | None:
        """The source of a limit; None without one."""
        return next((source for source in self.sources if source.limit == limit), None)


def read_chip(path: Path) -> Chip:
    """A chip from TOML: ``title``, ``[limits]`` and one ``[[source]]`` (limit, says, url, kind, confidence) for each.

    Raises FileError for a file that is not TOML, SettingError for limits that are unknown, of a wrong type or without
    a source.
    """
    content = read_toml(path)
    limits, sources = content.pop("limits", {}), content.pop("source", [])
    title, vendor = content.pop("title", path.stem), content.pop("vendor", "")
    if not isinstance(title, str) or not isinstance(vendor, str):
        raise SettingError(f"{path}: title and vendor must be text")
    if content or not isinstance(limits, dict) or not isinstance(sources, list):
        raise SettingError(
            f"{path}: a chip file has title, vendor, [limits] and [[source]], not {', '.join(content) or limits}"
        )
    hints = typing.get_type_hints(Chip)
    known = [f.name for f in dataclasses.fields(Chip) if f.name not in ("name", "title", "vendor", "sources")]
    found = {}
    for key, value in limits.items():
        if key not in known:
            raise SettingError(f"{path}: there is no limit named {key!r}; there are {', '.join(known)}")
        found[key] = _value(path, key, value, hints[key])
    read = tuple(_source(path, entry, found) for entry in sources)
    missing = found.keys() - {source.limit for source in read}
    if missing:
        raise SettingError(f"{path}: {', '.join(sorted(missing))} needs a [[source]], so that the limit can be checked")
    return Chip(path.stem, str(title), str(vendor), sources=read, **found)


def _value(path: Path, key: str, value: Any, hint: Any) -> Any:
    kinds = [kind for kind in typing.get_args(hint) if kind is not types.NoneType]
    kind = kinds[0]
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        if not isinstance(value, list) or not all(type(one) is inner for one in value):
            raise SettingError(f"{path}: {key} must be a list of {inner.__name__}, not {value!r}")
        if inner is int and not all(0 <= one < MOST for one in value):
            raise SettingError(f"{path}: {key} must be a list of integers of at least 0, not {value!r}")
        if key in WORDS and (unknown := set(value) - set(WORDS[key])):
            raise SettingError(
                f"{path}: {key} must be some of {', '.join(WORDS[key])}, not {', '.join(sorted(unknown))}"
            )
        return tuple(value)
    if type(value) is not kind or (kind is int and not 0 <= value < MOST):
        raise SettingError(
            f"{path}: {key} must be {'an integer of at least 0' if kind is int else f'a {kind.__name__}'}, not "
            f"{value!r}"
        )
    return value


def _source(path: Path, entry: Any, limits: dict[str, Any]) -> Source:
    if not isinstance(entry, dict) or not {"limit", "says", "url"} <= entry.keys():
        raise SettingError(f"{path}: a [[source]] has limit, says and url")
    if wrong := [name for name, value in entry.items() if not isinstance(value, str)]:
        raise SettingError(f"{path}: {', '.join(wrong)} of a [[source]] must be text")
    if entry["limit"] not in limits:
        raise SettingError(f"{path}: there is a source for {entry['limit']!r}, which is not in [limits]")
    fields = {field.name for field in dataclasses.fields(Source)}
    if unknown := entry.keys() - fields:
        raise SettingError(f"{path}: a [[source]] has no {', '.join(sorted(unknown))}")
    return Source(**entry)
