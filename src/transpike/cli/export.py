"""transpike export."""

import dataclasses
import typing
from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike import exporters
from transpike.cli import _base, _inputs, _processes
from transpike.cli._parts import settings_of
from transpike.core.registry import family
from transpike.workflow.export import check_output, exporter_named


def _format(text: str) -> tuple[str, dict[str, Any]]:
    """Name and settings of ``name:setting=value:…``."""
    name, *parts = text.split(":")
    kind = family("exporter").get(name)
    hints = typing.get_type_hints(kind)
    return name, settings_of(name, parts, {field.name: hints[field.name] for field in dataclasses.fields(kind)})


@click.command("export")
@_inputs.file_argument
@click.option(
    "--to",
    "form",
    metavar=f"[{'|'.join(exporters.table)}][:setting=value…]",
    help="Format, with its settings (default: that of the ending of --output).",
)
@click.option("--output", type=click.Path(path_type=Path), required=True, help="File or folder to write.")
@_base.data_options
@_inputs.of_file
@click.option(
    "--samples", type=click.IntRange(1), default=16, show_default=True, help="Number of samples for the verification."
)
@click.option("--timesteps", type=click.IntRange(1), help="Time steps to run (default: the recipe's).")
@_base.json_option
@_base.threads_option
@_processes.in_one_process
def command(
    file: Path,
    form: str | None,
    output: Path,
    data_name: str,
    data_dir: Path | None,
    samples: int,
    timesteps: int | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Write a converted network in the format of other tools, run it back, and compare every spike.

    Exit code 3: the network or the format cannot hold it. 4: a spike or a total differs. What could not be run back is
    reported as "not verified".
    """
    _base.with_threads(threads)
    name, settings = (None, {}) if form is None else _format(form)
    check_output(exporter_named(name, output, settings), output)
    snn = ts.load(file)
    dataset = _base.load_data(data_name, data_dir, snn)
    snn = _inputs.adapted(snn, dataset)
    x = _inputs.first_samples(dataset, samples)
    result = ts.export(snn, output, name, samples=x, timesteps=timesteps, limit=samples, **settings)
    if as_json:
        _base.print_json(result.to_json())
    else:
        click.echo(str(result))
