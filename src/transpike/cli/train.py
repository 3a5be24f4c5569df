"""transpike train."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import click
from torch import nn

import transpike as ts
from transpike.cli import _base, _prepared
from transpike.errors import SettingError
from transpike.train import Progress, Row
from transpike.training import augmentation, connectivity, learners, optimisers, precision, ranks, settings, stages

SEEN = 256  # inputs whose range is looked at


def _choice(flag: str, *names: str, text: str = "") -> Callable:
    """One of these names, the first unless given."""
    return click.option(flag, type=click.Choice(names), default=names[0], show_default=True, help=text)


def _number(flag: str, default: float, text: str = "") -> Callable:
    return click.option(flag, type=float, default=default, show_default=True, help=text)


@click.command("train")
@_base.model_options
@_base.options(*_prepared.FLAGS)
@_base.data_options
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@_choice("--optimiser", *optimisers.RATES)
@click.option("--learning-rate", type=float, help="Default: 0.1, for the others 0.001.")
@_number("--momentum", 0.9, "For adam and grad-r: beta 1.")
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True, help="Of all processes together.")
@click.option("--weight-decay", type=float, help="Default: 0.0005, for grad-r 0.")
@click.option("--decay-thresholds/--no-decay-thresholds", default=True, show_default=True)
@click.option("--alpha", type=float, help=f"For grad-r: the pull of its prior (default: {optimisers.ALPHA}).")
@click.option(
    "--sparsity",
    type=float,
    help=f"For grad-r: the share of its prior at zero; what is reached is told (default: {optimisers.SPARSITY}).",
)
@_choice("--schedule", *settings.SCHEDULES)
@click.option("--step-size", type=click.IntRange(1), help="Epochs between two steps of --schedule step.")
@click.option("--gamma", type=float, help="Factor of a step (default: 0.1).")
@click.option("--warmup-epochs", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--stages",
    "stage_text",
    metavar="STAGE=EPOCH,…",
    help=f"From which epoch activations are in a stage ({', '.join(stages.STAGES)}), like clip=3,quantise=5.",
)
@_choice("--learn", *get_args(learners.Learn), text="activations: thresholds alone, the rest as in evaluation.")
@_choice("--augment", "auto", *augmentation.MODES)
@_choice("--padding", *augmentation.PADDINGS)
@click.option("--cutout", type=click.IntRange(0), default=0, show_default=True, help="Pixels of the square cut out.")
@_number("--label-smoothing", 0.0)
@_number("--validation-fraction", 0.1, "Of the training set, to choose the epoch.")
@_choice(
    "--precision",
    *precision.TYPES,
    text="Of the products; bfloat16 is faster on a CPU or GPU that has it, float16 is for GPUs.",
)
@click.option("--sync-batchnorm", is_flag=True, help="Normalise over the images of all processes (GPUs).")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The trained weights (.safetensors).",
)
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Resume file (default: OUTPUT.checkpoint.safetensors).",
)
@click.option("--resume/--no-resume", default=True, show_default=True, help="Go on from an existing checkpoint.")
@click.option("--tensorboard", type=click.Path(path_type=Path, file_okay=False), help="Folder for TensorBoard.")
@click.option("--device", default="cpu", show_default=True)
@_base.json_option
@_base.threads_option
def command(
    model_name: str,
    weights: Path | None,
    mean: str | None,
    std: str | None,
    activation: _prepared.Activation | None,
    percentile: float | None,
    calibration_samples: int | None,
    pools: bool | None,
    input_activation: _prepared.Activation | None,
    max_pool: str | None,
    data_name: str,
    data_dir: Path | None,
    stage_text: str | None,
    seed: int,
    output: Path,
    checkpoint: Path | None,
    as_json: bool,
    threads: int | None,
    **options: Any,
) -> None:
    """Train a network; a killed run goes on where it was and ends in the same weights.

    With --activation it is prepared for conversion first, which its weights then say to the other commands. Several
    GPUs: torchrun --no-python --nproc-per-node 2 transpike train …
    """
    import torch

    _base.with_threads(threads)
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
        raise SettingError(f"{weights} is prepared already, by {before.note()}; leave out --activation to train it on")
    dataset = _base.load_data(data_name, data_dir)
    torch.manual_seed(seed)
    module, preprocessing = _base.load_model(model_name, weights, dataset, mean, std)
    if preparation:
        usual = 1000 if weights and _prepared.calibrates(preparation.activation) else 0
        samples = usual if calibration_samples is None else calibration_samples
        if percentile is not None and not samples:
            raise SettingError("--percentile needs --calibration-samples")
        batches = _base.calibration(dataset.accumulated(), samples, seed, samples) if samples else []
        inputs = [preprocessing(images) for images, _ in batches]
        if input_activation and not inputs:
            few = torch.arange(min(SEEN, len(dataset.train)))
            lowest = float(preprocessing(dataset.accumulated().train.batch(few)[0]).min())
            if lowest < 0:
                raise SettingError(
                    f"inputs go down to {lowest:.3g}, and --input-activation cuts off what is negative: train and "
                    "convert with --mean 0 --std 1"
                )
        module = preparation.apply(module, inputs[0] if inputs else None, percentile or 99.9)
    begins = None if stage_text is None else _stages(stage_text)
    notes = {}
    if note := preparation or before:
        if begins:
            note = replace(note, stage=max(begins, key=lambda name: begins[name]))
        notes[_prepared.KEY] = note.note()
    if weights:  # a checkpoint goes on only from the same start
        notes["start"] = _digest(module)
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
            **options,
            stages=begins,
            seed=seed,
            checkpoint=checkpoint or output.with_suffix(".checkpoint.safetensors"),
            weights=output,
            preprocessing=preprocessing,
            spec=model_name,
            notes=notes,
            progress=progress,
        )
    if as_json and first:
        _base.print_json(result.to_json())
    elif first:
        if options["optimiser"] == "grad-r":
            click.echo(f"weights that are left:\n{connectivity(module)}")
        accuracy = (
            ""
            if result.test_accuracy is None
            else f", test accuracy {result.test_accuracy:.2%} on {result.test_images} images"
        )
        click.echo(f"wrote {output}: weights of epoch {result.best_epoch}{accuracy}")


def _digest(module: nn.Module) -> str:
    """Sixteen digits for what the network holds."""
    tensors = (t.detach().cpu().contiguous() for t in module.state_dict().values())
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in tensors)).hexdigest()[:16]


def _stages(text: str) -> dict[str, int]:
    """What ``clip=3,quantise=5`` says."""
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if not all(name and number.strip().isdigit() for name, _, number in pairs):
        raise SettingError(
            f"--stages takes stages with the epoch they begin with, like clip=3,quantise=5; not {text!r}"
        )
    return {name.strip(): int(number) for name, _, number in pairs}


def _line(row: Row) -> str:
    """One epoch in one line."""
    text = f"epoch {row.epoch}: loss {row.train_loss:.4f}, training accuracy {row.train_accuracy:.2%}"
    if row.penalty:
        text += f", penalty {row.penalty:.4f}"
    if row.validation_accuracy is not None:
        text += f", validation {row.validation_accuracy:.2%}"
    return f"{text}, {row.seconds:.1f} s"
