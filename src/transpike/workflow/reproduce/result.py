"""Published numbers next to ours, as a result: text, Markdown, JSON."""

import json
import tomllib
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from transpike.core.version import __version__
from transpike.errors import FileError
from transpike.results.statistics import wilson
from transpike.results.writing import write_atomically
from transpike.workflow.reproduce.plans import Paper

SCHEMA = 1
OF_SAMPLES = ("%", "% at least", "%, at least")
"""Units that are shares of samples, whose interval is Wilson's."""
SIGNS = {"at most": "≤", "at least": "≥", "above": ">", "below": "<"}


@dataclass(frozen=True)
class Claim:
    """A number of a paper, or a bound set by transpike, and the measured value.

    ``published`` ± ``tolerance`` and ``measured`` are in ``unit``; ``sense``, where it is known, says on which side of
    it the number must be. ``measured`` is None where ``status`` is "not measured". ``samples``: the number of samples
    ``of`` some kind, None where the run does not say. ``low``, ``high``: its 95 % interval, None where there is none:
    that of the run, else Wilson's, of shares of samples. ``kind``: "published", "ours" or "law". ``differs``: what was
    done in another way than in the paper, and why the claim does not hold.
    """

    id: str
    claim: str
    place: str
    published: float
    tolerance: float
    unit: str
    measured: float | None
    samples: int | None
    low: float | None
    high: float | None
    status: str
    differs: str
    sense: str = ""
    of: str = ""
    kind: str = ""

    @property
    def ours(self) -> str:
        """The measured value, with n and interval."""
        if self.measured is None:
            return "not measured"
        details = [] if self.samples is None else [f"n = {self.samples:,} {self.of}".rstrip()]
        details += [] if self.low is None else [f"{self.low:.4g} to {self.high:.4g}"]
        return f"{self.measured:.4g}" + (f" ({'; '.join(details)})" if details else "")

    @property
    def bound(self) -> str:
        """The published number with its tolerance, and its unit."""
        if self.sense in SIGNS:
            widened = {"at most": self.tolerance, "at least": -self.tolerance}.get(self.sense, 0.0)
            return f"{SIGNS[self.sense]} {self.published + widened:g} {self.unit}"
        return f"{self.published:g}" + (f" ± {self.tolerance:g}" if self.tolerance else "") + f" {self.unit}"


@dataclass(frozen=True)
class Reproduction:
    """The claims of a paper; ``cpu_seconds`` of all stages that led to them, None where nothing was run here.

    ``unmeasured``: how many published numbers of the paper no run measures (docs/claims.md has them). ``versions``:
    those of the run.
    """

    paper: str
    title: str
    differs: str
    claims: tuple[Claim, ...]
    unmeasured: int
    cpu_seconds: float | None
    versions: dict[str, str]

    def counts(self) -> dict[str, int]:
        """Status → how many claims have it."""
        names = [claim.status for claim in self.claims]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    def __str__(self) -> str:
        lines = [self.title, f"what differs: {self.differs}", ""]
        for claim in self.claims:
            lines += [f"{claim.id}: {claim.claim}", f"    published  {claim.bound}   [{claim.place}]"]
            lines += [f"    ours       {claim.ours}   {claim.status}"]
            lines += [f"    differs    {claim.differs}"] if claim.differs else []
        counted = ", ".join(f"{count} {name}" for name, count in self.counts().items())
        lines += ["", f"{len(self.claims)} claims with a run: {counted}"]
        if self.unmeasured:
            lines.append(f"{self.unmeasured} more published numbers were not measured; docs/claims.md says why")
        return "\n".join(lines)

    def markdown(self) -> str:
        """A page with one table."""
        made = f"Made by `transpike reproduce {self.paper}`. What differs: {self.differs}."
        lines = [f"# {self.title}", "", made, "",
                 "| claim | published | ours (n; 95 %) | status |", "|---|---:|---:|---|"]  # fmt: skip
        for claim in self.claims:
            status = claim.status + (f": {claim.differs}" if claim.differs else "")
            cells = (f"{claim.claim} ({claim.place})", claim.bound, claim.ours, status)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
        return "\n".join([*lines, ""])

    def to_json(self) -> dict[str, Any]:
        """Every number, as plain data."""
        own = {key: value for key, value in vars(self).items() if key != "claims"}
        return {"schema": SCHEMA, "transpike": __version__, **own, "claims": [asdict(claim) for claim in self.claims]}

    def save(self, path: str | Path) -> None:
        """Write JSON, or Markdown for a name that ends with .md; whole or not at all."""
        text = self.markdown() if str(path).endswith(".md") else json.dumps(self.to_json(), indent=1) + "\n"
        write_atomically(path, text.encode())


def compared(paper: Paper, folder: Path, register: Path, cpu_seconds: float | None = None) -> Reproduction:
    """The claims of ``folder`` with what its result.json holds of them, which may be missing."""
    rows = {row["id"]: row for row in _rows(folder / "result.json")}
    asked = tomllib.loads((folder / "claims.toml").read_text(encoding="utf-8"))["claim"]
    claims = tuple(
        _claim(one, rows.get(one["id"], {}))
        for one in asked
        if any(fnmatchcase(one["id"], pattern) for pattern in paper.claims)
    )
    others = tomllib.loads(register.read_text(encoding="utf-8"))["claim"] if paper.register else []
    versions: dict[str, str] = next((row["versions"] for row in rows.values() if "versions" in row), {})
    unmeasured = sum(one["paper"].startswith(paper.register) for one in others)
    return Reproduction(paper.name, paper.title, paper.differs, claims, unmeasured, cpu_seconds, versions)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        return [row for row in rows if row["id"] and row["status"]]
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(
            f"{path} is not the result of a reproduction ({error!r}): delete it, and run it again"
        ) from error


def _claim(asked: dict[str, Any], row: dict[str, Any]) -> Claim:
    """The claim, with the published number and room that the run judged by."""
    unit, measured = row.get("unit", asked["unit"]), row.get("measured")
    samples = _samples(row)
    low, high = row.get("low"), row.get("high")
    if low is None and measured is not None and unit in OF_SAMPLES and samples and _of_one_run(row):
        low, high = (100 * bound for bound in wilson(round(measured * samples / 100), samples))
    reconstructed = asked.get("reconstructed", "")
    said = [f"reconstructed: {reconstructed}" if reconstructed else "", asked.get("differs", ""), row.get("reason", "")]
    return Claim(
        id=asked["id"],
        claim=asked["claim"],
        place=", ".join(filter(None, (asked.get("table"), asked.get("cell")))),
        published=row.get("published", asked["value"]),
        tolerance=row.get("tolerance", asked.get("tolerance", 0.0)),
        unit=unit,
        measured=measured,
        samples=samples,
        low=low,
        high=high,
        status=row.get("status", "not measured"),
        differs="; ".join(filter(None, said)),
        **{name: str(row.get(name, asked.get(name, ""))) for name in ("sense", "of", "kind")},
    )


def _samples(row: dict[str, Any]) -> int | None:
    """n: how many samples a row was measured on; of a training those that were tested on."""
    found = row.get("n", row.get("samples"))
    if isinstance(found, dict):
        found = found.get("test")
    return found if isinstance(found, int) and found > 0 else None


def _of_one_run(row: dict[str, Any]) -> bool:
    """Whether the value is a share of these samples, not a mean over seeds or a share of one class."""
    return "by_seed" not in row and not isinstance(row.get("n", row.get("samples")), dict)
