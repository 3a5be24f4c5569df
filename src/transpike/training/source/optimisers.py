"""The optimisers, by name."""

from collections.abc import Mapping

import torch
from torch import nn

from transpike.errors import SettingError
from transpike.training.source.grad_r import GradR

RATES = {"sgd": 0.1, "adam": 1e-3, "grad-r": 1e-3}
DECAY = 5e-4
ALPHA, SPARSITY = 0.05, 0.9


def optimiser(
    name: str,
    parameters: Mapping[str, nn.Parameter],
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    decay_thresholds: bool = True,
    alpha: float = ALPHA,
    sparsity: float = SPARSITY,
) -> torch.optim.Optimizer:
    """torch's "sgd" (with Nesterov if there is momentum), "adam" with β₁ = ``momentum``, β₂ = 0.999, or "grad-r".

    The weight decay is added to the gradient, as in the papers. Without ``decay_thresholds`` it excludes thresholds:
    parameters called ``thresh…``, and those with one element (a leak, a scale). Source: QCFS and OPI decay them,
    DIET-SNN does not. "grad-r" is ``GradR`` with ``alpha`` and ``sparsity``, and Adam for the rest; its prior replaces
    the decay.
    Raises SettingError for another name.
    """
    if name == "grad-r":
        return GradR(parameters.items(), learning_rate, alpha, sparsity, (momentum, 0.999))
    spared = [] if decay_thresholds else [p for key, p in parameters.items() if is_threshold(key, p)]
    others = [p for p in parameters.values() if not any(p is other for other in spared)]
    groups = [{"params": others, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, learning_rate, momentum, nesterov=momentum > 0)
    if name == "adam":
        return torch.optim.Adam(groups, learning_rate, (momentum, 0.999))
    raise SettingError(f"optimiser is one of {tuple(RATES)}, not {name!r}")


def is_threshold(name: str, parameter: nn.Parameter) -> bool:
    """True for a parameter that ``decay_thresholds=False`` excludes from weight decay."""
    return parameter.numel() == 1 or name.rpartition(".")[2].startswith("thresh")
