"""transpike verify."""

from pathlib import Path

import click

import transpike as ts
from transpike.cli import _base, _inputs


@click.command("verify")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True, help="Samples to simulate.")
@click.option("--timesteps", type=click.IntRange(1), help="Time steps to simulate (default: the recipe's, at most 32).")
@_base.json_option
@_base.threads_option
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    samples: int,
    timesteps: int | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Verify a file's checksum, and compare the spikes of every layer between the fast engines and the reference."""
    _base.with_threads(threads)
    snn = ts.load(file)
    dataset = _base.load_data(data_name, data_dir, snn)
    snn = _inputs.adapted(snn, dataset)
    found = ts.verify(snn, _inputs.first_samples(dataset, samples), timesteps)
    if as_json:
        _base.print_json({"file": str(file), **found.to_json()})
    else:
        for layer in found.layers:
            others = ", ".join(f"{engine} differs in {n:,}" for engine, n in layer.differing.items() if n)
            click.echo(f"{layer.name:30} {layer.levels:12,.0f} levels sent  {others or 'equal'}")
        click.echo(f"{file}: checksum correct, {found}")
    found.check()
