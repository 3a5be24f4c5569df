"""transpike compare."""

from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike import energy, engines, recipes, report
from transpike._compare_pick import parse
from transpike.cli import _base
from transpike.compare import Comparison, Row
from transpike.data import Dataset
from transpike.errors import DataError, GateFailed, SettingError


@click.command("compare")
@_base.model_options
@_base.data_options
@click.option(
    "--recipes",
    "recipe_texts",
    metavar="NAME,…",
    help="With settings: NAME:key=value;key=value, the names as in convert --help. Default: all of ours as they are. "
    "There are "
    f"{', '.join(sorted(recipes.table))}.",
)
@click.option("--timesteps", default="4,8,16,32,64", show_default=True, help="Numbers of time steps, each a row.")
@click.option("--limit", type=click.IntRange(1), help="Only the first so many test samples.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@_base.conversion_options
@click.option("--engine", type=click.Choice(sorted(engines.table)), default="auto", show_default=True)
@click.option("--memory", help="Budget for what the run of one process adds, like 2GiB.")
@_base.capture_options
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes, of one thread each.")
@click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/compare"),
    show_default=True,
    help="Keeps what is finished; the same command goes on where a killed one was.",
)
@click.option(
    "--report",
    "reports",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Write .json, .txt, .png, .svg or .pdf; repeatable.",
)
@_base.energy_option
@_base.exit_options
@click.option(
    "--pick", help='Name the best row, like "drop<=1 steps<=32 min=synops"; exit code 4 where none satisfies it.'
)
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="Write the picked network here.")
@_base.json_option
def command(
    model_name: str,
    weights: Path | None,
    mean: str | None,
    std: str | None,
    data_name: str,
    data_dir: Path | None,
    recipe_texts: str | None,
    timesteps: str,
    limit: int | None,
    batch_size: int,
    calibration_samples: int,
    seed: int,
    engine: str,
    memory: str | None,
    output_name: str | None,
    on_unsupported: Any,
    exact_grid: bool,
    jobs: int,
    store: Path,
    reports: tuple[Path, ...],
    energies: tuple[energy.EnergyModel, ...],
    exit_texts: tuple[str, ...],
    exit_samples: int,
    pick: str | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Many recipes on one network: accuracy against total steps and synaptic operations, and the best one."""
    _base.check_writable(*reports, output)
    if output is not None and pick is None:
        raise SettingError("--output writes what --pick names; give --pick too")
    if pick is not None:
        parse(pick)  # a word it does not know is an error before the work, not after it
    dataset = _base.load_tested(data_name, data_dir)
    texts = (recipe_texts or ",".join(kind.name for kind in recipes.members)).split(",")
    chosen = [_base.recipe_named(text.strip(), dataset, seed) for text in texts]
    wishes = tuple(_base.exit_named(text) for text in exit_texts)
    first = len(dataset.test) - exit_samples
    if wishes and first < 1:
        raise DataError(
            f"{dataset.name} has {len(dataset.test)} test samples, and --exit-samples {exit_samples} leaves none to "
            "compare on: give fewer"
        )
    if wishes and (limit is None or limit > first):
        raise DataError(
            f"exits are fitted on the last {exit_samples} of {len(dataset.test)} test samples, which are not to be "
            f"compared on: give --limit {first} or less, or a smaller --exit-samples"
        )
    fitting = dataset.test.batches(batch_size, indices=list(range(first, len(dataset.test)))) if wishes else None
    module, preprocessing = _base.load_trained(model_name, weights, dataset, mean, std)
    with _base.progress_bar("comparing") as progress:
        found = ts.compare(
            module,
            chosen,
            _base.calibration(dataset, calibration_samples, seed),
            data=dataset.test.batches(batch_size, limit=limit),
            timesteps=_base.whole_numbers("--timesteps", timesteps),
            preprocessing=preprocessing,
            output=output_name,
            on_unsupported=on_unsupported,
            exact_grid=exact_grid,
            engine=engine,
            memory=_base.bytes_of(memory),
            seed=seed,
            energy=energies,
            exits=wishes,
            exit_data=fitting,
            store=store,
            jobs=jobs,
            progress=progress,
        )
    for path in reports:
        report.save(found, path, command=_base.typed())
    if not as_json:
        report.show(found)
    if not found.measured:
        raise SettingError(f"nothing could be measured: {found.refused[0].reason}")
    picked, missed = None, None
    if pick is not None:
        try:
            picked = found.pick(pick)
        except GateFailed as error:
            missed = error
    if as_json:
        _base.print_json(found.to_json() | ({} if pick is None else {"picked": picked and picked.to_json()}))
    if missed is not None:
        raise missed
    if picked is not None:
        place = _written(found, picked, output, model_name, weights, dataset)
        click.echo(f"picked {picked.recipe} at T={picked.timesteps}, {picked.total_steps:g} steps{place}", err=as_json)


def _written(
    found: Comparison, row: Row, output: Path | None, model_name: str, weights: Path | None, dataset: Dataset
) -> str:
    """Write the row's network; what to say of it."""
    if output is None:
        return ""
    snn = found.snn(row)
    _base.note_origin(snn, model_name, weights, dataset)
    ts.save(snn, output, metrics=row.to_json())
    return f"; wrote {output}"
