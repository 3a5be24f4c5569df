"""transpike compare."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike import recipes, report
from transpike.cli import _base, _processes, _settings
from transpike.cli._array import part_of, told, write_array
from transpike.data import Dataset
from transpike.errors import GateFailed, SettingError
from transpike.tasks import Classification, Fidelity, metrics_of
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.compare.executors import Executor, Ray, SlurmArray, executor_named
from transpike.workflow.compare.pick import parse
from transpike.workflow.compare.rows import Scored
from transpike.workflow.compare.run import planned
from transpike.workflow.compare.store import store_at


@click.command("compare")
@_base.model_options
@_base.data_options
@click.option(
    "--recipes",
    "recipe_texts",
    metavar="NAME,…",
    help="Recipes, comma-separated, with settings: NAME:key=value;key=value, named as in convert --help (default: all "
    f"built-in recipes). Available: {', '.join(sorted(recipes.table))}.",
)
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Samples per batch.")
@_base.calibration_option
@_settings.settings_options(ts.ComparisonSettings, leave_out=("calibration_samples",))
@click.option(
    "--exit-samples", type=click.IntRange(1), default=2000, show_default=True,
    help="The last N test samples fit the early exits.",
)  # fmt: skip
@click.option(
    "--store",
    type=click.Path(path_type=str, file_okay=False),
    metavar="FOLDER|URL",
    default="runs/compare",
    show_default=True,
    help="Folder, or address like s3://bucket/folder, for finished results; rerun to resume.",
)
@click.option(
    "--executor", type=_settings.Read("NAME[:…]", executor_named),
    help="Where conversions run: local:N (processes), ray[:ADDRESS][;cpus=N;gpus=N;memory=SIZE] (a cluster), "
    "slurm-array[:N] (writes a job array, and submits it where sbatch is). Default: local:JOBS.",
)  # fmt: skip
@click.option(
    "--unit", type=_settings.Read("K/N", part_of), help="Measure each N-th conversion, from the K-th on, into --store."
)
@click.option("--collect", is_flag=True, help="Measure nothing: combine the results of all --unit runs.")
@_base.report_option
@click.option(
    "--pick", help='Select the best row, like "drop<=1 steps<=32 min=synops"; exit code 4 if no row satisfies it.'
)
@click.option(
    "--output", "place", type=click.Path(path_type=Path, dir_okay=False), help="File for the selected network."
)
@_base.json_option
@_processes.in_one_process
def command(
    model_name: str,
    weights: Path | None,
    data_name: str,
    data_dir: Path | None,
    recipe_texts: str | None,
    batch_size: int,
    calibration_samples: int,
    exit_samples: int,
    store: str,
    executor: Executor | None,
    unit: tuple[int, int] | None,
    collect: bool,
    reports: tuple[Path, ...],
    pick: str | None,
    place: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Compare recipes on one network: accuracy, total time steps, synaptic operations; select the best one."""
    _base.check_outputs(place, reports=reports)
    store_at(store)
    if place is not None and pick is None:
        raise SettingError("--output writes the network selected by --pick: add --pick")
    task = flags.pop("task")
    dataset = _base.load_tested(data_name, data_dir)
    settings = _settings.chosen(ts.ComparisonSettings, flags, task=_base.task_named(task, dataset))
    if pick is not None:
        known = (Classification(), Fidelity()) if settings.task is None else (settings.task,)
        # errors are reported before the work
        parse(pick, tuple(metric for one in known for metric in metrics_of(one)))
    texts = (recipe_texts or ",".join(kind.name for kind in recipes.members)).split(",")
    chosen = [_base.recipe_named(text.strip(), dataset, settings.seed) for text in texts]
    wishes, limit = settings.exits, settings.limit
    first = len(dataset.test) - exit_samples
    if wishes and first < 1:
        raise SettingError(
            f"{dataset.name} has {len(dataset.test)} test samples, and --exit-samples {exit_samples} leaves none for "
            "the comparison: use fewer"
        )
    if wishes and (limit is None or limit > first):
        raise SettingError(
            f"the last {exit_samples} of {len(dataset.test)} test samples fit the exits and cannot be compared on: use "
            f"--limit {first} or less, or a smaller --exit-samples"
        )
    fitting = dataset.test.batches(batch_size, indices=list(range(first, len(dataset.test)))) if wishes else None
    module, preprocessing = _base.load_trained(model_name, weights, dataset)
    given: dict[str, Any] = {
        "data": dataset.test.batches(batch_size, limit=limit), "preprocessing": preprocessing,
        "exit_data": fitting, "store": store,
    }  # fmt: skip
    calibrated = _base.calibration(dataset, calibration_samples, settings.seed)
    if isinstance(executor, SlurmArray) and unit is None and not collect:
        with planned(module, chosen, calibrated, settings, **given, together=True) as sweep:
            write_array(executor, sweep)
        return
    with _base.progress_bar("comparing") as progress:
        more: dict[str, Any] = {"progress": progress, "executor": executor, "unit": unit, "collect": collect}
        # threads of Ray print on stdout what happens to nodes
        with contextlib.redirect_stdout(sys.stderr) if isinstance(executor, Ray) else contextlib.nullcontext():
            found = ts.compare(module, chosen, calibrated, settings, **given, **more)
    if unit is not None:
        told(found, unit, store)
        return
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
        written = _written(found, picked, place, model_name, weights, dataset)
        click.echo(
            f"selected {picked.recipe} at T={picked.timesteps}, {picked.total_steps:g} steps{written}", err=as_json
        )


def _written(
    found: Comparison, row: Scored, output: Path | None, model_name: str, weights: Path | None, dataset: Dataset
) -> str:
    """Write the row's network; returns a message."""
    if output is None:
        return ""
    snn = found.snn(row)
    _base.note_origin(snn, model_name, weights, dataset)
    # without the seconds of this run, so that the same network gives the same bytes
    ts.save(snn, output, metrics={name: value for name, value in row.to_json().items() if name != "seconds"})
    return f"; wrote {output}"
