"""The loop of ``transpike.finetune``."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.core.input_statistics import InputStatistics
from transpike.core.inputs import InputNames, Inputs, with_statistics
from transpike.core.task import OutcomeTask, Task
from transpike.data import Split
from transpike.engines import Auto
from transpike.errors import DataError, SettingError
from transpike.snn import SNN
from transpike.tasks import task_given
from transpike.training import checkpoint as files
from transpike.training import schedule
from transpike.training.samples import Pairs, Samples
from transpike.training.settings import digest, fingerprint, origins
from transpike.training.source import augmentation
from transpike.training.source.loop import diverged, generator_of, is_better
from transpike.training.spiking.finetuning import FineTuning
from transpike.training.spiking.losses import CrossEntropy, loss_for
from transpike.training.spiking.packing import PackSpikes
from transpike.training.spiking.ranges import LEAST, bounds, current_ranges
from transpike.training.spiking.tandem import Tandem
from transpike.training.spiking.unrolled import Unrolled
from transpike.workflow.convert import spike_rates
from transpike.workflow.finetune.facts import loss_json
from transpike.workflow.judged import Judged
from transpike.workflow.train import Progress, Row

MEASURED = 512
"""Training samples on which ranges and rates are measured again."""
ON_GRID = 1000
"""Validation samples on which the accuracy change by the grid is measured."""

Notify = Callable[[Progress | Row], None]


class Tuning:
    """One fine-tuning in progress."""

    def __init__(
        self,
        snn: SNN,
        samples: Samples,
        settings: FineTuning,
        timesteps: int,
        device: torch.device,
        task: Task | None = None,
        judged: Judged | None = None,
    ) -> None:
        task, self.output = task_given(task), judged or Judged()
        if len(samples) < 2:
            raise DataError(f"training needs at least two samples, there are {len(samples)}")
        self.task, self.criterion = task, loss_for(settings.loss, task)
        samples = _checked(samples, self.output.shape(snn.graph.output.shape), task)
        self.snn, self.samples, self.settings, self.timesteps, self.device = snn, samples, settings, timesteps, device
        kind = Tandem if settings.gradients == "counts" else Unrolled
        if kind is Tandem and (settings.normalise or settings.train != ("weights",)):
            raise SettingError("gradients='counts' can only train weights: use train='weights', normalise=False")
        self.module = kind(
            snn.graph, snn.encoder, snn.schedule, snn.readout, timesteps, settings.surrogate,
            detach_reset=settings.detach_reset,
        ).to(device)  # fmt: skip
        self.source = snn.source.to(device=device) if self.criterion.needs_teacher else None
        self.augment = self._augmentation()
        order = torch.randperm(len(samples), generator=generator_of(settings.seed, 0))
        share = settings.validation_fraction
        held_out = min(len(order) - 1, max(1, round(len(order) * share))) if share else 0
        self.validation, self.training = order[:held_out], order[held_out:]
        if settings.normalise:
            self.module.normalise(self.snn.prepare(samples.batch(self.training[: MEASURED // 2])[0]).to(device))
        self.warnings = self._checked(self.training[:MEASURED])
        self.trained = self._choose()
        self.bounds = bounds(self.module)
        self.optimiser = self._optimiser()
        self.epochs = settings.epochs
        self.facts = json.loads(json.dumps(self.described()))  # as read from a checkpoint

    def _checked(self, indices: Tensor) -> tuple[str, ...]:
        """Warnings about training inputs; DataError where they do not look like those of the calibration."""
        check = self.snn.input_check()
        for part in indices.split(128):
            check.add(self.snn.prepare(self.samples.batch(part)[0]))
        return check.finished()

    def _augmentation(self) -> str:
        x = self.samples.batch(torch.arange(1))[0]
        self.snn.prepare(x)  # DataError for samples of a wrong shape
        if isinstance(x, Inputs):
            if self.settings.augment not in ("auto", "none"):
                raise SettingError(
                    f"augment={self.settings.augment!r} moves the pixels of one image, and the network has several "
                    "inputs: augment the data"
                )
            return "none"
        usual = augmentation.usual(tuple(x.shape[1:]))
        classes, targets = isinstance(self.task, OutcomeTask), self.samples.labels
        return augmentation.for_targets(self.settings.augment, usual, classes, targets)

    def _choose(self) -> dict[str, nn.Parameter]:
        """Mark and return the trained parameters; all others are frozen."""
        groups, found = self.module.groups(), dict[str, nn.Parameter]()
        if "leaks" in self.settings.train and self.module.windows:
            raise SettingError("leaks cannot be trained in windows: omit 'leaks', or use the streaming schedule")
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        for kind, parameters in groups.items():
            wanted = kind in self.settings.train
            if wanted and not parameters:
                raise SettingError(f"the network has no {kind} to train; omit them from train={self.settings.train}")
            for name, parameter in parameters.items():
                parameter.requires_grad_(wanted)
                if wanted:
                    found[name] = parameter
        return found

    def _optimiser(self) -> torch.optim.Optimizer:
        """A parameter group for the weights, with weight decay, and one for each neuron tensor, in its scale."""
        settings, groups = self.settings, []
        for kind, parameters in self.module.groups().items():
            for name, parameter in parameters.items():
                if kind in settings.train:
                    decay = settings.weight_decay if kind == "weights" else 0.0
                    rate = settings.rate_of(kind) * self.bounds.get(name, (0.0, 1.0))[1]
                    groups.append({"params": [parameter], "lr": rate, "weight_decay": decay, "initial_lr": rate})
        if settings.optimiser == "sgd":
            return torch.optim.SGD(groups, momentum=settings.momentum, nesterov=settings.momentum > 0)
        return torch.optim.Adam(groups, amsgrad=settings.optimiser == "amsgrad")

    def described(self) -> dict[str, Any]:
        """Everything that must match to resume from a checkpoint."""
        preprocessing = self.snn.preprocessing
        return (
            self.settings.to_json()
            | loss_json(self.criterion, self.task)
            | ({} if self.output.name is None else {"output": self.output.name})
            | {
                "timesteps": self.timesteps,
                "augment": self.augment,
                "recipe": str(self.snn.recipe),
                "labels": hashlib.sha256(self.samples.labels.contiguous().numpy().tobytes()).hexdigest()[:16],
                **origins(
                    getattr(self.samples, "images", getattr(self.samples, "inputs", None)),
                    *dict.fromkeys(type(node.op) for node in self.snn.graph),
                    self.snn.encoder,
                    self.snn.schedule,
                    self.snn.readout,
                    self.settings,
                ),
                "network": fingerprint(self.module),
                "start": digest(self.module),
                "preprocessing": None if preprocessing is None else asdict(preprocessing),
                "spec": "",
            }
        )

    def run(self, path: Path | None, resume: bool, progress: Notify | None) -> files.State:
        state = files.State([], 0, {})
        self.before = self.measure(self.validation) if len(self.validation) else (None, None)
        if path and resume and path.exists():
            state = files.load(path, self.facts, self.module, self.optimiser, self.trained)
        while not self.ready(state):
            epoch, start = len(state.history) + 1, time.perf_counter()
            numbers = self.epoch(epoch, progress)
            loss, accuracy = self.measure(self.validation) if len(self.validation) else (None, None)
            if loss is not None and not math.isfinite(loss):
                raise diverged(f"the validation loss after epoch {epoch} is {loss}", self.settings.learning_rate)
            row = Row(epoch, *numbers, loss, accuracy, round(time.perf_counter() - start, 3))
            if self.is_better(row, state):
                state.best_epoch = epoch
                state.best = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
            state.history.append(row)
            if path:
                files.save(path, self.facts, self.module, self.optimiser, self.trained, state)
            if progress:
                progress(row)
        return state

    def ready(self, state: files.State) -> bool:
        """True where no epoch is left; otherwise prepares the next."""
        return len(state.history) >= self.settings.epochs

    def is_better(self, row: Row, state: files.State) -> bool:
        return is_better(row, state, 1)

    def factor(self, epoch: int, step: int, steps: int) -> float:
        """Factor on the learning rates; ``step`` of ``steps`` counts from 0."""
        return schedule.cosine(
            (epoch - 1) * steps + step, self.settings.epochs * steps, self.settings.warmup_epochs * steps
        )

    def epoch(self, epoch: int, progress: Notify | None) -> tuple[float, float, float | None]:
        """Train one epoch; returns the last learning rate, the mean loss and the accuracy."""
        settings = self.settings
        generator = generator_of(settings.seed, epoch)
        order = self.training[torch.randperm(len(self.training), generator=generator)]
        parts = order.split(settings.batch_size)
        self.module.train()
        steps, loss_sum, judged, factor = len(parts), 0.0, list[Tensor](), 1.0
        for step, indices in enumerate(parts):
            inputs, labels = self.samples.batch(indices)
            inputs = self.snn.prepare(self.augmented(inputs, generator)).to(self.device)
            labels, ids = labels.to(self.device), indices.to(self.device)
            factor = self.factor(epoch, step, steps)
            for group in self.optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor
            self.optimiser.zero_grad()
            loss, answer = self.loss(inputs, labels, ids)
            value = loss.item()
            if not math.isfinite(value):
                where = f"the loss is {value} in epoch {epoch}, step {step + 1} of {steps}"
                raise diverged(where, settings.learning_rate)
            loss.backward()
            self.optimiser.step()
            self.constrain()
            loss_sum += value * len(indices)
            judged.append(self.judged(answer, labels))
            if progress:
                progress(Progress(epoch, self.epochs, step + 1, steps, value))
        return settings.learning_rate * factor, loss_sum / len(order), self.accuracy(judged)

    def augmented(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        if self.augment == "none":
            return inputs
        images = inputs.flatten(1, -3)  # the frames of a recording are shifted together
        changed = augmentation.augment(images, self.augment, generator, self.settings.padding)
        return changed.reshape(inputs.shape)

    def loss(self, inputs: Tensor, labels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of a batch and its answers."""
        teacher = None
        narrow = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=narrow):
            if self.source is not None:
                with torch.no_grad():
                    teacher = self.output.part(self.source.run(self.snn.encoder.accumulate(inputs)).float())
            if self.settings.pack_spikes:
                with PackSpikes():
                    currents = self.module(inputs, ids)
            else:
                currents = self.module(inputs, ids)
        currents = currents.float()
        answer = self.output.part(self.module.answers(currents)[-1])
        return self.criterion(self.output.part(currents), answer, labels, teacher), answer

    @torch.no_grad()
    def constrain(self) -> None:
        """Thresholds stay positive, leaks in (0, 1]."""
        groups = self.module.groups()
        for name, parameter in groups["thresholds"].items():
            parameter.clamp_(min=self.bounds[name][0])
        for parameter in groups["leaks"].values():
            parameter.clamp_(LEAST, 1.0)

    @torch.no_grad()
    def measure(self, indices: Tensor) -> tuple[float, float | None]:
        """Mean loss of the task and accuracy."""
        self.module.eval()
        loss, judged, entropy = 0.0, list[Tensor](), isinstance(loss_for(None, self.task), CrossEntropy)
        for part in indices.split(256):
            answer, labels = self.answer(part)
            if entropy:
                loss += F.cross_entropy(answer, labels, reduction="sum").item()
            else:
                loss += self.task.loss(answer, labels).item() * len(part)
            judged.append(self.judged(answer, labels))
        return loss / len(indices), self.accuracy(judged)

    def judged(self, answer: Tensor, labels: Tensor) -> Tensor:
        """What the task needs of each sample, without gradients."""
        return self.task.rows(answer.detach(), labels).cpu()

    def accuracy(self, judged: list[Tensor]) -> float | None:
        """The accuracy of these samples; None of a task without one."""
        return self.task.value(torch.cat(judged)) if isinstance(self.task, OutcomeTask) else None

    @torch.no_grad()
    def answer(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Answers and targets of some samples, without augmentation."""
        inputs, labels = self.samples.batch(indices)
        inputs = self.snn.prepare(inputs).to(self.device)
        answers = self.module.answers(self.module(inputs, indices.to(self.device)))[-1]
        return self.output.part(answers), labels.to(self.device)

    def result(self, state: files.State) -> SNN:
        """The network with the best values, on the grid."""
        self.module.load_state_dict(state.best)
        self.module.eval()
        recipe = self.snn.recipe
        if self.timesteps != recipe.timesteps:
            recipe = dataclasses.replace(recipe, timesteps=self.timesteps)  # type: ignore[type-var]
        shown = self.training[:MEASURED]
        inputs = (self.snn.prepare(self.samples.batch(part)[0]).to(self.device) for part in shown.split(128))
        ranges = current_ranges(self.module, inputs)
        tuned = dataclasses.replace(
            self.snn, graph=self.module.to_graph(), recipe=recipe, ranges=ranges, rates={},
            provenance=dict(self.snn.provenance), exit=None, **self.inputs(shown),
        )  # fmt: skip
        tuned.rates.update(spike_rates(tuned, tuned.prepare(self.samples.batch(shown[:16])[0])))
        facts = {
            "settings": self.facts,
            "best_epoch": state.best_epoch,
            "before": {"validation_loss": self.before[0], "validation_accuracy": self.before[1]},
            # without the seconds of this run, so that the same network is stored in the same bytes
            "history": [{k: v for k, v in asdict(row).items() if k != "seconds"} for row in state.history],
            "grid": self.grid_cost(tuned),
        }
        earlier = self.snn.provenance.get("fine_tuning", [])
        tuned.provenance["fine_tuning"] = [*earlier, facts]
        remark = f"fine-tuned at T={self.timesteps}: {', '.join(self.settings.train)}, epoch {state.best_epoch}"
        remark += "" if self.snn.exit is None else "; the early exit was removed: fit it again"
        remarks = (*self.snn.remarks, *(f"fine-tuned although {one}" for one in self.warnings), remark)
        return dataclasses.replace(tuned, remarks=remarks)

    def inputs(self, indices: Tensor) -> dict[str, Any]:
        """Statistics of the training inputs, as the calibration inputs of the tuned network: fields of an SNN."""
        parts = [self.snn.prepare(self.samples.batch(part)[0]) for part in indices.split(128)]
        if InputNames.of(self.snn.source.inputs) is not None:
            return {"source": with_statistics(self.snn.source, parts)}
        return {"inputs": InputStatistics.of(map(self.snn.encoder.accumulate, parts))}

    def grid_cost(self, tuned: SNN) -> dict[str, Any]:
        """First metric and change of outputs on held-out samples (else training samples), off the grid and on it."""
        shown = (self.validation if len(self.validation) else self.training)[:ON_GRID]
        judged, change = (list[Tensor](), list[Tensor]()), 0.0
        for part in shown.split(100):
            off, labels = (value.cpu() for value in self.answer(part))
            inputs = tuned.prepare(self.samples.batch(part)[0])
            on = self.output.part(tuned.run_prepared(inputs, self.timesteps, Auto(), part, (), False).logits[-1])
            change = max(change, float((off - on).abs().max()))
            for found, answer in zip(judged, (off, on), strict=True):
                found.append(self.judged(answer, labels))
        before, after = (self.task.value(torch.cat(found)) for found in judged)
        name = {} if isinstance(self.task, OutcomeTask) else {"metric": self.task.first.name}
        key = "value" if name else "accuracy"
        numbers = {f"{key}_off": before, f"{key}_on": after, "largest_logit_change": change}
        return {"samples": len(shown), **name, **numbers}


def _checked(samples: Samples, shape: tuple[int, ...], task: Task) -> Samples:
    """The samples, with targets in the form of the task. Raises DataError for others."""
    labels = task.check(shape, len(samples), samples.labels, "the training data")
    if isinstance(samples, Pairs):
        return dataclasses.replace(samples, labels=labels)
    same = labels.dtype == samples.labels.dtype and torch.equal(labels, samples.labels)
    return (
        samples
        if same or not isinstance(samples, Split)
        else Split(samples.images, labels, samples.source, any_targets=True)
    )
