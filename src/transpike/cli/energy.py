"""transpike energy."""

from pathlib import Path

import click

import transpike as ts
from transpike import engines, report
from transpike.cli import _base
from transpike.energy import EnergyModel


@click.command("energy")
@click.argument("file", type=click.Path(path_type=Path))
@_base.data_options
@click.option("--timesteps", type=int, help="Steps to simulate (default: the recipe's).")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many test samples.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--activation-bits", help="Quantised ANNs for the curve, like 2,3,4,8.")
@click.option("--weight-bits", help="Weights of both networks for the curve, like 4,8.")
@click.option("--model", "models", type=_base.Model(), multiple=True, help="Repeatable; default: all.")
@click.option("--engine", type=click.Choice(sorted(engines.table)), default="auto", show_default=True)
@click.option("--memory", help="Budget for what the run adds, like 2GiB.")
@_base.report_option
@_base.json_option
@_base.threads_option
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    timesteps: int | None,
    limit: int | None,
    batch_size: int,
    activation_bits: str | None,
    weight_bits: str | None,
    models: tuple[EnergyModel, ...],
    engine: str,
    memory: str | None,
    reports: tuple[Path, ...],
    as_json: bool,
    threads: int | None,
) -> None:
    """What a converted network costs against the quantised ANN that it replaces, under every energy model."""
    _base.with_threads(threads)
    _base.check_writable(*reports)
    snn = ts.load(file)
    dataset = _base.load_tested(data_name, data_dir, snn)
    bits = [
        () if given is None else _base.whole_numbers(flag, given)
        for flag, given in (("--activation-bits", activation_bits), ("--weight-bits", weight_bits))
    ]
    with _base.progress_bar("networks") as progress:
        result = ts.cost(
            snn,
            dataset.test.batches(batch_size, limit=limit),
            models=models or None,
            timesteps=timesteps,
            activation_bits=bits[0],
            weight_bits=bits[1],
            engine=engine,
            memory=_base.bytes_of(memory),
            progress=progress,
        )
    for path in reports:
        report.save(result, path, command=_base.typed())
    if as_json:
        _base.print_json(result.to_json())
    else:
        report.show(result)
