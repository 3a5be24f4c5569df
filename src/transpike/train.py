"""Train a network: SGD with a cosine schedule, resumable after a kill to the very same weights."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.data import Dataset, Split
from transpike.errors import DataError, SettingError
from transpike.training import augmentation, schedule
from transpike.training import checkpoint as files

Row = files.Row
save_weights = files.save_weights
PRECISIONS = ("float32", "bfloat16")
__all__ = ["Progress", "Row", "TrainingResult", "save_weights", "train"]


@dataclass(frozen=True)
class Progress:
    """Where the training is: ``step`` of ``steps`` in ``epoch`` of ``epochs``, all counted from 1."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


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
    learning_rate: float = 0.1,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    warmup_epochs: int = 0,
    augment: str = "auto",
    padding: str = "zero",
    label_smoothing: float = 0.0,
    seed: int = 0,
    validation_fraction: float = 0.1,
    precision: str = "float32",
    checkpoint: str | Path | None = None,
    weights: str | Path | None = None,
    resume: bool = True,
    preprocessing: Preprocessing | None = None,
    spec: str = "",
    progress: Callable[[Progress | Row], None] | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
) -> TrainingResult:
    """Train ``module`` in place and leave it with the best weights, in evaluation mode, on ``device``.

    The best epoch is chosen on ``validation_fraction`` of the training images (0: the last epoch is taken), never on
    the test images. Recordings are trained on the mean of their frames, without preprocessing. ``augment``:
    "crop-flip", "crop", "none", or "auto": flips for colour images only, nothing below 16 pixels. ``precision``
    "bfloat16" multiplies in 16 bits (weights and sums stay float32): faster where the processor has instructions for
    it. The file ``checkpoint`` is replaced after every epoch, and a line of numbers
    added to the .jsonl file beside it; with ``resume``, a run that finds it goes on from there and ends in the same
    bits as an unbroken one (on a CPU, with the same number of threads). ``weights`` is written at the end, by default
    beside the checkpoint as NAME.weights.safetensors. ``spec`` is noted in both. ``progress`` gets a Progress every
    step, a Row every epoch.
    Raises SettingError (also when the checkpoint is of other settings), DataError (no images, a loss that is not
    finite), or CheckpointError (a damaged checkpoint).
    """
    preprocessing = preprocessing or dataset.preprocessing
    if dataset.frames is not None and not preprocessing.is_identity:
        raise SettingError(f"{dataset.name} holds recordings, whose silent pixels must stay 0; not {preprocessing}")
    if augment == "auto":
        channels, height = dataset.image_shape[:2]
        # Of 8x8 pixels a shift by one loses too much; and mirrored digits and gestures are other ones.
        flips = channels > 1 and dataset.frames is None
        augment = "none" if height < 16 else "crop-flip" if flips else "crop"
    dataset = dataset.accumulated()
    settings: dict[str, Any] = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "weight_decay": weight_decay,
        "momentum": momentum,
        "warmup_epochs": warmup_epochs,
        "augment": augment,
        "padding": padding,
        "label_smoothing": label_smoothing,
        "seed": seed,
        "validation_fraction": validation_fraction,
        "precision": precision,
        "preprocessing": {"mean": list(preprocessing.mean), "std": list(preprocessing.std)},
        "dataset": dataset.name,
        "labels": hashlib.sha256(dataset.train.labels.numpy().tobytes()).hexdigest()[:16],
        "network": _shape_of(module),
        "spec": spec,
    }
    _check(settings, len(dataset.train))
    path = Path(checkpoint) if checkpoint else None
    if path and not weights:
        weights = path.with_suffix(".weights.safetensors")
    if path and weights and path.resolve() == Path(weights).resolve():
        raise SettingError(f"checkpoint and weights are the same file, {path}")
    device = torch.device(device)
    module.to(device)
    parameters = {name: p for name, p in module.named_parameters() if p.requires_grad}
    if not parameters:
        raise SettingError(f"{type(module).__name__} has no parameters to train")
    optimiser = torch.optim.SGD(
        parameters.values(), learning_rate, momentum, weight_decay=weight_decay, nesterov=momentum > 0
    )
    state = files.State([], 0, {})
    if path and resume and path.exists():
        state = files.load(path, settings, module, optimiser, parameters)
    log = path.with_suffix(".jsonl") if path else None
    if log:  # a kill may have come between the checkpoint and its line here
        files.write_text(log, "".join(json.dumps(asdict(row)) + "\n" for row in state.history))
    order = torch.randperm(len(dataset.train), generator=_generator(seed, 0))
    held_out = min(len(order) - 1, max(1, round(len(order) * validation_fraction))) if validation_fraction else 0
    validation = dataset.train.subset(order[:held_out]) if held_out else None
    chosen = order[held_out:]
    with _threads(threads):
        for epoch in range(len(state.history) + 1, epochs + 1):
            start = time.perf_counter()
            numbers = _epoch(module, dataset, chosen, optimiser, preprocessing, settings, epoch, progress, device)
            loss, accuracy = _measure(module, validation, preprocessing, device) if validation else (None, None)
            if loss is not None and not math.isfinite(loss):
                raise _diverged(f"the validation loss after epoch {epoch} is {loss}", learning_rate)
            row = Row(epoch, *numbers, loss, accuracy, round(time.perf_counter() - start, 3))
            if _better(row, state):
                state.best_epoch = epoch
                state.best = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
            state.history.append(row)
            if path and log:
                files.save(path, settings, module, optimiser, parameters, state)
                with log.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
            if progress:
                progress(row)
        module.load_state_dict(state.best)
        module.eval()
        test = _measure(module, dataset.test, preprocessing, device)[1] if len(dataset.test) else None
    result = TrainingResult(
        state.best_epoch,
        tuple(state.history),
        test,
        len(dataset.test),
        settings,
        Path(weights) if weights else None,
    )
    if result.weights:
        facts = {
            "best_epoch": state.best_epoch,
            "test_accuracy": test,
            "classes": list(dataset.classes),
            "image_shape": list(dataset.image_shape),
            "data": dataset.note,
        }
        text = {"spec": spec, "training": json.dumps(settings), "facts": json.dumps(facts)}
        save_weights(module, result.weights, {**text, "preprocessing": json.dumps(settings["preprocessing"])})
    return result


def _check(settings: dict[str, Any], images: int) -> None:
    def within(name: str, low: float, high: float = math.inf, open_high: bool = False) -> None:
        value = settings[name]
        if not low <= value <= high or (open_high and value == high) or not math.isfinite(value):
            raise SettingError(f"{name} must be from {low:g} to {high:g}, not {value}")

    within("epochs", 1)
    within("batch_size", 1)
    within("seed", 0)
    within("weight_decay", 0)
    within("warmup_epochs", 0, settings["epochs"], open_high=True)
    for name in ("momentum", "label_smoothing", "validation_fraction"):
        within(name, 0, 1, open_high=True)
    within("learning_rate", 0)
    if settings["augment"] not in augmentation.MODES or settings["padding"] not in augmentation.PADDINGS:
        modes = f"augment {('auto', *augmentation.MODES)}, padding {augmentation.PADDINGS}"
        raise SettingError(f"wanted {modes}; not {settings['augment']!r}, {settings['padding']!r}")
    if settings["precision"] not in PRECISIONS:
        raise SettingError(f"precision is one of {PRECISIONS}, not {settings['precision']!r}")
    if images < 2:
        raise DataError(f"training needs at least two images; {settings['dataset']} has {images}")


def _epoch(
    module: nn.Module,
    dataset: Dataset,
    chosen: Tensor,
    optimiser: torch.optim.Optimizer,
    preprocessing: Preprocessing,
    settings: dict[str, Any],
    epoch: int,
    progress: Callable[[Progress | Row], None] | None,
    device: torch.device,
) -> tuple[float, float, float]:
    """One pass; gives the last learning rate, the mean loss and the accuracy."""
    generator = _generator(settings["seed"], epoch)
    parts = chosen[torch.randperm(len(chosen), generator=generator)].split(settings["batch_size"])
    if len(parts) > 1 and len(parts[-1]) == 1 < settings["batch_size"]:
        parts = parts[:-1]  # the variance of a single image is nothing that BatchNorm could use
    loss_sum, right, rate = 0.0, 0, 0.0
    steps, total = len(parts), len(parts) * settings["epochs"]
    module.train()
    # Dropout draws from the global generator, which is given back as it was found.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(generator.initial_seed())
        for step, indices in enumerate(parts):
            images, labels = (t.to(device) for t in dataset.train.batch(indices))
            images = augmentation.augment(images, settings["augment"], generator, settings["padding"])
            factor = schedule.cosine((epoch - 1) * steps + step, total, settings["warmup_epochs"] * steps)
            rate = settings["learning_rate"] * factor
            for group in optimiser.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=settings["precision"] == "bfloat16"):
                logits = module(preprocessing(images)).float()
            if logits.ndim != 2 or logits.shape[1] < len(dataset.classes):
                wanted = f"(batch, {len(dataset.classes)}) for the classes of {dataset.name}"
                raise DataError(f"the network gives {tuple(logits.shape)}, not {wanted}")
            loss = F.cross_entropy(logits, labels, label_smoothing=settings["label_smoothing"])
            value = loss.item()
            if not math.isfinite(value):
                raise _diverged(f"the loss is {value} in epoch {epoch}, step {step + 1} of {steps}", rate)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            loss_sum += value * len(indices)
            right += int((logits.argmax(1) == labels).sum())
            if progress:
                progress(Progress(epoch, settings["epochs"], step + 1, steps, value))
    seen = sum(map(len, parts))
    return rate, loss_sum / seen, right / seen


@torch.no_grad()
def _measure(
    module: nn.Module, split: Split, preprocessing: Preprocessing, device: torch.device
) -> tuple[float, float]:
    """Mean loss and accuracy in evaluation mode."""
    module.eval()
    loss, right = 0.0, 0
    for images, labels in split.batches():
        logits, labels = module(preprocessing(images.to(device))), labels.to(device)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(1) == labels).sum())
    return loss / len(split), right / len(split)


def _better(row: Row, state: files.State) -> bool:
    """By validation accuracy, then by loss; without validation images the last epoch is the best."""
    if row.validation_accuracy is None or row.validation_loss is None or not state.history:
        return True
    best = state.history[state.best_epoch - 1]
    return (row.validation_accuracy, -row.validation_loss) > (best.validation_accuracy, -(best.validation_loss or 0.0))


def _generator(seed: int, epoch: int) -> Generator:
    """Of its own for every epoch, so that a resumed run draws what an unbroken one draws."""
    return Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]))


def _shape_of(module: nn.Module) -> str:
    """Sixteen digits that stand for the names, shapes and types of the network's tensors."""
    lines = [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in module.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _diverged(what: str, rate: float) -> DataError:
    return DataError(
        f"{what}: the training has diverged. Try a lower learning_rate (it was {rate:g}), or warmup_epochs; and check "
        "that the images hold no NaN"
    )


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if count is not None and count < 1:
        raise SettingError(f"threads must be at least 1, not {count}")
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
