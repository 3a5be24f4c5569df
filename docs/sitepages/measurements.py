"""The measurements of recipes in the JSON files of benchmarks/, as rows of one form."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sitepages.staging import ROOT

COMPARED = "ResNet-20, trained with ReLU"
TRAINED = "ResNet-20, trained with quantised clips"


@dataclass(frozen=True)
class Row:
    """One network on one set of test images. ``drop`` is in percentage points, with its paired 95 % interval."""

    recipe: str
    """Its name with the settings that differ from their defaults."""
    network: str
    samples: int
    timesteps: int
    total_steps: int
    alphabets: tuple[str, ...]
    signed: bool
    schedule: str
    accuracy: float
    drop: float
    low: float
    high: float
    operations: float
    training_free: bool
    is_part: bool = False
    """A recipe without one of its parts, measured to see what the part contributes: no recommendation."""

    @property
    def name(self) -> str:
        return self.recipe.partition("(")[0]

    @property
    def binary(self) -> bool:
        return self.alphabets == ("binary",)

    def cells(self) -> list[str]:
        """Accuracy in %, change with its interval, operations in millions."""
        change = f"{-self.drop:+.2f} [{-self.high:+.2f}, {-self.low:+.2f}]".replace("-", "−")
        return [f"{100 * self.accuracy:.2f}", change, f"{self.operations / 1e6:.0f}"]


def content(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / f"benchmarks/{name}.json").read_text(encoding="utf-8"))
    return found


def rows() -> list[Row]:
    """Every measured row, each once, in the order of the files."""
    return list(dict.fromkeys([*_compared(), *_trained()]))


def _compared() -> Iterator[Row]:
    found = content("methods")
    seen = set()
    for group, rows in found["rows"].items():
        for row in rows:
            if "accuracy" in row and (key := (row["recipe"], row["timesteps"], row["schedule"])) not in seen:
                seen.add(key)
                yield Row(
                    row["recipe"].removesuffix("()"), COMPARED, found["settings"]["samples"], row["timesteps"],
                    row["total_steps"], tuple(row["alphabets"]), row["signed"], row["schedule"], row["accuracy"],
                    100 * row["drop"], 100 * row["drop_low"], 100 * row["drop_high"], row["synaptic_operations"],
                    row["training_free"], group == "ablation",
                )  # fmt: skip


def _trained() -> Iterator[Row]:
    for label, row in content("learned")["rows"].items():
        windows = row["total_steps"] > 4 * row["timesteps"]
        yield Row(
            label.removesuffix("()"), TRAINED, row["samples"], row["timesteps"], row["total_steps"],
            tuple(row["alphabets"]), any("signed" in one or one == "ternary" for one in row["alphabets"]),
            "windows" if windows else "streaming", row["accuracy"], row["lost"], row["low"], row["high"],
            row["synaptic_operations"], False,
        )  # fmt: skip


def table(head: list[str], body: list[list[str]], right: int | None = None) -> str:
    """A Markdown table; ``right`` is the first column that is aligned to the right."""
    rule = ["---" if right is None or i < right else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *body))


def plain(text: str) -> str:
    """``text`` for a table, of which no character is markup."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split())).replace("<", "&lt;")


def cell(text: str) -> str:
    """``text`` on one line, for a table."""
    return " ".join(text.split()).replace("|", "\\|")
