"""transpike reproduce."""

from pathlib import Path
from typing import Any

import click

from transpike.cli import _base, _processes
from transpike.errors import DataError, SettingError, TranspikeError
from transpike.results.writing import check_folder
from transpike.workflow.reproduce.calibration import calibration_seconds
from transpike.workflow.reproduce.plans import Paper, Plans, plans
from transpike.workflow.reproduce.run import Planned, PlannedStage, planned, published, reproduce

ALL = "all"


@click.command("reproduce")
@click.argument("papers", nargs=-1, metavar="[PAPER]…")
@click.option("--list", "listed", is_flag=True, help="List the papers, what they need, and their CPU minutes.")
@click.option("--dry-run", is_flag=True, help="Show commands, minutes and stored numbers without running anything.")
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/reproduce"),
    show_default=True,
    help="Folder for the results, with one subfolder per paper.",
)
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of data sets (default: TRANSPIKE_DATA).")
@click.option(
    "--models-dir",
    type=click.Path(path_type=Path),
    envvar="TRANSPIKE_MODELS",
    show_envvar=True,
    help="Folder of trained weights; missing ones are trained first.",
)
@click.option("--restart", is_flag=True, help="Run finished stages again; trained networks are kept.")
@_base.json_option
@_base.threads_option
@_processes.in_one_process
def command(
    papers: tuple[str, ...],
    listed: bool,
    dry_run: bool,
    output_dir: Path,
    data_dir: Path | None,
    models_dir: Path | None,
    restart: bool,
    as_json: bool,
    threads: int | None,
) -> None:
    """Reproduce the numbers of a paper, and show them next to the published ones; rerun to resume.

    PAPER is a name of --list, or all. Minutes are those of one CPU core, scaled by a second of calibration.
    """
    found = plans()
    if listed == bool(papers):
        raise SettingError("name at least one paper, or use --list to see them")
    names = list(found.papers) if listed or papers == (ALL,) else list(papers)
    chosen = list(dict.fromkeys(found.named(name).name for name in names))
    if not (listed or dry_run):
        check_folder(output_dir)
    scale = calibration_seconds() / found.calibration_seconds
    places: dict[str, Any] = {"data_dir": data_dir, "models_dir": models_dir, "restart": restart, "scale": scale}
    plan = [planned(found.papers[name], output_dir, **places, found=found) for name in chosen]
    if listed or dry_run:
        if as_json:
            numbers = [published(one.paper, found).to_json() for one in plan]
            _base.print_json([one.to_json() | {"stored": n} for one, n in zip(plan, numbers, strict=True)])
        for one in () if as_json else plan:
            click.echo(_line(one, found) if listed else _text(one, found))
        if listed and not as_json:
            click.echo("Minutes on one CPU core; ?: some stages were never measured.", err=True)
        if dry_run:
            _refuse(plan)
        return
    if len(plan) == 1:
        _refuse(plan)
    results = []
    for one in plan:
        if one.needs.missing:
            continue
        _announce(one)
        name = one.paper.name
        results.append(reproduce(name, output_dir, **places, threads=threads, begins=_begins, line=_line_of_stage))
        if not as_json:
            click.echo(f"{results[-1]}\n\nwrote {one.folder}/report-{name}.json and .md, next to the scripts' tables")
    if as_json:
        _base.print_json([one.to_json() for one in results])
    _refuse(plan)


def _refuse(those: list[Planned]) -> None:
    """Raise for papers that lack something: the first reason, and which papers have one too."""
    lacking = [one for one in those if one.needs.missing]
    if not lacking:
        return
    errors = {str(error): error for one in lacking for error in one.needs.missing}
    kind = next(iter(errors.values()))
    assert isinstance(kind, TranspikeError)
    names = ", ".join(one.paper.name for one in lacking)
    raise (type(kind) if len(errors) == 1 else DataError)(f"{names} cannot run: {' | '.join(errors)}")


def _line(one: Planned, found: Plans) -> str:
    counts = published(one.paper, found).counts()
    stored = ", ".join(f"{count} {name}" for name, count in counts.items())
    state = "data missing" if one.needs.missing else "ready"
    guessed = any(not (stage.measured or stage.done) for stage in one.stages)
    minutes = _minutes(one.minutes) + ("?" if guessed else "")
    return (
        f"{one.paper.name:13} {minutes:>9}  {state:13} {one.paper.title}\n{'':38}{_needed(one.paper)}; stored: {stored}"
    )


def _needed(paper: Paper) -> str:
    parts = [*paper.data, *paper.files, *(one.file for one in paper.weights)]
    return f"needs {', '.join(parts)}" if parts else "needs no data"


def _minutes(minutes: float) -> str:
    return f"{minutes:.1f} min" if minutes < 10 else f"{minutes:.0f} min"


def _text(one: Planned, found: Plans) -> str:
    lines = [f"{one.paper.name}: {one.paper.title}", f"what differs: {one.paper.differs}", f"{_needed(one.paper)}", ""]
    for stage in one.stages:
        state = "done" if stage.done else _minutes(stage.minutes)
        kind = "" if stage.done or stage.measured else " (a guess: never measured)"
        lines += [f"{stage.name}: {state}{kind}", f"    {' '.join(stage.command)}"]
    lines += [f"note: {note}" for note in one.needs.notes]
    lines += [f"missing: {error}" for error in one.needs.missing]
    lines += [_total(one), "", "The numbers stored with this version:", "", str(published(one.paper, found)), ""]
    return "\n".join(lines)


def _total(one: Planned) -> str:
    return (
        f"about {_minutes(one.minutes)} of one CPU core; this machine needs {one.scale:.2f} times the CPU time of the "
        "one that measured them"
    )


def _announce(one: Planned) -> None:
    click.echo(f"{one.paper.name}: {_total(one)}; results in {one.folder}", err=True)
    for note in one.needs.notes:
        click.echo(f"note: {note}", err=True)


def _begins(stage: PlannedStage, number: int, of: int) -> None:
    click.echo(f"stage {number} of {of}: {stage.name}, about {_minutes(stage.minutes)}", err=True)


def _line_of_stage(text: str) -> None:
    click.echo(f"  {text}", err=True)
