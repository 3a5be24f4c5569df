"""Results as a self-contained HTML page, and in notebooks."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from transpike.errors import MissingExtra, SettingError, printable
from transpike.report._section import Section, Tile
from transpike.report.cuts import text as cut_text
from transpike.report.terminal import Result, text
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.cost.result import Cost
from transpike.workflow.cuts.result import Cuts
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.explain.run import Explanation
from transpike.workflow.record import SpikeRecord

KINDS = (Report, Measurement, Comparison, Cost, Cuts, Explanation, SpikeRecord)


def page(
    results: Result | Sequence[Result],
    *,
    title: str | None = None,
    command: str | None = None,
    remarks: tuple[str, ...] = (),
) -> str:
    """The results of one network as a self-contained HTML page: style, script and pictures are embedded.

    Several evaluations share one picture; of other kinds there can be one each. ``command``: shell command that
    reproduces the numbers, shown on the page; ``remarks``: additional notes.
    Raises SettingError for two results of another kind, MissingExtra without matplotlib.
    """
    found = _sorted((results,) if isinstance(results, KINDS) else tuple(results))
    return _filled("page.html", found, title, command, remarks)


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
    template: str, found: dict[type, Any], title: str | None, command: str | None, remarks: tuple[str, ...] = ()
) -> str:
    from transpike.core.version import __version__
    from transpike.report import (
        _page_comparison,
        _page_cost,
        _page_cuts,
        _page_evaluation,
        _page_explanation,
        _page_measurement,
        _page_record,
        terminal,
    )

    sections: list[Section] = []
    tiles: list[Tile] = []
    sentences: list[str] = []
    reports = found.get(Report)
    if reports:
        first = next(iter(reports.values()))
        sections += _page_evaluation.sections(reports)
        tiles += _page_evaluation.tiles(first)
        sentences.append(_page_evaluation.summary(first))
    if Measurement in found:
        sections += _page_measurement.sections(
            found[Measurement], None if reports else command, () if reports else remarks, bool(reports)
        )
        sentences.append(_page_measurement.summary(found[Measurement]))
    if Cost in found:
        sections.insert(2, _page_cost.section(found[Cost]))
        tiles.append(_page_cost.tile(found[Cost]))
        sentences.append(f"{found[Cost].verdict}.")
    alone = not reports and Measurement not in found
    if Explanation in found:
        sections.append(_page_explanation.section(found[Explanation], alone))
        sentences += _page_explanation.lead(found[Explanation], alone)[:1]
    if Cuts in found:
        sections.append(_page_cuts.section(found[Cuts]))
        sentences += cut_text(found[Cuts]).splitlines()[:1] if alone else []
    if SpikeRecord in found:
        sections.append(_page_record.section(found[SpikeRecord]))
    if Comparison in found:
        sections.append(_page_comparison.section(found[Comparison]))
        sentences += [_page_comparison.summary(found[Comparison])] if alone else []
    if reports:
        sections.append(_page_evaluation.provenance(reports, command, remarks))
    everything = [*(reports or {}).values(), *(one for kind, one in found.items() if kind is not Report)]
    warnings = dict.fromkeys(line for one in everything for line in terminal.warned(one))
    environment = _environment()
    source = environment.loader.get_source
    return environment.get_template(template).render(
        title=title or _title(found), summary=" ".join(sentences), warnings=list(warnings),
        tiles=tiles, sections=sections, version=__version__,
        style=_raw(source(environment, "style.css")[0]), script=_raw(source(environment, "page.js")[0]),
    )  # fmt: skip


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
