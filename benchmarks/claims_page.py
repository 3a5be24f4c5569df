"""docs/claims.md: every published number that we know of, our measurement, and the reason where there is none.

    python benchmarks/claims_page.py

Rows come from reproductions/*/result.json, and from reproductions/papers.toml where no run asks for them.
"""

import importlib.util
import json
import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "claims.md"
REGISTER = ROOT / "reproductions" / "papers.toml"
STATUSES = ("holds", "explained", "not judged", "not measured")
WHY_ONE = {"published": "the paper's", "trained": "trained for it", "recording": "a recording"}
TITLES = {
    "bsnn": "BSNN, Li et al. 2022", "ecc": "ECC, Wu et al. 2022", "ecc_clipping": "ECC, clipped networks",
    "ecg": "ECG, Yan et al. 2021", "eeg": "EEG, Yan et al. 2022", "energy": "Energy, Yan, Bai, Wong 2024, by its formulas",
    "finetune": "Fine-tuning on spikes", "nmnist": "N-MNIST", "trained": "CQ, CQ+, VR-encoding, QCFS", "ttfs": "CAT and exact mapping",
}  # fmt: skip


def judging() -> ModuleType:
    """reproductions/judging.py, by which rows are judged."""
    name = "reproductions_judging"
    if name not in sys.modules:
        found = importlib.util.spec_from_file_location(name, ROOT / "reproductions/judging.py")
        assert found is not None and found.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(found)  # its dataclasses look there for their module
        found.loader.exec_module(sys.modules[name])
    return sys.modules[name]


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
    claims = {name: row for name, row in by_id.items() if row["kind"] != "law"}
    counts = Counter(row["status"] for row in [*claims.values(), *register])
    total = sum(counts.values())
    lines = [
        "# Claims", "",
        "Every number, network and data set in the abstracts, captions and tables of the papers that this project is built",
        "from, as far as we could read them, with what we measured. Made by `python benchmarks/claims_page.py`.", "",
        f"{total} claims: {counts['holds']} hold, {counts['explained']} do not and say why, {counts['not judged']} have a number that decides",
        f"nothing and say why, {counts['not measured']} are not measured and say what is missing. Our additional bounds, which no paper claims,",
        "are among those with a run, and marked “ours”. Numbers that come from memory or from a third party say so.", "",
        "**How they are judged** (`tests/test_claims.py` checks it). n is the number of samples; a bound that is finer than one",
        "sample decides nothing. A value rests on several T, which its row names, unless the paper gives the T, the network was trained for",
        "it, or it is the length of a recording. In brackets: the 95 % interval, paired where outcomes were kept, else unpaired,",
        "which is wider; it must be above 0 for a gain over 0, and is for the reader elsewhere. What is equal by construction is a",
        "law, listed apart: a run checks the code, and no claim. “Reconstructed” is what stands in for a part of the paper.", "",
    ]  # fmt: skip
    for folder, rows in runs.items():
        lines += [f"## {TITLES[folder]}", "", f"From [reproductions/{folder}](../reproductions/{folder}/tables.md).", "",
                  "| claim | asked | measured | n | T | status |", "|---|---:|---:|---:|---|---|"]  # fmt: skip
        lines += [_row(row) for row in rows if row["kind"] != "law"]
        lines.append("")
    lines += ["# Laws", "", "Equal by construction. Where a number is not 0, or not rounding in float64, the code is wrong.", "",
              "| law | asked | measured | n | status |", "|---|---:|---:|---:|---|"]  # fmt: skip
    for name, row in by_id.items():
        if row["kind"] == "law":
            lines.append(f"| {_cell(row['claim'])} ([{name}](../reproductions/{name.split('/')[0]}/tables.md)) | {_asked(row)} | "
                         f"{_value(row)} | {_samples(row)} | {row['status']} |")  # fmt: skip
    lines.append("")
    papers: dict[str, list[dict[str, Any]]] = {}
    for claim in register:
        papers.setdefault(claim["paper"], []).append(claim)
    lines += ["# Not measured as they stand", ""]
    for paper, found in papers.items():
        lines += [f"## {paper}", "", "| claim | where | our nearest measurement | status |", "|---|---|---|---|"]
        for claim in found:
            near = by_id.get(claim["nearest"])
            ours = "" if near is None else f"{_number(near['measured'])} {near['unit']} ({near['claim']})"
            status = f"{claim['status']}: {claim['missing']}"
            where = f"{claim['place']}; {claim['source']}"
            lines.append(f"| {_cell(claim['claim'])} | {_cell(where)} | {_cell(ours)} | {_cell(status)} |")
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _row(row: dict[str, Any]) -> str:
    said = [row["claim"]]
    said += ["ours"] if row["kind"] == "ours" else []
    said += [f"**reconstructed**: {row['reconstructed']}"] if row.get("reconstructed") else []
    said += [row["differs"]] if row.get("differs") else []
    times = ", ".join(str(t) for t in row.get("times", ())) + (
        f" ({WHY_ONE[row['times_from']]})" if row.get("times_from") else ""
    )
    status = row["status"] + (f": {row['reason']}" if row["reason"] else "")
    parts = ["; ".join(said), _asked(row), _value(row), _samples(row), times, status]
    return f"| {' | '.join(_cell(part) for part in parts)} |"


def _asked(row: dict[str, Any]) -> str:
    return _cell(judging().asked(row))


def _value(row: dict[str, Any]) -> str:
    if row["measured"] is None:
        return ""
    bounds = "" if row["low"] is None else f" [{_number(row['low'])}, {_number(row['high'])}]"
    return f"{_number(row['measured'])}{bounds}"


def _samples(row: dict[str, Any]) -> str:
    if row["measured"] is None:
        return ""
    return (
        "by the formula"
        if row["kind"] == "formula"
        else "counted"
        if row["n"] is None
        else f"{row['n']:,} {row['of']}{', ' if row['images'] else ''}{row['images']}"
    )


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
