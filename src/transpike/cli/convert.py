"""transpike convert."""

from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike.cli import _base, _processes
from transpike.cli._recipe_help import WithRecipes
from transpike.cli._recipes import recipe_options
from transpike.results.writing import check_writable
from transpike.workflow.distributed import processes


@click.command("convert", cls=WithRecipes)
@_base.model_options
@_base.data_options
@recipe_options
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), required=True, help="File to write.")
@_base.capture_options
@_base.spiking_option
@_base.conversion_options
@click.option("--input-bits", type=click.IntRange(1, 16), help="Round inputs to integers of N bits.")
@click.option("--allow-no-neurons", is_flag=True, help="Also convert a network in which nothing can spike.")
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Checkpoint of a reconstruction, to resume it.",
)
@_base.json_option
@_base.threads_option
@_processes.shares_samples
def command(
    model_name: str,
    weights: Path | None,
    data_name: str,
    data_dir: Path | None,
    recipe_name: str,
    output: Path,
    output_name: str | None,
    on_unsupported: Any,
    spiking: tuple[str, ...],
    calibration_samples: int,
    seed: int,
    exact_grid: bool,
    input_bits: int | None,
    allow_no_neurons: bool,
    checkpoint: Path | None,
    as_json: bool,
    threads: int | None,
    **settings: Any,
) -> None:
    """Convert a trained network to a spiking one and save it.

    On several processes, to the same file: torchrun --no-python --nproc-per-node 2 transpike convert …
    """
    _base.with_threads(threads)
    _base.check_outputs(output, checkpoint)
    processes().in_first(lambda: check_writable(checkpoint, read_again=True))
    dataset = _base.load_data(data_name, data_dir)
    recipe = _base.make_recipe(recipe_name, _base.for_recordings(settings, dataset), seed)
    module, preprocessing = _base.load_trained(model_name, weights, dataset)
    with _base.progress_bar("converting", counted=False) as progress:
        snn = ts.convert(
            module,
            recipe,
            _base.calibration(dataset, calibration_samples, seed),
            preprocessing=preprocessing,
            spiking=spiking or None,
            output=output_name,
            on_unsupported=on_unsupported,
            allow_no_neurons=allow_no_neurons,
            exact_grid=exact_grid,
            input_bits=input_bits,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
        )
    _base.note_origin(snn, model_name, weights, dataset)

    def deliver() -> None:
        ts.save(snn, output)
        if as_json:
            exactness = snn.exactness
            _base.print_json(
                {
                    "file": str(output),
                    "recipe": str(recipe),
                    "timesteps": snn.timesteps,
                    "total_steps": snn.total_steps(),
                    "exact_up_to": exactness.timesteps if exactness else 0,
                    "remarks": list(snn.remarks),
                    "provenance": snn.provenance,
                }
            )
        else:
            click.echo(str(snn))
            click.echo(f"wrote {output}")

    processes().in_first(deliver)
