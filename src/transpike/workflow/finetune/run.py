"""Train a converted network as it runs: surrogate gradients through all time steps, then the grid again."""

from pathlib import Path
from typing import Any

import torch

from transpike.snn import SNN
from transpike.training import ranks
from transpike.training.samples import samples_of
from transpike.training.source.loop import using_threads
from transpike.training.spiking.finetuning import FineTuning, fine_tuning
from transpike.workflow.finetune.loop import Notify, Tuning
from transpike.workflow.finetune.stages import Stagewise


def finetune(
    snn: SNN,
    data: Any,
    settings: FineTuning | str | None = None,
    *,
    checkpoint: str | Path | None = None,
    resume: bool = True,
    progress: Notify | None = None,
    threads: int | None = None,
    device: str | torch.device = "cpu",
    **changes: Any,
) -> SNN:
    """The network with weights, thresholds, leaks or initial potentials trained by surrogate gradients.

    ``data``: a Dataset (its training images), or labelled samples as a split, a loader or a pair of tensors; a part of
    them chooses the epoch. ``settings``: a FineTuning, the name of a preset ("hybrid-stdb", "diet-snn"), and single
    settings by name: ``timesteps``, ``epochs``, ``train``, ``surrogate``, ``loss``, ``learning_rate`` …
    Recipe, encoder, schedule and readout stay. Training is off the grid, in float32, on the spikes that the engines
    give; the grid comes back at the end, and ``provenance["fine_tuning"]`` says what it cost, with settings and
    history. ``checkpoint`` is replaced after every epoch; a run that finds it with ``resume`` ends in the same bits as
    an unbroken one. ``progress`` gets a Progress every step, a Row every epoch.
    Raises SettingError, DataError (no labels, a loss that is not finite), CheckpointError.
    """
    chosen = fine_tuning(settings, changes)
    samples = samples_of(data)
    timesteps = snn.schedule.check(chosen.timesteps if chosen.timesteps is not None else snn.timesteps)
    with using_threads(threads):
        tuning = (Tuning if chosen.layerwise is None else Stagewise)(
            snn, samples, chosen, timesteps, ranks.usable(device)
        )
        state = tuning.run(Path(checkpoint) if checkpoint else None, resume, progress)
        return tuning.result(state)
