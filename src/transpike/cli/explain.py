"""transpike explain."""

from pathlib import Path

import click

import transpike as ts
from transpike.cli import _base, _inputs, _processes
from transpike.workflow.explain.run import SAMPLES


@click.command("explain")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option("--timesteps", type=int, help="Time steps to simulate (default: the recipe's).")
@click.option(
    "--samples", type=click.IntRange(1), default=SAMPLES, show_default=True, help="Only the first N test samples."
)
@click.option("--oracle/--no-oracle", default=True, show_default=True, help="Replace each layer by its original layer.")
@click.option("--renew/--no-renew", default=True, show_default=True, help="Reconvert each layer.")
@click.option("--changes/--no-changes", default=True, show_default=True, help="Try changes that may recover accuracy.")
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
    samples: int,
    oracle: bool,
    renew: bool,
    changes: bool,
    task: str | None,
    output_name: str | None,
    reports: tuple[Path, ...],
    as_json: bool,
    threads: int | None,
) -> None:
    """Find the causes of a converted network's accuracy drop, layer by layer, and changes that recover accuracy."""
    _base.with_threads(threads)
    _base.check_outputs(reports=reports)
    snn = ts.load(file)
    dataset = _base.load_tested(data_name, data_dir, snn)
    snn = _inputs.adapted(snn, dataset)
    with _base.progress_bar("simulations") as progress:
        result = ts.explain(
            snn,
            dataset.test.batches(64, limit=samples),
            timesteps=timesteps,
            samples=samples,
            oracle=oracle,
            renew=renew,
            changes=changes,
            output=output_name,
            task=_base.task_named(task, dataset),
            progress=progress,
        )
    _processes.deliver(result, reports, as_json)
