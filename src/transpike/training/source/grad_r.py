"""Gradient rewiring: connections whose strength falls below zero are pruned, and may be regrown by the gradient."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from transpike.errors import DataError, SettingError

FEWEST_AXES = 2  # a bias or a batch normalisation has one


def centre(alpha: float, sparsity: float) -> float:
    """``μ = ln(2 (1 − p)) / α``: a Laplace distribution of scale 1/α around μ has the share p below zero."""
    return math.log(2 * (1 - sparsity)) / alpha


class GradR(torch.optim.Optimizer):
    """Adam on the connection strengths θ of ``w = s · max(θ, 0)``, with signs s that never change.

    θ starts as |w| and s as sign(w), both at the first step. With m̂ and v̂ the moments of ``s · ∂L/∂w``, which is not
    masked for θ < 0 (a pruned connection may be regrown), one step is

        ``θ ← θ − η m̂ / (√v̂ + ε) − α η sign(θ − μ)``  and then  ``w = s · max(θ, 0)``

    where the prior pulls towards ``μ = ln(2 (1 − p)) / α`` with p = ``sparsity``; p ≥ ½, because μ must not be
    positive. A weight that is zero at the first step has no sign and remains zero, so a pruned network remains pruned.

    ``params`` as for any optimiser: tensors, (name, tensor) pairs or groups with separate settings. Groups with
    ``"sparsify": False`` and parameters of one axis (biases, batch normalisation) get plain Adam. The state dictionary
    holds θ and s: a training resumed from it and the weights is bit-identical. Weights must not change between
    steps except by the optimiser: such a change raises an error.

    Raises SettingError for settings out of range, nothing to sparsify, complex or sparse tensors, and weights that
    were changed or are all zero; DataError for a gradient that is not finite.
    Source: Chen et al., "Pruning of deep spiking neural networks through gradient rewiring", IJCAI 2021.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-4,
        alpha: float = 1e-3,
        sparsity: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        settings = {"lr": lr, "alpha": alpha, "sparsity": sparsity, "betas": betas, "eps": eps, "sparsify": True}
        _check(settings)
        super().__init__(params, settings)
        if not any(_sparsified(group, p) for group in self.param_groups for p in group["params"]):
            raise SettingError(
                "Grad R has nothing to sparsify: every parameter has one axis or is in a group with sparsify False. "
                "Pass the weights of a convolution or a linear layer, or use torch.optim.Adam"
            )

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As for any optimiser, with the settings checked."""
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except SettingError:
            del self.param_groups[-1]
            raise

    def state_names(self, group: dict[str, Any], parameter: Tensor) -> set[str]:
        """The names of the tensors that the optimiser has for a parameter of this group after its first step."""
        own = {"sign", "theta"} if _sparsified(group, parameter) else set()
        return {"step", "exp_avg", "exp_avg_sq"} | own

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step for every parameter with a gradient; ``closure`` recomputes the loss, which is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for index, parameter in enumerate(group["params"]):
                if parameter.grad is not None:
                    self._one(group, parameter, _called(group, index))
        return loss

    def _one(self, group: dict[str, Any], w: Tensor, name: str) -> None:
        gradient, state = w.grad, self.state[w]
        assert gradient is not None
        if gradient.is_sparse:
            raise SettingError(f"{name} has a sparse gradient, which Grad R does not support; use sparse=False")
        if not bool(torch.isfinite(gradient).all()):
            raise DataError(f"the gradient of {name} is not finite: the training has diverged. Try a lower lr")
        sparsify = _sparsified(group, w)
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(w), torch.zeros_like(w)
            if sparsify:
                if not bool(w.any()):
                    raise SettingError(
                        f"{name} is zero everywhere and would remain zero: initialise it before the first step, or "
                        'put it into a group with "sparsify": False'
                    )
                state["sign"], state["theta"] = w.sign(), w.abs()
        elif sparsify and not torch.equal(w, _weight(state)):
            raise SettingError(
                f"{name} was loaded or changed after the last step. Load the optimiser's state of the same step too, "
                "or create a new GradR"
            )
        target = state["theta"] if sparsify else w
        rate, pull = group["lr"], 0.0
        if sparsify:
            gradient = state["sign"] * gradient
            pull = group["alpha"] * rate
        step = _adam_step(state, gradient, rate, group["betas"], group["eps"])
        if sparsify:
            step = step + pull * (target - centre(group["alpha"], group["sparsity"])).sign()
        target.sub_(step)
        if sparsify:
            w.copy_(_weight(state))


def _adam_step(
    state: dict[str, Tensor], gradient: Tensor, rate: float, betas: tuple[float, float], eps: float
) -> Tensor:
    """``η m̂ / (√v̂ + ε)`` after updating the moments with ``gradient`` (Kingma, Ba 2015, algorithm 1)."""
    first, second = betas
    state["step"] += 1
    t = float(state["step"])
    state["exp_avg"].lerp_(gradient, 1 - first)
    state["exp_avg_sq"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
    root = (state["exp_avg_sq"] / (1 - second**t)).sqrt_().add_(eps)
    return (state["exp_avg"] / root).mul_(rate / (1 - first**t))


def _weight(state: dict[str, Tensor]) -> Tensor:
    return state["sign"] * state["theta"].clamp(min=0)


def _sparsified(group: dict[str, Any], parameter: Tensor) -> bool:
    return bool(group["sparsify"]) and parameter.ndim >= FEWEST_AXES


def _called(group: dict[str, Any], index: int) -> str:
    """The parameter's name if it has one, else its index and shape."""
    names = group.get("param_names")
    return names[index] if names else f"parameter {index} of its group, {tuple(group['params'][index].shape)},"


def _check(group: dict[str, Any]) -> None:
    def numbers(
        name: str, wanted: str, *values: Any, low: float, high: float = math.inf, open_low: bool = False
    ) -> None:
        for value in values:
            fits = isinstance(value, int | float) and not isinstance(value, bool)
            if not fits or not low <= value < high or (open_low and value == low):
                raise SettingError(f"Grad R needs {name} {wanted}, not {group[name]!r}")

    numbers("lr", "of at least 0", group["lr"], low=0)
    numbers("alpha", "above 0", group["alpha"], low=0, open_low=True)
    reason = "at least 0.5 and below 1 (below 0.5 the prior would keep most connections)"
    numbers("sparsity", reason, group["sparsity"], low=0.5, high=1)
    numbers("eps", "above 0", group["eps"], low=0, open_low=True)
    betas = group["betas"]
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise SettingError(f"Grad R needs betas as two numbers, at least 0 and below 1, not {betas!r}")
    numbers("betas", "as two numbers, at least 0 and below 1", *betas, low=0, high=1)
    if not isinstance(group["sparsify"], bool):
        raise SettingError(f"Grad R needs sparsify True or False, not {group['sparsify']!r}")
    for index, parameter in enumerate(group.get("params", ())):
        if not parameter.is_floating_point():
            raise SettingError(
                f"{_called(group, index)} is {parameter.dtype}; Grad R supports only real floating point"
            )
