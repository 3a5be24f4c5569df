"""transpike exit."""

from pathlib import Path

import click

import transpike as ts
from transpike import energy, exits, report
from transpike.cli import _base, _inputs, _processes
from transpike.cli._settings import NUMBERS
from transpike.errors import DataError, SettingError
from transpike.tasks import exit_task
from transpike.workflow.distributed import processes
from transpike.workflow.early_exit import fit_exit


@click.command("exit")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option(
    "--score", type=click.Choice(sorted(exits.table)), default="confidence", show_default=True, help="Exit score."
)
@click.option(
    "--drop",
    type=float,
    default=0.5,
    show_default=True,
    help="Guaranteed bound of the accuracy drop, in percentage points.",
)
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Confidence of the bound.")
@click.option(
    "--checkpoints",
    type=NUMBERS,
    help="Time steps at which a sample may stop, like 4,8,12,16 (default: multiples of T/6, or of 8 for long runs).",
)
@click.option("--timesteps", type=int, help="Time steps of samples that do not stop (default: the recipe's).")
@click.option(
    "--fit-samples", type=click.IntRange(1), default=2000, show_default=True,
    help="The last N test samples fit the exit; the others verify it.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), help="Only the first N of the other samples.")
@click.option("--batch-size", type=click.IntRange(1), default=64, show_default=True, help="Samples per batch.")
@_base.engine_option
@click.option("--output", type=click.Path(path_type=Path), required=True, help="File for the network with its exit.")
@_base.task_option
@_base.output_option
@_base.report_option
@_base.energy_option
@_base.json_option
@_base.threads_option
@_processes.shares_samples
@_processes.resumes
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    score: str,
    drop: float,
    confidence: float,
    checkpoints: tuple[int, ...] | None,
    timesteps: int | None,
    fit_samples: int,
    limit: int | None,
    batch_size: int,
    engine: str,
    output: Path,
    task: str | None,
    output_name: str | None,
    reports: tuple[Path, ...],
    energies: tuple[energy.EnergyModel, ...],
    as_json: bool,
    threads: int | None,
) -> None:
    """Fit an early exit with a guaranteed bound on some test samples, verify it on the others, save the network."""
    _base.with_threads(threads)
    _base.check_outputs(output, reports=reports)
    snn = ts.load(file)
    dataset = _base.load_data(data_name, data_dir, snn)
    asked = exit_task(_base.task_named(task, dataset))
    snn = _inputs.adapted(snn, dataset)
    total = len(dataset.test)
    if total < 2:
        raise DataError(
            f"{dataset.name} has {total} test samples: an early exit needs samples to fit it and others to verify it"
        )
    if fit_samples >= total:
        raise SettingError(
            f"{dataset.name} has {total} test samples, and --fit-samples {fit_samples} leaves none for verifying the "
            "exit"
        )
    first = total - fit_samples  # other commands use the first samples, so that they do not overlap with these
    rest = range(first if limit is None else min(first, limit))
    with _base.progress_bar("fitting") as bar:
        fitted = fit_exit(
            snn,
            dataset.test.batches(batch_size, indices=list(range(first, total))),
            score=score,
            drop=drop,
            confidence=confidence,
            checkpoints=checkpoints,
            timesteps=timesteps,
            engine=engine,
            output=output_name,
            task=asked,
            progress=bar,
        )
    with _base.progress_bar("verifying") as bar:
        result = ts.evaluate(
            fitted,
            dataset.test.batches(batch_size, indices=list(rest)),
            timesteps=timesteps,
            engine=engine,
            energy=energies,
            output=output_name,
            task=asked,
            progress=lambda done, _: bar(done, len(rest)),
        )

    def deliver() -> None:
        ts.save(fitted, output)
        for path in reports:
            report.save(result, path, command=_base.typed())
        if as_json:
            _base.print_json(result.to_json())
        else:
            click.echo(report.text(result))
            click.echo(f"wrote {output}")

    processes().in_first(deliver)
