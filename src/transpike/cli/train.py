"""transpike train."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike.cli import _base, _logs, _prepared, _settings
from transpike.core.digest import digest
from transpike.core.task import ACCURACY
from transpike.errors import SettingError
from transpike.training import connectivity, ranks
from transpike.training.checkpoint import MeasuredRow
from transpike.training.settings import Training
from transpike.workflow.train import Progress, Row

CHECKED = 256  # inputs whose range is checked


@click.command("train")
@_base.model_options
@_base.options(*_prepared.FLAGS)
@_base.data_options
@_settings.settings_options(Training)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File for the trained weights (.safetensors).",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Checkpoint file (default: OUTPUT.checkpoint.safetensors).",
)
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue from an existing checkpoint.")
@_logs.log_option
@click.option("--device", default="cpu", show_default=True, help="PyTorch device.")
@_base.json_option
@_base.threads_option
def command(
    model_name: str,
    weights: Path | None,
    activation: _prepared.Activation | None,
    percentile: float | None,
    calibration_samples: int | None,
    pools: bool | None,
    input_activation: _prepared.Activation | None,
    max_pool: str | None,
    data_name: str,
    data_dir: Path | None,
    output: Path,
    checkpoint: Path | None,
    as_json: bool,
    threads: int | None,
    **options: Any,
) -> None:
    """Train a network; rerun to resume an interrupted training, which ends with the same weights.

    --activation prepares the network for conversion first; the weights file stores this for the other commands.
    Several GPUs: torchrun --no-python --nproc-per-node 2 transpike train …
    """
    import torch

    _base.with_threads(threads)
    checkpoint = _base.checkpoint_of(output, checkpoint)
    if ranks.is_first():
        _logs.check(options["log_to"])
    settings = _settings.chosen(Training, options)
    preparation = _prepared.from_flags(
        activation,
        percentile=percentile,
        calibration_samples=calibration_samples,
        pools=pools,
        input_activation=input_activation,
        max_pool=max_pool,
    )
    before = _prepared.noted(weights)
    if preparation and before:
        raise SettingError(f"{weights} is already prepared, by {before.note()}; omit --activation to continue training")
    dataset = _base.load_data(data_name, data_dir)
    torch.manual_seed(settings.seed)
    module, preprocessing = _base.load_model(model_name, weights, dataset)
    if preparation:
        usual = 1000 if weights and _prepared.calibrates(preparation.activation) else 0
        samples = usual if calibration_samples is None else calibration_samples
        if percentile is not None and not samples:
            raise SettingError("--percentile needs --calibration-samples")
        batches = _base.calibration(dataset.accumulated(), samples, settings.seed, samples) if samples else []
        inputs = [preprocessing(images) for images, _ in batches]
        if input_activation and not inputs:
            few = torch.arange(min(CHECKED, len(dataset.train)))
            lowest = float(preprocessing(dataset.accumulated().train.batch(few)[0]).min())
            if lowest < 0:
                raise SettingError(
                    f"the smallest input is {lowest:.3g}, but --input-activation clips negative inputs: train and "
                    "convert with --mean 0 --std 1"
                )
        module = preparation.apply(module, inputs[0] if inputs else None, percentile or 99.9)
    begins = dict(settings.stages or ())
    notes = {"spec": model_name}
    if note := preparation or before:
        if begins:
            note = replace(note, stage=max(begins, key=lambda name: begins[name]))
        notes[_prepared.KEY] = note.note()
    if weights:  # a checkpoint resumes only from the same initial weights
        notes["start"] = digest(module.state_dict())[:16]
    first = ranks.is_first()
    with _base.progress_bar("training", first) as bar:

        def progress(where: Progress | Row) -> None:
            if isinstance(where, Progress):
                bar((where.epoch - 1) * where.steps + where.step, where.epochs * where.steps)
            elif not as_json:
                click.echo(_line(where), err=True)

        result = ts.train(
            module,
            dataset,
            settings,
            checkpoint=checkpoint,
            weights=output,
            preprocessing=preprocessing,
            notes=notes,
            **options,
            progress=progress,
        )
    if as_json and first:
        _base.print_json(result.to_json())
    elif first:
        if settings.optimiser == "grad-r":
            click.echo(f"remaining weights:\n{connectivity(module)}")
        accuracy = (
            ""
            if result.test_accuracy is None
            else f", test accuracy {result.test_accuracy:.2%} on {result.test_images} images"
        )
        if result.metric != ACCURACY and result.test_images:
            value = result.metric.text(result.test_value)
            accuracy = f", test {result.metric.name} {value} on {result.test_images} images"
        click.echo(f"wrote {output}: weights of epoch {result.best_epoch}{accuracy}")


def _line(row: Row) -> str:
    """One line per epoch."""
    text = f"epoch {row.epoch}: loss {row.train_loss:.4f}"
    text += "" if row.train_accuracy is None else f", training accuracy {row.train_accuracy:.2%}"
    if row.penalty:
        text += f", penalty {row.penalty:.4f}"
    if row.validation_accuracy is not None:
        text += f", validation {row.validation_accuracy:.2%}"
    elif isinstance(row, MeasuredRow) and row.validation_value is not None:
        text += f", validation {row.metric} {row.validation_value:.4g}"
    return f"{text}, {row.seconds:.1f} s"
