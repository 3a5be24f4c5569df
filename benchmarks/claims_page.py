"""docs/claims.md: every published number that we know of, our measurement, and the reason where there is none.

    python benchmarks/claims_page.py

Rows come from reproductions/*/result.json, and from reproductions/papers.toml where no run asks for them.
"""

import json
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "claims.md"
REGISTER = ROOT / "reproductions" / "papers.toml"
UNRUN = "its part of the reproduction was not run to the end"
STATUSES = ("holds", "explained", "not measured")
TITLES = {
    "bsnn": "BSNN, Li et al. 2022", "ecc": "ECC, Wu et al. 2022", "ecc_clipping": "ECC, clipped networks",
    "ecg": "ECG, Yan et al. 2021", "eeg": "EEG, Yan et al. 2022", "energy": "Energy, Yan, Bai, Wong 2024, by its formulas",
    "finetune": "Fine-tuning on spikes", "nmnist": "N-MNIST", "trained": "CQ, CQ+, VR-encoding, QCFS", "ttfs": "CAT and exact mapping",
}  # fmt: skip


def measured() -> dict[str, list[dict[str, Any]]]:
    """Folder → the rows of its result.json."""
    return {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["rows"]
        for path in sorted(ROOT.glob("reproductions/*/result.json"))
    }


def registered() -> list[dict[str, Any]]:
    """The claims that no run asks for."""
    found: list[dict[str, Any]] = tomllib.loads(REGISTER.read_text(encoding="utf-8"))["claim"]
    return found


def page() -> str:
    """The page as text."""
    runs, register = measured(), registered()
    by_id = {f"{folder}/{row['id']}": row for folder, rows in runs.items() for row in rows}
    counts = Counter(row["status"] for row in [*by_id.values(), *register])
    total = sum(counts.values())
    lines = [
        "# Claims", "",
        "Every number, network and data set in the abstracts, captions and tables of the papers that this project is built",
        "from, as far as we could read them, with what we measured. Made by `python benchmarks/claims_page.py`.", "",
        f"{total} claims: {counts['holds']} hold, {counts['explained']} do not and say why, {counts['not measured']} are not",
        "measured and say what is missing. Bounds of our own, which no paper claims, are among those with a run. Numbers",
        "that come from memory or from a third party say so.", "",
    ]  # fmt: skip
    for folder, rows in runs.items():
        lines += [f"## {TITLES[folder]}", "", f"From [reproductions/{folder}](../reproductions/{folder}/tables.md).", "",
                  "| claim | published, and the room we give it | measured | status |", "|---|---:|---:|---|"]  # fmt: skip
        for row in rows:
            value = "" if row["measured"] is None else f"{_number(row['measured'])}"
            reason = row.get("reason") or (UNRUN if row["status"] == "not measured" else "")
            status = row["status"] + (f": {reason}" if reason else "")
            room = f" ± {_number(row['tolerance'])}" if row.get("tolerance") else ""
            asked = f"{_number(row['published'])}{room} {_cell(row['unit'])}"
            lines.append(f"| {_cell(row['claim'])} | {asked} | {value} | {_cell(status)} |")
        lines.append("")
    papers: dict[str, list[dict[str, Any]]] = {}
    for claim in register:
        papers.setdefault(claim["paper"], []).append(claim)
    lines += ["# Not measured as they stand", ""]
    for paper, claims in papers.items():
        lines += [f"## {paper}", "", "| claim | where | our nearest measurement | status |", "|---|---|---|---|"]
        for claim in claims:
            near = by_id.get(claim["nearest"])
            ours = "" if near is None else f"{_number(near['measured'])} {near['unit']} ({near['claim']})"
            status = f"{claim['status']}: {claim['missing']}"
            where = f"{claim['place']}; {claim['source']}"
            lines.append(f"| {_cell(claim['claim'])} | {_cell(where)} | {_cell(ours)} | {_cell(status)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _number(value: Any) -> str:
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, (int, float)) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
