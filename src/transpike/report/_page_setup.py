"""What a page says about the network as a whole: chips, parameters, and the next steps."""

import shlex
from collections.abc import Sequence

from transpike.report import decision, terminal
from transpike.report._numbers import size
from transpike.report._section import Command, Section, Table, rows
from transpike.report.subject import Subject
from transpike.workflow.chip_fit.run import ChipFit
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report

ABOUT_THE_RUN = ("Hybrid", "Exact", "Not exact", "Engine", "Note")


def chips(fits: Sequence[ChipFit]) -> Section:
    """Published limits of chips: which are met, and what would have to change."""
    good = [fit.target.title for fit in fits if fit.fits]
    lead = f"Fits {', '.join(good)}, as far as limits are public." if good else "Fits none of these chips."
    found, violated = [], []
    for fit in fits:
        broken = len({one.limit for one in fit.misfits} & {*fit.checked})
        found.append((fit.target.title, "yes" if fit.fits else "no", broken, len(fit.checked), len(fit.unknown)))
        violated += [
            (fit.target.title, one.place, one.limit.replace("_", " "), one.has, one.allows, one.change, one.source)
            for one in fit.misfits
        ]
    headings = ("chip", "fits", "violated\nlimits", "known\nlimits", "limits without\na public source")
    tables = [Table(headings, rows(found), left=(0, 1))]
    if violated:
        tables.append(
            Table(
                ("chip", "place", "limit", "network", "chip allows", "change", "source"),
                rows(violated),
                "Violated limits",
                left=(0, 1, 2, 3, 4, 6),
                wrap=(5,),
                closed=True,
            )
        )
    missing = [(fit.target.title, ", ".join(fit.unknown).replace("_", " ")) for fit in fits if fit.unknown]
    if missing:
        title = "Limits without a public source"
        tables.append(Table(("chip", "limits"), rows(missing), title, wrap=(1,), closed=True))
    note = "The compiler of a chip may still reject a network that fits."
    analogue = sorted({name for fit in fits for name in fit.analogue})
    elsewhere = f"Not checked, because they do not spike: {', '.join(analogue)}."
    return Section("chips", "Chips", (lead,), tables=tuple(tables), notes=(note, elsewhere) if analogue else (note,))


def parameters(
    report: Report | Measurement | None, subject: Subject | None, command: str | None, remarks: tuple[str, ...]
) -> Section:
    """The settings, the size and the origin of the network, and the command that reproduces the numbers."""
    found: list[tuple[str, str]] = []
    if report is not None:
        found += [("recipe", report.recipe)]
    found += [(f"recipe: {name}", value) for name, value in ([] if subject is None else subject.settings)]
    if report is not None:
        found += [("schedule", report.schedule), ("input", report.encoder), ("readout", report.readout)]
        found += [("engine", report.engine), ("task", report.task), ("samples", f"{report.samples:,}")]
    found += sizes(subject)
    for name, value in ({} if report is None else report.provenance).items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {part}" for key, part in value.items())
        if value not in (None, ""):
            found.append((name.replace("_", " "), str(value)))
    sentences = [] if report is None else terminal.text(report).splitlines()
    kept = tuple(line for line in sentences if line.startswith(ABOUT_THE_RUN))
    kept += tuple(f"Note: {remark}." for remark in remarks)
    table = Table(("setting", "value"), rows(found), wrap=(1,))
    return Section(
        "parameters", "Parameters and provenance", kept, tables=(table,) if found else (), code=command or ""
    )


def sizes(subject: Subject | None) -> list[tuple[str, str]]:
    """The number of parameters and the size of the file, where they are known."""
    if subject is None:
        return []
    numbers, length = subject.parameters, subject.bytes
    found = [] if numbers is None else [("parameters", f"{numbers:,}")]
    return found if length is None else [*found, ("file", f"{subject.file}, {size(length)}")]


def next_steps(report: Report | Measurement | None, subject: Subject | None) -> list[Section]:
    """Commands for what the results suggest, the most useful first; none without the name of a file."""
    if subject is None or subject.file is None:
        return []
    near = None if report is None else decision.sufficient(report)
    found: list[tuple[str, str]] = []
    if report is not None and near is None and (isinstance(report, Report) or report.ann):
        command = subject.command("finetune", f"--output {subject.beside('-tuned.transpike')}")
        found.append(("Recover what the conversion lost by fine-tuning.", command))
    if report is not None and near is not None and near.timesteps < report.timesteps:
        command = subject.command("evaluate", f"--timesteps {near.timesteps}")
        found.append((f"Count the operations of every layer at T={near.timesteps}.", command))
        if isinstance(report, Report) and report.exit is None:
            command = subject.command("exit", f"--output {subject.beside('-exit.transpike')}")
            found.append(("Let every sample stop as soon as its answer is certain.", command))
    command = subject.command("energy", "--activation-bits 2,3,4,8")
    found.append(("Compare the energy with ANNs of other widths.", command))
    origin = {} if report is None else report.provenance
    if origin.get("model"):
        flags = [f"--{key} {shlex.quote(str(origin[key]))}" for key in ("model", "weights") if origin.get(key)]
        words = ["transpike compare", *flags, subject.data, "--recipes ecc,few-steps"]
        found.append(("Compare other recipes on the same network.", " ".join(filter(None, words))))
    found.append(("Verify that all engines give the same spikes.", subject.command("verify")))
    command = subject.command("export", f"--to c --output {subject.beside('-c')}")
    found.append(("Export the network as C code.", command))
    return [Section("next", "Next steps", commands=tuple(Command(*pair) for pair in found))]
