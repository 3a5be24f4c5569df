"""Train a network: one loop for all, resumable after a kill to the very same weights."""

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

from transpike.core.op import check_finite
from transpike.core.preprocessing import Preprocessing
from transpike.data import Dataset
from transpike.errors import CheckpointError, SettingError
from transpike.training import augmentation, learners, loop, penalties, ranks
from transpike.training import checkpoint as files
from transpike.training import precision as precisions
from transpike.training import settings as bounds
from transpike.training import stages as phases
from transpike.training.board import Board, writer
from transpike.training.loop import Progress
from transpike.training.optimisers import optimiser as optimiser_named

Row = files.Row
save_weights = files.save_weights
OWN_NOTES = ("format", "spec", "training", "preprocessing", "facts")
__all__ = ["Progress", "Row", "TrainingResult", "save_weights", "train"]


@dataclass(frozen=True)
class TrainingResult:
    """``test_accuracy`` (0 to 1, None without test images) is of the weights of ``best_epoch``, measured once."""

    best_epoch: int
    history: tuple[Row, ...]
    test_accuracy: float | None
    test_images: int
    settings: dict[str, Any]
    weights: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """Numbers and text only."""
        return {**asdict(self), "weights": str(self.weights) if self.weights else None}


def train(
    module: nn.Module,
    dataset: Dataset,
    *,
    epochs: int,
    optimiser: str = "sgd",
    learning_rate: float | None = None,
    batch_size: int = 128,
    weight_decay: float | None = None,
    decay_thresholds: bool = True,
    alpha: float | None = None,
    sparsity: float | None = None,
    momentum: float = 0.9,
    schedule: str = "cosine",
    step_size: int | None = None,
    gamma: float | None = None,
    warmup_epochs: int = 0,
    stages: Mapping[str, int] | None = None,
    learn: learners.Learn = "all",
    augment: str = "auto",
    padding: str = "zero",
    cutout: int = 0,
    label_smoothing: float = 0.0,
    seed: int = 0,
    validation_fraction: float = 0.1,
    precision: str = "float32",
    sync_batchnorm: bool = False,
    checkpoint: str | Path | None = None,
    weights: str | Path | None = None,
    resume: bool = True,
    tensorboard: str | Path | None = None,
    preprocessing: Preprocessing | None = None,
    spec: str = "",
    notes: Mapping[str, str] | None = None,
    progress: Callable[[Progress | Row], None] | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
) -> TrainingResult:
    """Train ``module`` in place and leave it with the best weights, in evaluation mode, on ``device``.

    The loss is the cross-entropy, with ``label_smoothing``, plus every submodule's ``penalty``, a scalar that its
    forward sets. The best epoch is chosen on ``validation_fraction`` of the training images (0: the last epoch is
    taken), or, unless that is 0, on the images that the data set gives for it; never on the test images. Recordings are
    trained on the mean of their frames, without preprocessing.

    Optimisation: ``optimiser`` "sgd" (Nesterov's ``momentum``), "adam" (β₁ = ``momentum``), or "grad-r", which prunes
    while it trains (``training.GradR`` with ``alpha``, 0.05, and ``sparsity``, 0.9, the share that its prior has at
    zero; long training or a large α comes near it; the last epoch is taken); ``learning_rate`` is 0.1, 0.001
    or 0.001 unless given; ``weight_decay`` (5e-4; not for "grad-r"), also of thresholds unless ``decay_thresholds`` is
    off; ``schedule`` "cosine", or "step": times ``gamma`` (0.1) every ``step_size`` epochs; both after a line up over
    ``warmup_epochs``.
    ``precision``: "bfloat16" and, on GPUs, "float16" multiply in 16 bits; weights and sums stay float32.
    Activations: ``stages`` {"clip": 3, "quantise": 5} sets the attribute ``stage`` of source activations by the epoch
    from which it holds, "relu" before the first; the best epoch is one of the last stage. ``learn`` "activations"
    trains the parameters of source activations alone, in a network that else is as in evaluation (see
    ``RateNorm``).
    Images: ``augment`` is "crop-flip", "crop", "none", "auto-augment", "rand-augment", "trivial-augment" (torchvision,
    after crop and flip), or "auto": flips for colour images only, nothing below 16 pixels; ``padding`` "zero" or
    "reflect" is what comes in at the border; ``cutout`` sets a square of so many pixels to the mean colour.
    Processes: under torchrun each of them trains on its part of every ``batch_size`` images (DistributedDataParallel),
    and the first one writes; ``sync_batchnorm`` normalises over all of them.
    Files: ``checkpoint`` is replaced after every epoch, and a line of numbers added to the .jsonl file beside it; with
    ``resume``, a run that finds it goes on from there and ends in the same bits as an unbroken one of the same ``seed``
    (on CPUs, with the same ``threads``). ``weights`` is written at the end, by default beside the checkpoint as
    NAME.weights.safetensors. ``spec`` and ``notes``, more text by name, are noted in both. ``tensorboard`` is a folder
    to write the numbers into. ``progress`` gets a Progress every step, a Row every epoch.

    Raises SettingError (also when the checkpoint is of other settings), DataError (no images, a loss that is not
    finite), CheckpointError (a damaged or old checkpoint), or MissingExtra (torchvision, tensorboard).
    """
    preprocessing = preprocessing or dataset.preprocessing
    recordings = dataset.frames is not None
    if recordings and not preprocessing.is_identity:
        raise SettingError(f"{dataset.name} holds recordings, whose silent pixels must stay 0; not {preprocessing}")
    if augment == "auto":
        channels, height = dataset.image_shape[:2]
        # Of 8x8 pixels a shift by one loses too much; and mirrored digits and gestures are other ones.
        flips = channels > 1 and not recordings
        augment = "none" if height < 16 or len(dataset.image_shape) < 3 else "crop-flip" if flips else "crop"
    dataset = dataset.accumulated()
    group = ranks.join(device)
    settings: dict[str, Any] = {
        "epochs": epochs,
        "optimiser": optimiser,
        "learning_rate": bounds.learning_rate_of(optimiser, learning_rate),
        "batch_size": batch_size,
        **bounds.regularisation_of(optimiser, weight_decay, decay_thresholds, alpha, sparsity),
        "decay_thresholds": decay_thresholds,
        "momentum": momentum,
        "schedule": schedule,
        "step_size": step_size,
        "gamma": 0.1 if schedule == "step" and gamma is None else gamma,
        "warmup_epochs": warmup_epochs,
        "stages": {} if stages is None else phases.check(stages, epochs, module),
        **({} if learn == "all" else {"learn": learn}),
        "augment": augment,
        "padding": padding,
        "cutout": cutout,
        "label_smoothing": label_smoothing,
        "seed": seed,
        "validation_fraction": validation_fraction,
        "precision": precision,
        "sync_batchnorm": sync_batchnorm,
        "processes": group.count,
        "preprocessing": {"mean": list(preprocessing.mean), "std": list(preprocessing.std)},
        "dataset": dataset.name,
        "labels": hashlib.sha256(dataset.train.labels.numpy().tobytes()).hexdigest()[:16],
        **bounds.origins(dataset.train.images, *dict.fromkeys(type(part) for part in module.modules())),
        "network": bounds.fingerprint(module),
        "spec": spec,
        "notes": dict(notes or {}),
    }
    bounds.check(settings, len(dataset.train), group.count)
    augmentation.check(augment, padding, cutout, dataset.image_shape, recordings)
    precisions.check(precision, group.device)
    if taken := sorted(set(settings["notes"]) & set(OWN_NOTES)):
        raise SettingError(f"the note {taken[0]!r} is written anyway; give yours another name")
    if tensorboard:
        writer(tensorboard)  # before the work, and in every process
    path = Path(checkpoint) if checkpoint else None
    if path and not weights:
        weights = path.with_suffix(".weights.safetensors")
    if path and weights and path.resolve() == Path(weights).resolve():
        raise SettingError(f"checkpoint and weights are the same file, {path}")
    module.to(group.device)
    for name, tensor in module.state_dict().items():
        check_finite(f"{type(module).__name__} before training", **{name: tensor})
    parameters = learners.parameters(module, learn, settings["stages"])
    rate = settings["learning_rate"]
    prior = {name: settings[name] for name in ("alpha", "sparsity") if name in settings}
    steps = optimiser_named(optimiser, parameters, rate, momentum, settings["weight_decay"], decay_thresholds, **prior)
    scaling = precisions.Precision(precision, group.device)
    state = files.State([], 0, {})
    group.wait()  # the first process may still be writing what a training before this one has left
    if path and resume and path.exists():
        state = files.load(path, settings, module, steps, parameters)
        scaling.restore(state.scaler)
    if not group.agree(len(state.history)):
        raise CheckpointError(f"some processes find another {path} than others: put it where all machines can read it")
    log = path.with_suffix(".jsonl") if path and group.first else None
    if log:  # a kill may have come between the checkpoint and its line here
        files.write_text(log, "".join(json.dumps(asdict(row)) + "\n" for row in state.history))
    order = torch.randperm(len(dataset.train), generator=loop.generator_of(seed, 0))
    held_out = min(len(order) - 1, max(1, round(len(order) * validation_fraction))) if validation_fraction else 0
    if dataset.validation is not None:
        held_out, validation = 0, dataset.validation if validation_fraction else None
    else:
        validation = dataset.train.subset(order[:held_out]) if held_out else None
    with contextlib.ExitStack() as stack:
        stack.enter_context(loop.using_threads(threads))
        stack.callback(penalties.forget, module)
        stack.enter_context(learners.alone(module, learn, parameters))
        board = Board(tensorboard, len(state.history)) if tensorboard and group.first else None
        if board:
            stack.callback(board.close)
        stack.enter_context(ranks.synchronised(module, group, sync_batchnorm))
        chosen = order[held_out:]
        one = loop.Loop(module, dataset, chosen, steps, preprocessing, scaling, group, settings, progress)
        for epoch in range(len(state.history) + 1, epochs + 1):
            start = time.perf_counter()
            phases.enter(module, settings["stages"], epoch)
            last_rate, *means, penalty = one.epoch(epoch)
            group.same_buffers(module)
            loss, accuracy = loop.measure(module, validation, preprocessing, group) if validation else (None, None)
            if loss is not None and not math.isfinite(loss):
                raise loop.diverged(f"the validation loss after epoch {epoch} is {loss}", rate)
            seconds = round(time.perf_counter() - start, 3)
            row = Row(epoch, last_rate, means[0], means[1], loss, accuracy, seconds, penalty)
            if loop.is_better(row, state, epochs if optimiser == "grad-r" else phases.last_begins(settings["stages"])):
                state.best_epoch = epoch
                state.best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            state.history.append(row)
            state.scaler = scaling.state()
            if path and log:
                files.save(path, settings, module, steps, parameters, state)
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
            if board:
                board.write(row)
            if progress and group.first:
                progress(row)
        phases.enter(module, settings["stages"], epochs)
        module.load_state_dict(state.best)
        module.eval()
        test = loop.measure(module, dataset.test, preprocessing, group)[1] if len(dataset.test) else None
    target = Path(weights) if weights else None
    result = TrainingResult(state.best_epoch, tuple(state.history), test, len(dataset.test), settings, target)
    if target and group.first:
        _write(module, target, result, dataset)
    group.wait()
    return result


def _write(module: nn.Module, path: Path, result: TrainingResult, dataset: Dataset) -> None:
    """The finished weights, with what is known about them."""
    facts = {
        "best_epoch": result.best_epoch,
        "test_accuracy": result.test_accuracy,
        "classes": list(dataset.classes),
        "image_shape": list(dataset.image_shape),
        "data": dataset.note,
    }
    settings = result.settings
    text = {"spec": settings["spec"], "training": json.dumps(settings), "facts": json.dumps(facts)}
    preprocessing = json.dumps(settings["preprocessing"])
    save_weights(module, path, {**settings["notes"], **text, "preprocessing": preprocessing})
