"""The names of ``nn.Module`` on a converted network, which is frozen and always in evaluation mode."""

import importlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from transpike.core.graph import Graph
from transpike.errors import SettingError

_LAYERS = "iterate over snn.graph: its nodes have a name, an op and a shape"
_RECORD = "transpike.simulate(snn, x, record=[layer]) returns the spikes of a layer"
_FROZEN = "a converted network is frozen: change the source model and convert it again"
_ELSEWHERE = {
    **dict.fromkeys(("modules", "children", "named_modules", "named_children", "layers", "get_submodule"), _LAYERS),
    **dict.fromkeys(
        ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook", "register_hook"), _RECORD
    ),
    **dict.fromkeys(("add_module", "register_buffer", "register_parameter", "apply", "add_layer"), _FROZEN),
    **{
        name: f"it is the function transpike.{name}(snn, …)"
        for name in ("chip_fit", "cost", "evaluate", "explain", "finetune", "fit_exit", "record", "save", "simulate")
    },
    "verify": "it is the function transpike.verify(snn, samples)",
    "from_pretrained": "transpike.load('hf://user/name') reads a network from a hub",
    "load": "it is the function transpike.load(path)",
    "fit": "transpike.finetune(snn, data) trains it",
    "predict": "snn(x).argmax(1) is the predicted class",
    "T": "it is called snn.timesteps",
    "num_steps": "it is called snn.timesteps",
    "time_steps": "it is called snn.timesteps",
    "device": "it has none: a network runs on the device of its input",
    **dict.fromkeys(("reset", "reset_state", "init_state"), "every run begins at rest, so there is nothing to reset"),
}
"""Names that users look for on a network → what to write instead."""


class ModuleLike:
    """Methods of ``nn.Module``, for code that was written for the source model.

    They do not change the network: parameters and states are copies, ``to`` checks its arguments and returns the
    network itself, because engines compute on the device of the input, in float32. What cannot be done is a
    SettingError, or an AttributeError that says what to write instead.
    """

    graph: Graph
    training: ClassVar[bool] = False

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The logits (batch, classes), as ``snn(x)``."""
        return self(*inputs, **named)  # type: ignore[operator]

    def train(self, mode: bool = True) -> Self:
        """The network itself for ``train(False)``. Raises SettingError: training is ``transpike.finetune``."""
        if mode:
            raise SettingError(
                "a converted network is always in evaluation mode; transpike.finetune(snn, data) trains it, and "
                "transpike.train trains the model before conversion"
            )
        return self

    def eval(self) -> Self:
        """The network itself, which is always in evaluation mode."""
        return self

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """The network itself for False. Raises SettingError: spikes have no gradient."""
        if requires_grad:
            raise SettingError("spikes have no gradient; transpike.finetune(snn, data) trains with surrogate gradients")
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing, because a converted network has no gradients."""

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The network itself: it runs on the device of its input, and its spikes are exact in float32 only.

        Arguments are those of ``nn.Module.to``. Raises SettingError for a device that this machine does not have, and
        for another dtype.
        """
        given = [*args, *(kwargs.get(name) for name in ("device", "dtype", "tensor"))]
        for value in given:
            if isinstance(value, Tensor):
                _check_device(value.device)
                _check_dtype(value.dtype)
            elif isinstance(value, torch.dtype):
                _check_dtype(value)
            elif isinstance(value, (str, int, torch.device)) and not isinstance(value, bool):
                _check_device(value)
        return self

    def cpu(self) -> Self:
        """The network itself, which runs on the device of its input."""
        return self

    def cuda(self, device: int | torch.device | None = None) -> Self:
        """The network itself, which runs on the device of its input. Raises SettingError without such a device."""
        return self.to("cuda" if device is None else device)

    def float(self) -> Self:
        """The network itself, which computes in float32."""
        return self

    def half(self) -> Self:
        """Raises SettingError: float16 is too coarse for the exact grid."""
        return self.to(torch.float16)

    def bfloat16(self) -> Self:
        """Raises SettingError: bfloat16 is too coarse for the exact grid."""
        return self.to(torch.bfloat16)

    def double(self) -> Self:
        """Raises SettingError: the reference engine computes in float64."""
        return self.to(torch.float64)

    def share_memory(self) -> Self:
        """The network itself; torch.multiprocessing shares the memory of tensors that it sends."""
        return self

    def push_to_hub(self, repository: str, samples: Any = None, **settings: Any) -> Any:
        """Upload the network to the Hugging Face Hub: ``transpike.push_to_hub(snn, repository, samples, …)``.

        ``samples``: inputs (batch, *shape) on which the engines are compared first. Settings, result and errors are
        those of the function: report, license, private, revision, token, timesteps, unverified, dry_run.
        """
        # Found by its public name when it is called: this layer knows nothing of the one that uploads.
        return importlib.import_module("transpike").push_to_hub(self, repository, samples, **settings)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Name and a copy of every weight, bias, threshold, leak and initial potential; no gradients."""
        return ((name, value) for name, value, is_buffer in self._named() if not is_buffer)

    def parameters(self, recurse: bool = True) -> Iterator[Tensor]:
        """A copy of every weight, bias, threshold, leak and initial potential; no gradients."""
        return (value for _, value in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Name and a copy of every tensor that is not trained."""
        return ((name, value) for name, value, is_buffer in self._named() if is_buffer)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """A copy of every tensor that is not trained."""
        return (value for _, value in self.named_buffers())

    def state_dict(self) -> OrderedDict[str, Tensor]:
        """A copy of every tensor of the spiking graph by name; a whole network is stored by ``transpike.save``."""
        return OrderedDict((name, value) for name, value, _ in self._named())

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Accept the state that the network already has, and change nothing.

        Raises SettingError for another state: thresholds, ranges and the grid were computed for the present weights.
        """
        own = self.state_dict()
        missing, unexpected = sorted(own.keys() - state_dict.keys()), sorted(state_dict.keys() - own.keys())
        if strict and (missing or unexpected):
            raise SettingError(
                f"the state is of another network: missing {', '.join(missing) or 'nothing'}; unexpected "
                f"{', '.join(unexpected) or 'nothing'}"
            )
        for name in own.keys() & state_dict.keys():
            if own[name].shape != state_dict[name].shape or not torch.equal(own[name], state_dict[name].cpu()):
                raise SettingError(
                    f"{name} differs from the network's, and thresholds and ranges were computed for the present "
                    "values: load the state into the source model and convert it again; transpike.save and "
                    "transpike.load store a converted network"
                )
        return nn.modules.module._IncompatibleKeys(missing, unexpected)

    def to_module(self) -> nn.Module:
        """The network as an ``nn.Module`` without parameters, for ``nn.Sequential`` and other containers."""
        return Spiking(self)

    def _named(self) -> Iterator[tuple[str, Tensor, bool]]:
        seen = set()
        for node in self.graph:
            tensors, buffers = node.op.tensors(), getattr(node.op, "buffers", ())
            for field, name in node.keys().items():
                if name not in seen:
                    seen.add(name)
                    yield name, tensors[field].detach().cpu().clone(), field in buffers

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property raised this error: let it say so itself
            return object.__getattribute__(self, name)
        text = f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
        raise AttributeError(f"a converted network has no {name!r}{text}", name=name, obj=self)


class Spiking(nn.Module):
    """``forward(x)`` gives the logits of a converted network."""

    def __init__(self, network: ModuleLike) -> None:
        super().__init__()
        self.network = network
        self.training = False

    def train(self, mode: bool = True) -> Self:
        """Nothing but this module's flag: containers set it for all that they contain."""
        self.training = False
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.network.forward(x)


def _check_device(device: str | int | torch.device) -> None:
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # unknown or absent, or a build without it
        raise SettingError(f"no device {str(device)!r} here: {str(error).splitlines()[0]}") from error


def _check_dtype(dtype: torch.dtype) -> None:
    if dtype == torch.float32:
        return
    if dtype == torch.float64:
        text = "transpike.simulate(snn, x, engine='reference') computes in float64 and gives the same spikes"
    else:
        text = "potentials need the 24 bits of float32 to be added without rounding, so spikes would differ"
    raise SettingError(f"a converted network computes in float32, not {str(dtype).removeprefix('torch.')}: {text}")
