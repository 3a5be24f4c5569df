"""Weights from a file, without running code from the file."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from transpike.errors import CheckpointError

CONVERT = """\
Convert it once, where you trust its origin:
    import torch; from safetensors.torch import save_file
    weights = torch.load({path!r}, map_location="cpu", weights_only=True)
    save_file({{k: v.clone().contiguous() for k, v in weights.items()}}, {target!r})"""


def load_weights(module: nn.Module, path: str | Path) -> dict[str, str]:
    """Copy the tensors of a safetensors file into ``module`` (in place); returns the file's metadata.

    Half precision is converted to the module's type. Raises CheckpointError, without changes to the module, if the file
    is missing, not safetensors, damaged, a training checkpoint, not finite, or does not fit; the error lists all names.
    """
    metadata, tensors = _read(Path(path))
    problems = _mismatches(module.state_dict(), tensors)
    if problems:
        raise CheckpointError(f"{path} does not fit {type(module).__name__}:\n  " + "\n  ".join(problems))
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: the tensor {name} holds NaN or infinite values; the training has diverged")
    # only BatchNorm's num_batches_tracked may be missing here, and evaluation does not need it
    module.load_state_dict(tensors, strict=False)
    return metadata


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"no weights at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") == "transpike training checkpoint":
                epoch = json.loads(metadata["progress"])["epoch"]
                raise CheckpointError(
                    f"{path} is a training checkpoint (after epoch {epoch}), not finished weights: run the training "
                    "again with resume=True to its end, and use the weights file that it writes"
                )
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        # checked only now, because the length at the start of a safetensors file may have the same bytes
        with path.open("rb") as file:
            pickled = file.read(4).startswith((b"PK", b"\x80"))
        if pickled:
            way = CONVERT.format(path=str(path), target=path.with_suffix(".safetensors").name)
            what = "a pickle, which can run any code when it is opened, so it is not read"
            raise CheckpointError(f"{path} is {what}. {way}") from error
        raise CheckpointError(f"{path} is not a safetensors file, or is truncated or damaged: {error}") from error


def _mismatches(wanted: dict[str, Tensor], given: dict[str, Tensor]) -> list[str]:
    problems = [
        f"missing in the file: {name} {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name not in given and not name.endswith("num_batches_tracked")
    ]
    problems += [f"not in the network: {name} {list(given[name].shape)}" for name in given if name not in wanted]
    for name, tensor in wanted.items():
        if name not in given:
            continue
        if given[name].shape != tensor.shape:
            problems.append(f"{name} is {list(given[name].shape)} in the file, {list(tensor.shape)} in the network")
        elif tensor.is_floating_point() and not given[name].is_floating_point():
            problems.append(f"{name} is {given[name].dtype} in the file, {tensor.dtype} in the network")
    return problems
