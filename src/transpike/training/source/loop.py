"""One epoch of training, and the measurement after it."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.core.task import OutcomeTask
from transpike.data import Dataset, Split
from transpike.errors import DataError, SettingError
from transpike.training import schedule
from transpike.training.checkpoint import Row, State
from transpike.training.ranks import Ranks
from transpike.training.source import augmentation, learners, policies, stages
from transpike.training.source.criterion import Criterion
from transpike.training.source.penalties import Penalised
from transpike.training.source.precision import Precision


@dataclass(frozen=True)
class Progress:
    """Progress of a training: ``step`` of ``steps`` in ``epoch`` of ``epochs``, counted from 1."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Loop:
    """The parts of a training that do not change between epochs.

    ``chosen`` are the indices of the training images.
    """

    module: nn.Module
    dataset: Dataset
    criterion: Criterion
    chosen: Tensor
    optimiser: torch.optim.Optimizer
    preprocessing: Preprocessing
    precision: Precision
    ranks: Ranks
    settings: dict[str, Any]
    progress: Callable[[Progress | Row], None] | None = None

    def epoch(self, epoch: int) -> tuple[float, float, float | None, float]:
        """One epoch; returns the last learning rate, the mean loss, the accuracy and the mean penalty.

        The accuracy is None for tasks without one.
        """
        generator = generator_of(self.settings["seed"], epoch)
        order = self.chosen[torch.randperm(len(self.chosen), generator=generator)]
        parts = batches(order, self.settings["batch_size"], self.ranks.count)
        losses, right, penalties, rate = 0.0, 0.0, 0.0, 0.0
        device = self.ranks.device
        learners.enter(self.module, self.settings.get("learn", "all"))
        # wrapped in every epoch, because the order of sums over processes depends on the steps since then
        network = self.ranks.wrap(Penalised(self.module), unused=stages.partial(self.module))
        # dropout draws from the global generator, whose state is restored afterwards
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            torch.manual_seed((generator.initial_seed() + self.ranks.rank) % 2**63)
            for step, indices in enumerate(parts):
                rate = self._rate(epoch, step, len(parts))
                loss, hits, penalty = self._step(
                    network, indices, generator, f"epoch {epoch}, step {step + 1} of {len(parts)}"
                )
                losses, right, penalties = losses + loss, right + hits, penalties + penalty
                if self.progress and self.ranks.first:
                    mean = loss / len(indices)
                    self.progress(Progress(epoch, self.settings["epochs"], step + 1, len(parts), mean))
        seen = sum(map(len, parts))
        counts = isinstance(self.criterion.task, OutcomeTask)
        return rate, losses / seen, right / seen if counts else None, penalties / seen

    def _rate(self, epoch: int, step: int, steps: int) -> float:
        """Set the learning rate of this step."""
        values = self.settings
        now, total, warmup = (epoch - 1) * steps + step, values["epochs"] * steps, values["warmup_epochs"] * steps
        if values["schedule"] == "step":
            factor = schedule.steps_down(now, total, warmup, values["step_size"] * steps, values["gamma"])
        else:
            factor = schedule.cosine(now, total, warmup)
        rate = values["learning_rate"] * factor
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        return rate

    def _step(
        self, network: nn.Module, indices: Tensor, generator: Generator, where: str
    ) -> tuple[float, float, float]:
        """One optimiser step on these images; returns the sums of loss, correct answers and penalty."""
        start, end = self.ranks.share(len(indices))
        labels = self.dataset.train.labels[indices[start:end]].to(self.ranks.device)
        inputs = self._inputs(indices[start:end], generator, (start, len(indices)))
        with self.precision.products():
            logits, penalty = network(inputs)
        logits = logits.float()
        loss = self.criterion.loss(logits, labels)
        right = int(self.criterion.sums(logits, labels)[0]) if isinstance(self.criterion.task, OutcomeTask) else 0
        mine = [value * len(labels) for value in (loss.item(), 0.0 if penalty is None else penalty.item())]
        losses, penalties, hits = self.ranks.total([*mine, right])
        if not math.isfinite(losses) or not math.isfinite(penalties):
            what = "loss" if math.isfinite(penalties) else "penalty of the activations"
            value = (losses if what == "loss" else penalties) / len(indices)
            raise diverged(f"the {what} is {value} in {where}", self.optimiser.param_groups[0]["lr"])
        if penalty is not None:
            loss = loss + penalty
        if self.ranks.count > 1:
            # The average over processes is the average over images, also where the last ones have an image less.
            loss = loss * (len(labels) * self.ranks.count / len(indices))
        self.precision.step(loss, self.optimiser)
        return losses, hits, penalties

    def _inputs(self, indices: Tensor, generator: Generator, place: tuple[int, int]) -> Tensor:
        """Images after augmentation and preprocessing."""
        mode, device = self.settings["augment"], self.ranks.device
        images, _ = self.dataset.train.batch(indices)
        if mode not in policies.POLICIES:  # policies work image by image, which is slow on a GPU
            images = images.to(device)
        images = augmentation.augment(images, mode, generator, self.settings["padding"], place=place).to(device)
        return augmentation.cutout(self.preprocessing(images), self.settings["cutout"], generator, place)


@torch.no_grad()
def measure(
    module: nn.Module, split: Split, preprocessing: Preprocessing, ranks: Ranks, criterion: Criterion
) -> tuple[float, float | None]:
    """Mean loss and first metric in evaluation mode; each process measures its share of the batches."""
    module.eval()
    loss, sums = 0.0, list[list[float]]()
    for n, (images, labels) in enumerate(split.batches()):
        if n % ranks.count == ranks.rank or not n:
            output, labels = module(preprocessing(images.to(ranks.device))), labels.to(ranks.device)
            mine = n % ranks.count == ranks.rank  # every process needs the number of sums
            loss += criterion.total_loss(output, labels) if mine else 0.0
            sums.append([value * mine for value in criterion.sums(output, labels)])
    loss, *found = ranks.total([loss, *map(sum, zip(*sums, strict=True))])
    return loss / len(split), criterion.value(found, len(split))


def batches(order: Tensor, size: int, ranks: int = 1) -> tuple[Tensor, ...]:
    """``order`` in batches of ``size``, without a last batch that is too small.

    Each process gets at least two images of a batch, because batch normalisation needs a variance, or one if batches
    have one image per process. Raises DataError if there are fewer images than processes.
    """
    parts = order.split(size)
    least = min(2, size // ranks) * ranks
    if len(parts) > 1 and len(parts[-1]) < least:
        parts = parts[:-1]
    if len(parts[0]) < ranks:
        raise DataError(f"{len(order)} images to train on are too few for {ranks} processes")
    return parts


def generator_of(seed: int, epoch: int) -> Generator:
    """A separate generator per epoch, so that a resumed run draws the same numbers; epoch 0 is the validation split."""
    return Generator().manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0]))


def diverged(what: str, rate: float) -> DataError:
    """The error for a loss or penalty that is not finite."""
    return DataError(
        f"{what}: the training has diverged. Try a lower learning_rate (it was {rate:g}), or warmup_epochs; and check "
        "that the images contain no NaN"
    )


def is_better(row: Row, state: State, first: int) -> bool:
    """True if ``row`` is the best epoch from ``first`` on: by validation accuracy, then loss; else always.

    By the loss alone for tasks without an accuracy.
    """
    if row.validation_loss is None or row.epoch <= first:
        return True
    best = state.history[state.best_epoch - 1]
    found, before = row.validation_accuracy or 0.0, best.validation_accuracy or 0.0
    return (found, -row.validation_loss) > (before, -(best.validation_loss or 0.0))


@contextlib.contextmanager
def using_threads(count: int | None) -> Iterator[None]:
    """Context with ``count`` PyTorch threads, restored afterwards; raises SettingError for fewer than 1."""
    before = torch.get_num_threads()
    if count is not None and count < 1:
        raise SettingError(f"threads must be at least 1, not {count}")
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
