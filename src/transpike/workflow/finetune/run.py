"""Fine-tune a converted network: surrogate gradients through all time steps, then rounding to the grid."""

from pathlib import Path
from typing import Any

import torch

from transpike.core.inputs import InputNames
from transpike.errors import SettingError
from transpike.results.writing import check_writable
from transpike.snn import SNN, takes_snn
from transpike.training import ranks
from transpike.training.loggers import Logs, LogTo
from transpike.training.samples import samples_of
from transpike.training.source.loop import using_threads
from transpike.training.spiking.finetuning import FineTuning, fine_tuning
from transpike.workflow.finetune.loop import Notify, Tuning
from transpike.workflow.finetune.stages import Stagewise
from transpike.workflow.hybrid import refuse_hybrid
from transpike.workflow.judged import Tasks
from transpike.workflow.judged import asked as judgement


@takes_snn
def finetune(
    snn: SNN,
    data: Any,
    settings: FineTuning | str | None = None,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = True,
    log_to: LogTo = None,
    progress: Notify | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    output: str | int | None = None,
    task: Tasks | None = None,
    **changes: Any,
) -> SNN:
    """Train weights, thresholds, leaks or initial potentials of a converted network by surrogate gradients.

    ``task`` (of ``transpike.tasks``, by default that of the data set, else classification) gives the loss: of classes
    cross-entropy, binary cross-entropy of one logit, mean squared error of a regression. With several outputs it is the
    loss of the one named ``output``, or the sum of those of a dictionary of tasks by output. ``data``: a Dataset (its
    training images), or labelled samples as a split, a loader or a pair of tensors; a held-out part selects the epoch.
    ``settings``: a FineTuning, the name of a preset ("hybrid-stdb", "diet-snn"), and single settings by name:
    ``timesteps``, ``epochs``, ``train``, ``surrogate``, ``loss``, ``learning_rate`` …
    Recipe, encoder, schedule and readout do not change. Training is off the grid, in float32, with the same spikes as
    the engines; the result is rounded to the grid, and ``provenance["fine_tuning"]`` has the change of the accuracy, or
    of the first metric, settings and history. ``checkpoint`` is replaced after every epoch; with ``resume``, a run
    continues from it and ends bit-identical to an uninterrupted run. ``log_to`` gets the numbers of every epoch, as in
    ``train``. ``progress`` receives a Progress every step and a Row every epoch.
    Under torchrun (docs/scale.md) each process computes the gradients of a part of every batch, and the first one
    writes and reports; the result is bit for bit that of one process with the same number of ``batch_parts``.
    Raises SettingError (as for a task without a loss), DataError (no labels, a loss that is not finite),
    CheckpointError.
    """
    refuse_hybrid(snn, "finetune", "it trains layers that spike")
    chosen = fine_tuning(settings, changes)
    group = ranks.join(device)
    logs = Logs(log_to)
    logs.check()
    group.in_first(lambda: check_writable(checkpoint, make_folder=True, read_again=True))
    group.in_first(lambda: check_writable(checkpoint, *logs.paths, make_folder=True))
    asked, judged = judgement(snn.outputs, getattr(data, "task", None) if task is None else task, output)
    if not asked.needs_targets:
        raise SettingError(f"{asked} has no targets to train with: pass the task of the targets{_and_output(snn)}")
    samples = samples_of(data, InputNames.of(snn.source.inputs), judged.picked)
    timesteps = snn.schedule.check(chosen.timesteps if chosen.timesteps is not None else snn.timesteps)
    with using_threads(threads), logs:
        tuning = (Tuning if chosen.layerwise is None else Stagewise)(
            snn, samples, chosen, timesteps, group.device, asked, judged, group
        )
        state = tuning.run(Path(checkpoint) if checkpoint else None, resume, progress, logs)
        return tuning.result(state)


def _and_output(snn: SNN) -> str:
    return "" if snn.outputs is None else f", and output=… with one of {', '.join(map(repr, snn.outputs.names))}"
