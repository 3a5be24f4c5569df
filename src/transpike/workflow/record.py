"""The spikes of a few samples: which neuron fired when and where, and the answer over time."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from transpike.core.inputs import Inputs, named
from transpike.core.task import ACCURACY, Metric, OutcomeTask, Task
from transpike.data.batches import as_targets, with_targets
from transpike.engines import engine_named
from transpike.errors import DataError, SettingError
from transpike.results.notebook import Shown
from transpike.results.writing import write_atomically
from transpike.snn import SNN, takes_snn
from transpike.workflow.judged import Judged, Tasks
from transpike.workflow.judged import asked as judgement

SCHEMA = 1
NEURONS = 48
LAYERS = 5


@dataclass(frozen=True, eq=False)
class LayerTrain:
    """One layer on one sample: ``spikes`` and ``synaptic_operations`` of all its neurons.

    ``map``: mean output of each place over channels and time steps, (height, width), (1, length) or (1, neurons), in
    units of the layer's spikes. ``neurons`` (k,): indices of the neurons in ``train``, the most active first.
    ``train``: their levels, (T, k), or (1, k) for schedules that give whole windows, slots or cycles at once.
    ``active``: the share of positions (tokens, pixels) that sent a spike in each step, of layers that send differences.
    """

    name: str
    role: str
    spikes: float
    synaptic_operations: float
    map: Tensor
    neurons: Tensor
    train: Tensor
    active: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class SampleRecord:
    """One sample: the original ``input``, its ``label`` if there is one, and the class at each answer.

    ``input`` is a dictionary by name where the network has several.

    Of a task without classes there is no ``label`` and no ``ann_answer``, and ``answers`` is empty. ``values``: at each
    answer the first metric of such a task, for this sample; None where it is not defined, empty without a target.
    """

    input: Tensor | dict[str, Tensor]
    label: int | None
    ann_answer: int | None
    timesteps: tuple[int, ...]
    answers: tuple[int, ...]
    layers: tuple[LayerTrain, ...]
    values: tuple[float | None, ...] = ()

    @property
    def settled(self) -> int | None:
        """The number of steps after which the answer no longer changes; None without classes."""
        if not self.answers:
            return None
        last = self.answers[-1]
        changes = [t for t, answer in zip(self.timesteps[1:], self.answers[:-1], strict=True) if answer != last]
        return changes[-1] if changes else self.timesteps[0]


@dataclass(frozen=True, eq=False)
class SpikeRecord(Shown):
    """Samples, and the names of their ``classes`` if there are any; ``steps`` False: trains of whole windows."""

    samples: tuple[SampleRecord, ...]
    timesteps: int
    steps: bool
    recipe: str
    classes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    metric: Metric = ACCURACY

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data; trains as [step, position in ``neurons``, level] of nonzero levels."""
        return {
            "schema": SCHEMA, "recipe": self.recipe, "timesteps": self.timesteps, "classes": list(self.classes),
            "warnings": list(self.warnings),
            **({} if self.metric == ACCURACY else {"metric": asdict(self.metric)}),
            "samples": [
                {
                    "label": one.label, "ann_answer": one.ann_answer, "timesteps": list(one.timesteps),
                    "answers": list(one.answers), "settled": one.settled,
                    **({} if self.metric == ACCURACY else {"values": list(one.values)}),
                    "layers": [_plain(layer) for layer in one.layers],
                }
                for one in self.samples
            ],
        }  # fmt: skip

    def save(self, path: Any) -> None:
        """Write the JSON to ``path``, whole or not at all."""
        write_atomically(path, json.dumps(self.to_json()).encode())


@takes_snn
def record(
    snn: SNN,
    data: Any,
    *,
    samples: int = 4,
    layers: Iterable[str] | None = None,
    neurons: int = NEURONS,
    timesteps: int | None = None,
    classes: Iterable[str] = (),
    engine: str = "auto",
    output: str | int | None = None,
    task: Tasks | None = None,
) -> SpikeRecord:
    """Run the first ``samples`` of ``data`` one by one, and keep their spikes and operation counts.

    ``data``, ``output`` and ``task`` as for ``evaluate``, also without targets, or with the names of ``classes``.
    ``layers`` (default: five, spread over the depth) are kept with the trains of ``neurons`` neurons each, spread over
    the active ones by activity.
    Raises DataError without samples, and for targets or outputs that do not fit the task (default: classification),
    SettingError for unknown layers.
    """
    for name, value in (("samples", samples), ("neurons", neurons)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise SettingError(f"{name} must be an integer of at least 1, not {value!r}")
    steps = snn.timesteps if timesteps is None else snn.schedule.check(timesteps)
    chosen, names = engine_named(engine), _names(snn) if layers is None else tuple(layers)
    found: list[SampleRecord] = []
    inputs = snn.input_check()
    classes, (asked, judged) = tuple(classes), judgement(snn.outputs, task, output)
    for x, targets in with_targets(data, snn.sample_shape):
        labels = _labels(judged.shape(snn.source.output.shape), len(x), judged.picked(targets), classes, asked)
        x = x[: samples - len(found)]
        inputs.add(snn.prepare(x))
        for index in range(len(x)):
            label = None if labels is None else labels[index]
            found.append(_recorded(snn, x[index : index + 1], label, steps, names, neurons, chosen, asked, judged))
        if len(found) == samples:
            break
    if not found:
        raise DataError("there are no samples to record")
    return SpikeRecord(
        tuple(found), steps, snn.schedule.every_step, str(snn.recipe), classes, inputs.finished(), asked.first
    )


def _labels(shape: tuple[int, ...], samples: int, targets: Any, classes: tuple[str, ...], task: Task) -> Any:
    """Targets in the form of the task, if there are any; text counts as one of ``classes``, else as unknown.

    DataError for an output or targets that do not fit the task.
    """
    if not _has_classes(task):
        unread = targets is None or not task.needs_targets
        return None if unread else task.check(shape, samples, as_targets(targets).cpu())
    names = [targets] if isinstance(targets, str) else list(targets) if isinstance(targets, (list, tuple)) else []
    named = bool(names) and all(isinstance(name, str) for name in names)
    plain = targets is None or named
    numbers = torch.zeros(samples, dtype=torch.int64) if plain else as_targets(targets).cpu()
    checked = task.check(shape, samples, numbers)  # the output must be logits anyway
    if named:
        return [classes.index(name) if name in classes else None for name in names]
    return None if targets is None else checked.tolist()


def _has_classes(task: Task) -> bool:
    return isinstance(task, OutcomeTask) and task.has_classes


def _names(snn: SNN) -> tuple[str, ...]:
    """Evenly spread neuron layers, with the first and the last."""
    there = [layer.name for layer in snn.program.layers if layer.role == "neuron"]
    if len(there) <= LAYERS:
        return tuple(there)
    return tuple(there[round(k * (len(there) - 1) / (LAYERS - 1))] for k in range(LAYERS))


def _recorded(
    snn: SNN, x: Tensor | Inputs, target: Any, steps: int, names: tuple[str, ...], neurons: int, engine: Any,
    task: Task, judged: Judged,
) -> SampleRecord:  # fmt: skip
    prepared = snn.prepare(x)
    with torch.no_grad():
        output = judged.part(snn.source.to(device=x.device).run(snn.encoder.accumulate(prepared)))
    trace = snn.run_prepared(prepared, snn.schedule.check(steps), engine, None, names, True)
    table = {layer.name: layer for layer in trace.activity.layers}
    if unknown := [name for name in names if name not in table]:
        raise SettingError(f"there is no spiking layer {', '.join(unknown)}; choose from {', '.join(table)}")
    layers = []
    for name in names:
        train = trace.trains[name][:, 0].float().cpu()
        charge = train.abs().mean(0) if snn.schedule.every_step else train.abs().mean(0) / steps
        flat = train.flatten(1)
        busy = flat.abs().sum(0)
        order = busy.argsort(descending=True, stable=True)
        firing = order[: max(1, int((busy > 0).sum()))]
        kept = firing[torch.linspace(0, len(firing) - 1, min(neurons, len(firing))).round().long()]
        place = charge.mean(0) if charge.ndim > 1 else charge
        layers.append(
            LayerTrain(
                name, table[name].role, float(table[name].spikes.sum()), float(table[name].synaptic_operations.sum()),
                place if place.ndim == 2 else place.reshape(1, -1), kept, flat[:, kept], table[name].active_share(1),
            )
        )  # fmt: skip
    times, trains, answered = trace.timesteps, tuple(layers), judged.part(trace.logits)
    shown = {named(place): value[0].cpu() for place, value in x.values.items()} if isinstance(x, Inputs) else x[0].cpu()
    if isinstance(task, OutcomeTask) and task.has_classes:
        ann, *answers = (int(task.answers(logits)) for logits in (output[0], *answered[:, 0]))
        return SampleRecord(shown, target, ann, times, tuple(answers), trains)
    wanted = output if not task.needs_targets else None if target is None else target[None].to(output.device)
    values = () if wanted is None else tuple(task.value(task.rows(logits, wanted)) for logits in answered)
    return SampleRecord(shown, None, None, times, (), trains, values)


def _plain(layer: LayerTrain) -> dict[str, Any]:
    return {
        "name": layer.name, "role": layer.role, "spikes": layer.spikes,
        "synaptic_operations": layer.synaptic_operations,
        "map": [[round(float(value), 6) for value in row] for row in layer.map],
        "neurons": layer.neurons.tolist(),
        **({"active": list(layer.active)} if layer.active else {}),
        "train": [[t + 1, k, float(layer.train[t, k])] for t, k in layer.train.nonzero().tolist()],
    }  # fmt: skip
