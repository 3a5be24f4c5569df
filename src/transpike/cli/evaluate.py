"""transpike evaluate."""

import math
from pathlib import Path

import click

import transpike as ts
from transpike import energy, engines, report
from transpike.cli import _base
from transpike.cli._settings import MEMORY, NUMBERS
from transpike.errors import GateFailed, SettingError


@click.command("evaluate")
@click.argument("file", type=click.Path(path_type=Path))
@_base.data_options
@click.option("--timesteps", type=int, help="Steps to simulate (default: the recipe's).")
@click.option("--answers", type=NUMBERS, help="Windows of a layer-synchronous network, like 8,16,32.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many test samples.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--engine", type=click.Choice(sorted(engines.table)), default="auto", show_default=True)
@click.option("--memory", type=MEMORY, help="Budget for what the run adds, like 2GiB.")
@_base.task_option
@_base.report_option
@_base.energy_option
@click.option("--max-drop", type=float, help="Fail (exit code 4) if more points are lost than this.")
@_base.json_option
@_base.threads_option
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
    reports: tuple[Path, ...],
    energies: tuple[energy.EnergyModel, ...],
    max_drop: float | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Accuracy at every t, latency and activity of a converted network, beside its source network."""
    _base.with_threads(threads)
    _base.check_writable(*reports)
    if max_drop is not None and not math.isfinite(max_drop):
        raise SettingError(f"--max-drop takes points of accuracy, not {max_drop}")
    snn = ts.load(file)
    dataset = _base.load_tested(data_name, data_dir, snn)
    with _base.progress_bar("evaluating") as progress:
        result = ts.evaluate(
            snn,
            dataset.test.batches(batch_size, limit=limit),
            timesteps=timesteps,
            answers=answers,
            engine=engine,
            memory=memory,
            task=_base.task_named(task),
            energy=energies,
            progress=lambda done, _: progress(done, min(limit or 10**12, len(dataset.test))),
        )
    for path in reports:
        report.save(result, path, command=_base.typed())
    if as_json:
        _base.print_json(result.to_json())
    else:
        report.show(result)
    if max_drop is not None and 100 * result.drop > max_drop:
        raise GateFailed(f"{100 * result.drop:.2f} points lost, more than --max-drop {max_drop:g}")
