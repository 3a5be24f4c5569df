"""A callback of Lightning that converts the network while it is trained, and logs how good the spiking one is."""

import copy
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from transpike.core.constraints import check_number
from transpike.core.recipe import Recipe
from transpike.errors import MissingExtra, SettingError
from transpike.recipes import recipe_given
from transpike.results.statistics import change
from transpike.snn import SNN
from transpike.workflow.convert import convert
from transpike.workflow.entrance import PreprocessingGiven
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.evaluate.run import evaluate
from transpike.workflow.judged import Tasks

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
TRIED = 16
"""Calibration samples of the conversion before the first epoch, which finds what cannot be converted."""
Select = str | Callable[[Any], nn.Module] | None


def lightning_callback(
    recipe: Recipe | str,
    calibration: Any,
    data: Any,
    *,
    every: int = 1,
    network: Select = None,
    preprocessing: PreprocessingGiven = None,
    timesteps: int | None = None,
    limit: int | None = 1000,
    task: Tasks | None = None,
    prefix: str = "snn/",
) -> Any:
    """A ``lightning.pytorch.Callback``: converts a copy of the network after every N-th epoch, and evaluates it.

    ``calibration`` and ``preprocessing`` are those of ``convert``; ``data``: labelled samples, of which the first
    ``limit`` are evaluated, by ``task``, up to ``timesteps``. Use validation data: test data would select the epoch.
    ``every``: N, also after the last epoch. ``network``: the part of the LightningModule that is converted, the name of
    a submodule or a function of the module; by default the module itself, by its ``forward``.

    Logged by ``module.log``, so that the trainer's loggers and ``ModelCheckpoint(monitor="snn/accuracy")`` see them, as
    ``prefix`` and: ``accuracy`` (0 to 1) at the last T, ``ann_accuracy`` of the network itself, ``accuracy_change``
    (SNN minus ANN), or the metrics of the task by name; ``spikes`` and ``synaptic_operations`` (per sample),
    ``spike_rate`` (per neuron and step).
    ``callback.snn`` and ``callback.report`` are the last network and its result.

    The training is not changed: weights, modes and random numbers are those without the callback. It runs on the CPU,
    of several processes in the first one. A network that cannot be converted is an error before the first epoch.
    Raises MissingExtra without Lightning; SettingError for data that can be read only once.
    """
    check_number("every", every, whole=True, low=1)
    for name, given in (("calibration", calibration), ("data", data)):
        if isinstance(given, Iterator):
            raise SettingError(f"{name} is an iterator, which is empty after one epoch: give a loader or tensors")

    chosen = recipe_given(recipe)
    how: dict[str, Any] = {"timesteps": timesteps, "limit": limit, "task": task}

    def converted(module: Any, samples: int | None = None) -> SNN:
        copied = _copy(module, network)
        return convert(copied, chosen, calibration, preprocessing=preprocessing, calibration_samples=samples)

    class ConvertCallback(_lightning().Callback):  # type: ignore[misc]
        """See ``transpike.lightning_callback``."""

        snn: SNN | None = None
        report: Report | Measurement | None = None

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.is_global_zero:
                with torch.random.fork_rng(devices=[]):
                    converted(pl_module, TRIED)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            epoch = trainer.current_epoch + 1
            if trainer.is_global_zero and (epoch % every == 0 or epoch == trainer.max_epochs):
                with torch.random.fork_rng(devices=[]):
                    self.snn = converted(pl_module)
                    self.report = evaluate(self.snn, data, **how)
                named = {f"{prefix}{name}": value for name, value in _numbers(self.report).items()}
                pl_module.log_dict(named, rank_zero_only=trainer.world_size > 1)

    return ConvertCallback()


def _lightning() -> Any:
    """The package that this process already uses, else the first one that is installed."""
    for name in sorted(PACKAGES, key=lambda one: one not in sys.modules):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise MissingExtra("a callback of Lightning needs its package: pip install lightning, or 'transpike[lightning]'")


def _copy(module: Any, select: Select) -> nn.Module:
    """A copy of the network on the CPU, in evaluation mode, without the trainer."""
    if isinstance(select, str):
        try:
            found: Any = module.get_submodule(select)
        except AttributeError as error:
            raise SettingError(f"{type(module).__name__} has no submodule {select!r} for network=") from error
    else:
        found = module if select is None else select(module)
    return copy.deepcopy(found).cpu().eval()


def _numbers(report: Report | Measurement) -> dict[str, float]:
    last = report.final
    counts = {
        "spikes": last.spikes,
        "spike_rate": last.spike_rate,
        "synaptic_operations": last.synaptic_operations,
    }
    if isinstance(report, Report):
        accuracy, ann = report.final.accuracy, report.ann_accuracy
        return {"accuracy": accuracy, "ann_accuracy": ann, "accuracy_change": change(report.drop), **counts}
    values = {metric.word: report.final.metrics[metric.name].value for metric in report.metrics}
    return {**{name: value for name, value in values.items() if value is not None}, **counts}
