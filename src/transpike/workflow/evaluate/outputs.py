"""Several outputs in an evaluation: which one the task judges, and the closeness of each."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from transpike.core.structure import Branch, Structure
from transpike.core.task import Task
from transpike.data.batches import as_targets, is_array
from transpike.errors import DataError, SettingError
from transpike.snn import SNN
from transpike.tasks import Fidelity
from transpike.workflow.evaluate.fidelity import Closeness, FidelityTally


def asked(snn: SNN, task: Task | None, output: str | int | None) -> tuple[Task | None, str | None]:
    """The task, and the name of the output that it judges, None for all there are.

    Of several outputs, no task and no output mean ``Fidelity`` of all. Raises SettingError for an output that the
    network does not have, and for a task without a choice.
    """
    structure = snn.outputs
    if structure is None:
        if output is not None:
            raise SettingError(f"output={output!r} selects one of several outputs, and this network has one")
        return task, None
    if output is not None:
        return task, structure.names[structure.place(output)]
    if task is None or isinstance(task, Fidelity):
        return Fidelity() if task is None else task, None
    names = ", ".join(map(repr, structure.names))
    raise SettingError(f"the network has several outputs, and {task} judges one: output=… with one of {names}")


class OutputTally:
    """Adds up the closeness of each of several outputs; of one output it does nothing."""

    def __init__(self, structure: Structure | None, chosen: str | None, closeness: FidelityTally) -> None:
        self.structure, self.chosen = structure, chosen
        names = () if structure is None else structure.names
        self.tallies = {name: FidelityTally() for name in names}
        self.all = closeness

    def part(self, values: Tensor) -> Tensor:
        """Of outputs (…, batch, N) side by side, the one that the task judges."""
        if self.structure is None or self.chosen is None:
            return values
        return self.structure.part(values, self.chosen)

    def add(self, timesteps: int, answer: Tensor, reference: Tensor) -> None:
        """Compare an answer with that of the source network, both with all outputs."""
        self.all.add(timesteps, self.part(answer), self.part(reference))
        if self.structure is not None:
            others = self.structure.named(reference)
            for name, value in self.structure.named(answer).items():
                self.tallies[name].add(timesteps, value, others[name])

    def found(self, timesteps: tuple[int, ...]) -> dict[str, tuple[Closeness, ...]]:
        """Output → its closeness after each number of steps."""
        return {name: tuple(map(tally.found, timesteps)) for name, tally in self.tallies.items()}

    def target(self, given: Any) -> Tensor | None:
        """The targets of the output that the task judges, from targets of all outputs or of this one."""
        tree = None if self.structure is None or self.chosen is None else self.structure.tree
        for key in (self.chosen or "").split("."):
            if not isinstance(tree, Branch):
                break
            place = [str(one) for one in tree.keys].index(key)
            if isinstance(given, Mapping):
                if tree.keys[place] not in given:
                    raise DataError(
                        f"the targets are a dictionary with the keys {', '.join(map(repr, given))}, without the output "
                        f"{self.chosen!r}: use the names of the outputs as keys, or give the targets of this one alone"
                    )
                given = given[tree.keys[place]]
            elif isinstance(given, (tuple, list)) and len(given) == len(tree.keys) and is_array(given[place]):
                given = given[place]
            else:
                break
            tree = tree.parts[place]
        return None if given is None else as_targets(given)
