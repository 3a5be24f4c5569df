"""transpike evaluate."""

import math
from pathlib import Path

import click

import transpike as ts
from transpike import energy
from transpike.cli import _base, _inputs, _processes
from transpike.cli._settings import MEMORY, NUMBERS
from transpike.core.task import Task
from transpike.errors import GateFailed, SettingError
from transpike.results.statistics import change, percent
from transpike.workflow.judged import asked as judgement


@click.command("evaluate")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option("--timesteps", type=int, help="Time steps to simulate (default: the recipe's).")
@click.option("--answers", type=NUMBERS, help="Window lengths of a layer-synchronous network, like 8,16,32.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N test samples.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Samples per batch.")
@_base.engine_option
@click.option("--memory", type=MEMORY, help="Memory limit, like 2GiB.")
@_base.task_option
@_base.output_option
@_base.report_option
@_base.energy_option
@click.option(
    "--max-drop",
    type=float,
    help="Largest accuracy drop in percentage points, or drop of the task's first metric; exit code 4 if exceeded.",
)
@_base.json_option
@_base.threads_option
@_processes.shares_samples
@_processes.resumes
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    timesteps: int | None,
    answers: tuple[int, ...] | None,
    limit: int | None,
    batch_size: int,
    engine: str,
    memory: int | None,
    task: str | None,
    output_name: str | None,
    reports: tuple[Path, ...],
    energies: tuple[energy.EnergyModel, ...],
    max_drop: float | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Measure accuracy or errors over time, latency and activity of a converted network, next to its source network.

    On several processes, with the same result: torchrun --no-python --nproc-per-node 2 transpike evaluate …
    """
    _base.with_threads(threads)
    _base.check_outputs(reports=reports)
    if max_drop is not None and not math.isfinite(max_drop):
        raise SettingError(f"--max-drop takes percentage points of accuracy, or an amount of a metric, not {max_drop}")
    snn = ts.load(file)
    dataset = _base.load_tested(data_name, data_dir, snn)
    asked, _ = judgement(snn.outputs, _base.task_named(task, dataset), output_name)
    snn = _inputs.adapted(snn, dataset)
    with _base.progress_bar("evaluating") as progress:
        result = ts.evaluate(
            snn,
            dataset.test.batches(batch_size, limit=limit),
            timesteps=timesteps,
            answers=answers,
            engine=engine,
            memory=memory,
            output=output_name,
            task=asked,
            energy=energies,
            progress=lambda done, _: progress(done, min(limit or 10**12, len(dataset.test))),
        )
    _processes.deliver(result, reports, as_json)
    if max_drop is not None:
        _gate(result, asked, max_drop)


def _gate(result: ts.Report | ts.Measurement, task: Task, max_drop: float) -> None:
    """Raises GateFailed where the last answer is worse than the source network's by more than ``max_drop``.

    In percentage points of a share, else in the unit of the task's first metric.
    """
    if isinstance(result, ts.Report):
        if percent(result.drop) > max_drop:
            raise GateFailed(
                f"the accuracy change of {100 * change(result.drop):+.2f} percentage points at "
                f"T={result.final.timesteps} exceeds --max-drop {max_drop:g}"
            )
        return
    metric = task.first
    worse = metric.shown_or_none(task.gain(result.ann_rows, result.rows[result.timesteps])[0])
    if worse is None or worse > max_drop:
        found = "is not defined" if worse is None else f"is {worse:.4g} {metric.change_unit}".rstrip() + " worse"
        raise GateFailed(
            f"{metric.name} at T={result.timesteps} {found}, next to the ANN's: beyond --max-drop {max_drop:g}"
        )
