"""transpike report."""

import dataclasses
import shlex
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

import transpike as ts
from transpike import chips, report
from transpike.cli import _base, _inputs, _processes
from transpike.cli._settings import MEMORY, NUMBERS
from transpike.core.graph import PackedInput
from transpike.core.recipe import Recipe
from transpike.data import Dataset
from transpike.errors import SettingError
from transpike.report import decision
from transpike.snn import SNN
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.judged import asked as judgement

PARTS = ("energy", "explain", "spikes", "chips")


@click.command("report")
@_inputs.file_argument
@_base.data_options
@_inputs.of_file
@click.option(
    "--output", "outputs", type=click.Path(path_type=Path), multiple=True, default=(Path("report.html"),),
    show_default=True, help="File to write: .html, .json, .txt, .csv, .md or .tex; repeatable.",
)  # fmt: skip
@click.option("--timesteps", type=int, help="Time steps to simulate (default: the recipe's).")
@click.option("--limit", type=click.IntRange(1), help="Only the first N test samples.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="Samples per batch.")
@click.option(
    "--explain-samples", type=click.IntRange(1), default=128, show_default=True, help="Samples for the layer analysis."
)
@click.option(
    "--spike-samples", type=click.IntRange(1), default=4, show_default=True, help="Samples with recorded spikes."
)
@click.option(
    "--activation-bits", type=NUMBERS, default=(), help="Activation bits of additional quantised ANNs, like 2,4,8."
)
@click.option("--compare", "recipe_texts", help="Other recipes to compare, like few-steps,ecc:percentile=99.")
@click.option(
    "--compare-timesteps",
    type=NUMBERS,
    default="4,8,16,32",
    show_default=True,
    help="Time-step counts of these recipes.",
)
@click.option("--without", type=click.Choice(PARTS), multiple=True, help="Part to omit; repeatable.")
@_base.engine_option
@click.option("--memory", type=MEMORY, help="Memory limit, like 2GiB.")
@_base.task_option
@_base.output_option
@_base.json_option
@_base.threads_option
@_processes.in_one_process
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    outputs: tuple[Path, ...],
    timesteps: int | None,
    limit: int | None,
    batch_size: int,
    explain_samples: int,
    spike_samples: int,
    activation_bits: tuple[int, ...],
    recipe_texts: str | None,
    compare_timesteps: tuple[int, ...],
    without: tuple[str, ...],
    engine: str,
    memory: int | None,
    task: str | None,
    output_name: str | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Report on a converted network: accuracy, latency, energy, layers, changes that help, spikes, chips."""
    _base.with_threads(threads)
    _base.check_outputs(reports=outputs, pictures=False)
    snn = ts.load(file)
    dataset = _base.load_tested(data_name, data_dir, snn)
    asked = judgement(snn.outputs, _base.task_named(task, dataset), output_name)[0]
    snn = _inputs.adapted(snn, dataset)
    chosen = [_base.recipe_named(text.strip(), dataset) for text in (recipe_texts or "").split(",") if text.strip()]
    images = dataset.test.batches(batch_size, limit=limit)
    judged: dict[str, Any] = {"task": asked, "output": output_name}
    settings: dict[str, Any] = {"timesteps": timesteps, "engine": engine, "memory": memory, **judged}
    results: list[report.Result] = []
    cost = None
    if "energy" in without:
        total = min(limit or 10**12, len(dataset.test))
        with _base.progress_bar("evaluating") as bar:
            evaluated = ts.evaluate(snn, images, **settings, progress=lambda done, _: bar(done, total))
        results.append(evaluated)
    else:
        with _base.progress_bar("networks") as bar:
            cost = ts.cost(snn, images, **settings, activation_bits=activation_bits, progress=bar)
        assert cost.report is not None  # a task measures its metric, or raises
        evaluated = cost.report
        results += [evaluated, cost]
    missing = []
    if "explain" not in without:
        try:
            with _base.progress_bar("simulations") as bar:
                first = dataset.test.batches(batch_size, limit=explain_samples)
                results.append(
                    ts.explain(snn, first, timesteps=timesteps, samples=explain_samples, **judged, progress=bar)
                )
        except SettingError as error:  # schedules whose layers cannot run one by one
            missing.append(f"not explained: {error}")
    if "spikes" not in without:
        shown = dataset.test.batches(1, indices=_interesting(evaluated, spike_samples))
        results.append(
            ts.record(
                snn,
                shown,
                samples=spike_samples,
                timesteps=timesteps,
                classes=dataset.classes,
                engine=engine,
                **judged,
            )
        )
    if chosen:
        any_input = snn.inputs is not None and snn.inputs.any_input
        comparison = ts.ComparisonSettings(
            timesteps=compare_timesteps, engine=engine, task=asked, judged_output=output_name, any_input=any_input
        )
        results.append(_compared(snn, chosen, dataset, limit, batch_size, comparison))
    if "chips" not in without:
        results += [ts.chip_fit(snn, chip) for chip in chips.names()]
    subject = report.Subject(snn, file, _data_flags(data_name, data_dir))
    for path in outputs:
        report.save(results, path, command=_base.typed(), remarks=tuple(missing), subject=subject)
    if as_json:
        _base.print_json(report.to_json(results))
    else:
        click.echo("\n".join(decision.sentences(evaluated, cost)))
        click.echo(report.text(evaluated))
        for line in missing:
            click.echo(f"Note: {line}.")
        click.echo(f"Wrote {', '.join(map(str, outputs))}.")


def _data_flags(name: str, directory: Path | None) -> str:
    """The flags that select the data, for other commands."""
    return shlex.join(["--data", name, *([] if directory is None else ["--data-dir", str(directory)])])


def _interesting(evaluated: Report | Measurement, count: int) -> Tensor:
    """Indices of example samples: a wrong one, the one that is correct latest, and the first correct ones.

    The first ones where answers are neither correct nor wrong.
    """
    if isinstance(evaluated, Measurement):
        return torch.arange(min(count, evaluated.samples))
    last = evaluated.outcomes[evaluated.final.timesteps]
    right = torch.stack(list(evaluated.outcomes.values()))
    late = (right.flip(0).cumprod(0).sum(0) * last + (~last) * 10**9).argmin()
    first = last.nonzero().flatten()[:count].tolist()
    lost, wrong = (rows.nonzero().flatten()[:1].tolist() for rows in (~last & evaluated.ann_outcomes, ~last))
    special = [int(late)] * bool(last.any()) + (lost or wrong)
    order = list(dict.fromkeys([*first[: max(1, count - len(special))], *special, *first, *range(len(last))]))
    return torch.tensor(order[:count])


def _compared(
    snn: SNN, chosen: list, dataset: Dataset, limit: int | None, batch_size: int, settings: ts.ComparisonSettings
) -> report.Result:
    """Compare the network's recipe and the others on its source network; its own recipe is compared once."""
    others = [recipe for recipe in chosen if not _same(recipe, snn.recipe)]
    with _base.progress_bar("comparing") as bar:
        return ts.compare(
            snn.source,
            [snn.recipe, *dict.fromkeys(others)],
            _base.calibration(dataset, snn.provenance.get("calibration_samples", 1000), snn.provenance.get("seed", 0)),
            settings,
            data=dataset.test.batches(batch_size, limit=limit),
            preprocessing=_preprocessing(snn),
            progress=bar,
        )


def _preprocessing(snn: SNN) -> Any:
    """The shape of the network's input; with several inputs, a dictionary by name."""
    parts = [(node.name, node.op) for node in snn.source.inputs if isinstance(node.op, PackedInput)]
    found = {name: op.preprocessing for name, op in parts if op.preprocessing is not None}
    return found if parts else snn.preprocessing


def _same(one: Recipe, other: Recipe) -> bool:
    """True for equal settings; the number of time steps does not count, because a comparison sets it."""
    names = [field.name for field in dataclasses.fields(one) if field.name != "timesteps"]  # type: ignore[arg-type]
    return type(one) is type(other) and all(getattr(one, name) == getattr(other, name) for name in names)
