"""transpike train."""

from pathlib import Path

import click

import transpike as ts
from transpike.cli import _base
from transpike.train import Progress, Row


@click.command("train")
@_base.model_options
@_base.data_options
@click.option("--epochs", type=click.IntRange(1), default=30, show_default=True)
@click.option("--learning-rate", type=float, default=0.1, show_default=True)
@click.option("--batch-size", type=click.IntRange(1), default=128, show_default=True)
@click.option("--weight-decay", type=float, default=5e-4, show_default=True)
@click.option("--augment", type=click.Choice(["auto", "crop-flip", "crop", "none"]), default="auto", show_default=True)
@click.option("--label-smoothing", type=float, default=0.0, show_default=True)
@click.option(
    "--validation-fraction",
    type=float,
    default=0.1,
    show_default=True,
    help="Of the training set, to choose the epoch.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the products; bfloat16 is faster on a CPU or GPU that has it.",
)
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
@click.option("--device", default="cpu", show_default=True)
@_base.json_option
@_base.threads_option
def command(
    model_name: str,
    weights: Path | None,
    mean: str | None,
    std: str | None,
    data_name: str,
    data_dir: Path | None,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    weight_decay: float,
    augment: str,
    label_smoothing: float,
    validation_fraction: float,
    precision: str,
    seed: int,
    output: Path,
    checkpoint: Path | None,
    resume: bool,
    device: str,
    as_json: bool,
    threads: int | None,
) -> None:
    """Train a network; a killed run goes on where it was and ends in the same weights."""
    import torch

    _base.with_threads(threads)
    dataset = _base.load_data(data_name, data_dir)
    torch.manual_seed(seed)
    module, preprocessing = _base.load_model(model_name, weights, dataset, mean, std)
    checkpoint = checkpoint or output.with_suffix(".checkpoint.safetensors")
    with _base.progress_bar("training") as bar:

        def progress(where: Progress | Row) -> None:
            if isinstance(where, Progress):
                bar((where.epoch - 1) * where.steps + where.step, where.epochs * where.steps)
            elif not as_json:
                click.echo(_line(where), err=True)

        result = ts.train(
            module,
            dataset,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            weight_decay=weight_decay,
            augment=augment,
            label_smoothing=label_smoothing,
            seed=seed,
            validation_fraction=validation_fraction,
            precision=precision,
            checkpoint=checkpoint,
            weights=output,
            resume=resume,
            preprocessing=preprocessing,
            spec=model_name,
            progress=progress,
            device=device,
        )
    if as_json:
        _base.print_json(result.to_json())
    else:
        accuracy = (
            ""
            if result.test_accuracy is None
            else f", test accuracy {result.test_accuracy:.2%} on {result.test_images} images"
        )
        click.echo(f"wrote {output}: weights of epoch {result.best_epoch}{accuracy}")


def _line(row: Row) -> str:
    """One epoch in one line."""
    text = f"epoch {row.epoch}: loss {row.train_loss:.4f}, training accuracy {row.train_accuracy:.2%}"
    if row.validation_accuracy is not None:
        text += f", validation {row.validation_accuracy:.2%}"
    return f"{text}, {row.seconds:.1f} s"
