"""The weights of a network among all that a checkpoint holds, under the names that the network uses."""

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transpike.models._torch_files import Record, shell_line

Weights = dict[str, Tensor]
WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DataParallel, torch.compile and FSDP put into names, at any depth."""
IGNORED = ("n_averaged",)
"""Counters that a wrapper adds to the weights: of torch.optim.swa_utils.AveragedModel."""
SHOWN = 6
"""Names of one kind in a message."""
MODULES = 20_000
"""Modules of a network that was saved whole, at most: a damaged file may name the same ones repeatedly."""


def candidates(found: Any) -> dict[str, Weights]:
    """Every set of named tensors in a checkpoint, by the keys that lead to it, joined by dots ("" for the whole)."""
    sets: dict[str, Weights] = {}
    seen: dict[int, str] = {}  # a checkpoint may contain itself, and one set of weights under several keys
    level: list[tuple[str, Any]] = [("", found)]
    while level:
        below: list[tuple[str, Any]] = []
        for place, one in level:
            if not isinstance(one, Mapping):
                continue
            if id(one) in seen:
                if seen[id(one)] in sets:
                    sets[place] = sets[seen[id(one)]]
                continue
            seen[id(one)] = place
            names = {name: value for name, value in one.items() if isinstance(name, str)}
            weights = {name: value for name, value in names.items() if isinstance(value, Tensor)}
            weights = weights or (_of_module(one) if isinstance(one, Record) else {})
            if weights:
                sets[place] = weights
            below += [(f"{place}.{name}".lstrip("."), value) for name, value in names.items()]
        level = below
    return sets


def _of_module(module: Record) -> Weights:
    """The state of a module that was saved whole, as ``state_dict`` names it."""
    weights: Weights = {}
    parts: list[tuple[str, tuple[Record, ...]]] = [("", (module,))]
    for path, above in parts:  # grows
        state = above[-1].state if isinstance(above[-1].state, dict) else {}
        for kind in ("_parameters", "_buffers"):
            for name, value in _mapping(state.get(kind)).items():
                if isinstance(value, Tensor):
                    weights[f"{path}{name}"] = value
        for name, inner in _mapping(state.get("_modules")).items():
            if isinstance(inner, Record) and all(inner is not one for one in above) and len(parts) < MODULES:
                parts.append((f"{path}{name}.", (*above, inner)))
    return weights


def _mapping(value: Any) -> Mapping:
    return value if isinstance(value, Mapping) else {}


def renamed(weights: Weights, module: nn.Module) -> tuple[Weights, str]:
    """``weights`` under the names of ``module`` if a wrapper or a common prefix explains the difference, and how.

    Otherwise ``weights`` and "".
    """
    wanted = module.state_dict()
    given = {name: value for name, value in weights.items() if name not in IGNORED or name in wanted}
    if not misfits(given, wanted):
        return given, "" if len(given) == len(weights) else f"without {', '.join(IGNORED)}"
    own = {_unwrapped(name): name for name in wanted}
    plain = {_unwrapped(name): name for name in given}
    if len(own) != len(wanted) or len(plain) != len(given):
        return weights, ""
    for drop in range(8):
        heads = {tuple(name.split(".")[:drop]) for name in plain}
        if len(heads) != 1 or any(name.count(".") < drop for name in plain):
            break
        prefix = "".join(f"{part}." for part in heads.pop())
        for add in {""} | {"".join(f"{part}." for part in name.split(".")[:1]) for name in own}:
            new = {own.get(add + name[len(prefix) :], name): given[old] for name, old in plain.items()}
            if len(new) == len(given) and not misfits(new, wanted):
                return new, _said(list(given), list(new), prefix, add)
    return weights, ""


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _said(old: list[str], new: list[str], prefix: str, add: str) -> str:
    index = next(index for index, (one, other) in enumerate(zip(old, new, strict=True)) if one != other)
    if old[index].endswith(f".{new[index]}"):
        head = old[index].removesuffix(new[index])
        if all(one == head + other for one, other in zip(old, new, strict=True)):
            return f"names without the prefix {head!r}"
    return f"{old[index]!r} read as {new[index]!r}, and all other names in the same way"


def misfits(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The reasons why these weights cannot be loaded, one line each; long lists are shortened."""
    missing = [
        f"missing in the file: {name} {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name not in given and not name.endswith("num_batches_tracked")
    ]
    extra = [f"not in the network: {name} {list(given[name].shape)}" for name in given if name not in wanted]
    other = []
    for name, tensor in wanted.items():
        if name not in given:
            continue
        if given[name].shape != tensor.shape:
            other.append(f"{name} is {list(given[name].shape)} in the file, {list(tensor.shape)} in the network")
        elif tensor.is_floating_point() and not given[name].is_floating_point():
            other.append(f"{name} is {given[name].dtype} in the file, {tensor.dtype} in the network")
    return [*_short(missing), *_short(extra), *_short(other)]


def _short(lines: list[str]) -> list[str]:
    return lines if len(lines) <= SHOWN else [*lines[: SHOWN - 1], f"… and {len(lines) - SHOWN + 1} more like this"]


def way_out(given: Weights, wanted: Mapping[str, Tensor], source: str, target: str) -> str:
    """How to write fitting weights of ``source`` to ``target``, with the line for a shell; "" if none would fit."""
    heads = {"".join(f"{part}." for part in name.split(".")[:depth]) for name in given for depth in range(4)}
    for head in sorted(heads, key=len):  # "" first: only names too many
        part = {name[len(head) :]: value for name, value in given.items() if name.startswith(head)}
        chosen = {name: value for name, value in part.items() if name in wanted}
        if not chosen or misfits(chosen, wanted):
            continue
        few = [name for name in part if name not in wanted]
        if len(few) > SHOWN:
            continue
        rest = len(given) - len(chosen)
        what = f"The names that begin with {head!r} fit" if head else "All that the network needs is in the file"
        what += f"; {rest} other{'s are' if rest > 1 else ' is'} not used. If the network is correct, drop them:"
        wish = f"if k.startswith({head!r})" + (f" and k[{len(head)}:] not in {few}" if few else "")
        return f"{what}\n{_command(source, target, f'{{k[{len(head)}:]: v for k, v in w.items() {wish}}}')}"
    names = _renaming(given, wanted)
    if not names:
        return ""
    one, other = next(iter(names.items()))
    what = f"The shapes fit if names are replaced, like {one!r} by {other!r} ({len(names)} names)"
    if len(names) > 4 * SHOWN:
        return f"{what}; transpike.models.read_weights({source!r}) returns the tensors by name."
    return f"{what}. If this is intended:\n" + _command(
        source, target, f"{{{names}.get(k, k): v for k, v in w.items()}}"
    )


def _command(source: str, target: str, weights: str) -> str:
    code = (
        f"import transpike as ts; from safetensors.torch import save_file; w = ts.models.read_weights({source!r}); "
        f"save_file({{k: v.clone() for k, v in {weights}.items()}}, {target!r})"
    )
    return shell_line(code)


def _renaming(given: Weights, wanted: Mapping[str, Tensor]) -> dict[str, str]:
    """Name in the file → name in the network, for all that are not found, where shapes and names tell them; or {}."""
    missing = [n for n in wanted if n not in given and not n.endswith("num_batches_tracked")]
    extra = [n for n in given if n not in wanted and not n.endswith("num_batches_tracked")]
    if len(missing) != len(extra) or len(missing) > 500:
        return {}
    found: dict[str, str] = {}
    for name in extra:
        fits = [one for one in missing if wanted[one].shape == given[name].shape and one not in found.values()]
        close = difflib.get_close_matches(name, fits, n=1, cutoff=0.0)
        if not close:
            return {}
        found[name] = close[0]
    new = {found.get(name, name): value for name, value in given.items()}
    extra_counts = {name: value for name, value in new.items() if name in wanted}
    return {} if misfits(extra_counts, wanted) else found


def same(one: Weights, other: Weights) -> bool:
    """True for two sets with the same names and values."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
