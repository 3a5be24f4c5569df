"""transpike finetune."""

from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike.cli import _base, _inputs, _logs, _settings
from transpike.training import ranks
from transpike.training.spiking.finetuning import FineTuning, presets
from transpike.workflow.train import Progress, Row


@click.command("finetune")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option("--preset", type=click.Choice(sorted(presets)), help="Preset with the settings of a published method.")
@_settings.settings_options(FineTuning, defaults=False)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Checkpoint file (default: OUTPUT.checkpoint.safetensors).",
)
@click.option("--resume/--no-resume", default=True, show_default=True, help="Continue from an existing checkpoint.")
@_logs.log_option
@click.option("--device", default="cpu", show_default=True, help="PyTorch device.")
@_base.task_option
@_base.output_option
@_base.json_option
@_base.threads_option
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    preset: str | None,
    output: Path,
    checkpoint: Path | None,
    resume: bool,
    log_to: tuple[str, ...],
    device: str,
    task: str | None,
    output_name: str | None,
    as_json: bool,
    threads: int | None,
    **settings: Any,
) -> None:
    """Fine-tune the converted network in FILE with surrogate gradients, and write it to OUTPUT; rerun to resume.

    On several processes: torchrun --no-python --nproc-per-node 2 transpike finetune …
    """
    _base.with_threads(threads)
    checkpoint = _base.checkpoint_of(output, checkpoint)
    _logs.check(log_to)
    snn = ts.load(file)
    dataset = _base.load_data(data_name, data_dir, snn)
    snn = _inputs.adapted(snn, dataset)
    given = _settings.given(FineTuning, settings)
    group = ranks.join(device)
    with _base.progress_bar("fine-tuning", group.first) as bar:

        def progress(where: Progress | Row) -> None:
            if isinstance(where, Progress):
                bar((where.epoch - 1) * where.steps + where.step, where.epochs * where.steps)
            elif not as_json:
                validation = where.validation_accuracy
                text = f"epoch {where.epoch}: loss {where.train_loss:.4f}"
                text += "" if where.train_accuracy is None else f", training accuracy {where.train_accuracy:.2%}"
                text += "" if validation is None else f", validation {validation:.2%}"
                click.echo(f"{text}, {where.seconds:.1f} s", err=True)

        tuned = ts.finetune(
            snn,
            dataset,
            preset,
            checkpoint=checkpoint,
            resume=resume,
            log_to=log_to,
            progress=progress,
            threads=threads,
            device=device,
            output=output_name,
            task=_base.task_named(task, dataset),
            **given,
        )

    def deliver() -> None:
        ts.save(tuned, output)
        facts = tuned.provenance["fine_tuning"][-1]
        if as_json:
            _base.print_json({"file": str(output), **facts})
            return
        grid = facts["grid"]
        name = grid.get("metric", "accuracy")
        key, form = ("accuracy", ".2%") if name == "accuracy" else ("value", ".4g")
        before, after = (format(grid[f"{key}_{end}"], form) for end in ("off", "on"))
        click.echo(
            f"wrote {output}: parameters of epoch {facts['best_epoch']}, {name} on {grid['samples']} held-out samples "
            f"{after} ({before} before the grid)"
        )

    group.in_first(deliver)
