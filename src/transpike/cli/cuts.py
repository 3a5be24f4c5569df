"""transpike cuts."""

from pathlib import Path

import click

import transpike as ts
from transpike.cli import _base, _inputs, _processes
from transpike.cli._settings import ENERGY, NUMBERS
from transpike.energy import EnergyModel


@click.command("cuts")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option("--answers", type=NUMBERS, help="Time steps with an answer, like 4,8,16 (default: the recipe's T).")
@click.option("--limit", type=click.IntRange(1), help="Only the first N test samples.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Samples per batch.")
@click.option("--model", "models", type=ENERGY, multiple=True, help="Energy model; repeatable (default: operations).")
@_base.task_option
@_base.output_option
@_base.report_option
@_base.json_option
@_base.threads_option
@_processes.in_one_process
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    answers: tuple[int, ...] | None,
    limit: int | None,
    batch_size: int,
    models: tuple[EnergyModel, ...],
    task: str | None,
    output_name: str | None,
    reports: tuple[Path, ...],
    as_json: bool,
    threads: int | None,
) -> None:
    """Cut a converted network after each layer: spikes before, the ANN after; accuracy, energy, traffic."""
    _base.with_threads(threads)
    _base.check_outputs(reports=reports)
    snn = ts.load(file)
    dataset = _base.load_tested(data_name, data_dir, snn)
    snn = _inputs.adapted(snn, dataset)
    with _base.progress_bar("cutting") as progress:
        result = ts.cuts(
            snn,
            dataset.test.batches(batch_size, limit=limit),
            answers=answers,
            limit=limit,
            models=models or None,
            output=output_name,
            task=_base.task_named(task, dataset),
            progress=lambda done, _: progress(done, min(limit or 10**12, len(dataset.test))),
        )
    _processes.deliver(result, reports, as_json)
