"""transpike break-even."""

import dataclasses
from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike.cli import _base, _settings
from transpike.energy import EnergyModel
from transpike.errors import GateFailed, SettingError
from transpike.training.ranks import is_first
from transpike.training.settings import Training
from transpike.workflow.break_even.result import Round
from transpike.workflow.break_even.run import STRENGTHS


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingError(f"must be comma-separated numbers, like 0.1,0.3,1, not {text!r}") from error


@click.command("break-even")
@_base.model_options
@_base.data_options
@click.option("--recipe", required=True, metavar="NAME[:KEY=VALUE;…]", help="Conversion method, with its settings.")
@click.option("--timesteps", type=click.IntRange(1), help="Time steps (default: the recipe's).")
@_settings.settings_options(Training, leave_out=("validation_fraction", "task"), defaults=False)
@click.option(
    "--models",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of energy models that must favour the SNN.",
)
@click.option(
    "--max-drop",
    type=click.FloatRange(0, 100, max_open=True),
    default=2.0,
    show_default=True,
    help="Largest accuracy drop of the SNN against the original network, in percentage points.",
)
@click.option(
    "--strengths",
    type=_settings.Read("X,X,…", _numbers),
    default=",".join(f"{one:g}" for one in STRENGTHS),
    show_default=True,
    help="Strengths of the penalty on active neurons; one training round for each.",
)
@_base.energy_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File for the converted network (.transpike); checkpoints go to the folder OUTPUT.rounds.",
)
@_base.json_option
@_base.threads_option
def command(
    model_name: str,
    weights: Path | None,
    data_name: str,
    data_dir: Path | None,
    recipe: str,
    timesteps: int | None,
    models: int,
    max_drop: float,
    strengths: tuple[float, ...],
    energies: tuple[EnergyModel, ...],
    output: Path,
    as_json: bool,
    threads: int | None,
    **options: Any,
) -> None:
    """Train a trained network until its conversion costs less than its quantised baseline; rerun to resume.

    Exit code 4, and the most accurate network, if no strength of the penalty achieves it.
    """
    _base.with_threads(threads)
    if is_first():
        _base.check_outputs(output)
    settings = Training(**{"epochs": 5, "learning_rate": 0.01, **_settings.given(Training, options)})
    dataset = _base.load_data(data_name, data_dir)
    module, preprocessing = _base.load_trained(model_name, weights, dataset)
    chosen = _base.recipe_named(recipe, dataset, settings.seed)
    if timesteps is not None:
        chosen = dataclasses.replace(chosen, timesteps=timesteps)  # type: ignore[type-var]

    def progress(row: Round) -> None:
        if is_first() and not as_json:
            click.echo(
                f"strength {row.strength:g}: SNN {row.accuracy:.2%}, ANN {row.ann_accuracy:.2%}, cheaper under "
                f"{row.cheaper} of {len(row.ratios)} energy models, spike rate {row.spike_rate:.2%}",
                err=True,
            )

    result = ts.break_even(
        module,
        dataset,
        chosen,
        settings,
        models=models,
        max_drop=max_drop / 100,
        strengths=strengths,
        energy=energies or None,
        preprocessing=preprocessing,
        folder=output.with_suffix(".rounds"),
        progress=progress,
    )
    _base.note_origin(result.snn, model_name, weights, dataset)
    if is_first():  # all processes have found the same
        ts.save(result.snn, output)
        if as_json:
            _base.print_json({"file": str(output), **result.to_json()})
        else:
            click.echo(f"{result}\nwrote {output}")
    if not result.reached:
        raise GateFailed(result.verdict)
