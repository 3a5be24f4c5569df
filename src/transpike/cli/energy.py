"""transpike energy."""

from pathlib import Path

import click

import transpike as ts
from transpike.cli import _base, _inputs, _processes
from transpike.cli._settings import ENERGY, MEMORY, NUMBERS
from transpike.energy import EnergyModel


@click.command("energy")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option("--timesteps", type=int, help="Time steps to simulate (default: the recipe's).")
@click.option("--limit", type=click.IntRange(1), help="Only the first N test samples.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Samples per batch.")
@click.option(
    "--activation-bits", type=NUMBERS, default=(), help="Activation bits of additional quantised ANNs, like 2,3,4,8."
)
@click.option("--weight-bits", type=NUMBERS, default=(), help="Additional weight bits of both networks, like 4,8.")
@click.option("--model", "models", type=ENERGY, multiple=True, help="Energy model; repeatable (default: all).")
@_base.engine_option
@click.option("--memory", type=MEMORY, help="Memory limit, like 2GiB.")
@_base.task_option
@_base.output_option
@_base.report_option
@_base.json_option
@_base.threads_option
@_processes.shares_samples
@_processes.resumes
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    timesteps: int | None,
    limit: int | None,
    batch_size: int,
    activation_bits: tuple[int, ...],
    weight_bits: tuple[int, ...],
    models: tuple[EnergyModel, ...],
    engine: str,
    memory: int | None,
    task: str | None,
    output_name: str | None,
    reports: tuple[Path, ...],
    as_json: bool,
    threads: int | None,
) -> None:
    """Estimate the energy of a converted network and of the quantised ANN that it replaces, with every energy model."""
    _base.with_threads(threads)
    _base.check_outputs(reports=reports)
    snn = ts.load(file)
    dataset = _base.load_tested(data_name, data_dir, snn)
    snn = _inputs.adapted(snn, dataset)
    with _base.progress_bar("networks") as progress:
        result = ts.cost(
            snn,
            dataset.test.batches(batch_size, limit=limit),
            models=models or None,
            timesteps=timesteps,
            activation_bits=activation_bits,
            weight_bits=weight_bits,
            engine=engine,
            memory=memory,
            output=output_name,
            task=_base.task_named(task, dataset),
            progress=progress,
        )
    _processes.deliver(result, reports, as_json)
