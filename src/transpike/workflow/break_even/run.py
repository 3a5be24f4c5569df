"""Train a network to be sparse until its conversion costs less than the quantised network that it replaces."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.data import NamedSplit
from transpike.data.batches import ONE_INPUT, dataset_of
from transpike.energy import EnergyModel
from transpike.errors import DataError, SettingError
from transpike.snn import SNN
from transpike.training.settings import Training
from transpike.training.source.loop import generator_of
from transpike.training.source.sparsity import rectifiers, sparser
from transpike.workflow.break_even.result import BreakEven, Round
from transpike.workflow.convert import convert
from transpike.workflow.cost.run import cost
from transpike.workflow.evaluate.report import Report
from transpike.workflow.prepare import prepare
from transpike.workflow.train import train

STRENGTHS = (0.1, 0.3, 1.0, 3.0)
HELD_OUT, CALIBRATION, BATCH = 0.1, 1000, 100


def break_even(
    module: nn.Module,
    dataset: Any,
    recipe: str | Recipe,
    settings: Training | None = None,
    *,
    models: int = 1,
    max_drop: float = 0.02,
    strengths: Sequence[float] = STRENGTHS,
    energy: EnergyModel | Iterable[EnergyModel] | None = None,
    preprocessing: Preprocessing | None = None,
    folder: str | Path | None = None,
    progress: Callable[[Round], None] | None = None,
) -> BreakEven:
    """Train a trained ``module`` towards fewer spikes, until ``models`` energy models favour its conversion.

    The network as it is comes first. Then it is trained on with a penalty of each of ``strengths`` in turn, each for
    the epochs of ``settings``, from the weights before it: ``training.source.sparsity`` states the penalty. After each
    it is converted by ``recipe`` and priced (``transpike.cost``, with ``energy``, by default all models) on a tenth of
    the training samples, which are not trained on. It ends with the first network that costs less than its quantised
    baseline under ``models`` models, if its accuracy is at most ``max_drop`` (0 to 1) below that of the source network
    before; and where the accuracy falls below that, or strengths are used up, with the front that was found. ``module``
    is left with the chosen weights, in evaluation mode. ``folder`` keeps the checkpoints: an interrupted run
    resumes. The test samples are not used. ``progress`` receives each Round.
    Raises SettingError and DataError as ``train`` and ``cost`` do, and SettingError for ``models`` that are more than
    those that price both networks.
    """
    _check(models, max_drop, strengths)
    chosen = settings or Training(epochs=5, learning_rate=0.01)
    dataset = dataset_of(dataset, chosen.task)
    if isinstance(dataset.train, NamedSplit):
        raise DataError(f"{dataset.name}: {ONE_INPUT}")
    preprocessing = preprocessing or dataset.preprocessing
    order = torch.randperm(len(dataset.train), generator=generator_of(chosen.seed, 0))
    held = max(1, round(HELD_OUT * len(order)))
    if len(order) < 2 * held:
        raise DataError(f"{dataset.name} has {len(order)} training samples, too few to hold out a tenth")
    judges, own = dataset.train.subset(order[:held]), dataset.train.subset(order[held:])
    training = replace(dataset, train=own, test=own.subset(order[:0]), validation=None)
    last_epoch = replace(chosen, validation_fraction=0.0)  # the best epoch would be the least sparse one
    network = module if rectifiers(module) else prepare(module, nn.ReLU())
    network.eval()

    def measured(strength: float) -> tuple[Round, SNN]:
        images = own.batches(BATCH, limit=CALIBRATION)
        snn = convert(copy.deepcopy(network), recipe, images, preprocessing=preprocessing)
        found = cost(snn, judges.batches(BATCH), models=energy)
        if found.quantised_baseline_accuracy is None:
            raise SettingError("break_even compares accuracies, but this task has none")
        report = cast(Report, found.report)  # what has an accuracy
        at = report.at(found.timesteps)
        ratios = {one.model: one.ratio for one in found.judged if one.ratio is not None}
        row = Round(
            strength, report.ann_accuracy, at.accuracy, found.quantised_baseline_accuracy, found.timesteps,
            found.spike_rate, found.spikes_per_synapse, found.density, ratios, found.samples,
        )  # fmt: skip
        if len(ratios) < models:
            priced = f"{len(ratios)} energy models price both networks and count: {', '.join(ratios) or 'none'}"
            raise SettingError(f"models={models}, but {priced}; request fewer")
        return row, snn

    rounds: list[Round] = []
    states: list[dict[str, Tensor]] = []
    networks: list[SNN] = []
    sample = preprocessing(own.batch(torch.arange(min(2, len(own))))[0])
    reached = False
    for strength in (0.0, *strengths):
        if strength:
            path = None if folder is None else Path(folder) / f"round-{len(rounds)}.safetensors"
            with sparser(network, strength, sample):
                train(
                    network,
                    training,
                    last_epoch,
                    preprocessing=preprocessing,
                    checkpoint=path,
                    notes={"strengths": ", ".join(f"{one:g}" for one in strengths[: len(rounds)])},
                )
        row, snn = measured(strength)
        rounds.append(row)
        networks.append(snn)
        states.append({name: tensor.detach().clone() for name, tensor in network.state_dict().items()})
        if progress is not None:
            progress(row)
        kept = row.accuracy >= rounds[0].ann_accuracy - max_drop
        reached = kept and row.cheaper >= models
        if reached or (strength and not kept):
            break
    best = len(rounds) - 1 if reached else max(range(len(rounds)), key=lambda n: (rounds[n].accuracy, -n))
    module.load_state_dict(states[best])
    module.eval()
    return BreakEven(models, max_drop, tuple(rounds), best, reached, networks[best])


def _check(models: int, max_drop: float, strengths: Sequence[float]) -> None:
    if isinstance(models, bool) or not isinstance(models, int) or models < 1:
        raise SettingError(f"models is the number of energy models, at least 1, not {models!r}")
    if not 0 <= max_drop < 1:
        raise SettingError(f"max_drop is a share of the samples, at least 0 and below 1, not {max_drop}")
    if not strengths or not all(a < b for a, b in zip((0.0, *strengths), strengths, strict=False)):
        raise SettingError(f"strengths must be positive and increasing, not {tuple(strengths)}")
