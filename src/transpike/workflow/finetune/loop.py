"""The loop of ``transpike.finetune``."""

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transpike.core.digest import digest
from transpike.core.task import OutcomeTask, Task
from transpike.engines import Auto
from transpike.errors import CheckpointError, DataError, SettingError
from transpike.snn import SNN
from transpike.tasks import task_given
from transpike.training import checkpoint as files
from transpike.training import schedule
from transpike.training.loggers import Logs
from transpike.training.ranks import Ranks
from transpike.training.samples import Samples
from transpike.training.settings import fingerprint, origins
from transpike.training.source import augmentation
from transpike.training.source.loop import diverged, generator_of, is_better
from transpike.training.spiking.finetuning import FineTuning
from transpike.training.spiking.losses import CrossEntropy, loss_for
from transpike.training.spiking.packing import PackSpikes
from transpike.training.spiking.ranges import LEAST, bounds, current_ranges
from transpike.training.spiking.tandem import Tandem
from transpike.training.spiking.unrolled import Unrolled
from transpike.workflow.convert import spike_rates
from transpike.workflow.distributed import ALONE
from transpike.workflow.finetune.facts import augmentation_of, checked_samples, input_fields, loss_json
from transpike.workflow.finetune.parts import gradients, shares
from transpike.workflow.judged import Judged
from transpike.workflow.shared_batches import Batch, shared
from transpike.workflow.train import Progress, Row

MEASURED = 512
"""Training samples on which ranges and rates are measured again."""
ON_GRID = 1000
"""Validation samples on which the accuracy change by the grid is measured."""

Result = TypeVar("Result")
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
        group: Ranks = ALONE,
    ) -> None:
        self.group, self.parts = group, settings.batch_parts or group.count
        task, self.output = task_given(task), judged or Judged()
        if len(samples) < 2:
            raise DataError(f"training needs at least two samples, there are {len(samples)}")
        self.task, self.criterion = task, loss_for(settings.loss, task)
        samples = checked_samples(samples, self.output.shape(snn.graph.output.shape), task)
        self.snn, self.samples, self.settings, self.timesteps, self.device = snn, samples, settings, timesteps, device
        kind = Tandem if settings.gradients == "counts" else Unrolled
        if kind is Tandem and (settings.normalise or settings.train != ("weights",)):
            raise SettingError("gradients='counts' can only train weights: use train='weights', normalise=False")
        self.module = kind(
            snn.graph, snn.encoder, snn.schedule, snn.readout, timesteps, settings.surrogate,
            detach_reset=settings.detach_reset,
        ).to(device)  # fmt: skip
        self.source = snn.source.to(device=device) if self.criterion.needs_teacher else None
        self.augment = augmentation_of(snn, samples, settings, task)
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
            {name: value for name, value in self.settings.to_json().items() if name != "batch_parts"}
            | loss_json(self.criterion, self.task)
            | ({} if self.output.name is None else {"output": self.output.name})
            | {
                "timesteps": self.timesteps,
                "augment": self.augment,
                "recipe": str(self.snn.recipe),
                "labels": hashlib.sha256(self.samples.labels.contiguous().numpy().tobytes()).hexdigest()[:16],
                **({} if self.parts == 1 else {"batch_parts": self.parts}),
                **origins(
                    getattr(self.samples, "images", getattr(self.samples, "inputs", None)),
                    *dict.fromkeys(type(node.op) for node in self.snn.graph),
                    self.snn.encoder,
                    self.snn.schedule,
                    self.snn.readout,
                    self.settings,
                ),
                "network": fingerprint(self.module),
                "start": digest(self.module.state_dict())[:16],
                "preprocessing": None if preprocessing is None else asdict(preprocessing),
                "spec": "",
            }
        )

    def run(self, path: Path | None, resume: bool, progress: Notify | None, logs: Logs) -> files.State:
        state = files.State([], 0, {})
        self.group.check_same({name: repr(value) for name, value in self.facts.items()})
        self.group.wait()  # the first process may still be writing the checkpoint of an earlier run
        self.before = self.measure(self.validation) if len(self.validation) else (None, None)
        if path and resume and path.exists():
            state = files.load(path, self.facts, self.module, self.optimiser, self.trained)
        if not self.group.agree(len(state.history)):
            raise CheckpointError(f"processes read different versions of {path}: put it where all machines can read it")
        if self.group.first:
            logs.begin(state, self.facts)
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
            if path and self.group.first:
                files.save(path, self.facts, self.module, self.optimiser, self.trained, state)
            if self.group.first:
                logs.write(row)
            if progress and self.group.first:
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
        tensors, trained = self.module.tensors(), [p for p in self.trained.values() if p.requires_grad]
        running = [
            tensors[f"{name}.norm.{one}"] for name in sorted(self.module.normalised) for one in ("mean", "variance")
        ]
        for step, indices in enumerate(parts):
            factor = self.factor(epoch, step, steps)
            for group in self.optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor
            where = f"epoch {epoch}, step {step + 1} of {steps}"
            run = partial(self.part, indices, generator, generator.get_state(), where)
            value, found = gradients(trained, running, self.group, shares(len(indices), self.parts), run)
            generator.set_state(found[0][1])
            self.optimiser.step()
            self.constrain()
            loss_sum += value * len(indices)
            judged += [each for each, _ in found]
            if progress and self.group.first:
                progress(Progress(epoch, self.epochs, step + 1, steps, value))
        return settings.learning_rate * factor, loss_sum / len(order), self.accuracy(judged)

    def part(
        self, indices: Tensor, generator: torch.Generator, state: Tensor, where: str, start: int, end: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The loss of the samples [start, end) of a batch; rows of the task, and the state of the generator after it.

        The generator draws for the whole batch, from ``state`` on.
        """
        generator.set_state(state)
        chosen = indices[start:end]
        inputs, labels = self.samples.batch(chosen)
        inputs = self.snn.prepare(self.augmented(inputs, generator, (start, len(indices)))).to(self.device)
        labels = labels.to(self.device)
        loss, answer = self.loss(inputs, labels, chosen.to(self.device))
        if not math.isfinite(value := loss.item()):
            raise diverged(f"the loss is {value} in {where}", self.settings.learning_rate)
        return loss, (self.judged(answer, labels), generator.get_state())

    def augmented(self, inputs: Tensor, generator: torch.Generator, place: tuple[int, int]) -> Tensor:
        if self.augment == "none":
            return inputs
        images = inputs.flatten(1, -3)  # the frames of a recording are shifted together
        changed = augmentation.augment(images, self.augment, generator, self.settings.padding, place=place)
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
        loss, judged = 0.0, list[Tensor]()
        for value, each in self.each(self.measured, indices.split(256)):
            loss += value
            judged.append(each)
        return loss / len(indices), self.accuracy(judged)

    def measured(self, part: Tensor) -> tuple[float, Tensor]:
        """The sum of the loss over some samples, and what the task needs of each of them."""
        answer, labels = self.answer(part)
        if isinstance(loss_for(None, self.task), CrossEntropy):
            loss = F.cross_entropy(answer, labels, reduction="sum").item()
        else:
            loss = self.task.loss(answer, labels).item() * len(part)
        return loss, self.judged(answer, labels)

    def each(self, run: Callable[[Tensor], Result], parts: Sequence[Tensor]) -> Iterator[Result]:
        """``run`` of each part of some indices, in their order; the processes share them."""
        return shared(self.group, map(Batch.of, parts), lambda batch: run(batch.content))

    def judged(self, answer: Tensor, labels: Tensor) -> Tensor:
        """The data that the task needs of each sample, without gradients."""
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
        tuned = dataclasses.replace(
            self.snn, graph=self.module.to_graph(), recipe=recipe, ranges=self.ranges(shown), rates={},
            provenance=dict(self.snn.provenance), exit=None, **input_fields(self.snn, self.samples, shown),
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

    def ranges(self, indices: Tensor) -> dict[str, Tensor]:
        """The largest |mean current| of each neuron layer (``current_ranges``); the processes share the samples."""
        found: dict[str, Tensor] = {}

        def run(part: Tensor) -> dict[str, Tensor]:
            return current_ranges(self.module, [self.snn.prepare(self.samples.batch(part)[0]).to(self.device)])

        for part in self.each(run, indices.split(128)):
            for name, largest in part.items():
                found[name] = torch.maximum(found.get(name, largest), largest)
        return found

    def grid_cost(self, tuned: SNN) -> dict[str, Any]:
        """First metric and change of outputs on held-out samples (else training samples), off the grid and on it."""
        shown = (self.validation if len(self.validation) else self.training)[:ON_GRID]
        judged, change = (list[Tensor](), list[Tensor]()), 0.0

        def run(part: Tensor) -> tuple[float, tuple[Tensor, ...]]:
            off, labels = (value.cpu() for value in self.answer(part))
            inputs = tuned.prepare(self.samples.batch(part)[0])
            on = self.output.part(tuned.run_prepared(inputs, self.timesteps, Auto(), part, (), False).logits[-1])
            return float((off - on).abs().max()), tuple(self.judged(answer, labels) for answer in (off, on))

        for largest, both in self.each(run, shown.split(100)):
            change = max(change, largest)
            for found, one in zip(judged, both, strict=True):
                found.append(one)
        before, after = (self.task.value(torch.cat(found)) for found in judged)
        name = {} if isinstance(self.task, OutcomeTask) else {"metric": self.task.first.name}
        key = "value" if name else "accuracy"
        numbers = {f"{key}_off": before, f"{key}_on": after, "largest_logit_change": change}
        return {"samples": len(shown), **name, **numbers}
