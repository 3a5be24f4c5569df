"""Train a network; an interrupted training resumes and ends with the same weights."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from transpike.core.constraints import settings_given, takes_settings
from transpike.core.op import check_finite
from transpike.core.preprocessing import Preprocessing
from transpike.core.task import ACCURACY, Metric, OutcomeTask
from transpike.data import Dataset, NamedSplit
from transpike.data.batches import ONE_INPUT, dataset_of
from transpike.errors import CheckpointError, DataError, SettingError
from transpike.results.writing import check_writable
from transpike.tasks import Classification, task_given
from transpike.training import checkpoint as files
from transpike.training import ranks
from transpike.training.loggers import Logs, LogTo
from transpike.training.settings import Training, check_images, fingerprint, origins
from transpike.training.source import augmentation, learners, loop, penalties
from transpike.training.source import precision as precisions
from transpike.training.source import stages as phases
from transpike.training.source.criterion import Criterion
from transpike.training.source.loop import Progress
from transpike.training.source.optimisers import optimiser as optimiser_named

Row = files.Row
save_weights = files.save_weights
OWN_NOTES = ("format", "training", "preprocessing", "facts")
__all__ = ["Progress", "Row", "Training", "TrainingResult", "save_weights", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """``test_accuracy`` (0 to 1, None without test images) of the weights of ``best_epoch``, measured once.

    ``test_value``: the first ``metric`` of the task, for a task without an accuracy.
    """

    best_epoch: int
    history: tuple[Row, ...]
    test_accuracy: float | None
    test_images: int
    settings: dict[str, Any]
    weights: Path | None = None
    metric: Metric = ACCURACY
    test_value: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Numbers and text only; of a task with an accuracy without ``metric`` and ``test_value``."""
        found = {**asdict(self), "weights": str(self.weights) if self.weights else None}
        return {key: found[key] for key in found if self.metric != ACCURACY or key not in ("metric", "test_value")}


@takes_settings(Training, spec='notes={"spec": …}', tensorboard='log_to="tensorboard:FOLDER"')
def train(
    module: nn.Module,
    dataset: Any,
    settings: Training | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    checkpoint: str | Path | None = None,
    weights: str | Path | None = None,
    resume: bool = True,
    log_to: LogTo = None,
    notes: Mapping[str, str] | None = None,
    progress: Callable[[Progress | Row], None] | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
) -> TrainingResult:
    """Train ``module`` in place and leave it with the best weights, in evaluation mode, on ``device``.

    ``dataset``: a Dataset, or labelled samples of another form (docs: data), which then have no test images.
    The loss is that of the task (of ``settings``, else of the data set), by default the cross-entropy with label
    smoothing, plus every submodule's ``penalty``, a scalar that its forward sets. ``settings``: a ``Training``, by
    default ``Training()``. The best epoch is chosen on held-out training images, or on the validation images of the
    data set; never on the test images. Recordings are trained on the mean of their frames, without preprocessing.

    Processes: under torchrun each process trains on a part of every batch (DistributedDataParallel), and the first
    one writes files; all of them get the same arguments. LostProcess where one of them ends or is silent: start all of
    them again, to resume from the checkpoint.
    Files: ``checkpoint`` is replaced after every epoch, and a line is added to the .jsonl file next to it; with
    ``resume``, a run continues from an existing checkpoint and ends bit-identical to an uninterrupted run of the same
    seed (on CPUs, with the same ``threads``). ``weights`` is written at the end, by default next to the checkpoint as
    NAME.weights.safetensors. ``notes``, text by name, are written to both; the note "spec" identifies the network.
    ``log_to`` gets the numbers of every epoch: "csv:FILE", "tensorboard:FOLDER", "wandb:PROJECT", a logger of
    Lightning, or several of them; a resumed run continues its logs. ``progress`` receives a Progress every step and a
    Row every epoch.

    Raises SettingError (also for a checkpoint with other settings), DataError (no images, a loss that is not
    finite), CheckpointError (a damaged or old checkpoint), or MissingExtra (torchvision, tensorboard, wandb).
    """
    chosen, others = settings_given(Training, settings), dict(notes or {})
    dataset = dataset_of(dataset, chosen.task)
    if isinstance(dataset.train, NamedSplit):
        raise DataError(f"{dataset.name}: {ONE_INPUT}")
    task = task_given(dataset.task if chosen.task is None else chosen.task)
    criterion = Criterion(task, chosen.label_smoothing, len(dataset.classes), dataset.name)
    spec = others.pop("spec", "")
    preprocessing = preprocessing or dataset.preprocessing
    recordings = dataset.frames is not None
    if recordings and not preprocessing.is_identity:
        raise SettingError(f"{dataset.name} contains recordings, whose silent pixels must stay 0; not {preprocessing}")
    channels, height = dataset.image_shape[:2]
    # A shift by one loses too much of 8x8 pixels; mirrored digits and gestures may be other classes.
    mirrored = "crop" if channels == 1 or recordings else "crop-flip"
    usual = "none" if height < 16 or len(dataset.image_shape) < 3 else mirrored
    augment = augmentation.for_targets(chosen.augment, usual, isinstance(task, OutcomeTask), dataset.train.labels)
    dataset = dataset.accumulated()
    group = ranks.join(device)
    facts: dict[str, Any] = {
        **chosen.to_json(),
        "augment": augment,
        "processes": group.count,
        "preprocessing": {"mean": list(preprocessing.mean), "std": list(preprocessing.std)},
        "dataset": dataset.name,
        "labels": hashlib.sha256(dataset.train.labels.numpy().tobytes()).hexdigest()[:16],
        **origins(dataset.train.images, *dict.fromkeys(type(part) for part in module.modules())),
        "network": fingerprint(module),
        "spec": spec,
        "notes": others,
        **({} if task == Classification() else {"task": str(task)}),
    }
    check_images(chosen, dataset.name, len(dataset.train), group.count)
    phases.check(facts["stages"], module)
    augmentation.check(augment, chosen.padding, chosen.cutout, dataset.image_shape, recordings)
    precisions.check(chosen.precision, group.device)
    if taken := sorted(set(others) & set(OWN_NOTES)):
        raise SettingError(f"the note name {taken[0]!r} is reserved; use another name")
    logs = Logs(log_to)
    group.in_first(logs.check)  # fails before the work, and in every process
    path = Path(checkpoint) if checkpoint else None
    if path and not weights:
        weights = path.with_suffix(".weights.safetensors")
    if path and weights and path.resolve() == Path(weights).resolve():
        raise SettingError(f"checkpoint and weights are the same file, {path}")
    group.check_same({name: repr(value) for name, value in facts.items()})

    def check_files() -> None:
        check_writable(path, make_folder=True, read_again=True)
        check_writable(path, weights, *logs.paths, make_folder=True)

    group.in_first(check_files)
    module.to(group.device)
    for name, tensor in module.state_dict().items():
        check_finite(f"{type(module).__name__} before training", **{name: tensor})
    parameters = learners.parameters(module, chosen.learn, facts["stages"])
    rate = facts["learning_rate"]
    steps = optimiser_named(
        chosen.optimiser, parameters, rate, chosen.momentum, facts["weight_decay"], chosen.decay_thresholds,
        **chosen.prior,
    )  # fmt: skip
    scaling = precisions.Precision(chosen.precision, group.device)
    state = files.State([], 0, {})
    group.wait()  # the first process may still be writing files of an earlier training
    if path and resume and path.exists():
        state = files.load(path, facts, module, steps, parameters)
        scaling.restore(state.scaler)
    if not group.agree(len(state.history)):
        raise CheckpointError(f"processes read different versions of {path}: put it where all machines can read it")
    log = path.with_suffix(".jsonl") if path and group.first else None
    if log:  # an interrupted run may have written the checkpoint and not its line here
        files.write_log(log, state.history)
    dataset = criterion.checked(dataset, module, preprocessing)
    order = torch.randperm(len(dataset.train), generator=loop.generator_of(chosen.seed, 0))
    share = chosen.validation_fraction
    held_out = min(len(order) - 1, max(1, round(len(order) * share))) if share else 0
    if dataset.validation is not None:
        held_out, validation = 0, dataset.validation if share else None
    else:
        validation = dataset.train.subset(order[:held_out]) if held_out else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(group.answering())
        stack.enter_context(loop.using_threads(threads))
        stack.callback(penalties.forget, module)
        stack.enter_context(learners.alone(module, chosen.learn, parameters))
        if group.first:
            stack.enter_context(logs).begin(state, facts)
        stack.enter_context(ranks.synchronised(module, group, chosen.sync_batchnorm))
        kept = order[held_out:]
        one = loop.Loop(module, dataset, criterion, kept, steps, preprocessing, scaling, group, facts, progress)
        for epoch in range(len(state.history) + 1, chosen.epochs + 1):
            start = time.perf_counter()
            phases.enter(module, facts["stages"], epoch)
            last_rate, mean, right, penalty = one.epoch(epoch)
            group.same_buffers(module)
            loss, value = (None, None)
            if validation:
                loss, value = loop.measure(module, validation, preprocessing, group, criterion)
            if loss is not None and not math.isfinite(loss):
                raise loop.diverged(f"the validation loss after epoch {epoch} is {loss}", rate)
            seconds = round(time.perf_counter() - start, 3)
            outcomes = isinstance(task, OutcomeTask)
            row = Row(epoch, last_rate, mean, right, loss, value if outcomes else None, seconds, penalty)
            row = row if outcomes else files.MeasuredRow(**asdict(row), metric=task.first.name, validation_value=value)
            begins = chosen.epochs if chosen.optimiser == "grad-r" else phases.last_begins(facts["stages"])
            if loop.is_better(row, state, begins):
                state.best_epoch = epoch
                state.best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            state.history.append(row)
            state.scaler = scaling.state()
            if path and log:
                files.save(path, facts, module, steps, parameters, state)
                files.write_log(log, state.history)
            if group.first:
                logs.write(row)
            if progress and group.first:
                progress(row)
        phases.enter(module, facts["stages"], chosen.epochs)
        module.load_state_dict(state.best)
        module.eval()
        test = loop.measure(module, dataset.test, preprocessing, group, criterion)[1] if len(dataset.test) else None
    target = Path(weights) if weights else None
    accuracy, other = (test, None) if isinstance(task, OutcomeTask) else (None, test)
    result = TrainingResult(
        state.best_epoch, tuple(state.history), accuracy, len(dataset.test), facts, target, task.first, other
    )
    if target:
        group.in_first(lambda: _write(module, target, result, dataset))
    return result


def _write(module: nn.Module, path: Path, result: TrainingResult, dataset: Dataset) -> None:
    """Write the final weights with their metadata."""
    facts = {
        "best_epoch": result.best_epoch,
        "test_accuracy": result.test_accuracy,
        **({} if result.metric == ACCURACY else {result.metric.name: result.test_value}),
        "classes": list(dataset.classes),
        "image_shape": list(dataset.image_shape),
        "data": dataset.note,
    }
    settings = result.settings
    text = {"spec": settings["spec"], "training": json.dumps(settings), "facts": json.dumps(facts)}
    preprocessing = json.dumps(settings["preprocessing"])
    save_weights(module, path, {**settings["notes"], **text, "preprocessing": preprocessing})
