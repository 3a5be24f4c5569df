"""Results as a self-contained HTML page, and in notebooks."""

import html
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from transpike.errors import MissingExtra, SettingError, printable
from transpike.report import _glossary, _page_setup, decision
from transpike.report._section import Section, Tile
from transpike.report.cuts import text as cut_text
from transpike.report.subject import Subject
from transpike.report.terminal import Result, text
from transpike.workflow.chip_fit.run import ChipFit
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.cost.result import Cost
from transpike.workflow.cuts.result import Cuts
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SpikeRecord

KINDS = (Report, Measurement, Comparison, Cost, Cuts, Explanation, SpikeRecord, ChipFit)


def page(
    results: Result | Sequence[Result],
    *,
    title: str | None = None,
    command: str | None = None,
    remarks: tuple[str, ...] = (),
    subject: Subject | None = None,
) -> str:
    """The results of one network as a self-contained HTML page: style, script and pictures are embedded.

    The page begins with the decision: how many time steps suffice, and whether the spiking network saves energy.
    Several evaluations share one picture, several chip fits one table; of other kinds there can be one each.
    ``command``: shell command that reproduces the numbers; ``remarks``: additional notes; ``subject``: the network,
    for its settings, its size, and commands that continue with its file.
    Raises SettingError for two results of another kind, MissingExtra without matplotlib.
    """
    found = _sorted((results,) if isinstance(results, KINDS) else tuple(results))
    return _filled("page.html", found, title, command, remarks, subject)


def fragment(result: Result) -> str:
    """One result for a notebook; only its text without matplotlib."""
    try:
        return _filled("fragment.html", _sorted((result,)), None, None)
    except MissingExtra:
        return f"<pre>{_environment().filters['escape'](text(result))}</pre>"


def _sorted(results: Sequence[Result]) -> dict[type, Any]:
    """The results by kind; reports as {label: report}, with the one inside a cost."""
    reports: dict[str, Report] = {}
    found: dict[type, Any] = {}
    for result in results:
        if isinstance(result, Report):
            label = result.recipe if result.recipe not in reports else f"{result.recipe}, {result.schedule}"
            reports[label] = result
        elif type(result) not in KINDS:
            raise SettingError(f"a page shows results, not {type(result).__name__}")
        elif isinstance(result, ChipFit):
            found.setdefault(ChipFit, []).append(result)
        elif type(result) in found:
            raise SettingError(f"a page shows one {type(result).__name__}, not two: write two pages")
        else:
            found[type(result)] = result
    if not results:
        raise SettingError("a page needs at least one result")
    inside = found[Cost].report if Cost in found else None
    if isinstance(inside, Measurement):
        found.setdefault(Measurement, inside)
    elif inside is not None and not reports:
        reports = {inside.recipe: inside}
    return found | ({Report: reports} if reports else {})


def _filled(
    template: str,
    found: dict[type, Any],
    title: str | None,
    command: str | None,
    remarks: tuple[str, ...] = (),
    subject: Subject | None = None,
) -> str:
    from transpike.core.version import __version__
    from transpike.report import terminal

    reports = found.get(Report)
    judged = next(iter(reports.values())) if reports else found.get(Measurement)
    sections, tiles = _sections(found, reports)
    if judged is not None or subject is not None or command or remarks:
        sections.append(_page_setup.parameters(judged, subject, command, remarks))
    sections += _page_setup.next_steps(judged, subject)
    tiles += [Tile(name, value) for name, value in _page_setup.sizes(subject)[:1]]
    everything = [*(reports or {}).values(), *(one for kind, one in found.items() if kind not in (Report, ChipFit))]
    warnings = dict.fromkeys(line for one in everything for line in terminal.warned(one))
    environment = _environment()
    source = environment.loader.get_source
    content: dict[str, Any] = {
        "title": title or _title(found), "decision": _decision(found, judged), "meta": _meta(judged, subject),
        "warnings": list(warnings), "tiles": tiles, "sections": sections, "version": __version__,
        "style": _raw(source(environment, "style.css")[0]), "script": _raw(source(environment, "page.js")[0]),
    }  # fmt: skip
    drawn = environment.get_template(template)
    text = drawn.render(content)
    if template != "page.html" or not (terms := _glossary.used(_words(text))):
        return text
    glossary = Section("glossary", "Glossary", terms=terms)
    return drawn.render(content | {"sections": [*sections, glossary]})


def _sections(found: dict[type, Any], reports: dict[str, Report] | None) -> tuple[list[Section], list[Tile]]:
    """The sections of all results, and the key figures."""
    from transpike.report import (
        _page_comparison,
        _page_cost,
        _page_cuts,
        _page_evaluation,
        _page_explanation,
        _page_measurement,
        _page_record,
    )

    sections: list[Section] = []
    tiles: list[Tile] = []
    if reports:
        sections += _page_evaluation.sections(reports)
        tiles += _page_evaluation.tiles(next(iter(reports.values())))
    if Measurement in found:
        sections += _page_measurement.sections(found[Measurement], bool(reports))
        tiles += [] if reports else _page_measurement.tiles(found[Measurement])
    if Cost in found:
        place = next((n for n, one in enumerate(sections) if one.id == "layers"), 0)
        sections.insert(place, _page_cost.section(found[Cost]))
        tiles.append(_page_cost.tile(found[Cost]))
    if Explanation in found:
        sections.append(_page_explanation.section(found[Explanation], _alone(found)))
    if Cuts in found:
        sections.append(_page_cuts.section(found[Cuts]))
    if SpikeRecord in found:
        sections.append(_page_record.section(found[SpikeRecord]))
    if Comparison in found:
        sections.append(_page_comparison.section(found[Comparison]))
    if ChipFit in found:
        sections.append(_page_setup.chips(found[ChipFit]))
    return sections, tiles


def _alone(found: dict[type, Any]) -> bool:
    """True without an evaluation."""
    return Report not in found and Measurement not in found


def _decision(found: dict[type, Any], judged: Report | Measurement | None) -> list[str]:
    """What the page begins with: the decision, or what other results say first."""
    from transpike.report import _page_comparison, _page_explanation

    sentences = list(decision.sentences(judged, found.get(Cost)))
    if sentences:
        return sentences
    if Explanation in found:
        sentences += _page_explanation.lead(found[Explanation], True)[:1]
    if Cuts in found:
        sentences += cut_text(found[Cuts]).splitlines()[:1]
    if Comparison in found:
        sentences.append(_page_comparison.summary(found[Comparison]))
    return sentences


def _meta(judged: Report | Measurement | None, subject: Subject | None) -> list[str]:
    """What was measured, on how many samples, and the file."""
    known = [] if judged is None else [judged.recipe, judged.schedule, f"n = {judged.samples:,} samples"]
    if judged is not None and judged.provenance.get("seed") is not None:
        known.append(f"seed {judged.provenance['seed']}")
    return known + [value for name, value in _page_setup.sizes(subject) if name == "file"]


def _words(page: str) -> str:
    """The text of a page, without its pictures."""
    body = page[page.index("<body") :]
    return html.unescape(re.sub(r"(?s)<(script|svg)\b.*?</\1>|<[^>]*>", " ", body))


def _title(found: dict[type, Any]) -> str:
    reports = found.get(Report)
    if not reports:
        return "Comparison of recipes" if Comparison in found else "Spiking network"
    origin = next(iter(reports.values())).provenance
    model, data = origin.get("model"), origin.get("data")
    return f"{model} on {data}, converted to an SNN" if model and data else "Spiking network"


def _raw(text: str) -> Any:
    from markupsafe import Markup

    return Markup(text)  # the package's own files


@cache
def _environment() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("transpike.report")
    return jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )  # fmt: skip
