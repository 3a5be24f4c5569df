"""A penalty on active neurons, for training towards fewer spikes."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from transpike.activations.source import SourceActivation
from transpike.errors import SettingError

RECTIFIERS = (nn.ReLU, nn.ReLU6, SourceActivation)
SMALLEST = 1e-12


def rectifiers(module: nn.Module) -> dict[str, nn.Module]:
    """Path → module of the activations that neurons replace."""
    return {name: part for name, part in module.named_modules() if isinstance(part, RECTIFIERS)}


def hoyer_square(activations: Tensor) -> Tensor:
    """``(Σ|a|)² / (n Σa²)``, a scalar from 1/n (one value is active) to 1 (all are equal).

    It does not depend on the scale of the activations, which thresholds follow. It falls if fewer are active, and if
    most are small next to the largest ones, which decide the thresholds: both save spikes. 0 where nothing is active.
    Source: Yang, Wen, Li 2020 (DeepHoyer, ICLR; arXiv 1908.09979), who use it for weights.
    """
    values = activations.float()
    return values.abs().sum().square() / (values.numel() * values.square().sum()).clamp(min=SMALLEST)


@contextlib.contextmanager
def sparser(module: nn.Module, strength: float, sample: Tensor) -> Iterator[None]:
    """Within this context, activations of ``module`` in training mode have a penalty of at most ``strength`` in all.

    Every layer has ``strength · hoyer_square`` times its share of the neurons, added to a penalty that it has already;
    ``sample``, a batch of inputs after preprocessing, gives the shares. Raises SettingError for a network whose
    rectifiers are not modules (see ``transpike.prepare``).
    """
    found = list(rectifiers(module).values())
    if not found:
        raise SettingError(
            f"{type(module).__name__} has no module of a ReLU or a source activation to penalise: apply "
            "transpike.prepare(model, torch.nn.ReLU()) first"
        )
    neurons = 0

    def count(part: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal neurons
        neurons += output[0].numel()

    def penalise(part: nn.Module, inputs: object, output: Tensor) -> None:
        if part.training and torch.is_grad_enabled():
            before = vars(part).get("penalty")
            mine = strength * output[0].numel() / neurons * hoyer_square(output)
            vars(part)["penalty"] = mine + before if isinstance(before, Tensor) else mine

    mode = module.training
    with _hooked(found, count), torch.no_grad():
        module.eval()(sample)
    module.train(mode)
    with _hooked(found, penalise):
        yield


@contextlib.contextmanager
def _hooked(parts: list[nn.Module], hook: Callable[[nn.Module, object, Tensor], None]) -> Iterator[None]:
    hooks = [part.register_forward_hook(hook) for part in parts]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()
