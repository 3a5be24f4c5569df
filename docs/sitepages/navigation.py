"""Which page is in which section of the site."""

from collections.abc import Iterator
from typing import Any

Entry = dict[str, Any]

SECTIONS: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "start.md", "features.md", "results.md", "limits.md", "glossary.md"),
    "Choose a recipe": ("choose.md",),
    "Tutorials": ("tutorials/index.md", "tutorials/*"),
    "How-to": (
        "commands/index.md", "commands/*", "inputs.md", "training.md", "few-steps.md", "first-spikes.md",
        "any-activation.md", "transformers.md", "decoders.md", "detector.md", "segmentation.md", "imagenet.md",
        "biosignals.md", "hybrid.md", "early-exit.md", "explain.md", "report.md", "export.md", "nir.md", "zoo.md", "zoo/*",
        "hub.md", "integrations.md", "scale.md", "plugins.md", "safety.md",
    ),
    "Concepts": ("concepts/index.md", "concepts/codes.md", "concepts/schedules.md", "concepts/exact-grid.md",
                 "concepts/honest-counts.md", "concepts/energy.md", "energy.md"),
    "Methods": ("methods.md", "methods/*"),
    "Reference": ("reference/index.md", "interface.md", "reference/functions/*", "reference/classes/*",
                  "reference/modules/*", "report-schema.md"),
    "Papers": ("reproductions.md", "papers/*", "claims.md"),
    "Operators": ("operators.md", "coverage.md"),
    "Maintainers": ("architecture.md", "contributing.md", "changelog.md", "speed.md", "benchmarks.md", "adr/index.md",
                    "adr/*"),
}  # fmt: skip
"""Section → its pages in order; * represents the pages of a folder. A page in no section comes last in How-to."""
GROUPS = {
    "commands": "Command line", "reference/functions": "Functions", "reference/classes": "Classes",
    "reference/modules": "Modules", "adr": "Decisions", "methods": "Recipes", "papers": "Reproduced papers", "zoo": "Networks",
}  # fmt: skip
"""Folders that are separate groups."""


def sections(places: list[str]) -> dict[str, list[str]]:
    """Section → its pages; every page is in one section."""
    left = dict.fromkeys(places)
    found: dict[str, list[str]] = {}
    for section, patterns in SECTIONS.items():
        found[section] = []
        for pattern in patterns:
            matching = [place for place in left if _matches(place, pattern)]
            found[section] += matching
            for place in matching:
                del left[place]
    found["How-to"] += [*left]
    return {section: pages for section, pages in found.items() if pages}


def _matches(place: str, pattern: str) -> bool:
    if pattern.endswith("/*"):
        return place.rpartition("/")[0] == pattern[:-2]
    return place == pattern


def nav(places: list[str], titles: dict[str, str]) -> list[Entry]:
    """The navigation as mkdocs reads it."""
    found = sections(places).items()
    return [{name: pages[0] if len(pages) == 1 else [*_entries(pages, titles)]} for name, pages in found]


def _entries(pages: list[str], titles: dict[str, str]) -> Iterator[Any]:
    groups: dict[str, list[Any]] = {}
    for place in pages:
        group = GROUPS.get(place.rpartition("/")[0])
        entry = {titles[place]: place}
        if group is None:
            yield entry
        elif group not in groups:
            groups[group] = [entry]
            yield {group: groups[group]}
        else:
            groups[group].append(entry)
