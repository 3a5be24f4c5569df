"""transpike push."""

from pathlib import Path

import click

import transpike as ts
from transpike.cli import _base, _inputs
from transpike.hub.address import repository_of
from transpike.hub.client import library


@click.command("push")
@_inputs.file_argument
@click.argument("repository", metavar="USER/NAME")
@_base.data_options
@_inputs.of_file
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True, help="Samples to verify it on.")
@click.option("--timesteps", type=click.IntRange(1), help="Time steps to verify (default: the recipe's, at most 32).")
@click.option(
    "--measure/--no-measure", default=True, show_default=True, help="Accuracy and energy verdict in the model card."
)
@click.option("--limit", type=click.IntRange(1), help="Measure only the first N test samples.")
@click.option("--license", metavar="NAME", help="Identifier of the license on the hub, like apache-2.0.")
@click.option("--private", is_flag=True, help="Create a private repository.")
@click.option("--revision", metavar="BRANCH", help="Branch to upload to (default: main).")
@click.option("--unverified", is_flag=True, help="Upload without a comparison of the engines; the card says so.")
@click.option("--dry-run", is_flag=True, help="Print the model card, and upload nothing.")
@_base.task_option
@_base.output_option
@_base.json_option
@_base.threads_option
def command(
    file: Path,
    repository: str,
    data_name: str,
    data_dir: Path | None,
    samples: int,
    timesteps: int | None,
    measure: bool,
    limit: int | None,
    license: str | None,
    private: bool,
    revision: str | None,
    unverified: bool,
    dry_run: bool,
    task: str | None,
    output_name: str | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Upload a converted network to the Hugging Face Hub, with a model card and the certificate of verify.

    It is read again with ts.load("hf://USER/NAME"), and by every command in place of FILE. The token is that of
    HF_TOKEN or of `hf auth login`. Exit code 4: engines differ, and nothing is uploaded.
    """
    _base.with_threads(threads)
    repository_of(repository, revision)
    if not dry_run:
        library()
    snn = ts.load(file)
    found, inputs = None, None
    if measure or not unverified:
        dataset = _base.load_data(data_name, data_dir, snn)
        snn = _inputs.adapted(snn, dataset)
        inputs = None if unverified else _inputs.first_samples(dataset, samples)
    if measure:
        tested = _base.load_tested(data_name, data_dir, snn)
        with _base.progress_bar("networks") as progress:
            found = ts.cost(
                snn,
                tested.test.batches(32, limit=limit),
                output=output_name,
                task=_base.task_named(task, tested),
                progress=progress,
            )
    pushed = ts.push_to_hub(
        snn,
        repository,
        inputs,
        report=found,
        license=license,
        private=private or None,
        revision=revision,
        timesteps=timesteps,
        unverified=unverified,
        dry_run=dry_run,
    )
    if as_json:
        _base.print_json(pushed.to_json())
    else:
        click.echo(pushed.card if dry_run else str(pushed))
