"""What a training is made of: bounds, and a fingerprint of the network."""

import hashlib
import math
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.fingerprint import code_of
from transpike.errors import DataError, SettingError
from transpike.training.optimisers import ALPHA, DECAY, RATES, SPARSITY

SCHEDULES = ("cosine", "step")
WHOLE = ("epochs", "batch_size", "seed", "warmup_epochs", "step_size")


def check(settings: dict[str, Any], images: int, ranks: int = 1) -> None:
    """Raises SettingError for a setting out of its bounds or without effect, DataError for fewer than two images."""

    def within(name: str, low: float, high: float = math.inf, open_high: bool = False) -> None:
        value = settings[name]
        kind = int if name in WHOLE else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind):
            raise SettingError(f"{name} must be a {'whole ' if kind is int else ''}number, not {value!r}")
        if not low <= value <= high or (open_high and value == high) or not math.isfinite(value):
            raise SettingError(f"{name} must be from {low:g} to {high:g}, not {value}")

    within("epochs", 1)
    within("batch_size", ranks)  # each of the processes gets an image
    within("seed", 0)
    within("weight_decay", 0)
    within("warmup_epochs", 0, settings["epochs"], open_high=True)
    for name in ("momentum", "label_smoothing", "validation_fraction"):
        within(name, 0, 1, open_high=True)
    within("learning_rate", 0)
    if settings["schedule"] not in SCHEDULES:
        raise SettingError(f"schedule is one of {SCHEDULES}, not {settings['schedule']!r}")
    if settings["schedule"] == "step":
        if settings["step_size"] is None:
            raise SettingError("schedule 'step' needs step_size, the epochs between two steps")
        within("step_size", 1)
        within("gamma", 0, 1)
        if settings["gamma"] == 0:
            raise SettingError("gamma must be above 0: nothing is learned at a learning rate of 0")
    elif not settings["step_size"] is settings["gamma"] is None:
        raise SettingError("step_size and gamma belong to schedule 'step'; leave them out, or choose it")
    if images < 2:
        raise DataError(f"training needs at least two images; {settings['dataset']} has {images}")


def learning_rate_of(optimiser: str, given: float | None) -> float:
    """The one given, else what the optimiser is usually begun with. Raises SettingError for an unknown optimiser."""
    if optimiser not in RATES:
        raise SettingError(f"optimiser is one of {tuple(RATES)}, not {optimiser!r}")
    return RATES[optimiser] if given is None else given


def regularisation_of(
    optimiser: str, decay: float | None, decay_thresholds: bool, alpha: float | None, sparsity: float | None
) -> dict[str, float | None]:
    """Weight decay, or Grad R's prior, as given or as usual. Raises SettingError for one that the optimiser has not."""
    if optimiser == "grad-r":
        if decay or not decay_thresholds:
            raise SettingError("grad-r has a prior on weights in place of weight decay; leave out what is about it")
        prior = {"alpha": ALPHA if alpha is None else alpha, "sparsity": SPARSITY if sparsity is None else sparsity}
        return {"weight_decay": 0.0, **prior}
    if not alpha is sparsity is None:
        raise SettingError(f"alpha and sparsity belong to optimiser 'grad-r', not {optimiser!r}; leave them out")
    return {"weight_decay": DECAY if decay is None else decay}


def fingerprint(module: nn.Module) -> str:
    """Sixteen digits for names, shapes and types of the network's tensors, and for the plain settings of its layers."""
    lines = [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in module.state_dict().items()]
    for path, part in module.named_modules():
        own = {
            key: value
            for key, value in vars(part).items()
            if isinstance(value, bool | int | float | str)
            and not key.startswith("_")
            and key not in ("training", "stage")
        }
        lines.append(f"{path} {type(part).__name__} {sorted(own.items())}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def origins(images: Any, *things: Any) -> dict[str, str]:
    """What else must be the same when a training goes on: the images, where they are held in memory, and code.

    ``things`` are objects and classes; code that is not transpike's has a digest, where it can be known.
    """
    found = {}
    if isinstance(images, Tensor):
        data = images.detach().cpu().contiguous()
        found["images"] = hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
    if digest := code_of(*things).digest:
        found["code"] = digest[:16]
    return found
