"""Weights from a file, without running code from the file."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from transpike.core.tensor_fields import DTYPES
from transpike.errors import CheckpointError
from transpike.models import _torch_files
from transpike.models._checkpoints import Weights, candidates, misfits, renamed, same, way_out


def load_weights(module: nn.Module, path: str | Path) -> dict[str, str]:
    """Copy the weights of a file into ``module`` (in place); returns the file's metadata.

    The file is safetensors, or one of ``torch.save``: a state dict, a checkpoint that holds one in a dictionary, or a
    whole module. It is read without running code and without importing what it names. Among several sets of weights the
    one that fits is taken; if several fit, ``FILE#KEY`` selects one, as in ``checkpoint.pth#model_ema``. Prefixes that
    all names share, and those of DataParallel and torch.compile, are removed. ``"remark"`` in the result states what
    was selected and renamed. Half precision is converted to the module's type.

    Raises CheckpointError, without changes to the module, if the file is missing, damaged, of another kind, a training
    checkpoint, not finite, or does not fit; the error lists the names.
    """
    if lazy := [name for name, value in module.named_parameters() if is_lazy(value)]:
        raise CheckpointError(
            f"{type(module).__name__} has layers without a size yet ({lazy[0]}): run one batch through it, then load"
        )
    metadata, found, place, path = read(path)
    weights, remark = _fitting(found, place, module, path)
    for name, tensor in weights.items():
        if tensor.dtype not in DTYPES:
            raise CheckpointError(
                f"{path}: the tensor {name} is {tensor.dtype}, but weights must be floating-point numbers of 16 to 64 "
                "bits: convert it with tensor.float()"
            )
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{path}: the tensor {name} contains NaN or infinite values; the training has diverged"
            )
    # only BatchNorm's num_batches_tracked may be missing here, and evaluation does not need it
    module.load_state_dict(weights, strict=False)
    return metadata | ({"remark": f"{path.name}: {remark}"} if remark else {})


def read_weights(path: str | Path) -> Weights:
    """Name → tensor of a file, without a network that selects or renames; ``FILE#KEY`` selects a set of weights.

    Raises CheckpointError, also for several sets of weights without a selection.
    """
    _, found, _, path = read(path)
    if len(found) > 1:
        raise CheckpointError(f"{path} contains several sets of weights: {_choices(found, path)}")
    return next(iter(found.values()))


def metadata_of(path: str | Path) -> dict[str, str]:
    """The metadata of a safetensors file; {} for other files, and for those that cannot be read."""
    try:
        with safe_open(_split(path)[0], framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        return {}


def read(path: str | Path) -> tuple[dict[str, str], dict[str, Weights], str, Path]:
    """Metadata, sets of weights by their keys, the key that the name selects, and the file. Raises CheckpointError."""
    file, place = _split(path)
    if not file.is_file():
        raise CheckpointError(f"no weights at {file}")
    with file.open("rb") as stream:
        pickled = stream.read(4).startswith((b"PK", b"\x80"))
    metadata, found = _safetensors(file, pickled)
    if not found:
        found = candidates(_torch_files.read(file))
    if place:
        if place not in found:
            raise CheckpointError(f"{file} contains no weights under {place!r}: {_choices(found, file)}")
        found = {place: found[place]}
    if not found:
        raise CheckpointError(f"{file} contains no named tensors")
    return metadata, found, place, file


def _split(path: str | Path) -> tuple[Path, str]:
    """The file and the key of FILE#KEY."""
    name, mark, place = str(path).rpartition("#")
    return (Path(name), place) if mark and not Path(path).exists() else (Path(path), "")


def _safetensors(path: Path, pickled: bool) -> tuple[dict[str, str], dict[str, Weights]]:
    """Metadata and weights; none where the file is ``pickled``.

    The length at the start of a safetensors file may have the bytes with which a pickle begins: so it is tried first.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") == "transpike training checkpoint":
                epoch = json.loads(metadata["progress"])["epoch"]
                raise CheckpointError(
                    f"{path} is a training checkpoint (after epoch {epoch}), not finished weights: run the training "
                    "again with resume=True to its end, and use the weights file that it writes"
                )
            return metadata, {"": {name: file.get_tensor(name) for name in file.keys()}}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        if pickled:
            return {}, {}
        raise CheckpointError(f"{path} is not a safetensors file, or is truncated or damaged: {error}") from error


def _fitting(found: dict[str, Weights], place: str, module: nn.Module, path: Path) -> tuple[Weights, str]:
    """The set of weights that fits the module, with its names, and a remark about both."""
    wanted = module.state_dict()
    read_as = {key: renamed(weights, module) for key, weights in found.items()}
    fitting = {key: value for key, value in read_as.items() if not misfits(value[0], wanted)}
    first = next(iter(fitting), "")
    if len(fitting) > 1 and not all(same(weights, fitting[first][0]) for weights, _ in fitting.values()):
        raise CheckpointError(
            f"{path} contains several sets of weights that fit {type(module).__name__}: {_choices(fitting, path)}"
        )
    if not fitting:
        closest = min(found, key=lambda key: len(misfits(found[key], wanted)) - len(wanted.keys() & found[key].keys()))
        raise CheckpointError(_no_fit(found, closest, wanted, module, path))
    weights, how = fitting[first]
    under = f"the weights under {first!r}" if first and not place else ""
    return weights, ", ".join(part for part in (under, how) if part)


def _choices(found: dict[str, Any], path: Path) -> str:
    names = ", ".join(repr(name) for name in found) or "there are none"
    example = next((name for name in found if name), "")
    return f"{names}" + (f"; select one, as in {path}#{example}" if example else "")


def _no_fit(found: dict[str, Weights], key: str, wanted: dict[str, Tensor], module: nn.Module, path: Path) -> str:
    weights = found[key]
    name = f"{path}#{key}" if key else str(path)
    others = (
        f"\nIt also contains weights under {', '.join(map(repr, sorted(set(found) - {key})))}."
        if len(found) > 1
        else ""
    )
    target = path.with_suffix("").name + "-renamed.safetensors"
    way = way_out(weights, wanted, name, target)
    lines = "\n  ".join(misfits(weights, wanted))
    return f"{name} does not fit {type(module).__name__}:\n  {lines}{others}" + (f"\n{way}" if way else "")
