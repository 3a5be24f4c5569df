"""The stages of a layer-wise schedule, and the stage that a history of epochs has reached."""

from collections.abc import Sequence
from dataclasses import dataclass

from transpike.core.cell import Neuron
from transpike.errors import SettingError
from transpike.training.checkpoint import Row
from transpike.training.spiking.layerwise import LayerwiseSchedule
from transpike.training.spiking.unrolled import Kind, Unrolled


@dataclass(frozen=True)
class Stage:
    """``spiking`` neurons fire, the others compute the source's activation; ``trained`` are parameter names.

    ``followed`` are the layers whose mean output is fitted to the source network.
    """

    name: str
    spiking: frozenset[str]
    trained: frozenset[str]
    followed: tuple[str, ...]


def stages(module: Unrolled, schedule: LayerwiseSchedule, kinds: Sequence[Kind]) -> tuple[Stage, ...]:
    """The stages in order; raises SettingError if no stage has parameters of ``kinds`` to train."""
    nodes = list(module.source_graph)
    neurons = [index for index, node in enumerate(nodes) if isinstance(node.op, Neuron)]
    names = [nodes[index].name for index in neurons]
    output = module.source_graph.output.name
    groups = module.groups()
    kind_of = {name: kind for kind, members in groups.items() for name in members}

    def within(start: int, stop: int, allowed: Sequence[Kind]) -> frozenset[str]:
        """The parameters of the nodes from ``start`` to before ``stop``."""
        places = [node.name for node in nodes[start:stop]]
        keys = {key for node in nodes[start:stop] for key in node.keys().values()}
        own = {key for key in kind_of if any(key == f"{p}.leak" or key.startswith(f"{p}.norm.") for p in places)}
        return frozenset(key for key in (keys | own) & kind_of.keys() if kind_of[key] in allowed)

    everything = frozenset(names)
    if schedule.trains == "each":
        followed = (*names, *([output] if output not in names else []))
        found = [Stage("all layers", everything, within(0, len(nodes), kinds), followed)]
    elif schedule.trains == "rest":
        allowed = [kind for kind in kinds if kind == "weights"]
        found = [
            Stage(name, frozenset(names[: n + 1]), within(index + 1, len(nodes), allowed), ())
            for n, (index, name) in enumerate(zip(neurons, names, strict=True))
        ]
    else:
        starts = [0, *(index + 1 for index in neurons)]
        stops = [*(index + 1 for index in neurons), len(nodes)]
        found = [
            Stage(nodes[stop - 1].name, frozenset(names[: n + 1]), within(start, stop, kinds), (nodes[stop - 1].name,))
            for n, (start, stop) in enumerate(zip(starts, stops, strict=True))
        ]
    found = [stage for stage in found if stage.trained]
    if not found:
        raise SettingError(f"with trains={schedule.trains!r} no stage has parameters of train={tuple(kinds)}")
    return tuple(found)


@dataclass(frozen=True)
class Place:
    """The current ``stage``, which starts now if ``begins``; ``best`` is its best epoch (0: none)."""

    stage: int
    begins: bool
    best: int


def place(history: Sequence[Row], schedule: LayerwiseSchedule) -> Place:
    """The stage after these epochs: a stage ends with its patience or its epochs."""
    stage, first, best = 0, 0, -1
    for index, row in enumerate(history):
        if best < first or is_lower(row, history[best]):
            best = index
        if index - first + 1 >= schedule.epochs or index - best >= schedule.patience:
            stage, first = stage + 1, index + 1
    begins = first == len(history)
    return Place(stage, begins, best + 1)


def is_lower(row: Row, best: Row) -> bool:
    """True if ``row`` has the lower validation loss, or training loss without validation."""
    if row.validation_loss is None or best.validation_loss is None:
        return row.train_loss < best.train_loss
    return row.validation_loss < best.validation_loss
