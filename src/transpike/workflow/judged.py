"""Several outputs of a network: which one a task judges, and its targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.structure import Branch, Structure
from transpike.core.task import AnyTask, Task
from transpike.data.batches import as_targets, is_array
from transpike.errors import DataError, SettingError
from transpike.tasks import Fidelity, task_given
from transpike.workflow.joint import Joint


@dataclass(frozen=True, eq=False)
class Judged:
    """The output that a task judges: ``name`` of several in ``structure``; without a name all of them, or the only one.

    ``joint``: a task for each of some outputs. Answers hold several outputs side by side, (…, batch, N).
    """

    structure: Structure | None = None
    name: str | None = None
    joint: Joint | None = None

    def part(self, values: Tensor) -> Tensor:
        """What is judged of answers, (…, batch, *shape)."""
        if self.structure is None or self.name is None:
            return values
        return self.structure.part(values, self.name)

    def shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what is judged of one sample, where ``whole`` is that of all outputs."""
        return tuple(self.part(torch.empty(1, *whole)).shape[1:])

    def picked(self, given: Any) -> Any:
        """The targets of what is judged, in their form, from targets of all outputs or of this one."""
        if self.joint is not None:
            return self._packed(self.joint, given)
        tree = None if self.structure is None or self.name is None else self.structure.tree
        for key in (self.name or "").split("."):
            if not isinstance(tree, Branch):
                break
            place = [str(one) for one in tree.keys].index(key)
            if isinstance(given, Mapping):
                if tree.keys[place] not in given:
                    raise DataError(
                        f"the targets are a dictionary with the keys {', '.join(map(repr, given))}, without the output "
                        f"{self.name!r}: use the names of the outputs as keys, or pass the targets of this one alone"
                    )
                given = given[tree.keys[place]]
            elif isinstance(given, (tuple, list)) and len(given) == len(tree.keys) and is_array(given[place]):
                given = given[place]
            else:
                break
            tree = tree.parts[place]
        return given

    def _packed(self, joint: Joint, given: Any) -> Tensor | None:
        """The targets of all outputs with a task, side by side."""
        if given is None:
            return None
        if not isinstance(given, (Mapping, tuple, list)):
            raise DataError(f"there is a task for each of several outputs: pass targets by output, {joint}")
        found = {name: Judged(self.structure, name).target(given) for name, _ in joint.parts}
        return joint.packed({name: as_targets(y) for name, y in found.items()})

    def target(self, given: Any) -> Tensor | None:
        """``picked`` as a tensor."""
        found = self.picked(given)
        return None if found is None else as_targets(found)


Tasks = AnyTask | Mapping[str, AnyTask]
"""The type of ``task`` arguments: with several outputs also a dictionary with a task for each name."""


def asked(structure: Structure | None, task: Tasks | None, output: str | int | None) -> tuple[Task, Judged]:
    """The task, and what it judges of a network with these outputs (None: one output).

    Of several outputs, no task and no output mean ``Fidelity`` of all. Raises SettingError for an output that the
    network does not have, and for a task without a choice.
    """
    if isinstance(task, Mapping):
        if structure is None or output is not None:
            raise SettingError("a dictionary of tasks is for several outputs, without output=: pass one task")
        joint = Joint.of(task, structure)
        return joint, Judged(structure, None, joint)
    given = None if task is None else task_given(task)
    if structure is None:
        if output is not None:
            raise SettingError(f"output={output!r} selects one of several outputs, but this network has one")
        return task_given(given), Judged()
    if output is not None:
        return task_given(given), Judged(structure, structure.names[structure.place(output)])
    if given is None or isinstance(given, Fidelity):
        return Fidelity() if given is None else given, Judged(structure)
    names = ", ".join(map(repr, structure.names))
    raise SettingError(
        f"the network has several outputs, but {given} judges one: output=… (--output-name) with one of {names}, or a "
        "dictionary with a task for each"
    )
