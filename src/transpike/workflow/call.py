"""The call of a model: which of its arguments an input is."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from transpike.core.inputs import WHOLE, InputNames, Inputs, Place, named
from transpike.errors import DataError, UnsupportedModel


@dataclass(frozen=True, eq=False)
class Example:
    """The arguments of one call of a model, by which it is read.

    ``inputs`` by place, and the keys of those that are ``positional``, if there are several.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: Inputs | None = None
    positional: tuple[str | int, ...] = ()

    @classmethod
    def of(cls, model: nn.Module, x: Tensor | Inputs) -> "Example":
        """A call on a batch of at most eight samples, real numbers in float32. Raises as ``called``."""
        if isinstance(x, Inputs):
            x = x.each(_small)
            inputs, positional, kwargs = called(model, x)
            return cls(tuple(positional.values()), kwargs, inputs, tuple(positional))
        name = input_name(model)
        x = _small(x.float())
        return cls((x,), {}) if name is None else cls((), {name: x})

    def run(self, model: Any) -> Any:
        """The model's output; it gets copies of the inputs, which it may change."""
        args, kwargs = pytree.tree_map(lambda v: v.clone() if isinstance(v, Tensor) else v, (self.args, self.kwargs))
        with torch.no_grad():
            return model(*args, **kwargs)

    @property
    def dynamic(self) -> Any:
        """The batch axis of every argument, in the form of torch.export."""
        return self.sized(torch.export.Dim("batch", min=1))

    def sized(self, batch: Any) -> Any:
        """``batch`` as the first axis of every argument, in the form of torch.export."""
        args, kwargs = self._each(lambda v: {0: batch})
        return args if not kwargs else kwargs if not args else None

    @property
    def tensors(self) -> list[Tensor]:
        return [one for one in pytree.tree_leaves((self.args, self.kwargs)) if isinstance(one, Tensor)]

    def repeated(self, count: int) -> "Example":
        """A call on ``count`` samples, the same one repeatedly."""
        args, kwargs = self._each(lambda v: v[torch.arange(count) % len(v)])
        return Example(args, kwargs, self.inputs, self.positional)

    def _each(self, change: Callable[[Tensor], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        changed = pytree.tree_map(lambda v: change(v) if isinstance(v, Tensor) else None, (self.args, self.kwargs))
        return cast("tuple[tuple[Any, ...], dict[str, Any]]", changed)

    @property
    def text(self) -> str:
        """The shapes of the arguments, for messages."""
        if self.inputs is None:
            (x,) = (*self.args, *self.kwargs.values())
            return f"an input of shape {tuple(x.shape)}"
        return "inputs " + ", ".join(f"{named(p)} {tuple(v.shape)}" for p, v in self.inputs.values.items())


def _small(x: Tensor) -> Tensor:
    x = x.detach().cpu()
    x = x if x.dtype in (torch.bool, *WHOLE) else x.float()
    return torch.cat([x] * 2) if len(x) == 1 else x[:8]


def input_name(model: nn.Module) -> str | None:
    """The name of the model's input if it must be given by name, else None.

    Raises UnsupportedModel for a model that needs another number of inputs than one.
    """
    found = parameters(model)
    if found is None:
        return None
    wanted = needed(found)
    named_only = [one.name for one in wanted if one.kind is one.KEYWORD_ONLY]
    takes_one = any(one.kind is not one.KEYWORD_ONLY and one.kind is not one.VAR_KEYWORD for one in found)
    if len(wanted) > 1:
        names = [one.name for one in wanted]
        raise UnsupportedModel(
            f"the model takes {len(wanted)} inputs ({', '.join(names)}), but a batch of the data contains one tensor: "
            f"a batch is {example_of(names)} or {example_of(names, by_name=True)}, also without a target"
        )
    if not wanted and not takes_one:
        names = [one.name for one in found if one.kind is one.KEYWORD_ONLY]
        raise UnsupportedModel(
            f"the model takes its inputs only by name ({', '.join(names) or 'none'}), and none is required: name them "
            f"in the data, like {example_of(names[:1] or ['x'], by_name=True)}"
        )
    return named_only[0] if named_only else None


def parameters(model: nn.Module) -> list[inspect.Parameter] | None:
    """The parameters of the model's forward; None if they are unknown. Raises UnsupportedModel without a forward."""
    if (
        type(model).forward is nn.Module.forward
        or getattr(type(model).forward, "__name__", "") == "_forward_unimplemented"
    ):
        raise UnsupportedModel(
            f"{type(model).__name__} has no forward method, so it computes nothing: put its layers into nn.Sequential, "
            "or into a module that calls them"
        )
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return None


def needed(found: list[inspect.Parameter]) -> list[inspect.Parameter]:
    """The parameters that have no default."""
    return [
        one
        for one in found
        if one.default is inspect.Parameter.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]


def several(model: nn.Module) -> InputNames | None:
    """The arguments of a model that needs several; None where one tensor may be enough."""
    found = parameters(model)
    wanted = [] if found is None else needed(found)
    return InputNames(tuple((one.name,) for one in wanted)) if len(wanted) > 1 else None


def called(model: nn.Module, inputs: Inputs) -> tuple[Inputs, dict[str | int, Any], dict[str, Any]]:
    """The inputs by the names of the model's parameters, and the arguments that are given by position and by name.

    A structure that fits no parameter is the only argument of the model. Raises DataError for inputs without a
    parameter, and for parameters without an input.
    """
    found = parameters(model) or []
    names = [one.name for one in found if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    free = {one.kind for one in found} & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    wanted = [one.name for one in needed(found)]
    keys = list(dict.fromkeys(place[0] for place in inputs.values))
    fits = all((isinstance(key, int) and (key < len(names) or free)) or key in names or free for key in keys)
    if len(wanted) <= 1 and names and (not fits or (len(keys) > 1 and len(names) == 1 and not free)):
        name = wanted[0] if wanted else names[0]
        bound = {(name, *place): value for place, value in inputs.values.items()}
    else:
        bound = {_by_name(place, names): value for place, value in inputs.values.items()}
    given = {place[0] for place in bound}
    missing, more = [n for n in wanted if n not in given], [k for k in given if k not in names and not free]
    if missing or more:
        parts = [f"no input for {', '.join(missing)}"] * bool(missing)
        parts += [f"no parameter for the input {', '.join(map(str, more))}"] * bool(more)
        raise DataError(
            f"the model's forward takes {', '.join(names)}, but there is {' and '.join(parts)}: a batch is "
            f"{example_of(names or ['x'])} or {example_of(names or ['x'], by_name=True)}"
        )
    order = [name for name in names if name in given] + [key for key in given if key not in names]
    whole = Inputs({place: value for key in order for place, value in bound.items() if place[0] == key})
    values = {key: _grown({p[1:]: v for p, v in whole.values.items() if p[0] == key}) for key in order}
    first = [one.name for one in found if one.kind is one.POSITIONAL_ONLY]
    positional = {key: value for key, value in values.items() if key in first or isinstance(key, int)}
    return whole, positional, {str(key): value for key, value in values.items() if key not in positional}


def example_of(names: list[str], *, by_name: bool = False) -> str:
    """The line to write for a batch of these inputs."""
    if by_name:
        return "({" + ", ".join(f'"{name}": {name}' for name in names) + "}, target)"
    return f"(({', '.join(names)}{',' * (len(names) == 1)}), target)"


def _by_name(place: Place, names: list[str]) -> Place:
    first = place[0]
    return (names[first], *place[1:]) if isinstance(first, int) and first < len(names) else place


def _grown(values: Mapping[Place, Tensor]) -> Any:
    """The structure of an argument; numbers as keys are those of a list."""
    if () in values:
        return values[()]
    keys = list(dict.fromkeys(place[0] for place in values))
    parts = {key: _grown({p[1:]: v for p, v in values.items() if p[0] == key}) for key in keys}
    return list(parts.values()) if all(isinstance(key, int) for key in keys) else parts
