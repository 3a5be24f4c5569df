"""Training checkpoints: safetensors files, replaced atomically, so that an interrupted write keeps the old file."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from transpike.core.annotated import fits, wrong_fields
from transpike.core.tensor_fields import DTYPES
from transpike.errors import CheckpointError, SettingError
from transpike.results.writing import tensor_bytes, write_atomically

FORMAT = "transpike training checkpoint"
VERSION = "2"  # 1: momentum only; its settings had no schedules, stages, penalties or processes
ADDED = ("code", "images")
"""Settings that earlier checkpoints of this version lack, and which are not compared when they are resumed."""
SEED_SCHEME = "numpy SeedSequence((seed, epoch)), epoch 0 for the validation part"


@dataclass(frozen=True)
class Row:
    """One epoch; losses in nats, accuracies 0 to 1 (training: under augmentation; None for tasks
    without an accuracy); ``learning_rate`` at its end.

    ``train_loss`` excludes the ``penalty`` of the activations (0 if there is none).
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float
    penalty: float = 0.0


@dataclass(frozen=True)
class MeasuredRow(Row):
    """One epoch by a task without an accuracy: its first ``metric``, and the value on the validation part."""

    metric: str = ""
    validation_value: float | None = None


@dataclass
class State:
    """The state of a training besides network and optimiser; ``best`` are the tensors after ``best_epoch``.

    ``scaler``: state of the loss scaler in float16, else empty. ``logs``: what loggers need to resume, by their name.
    """

    history: list[Row]
    best_epoch: int
    best: dict[str, Tensor]
    scaler: dict[str, Any] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)


def save(
    path: Path,
    settings: dict[str, Any],
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    state: State,
) -> None:
    """Write weights, optimiser state, the best weights if they are not the last, and all other state as JSON."""
    tensors = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    if state.best_epoch != len(state.history):
        tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    for name, parameter in parameters.items():
        for key, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimiser.{key}.{name}"] = value
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "progress": json.dumps({"epoch": len(state.history), "best_epoch": state.best_epoch}),
        "settings": json.dumps(settings),
        "settings_sha256": _hash(settings),
        "seed_scheme": SEED_SCHEME,
        "history": json.dumps([asdict(row) for row in state.history]),
        "scaler": json.dumps(state.scaler),
        "preprocessing": json.dumps(settings["preprocessing"]),
        "spec": settings["spec"],
        **({"logs": json.dumps(state.logs)} if state.logs else {}),
    }
    _write(path, tensors, metadata)


def load(
    path: Path,
    settings: dict[str, Any],
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: Mapping[str, nn.Parameter],
    restart: str = "resume=False (--no-resume) to restart and overwrite it",
) -> State:
    """Load a checkpoint into network and optimiser; ``restart`` is the remedy that an error names.

    Raises SettingError for other settings, CheckpointError for a damaged file or an old version.
    """
    tensors, metadata = _read(path)
    if metadata.get("version") != VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of version {metadata.get('version', '1')}, but this transpike resumes only "
            f"version {VERSION}: finish it with the older transpike, or use {restart}"
        )
    try:
        before, history = json.loads(metadata["settings"]), json.loads(metadata["history"])
        rows = [(MeasuredRow if "metric" in row else Row)(**row) for row in history]
        best_epoch = int(json.loads(metadata["progress"])["best_epoch"])
        scaler = dict(json.loads(metadata["scaler"]))
        logs = {str(name): str(value) for name, value in dict(json.loads(metadata.get("logs", "{}"))).items()}
        if wrong := [text for row in rows for text in wrong_fields(type(row), vars(row))]:
            raise ValueError(f"its history: {'; '.join(wrong[:3])}")
        if not 0 <= best_epoch <= len(rows) or not all(fits(value, float) for value in scaler.values()):
            raise ValueError("its best epoch or the state of its loss scaler is none")
        given = {name: value for name, value in settings.items() if name in before or name not in ADDED}
        same = metadata["settings_sha256"] == _hash(given) and metadata["seed_scheme"] == SEED_SCHEME
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}. Delete it to restart") from error
    if not same:
        names = [name for name in {**before, **given} if before.get(name) != given.get(name)]
        changes = ", ".join(f"{name} was {before.get(name)!r}, now {given.get(name)!r}" for name in names)
        raise SettingError(
            f"{path} belongs to a training with other settings: {changes or 'another seed scheme'}. Use the old "
            f"settings, another path, or {restart}"
        )
    try:
        module.load_state_dict(_part(tensors, "model."))
        for place, value in _part(tensors, "optimiser.").items():
            key, _, name = place.partition(".")
            # in the layout and on the device of the parameter, as the optimiser creates it; its step counter is on
            # the CPU
            parameter = parameters[name]
            shape = () if key == "step" else parameter.shape
            if value.shape != shape or value.is_complex():
                raise ValueError(f"{place} is {value.dtype}{list(value.shape)}, not {list(shape)}")
            optimiser.state[parameter][key] = value if key == "step" else torch.empty_like(parameter).copy_(value)
        if lacking := sorted(_lacking(optimiser)):
            raise ValueError(f"the state of the optimiser lacks {', '.join(lacking)}")
        best = _part(tensors, "model." if best_epoch == len(rows) else "best.")
        wanted = {name: tensor.shape for name, tensor in module.state_dict().items()}
        if best_epoch and {name: tensor.shape for name, tensor in best.items()} != wanted:
            raise ValueError("its best weights are not those of the network")
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}. Delete it to restart") from error
    return State(rows, best_epoch, best, scaler, logs)


def _lacking(optimiser: torch.optim.Optimizer) -> set[str]:
    """The tensors that the optimiser needs for a parameter that has been trained, and lacks."""
    lacking: set[str] = set()
    everything = set().union(*optimiser.state.values())
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if not (state := optimiser.state.get(parameter)):
                continue
            needed = everything  # of the same kind for all parameters
            if isinstance(optimiser, torch.optim.Adam):
                needed = {"step", "exp_avg", "exp_avg_sq"} | ({"max_exp_avg_sq"} if group["amsgrad"] else set())
            elif hasattr(optimiser, "state_names"):  # GradR
                needed = optimiser.state_names(group, parameter)
            lacking |= needed - state.keys()
    return lacking


def save_weights(module: nn.Module, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Save the plain state of ``module`` for ``models.load_weights``; ``metadata`` holds text only."""
    _write(Path(path), module.state_dict(), {"format": "transpike weights", **(metadata or {})})


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    # cloned, because safetensors refuses tensors that share memory
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, tensor_bytes(copies, metadata), make_folder=True)


def write_log(path: Path, rows: Sequence[Row]) -> None:
    """Replace the log, one line of JSON for each epoch."""
    text = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
    write_atomically(path, text.encode(), make_folder=True)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged: {error}. Delete it to restart") from error
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a training checkpoint of transpike; use another path for the checkpoint")
    if foreign := [f"{name} is {tensor.dtype}" for name, tensor in tensors.items() if tensor.dtype not in DTYPES]:
        raise CheckpointError(f"{path} is damaged: {foreign[0]}. Delete it to restart")
    return tensors, metadata


def _hash(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
