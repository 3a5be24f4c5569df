"""results.json: rows that replace those of the same key, and which of them must not be quoted."""

import json
from collections.abc import Callable
from pathlib import Path

from transpike.results.writing import write_atomically

KEY = ("network", "recipe", "timesteps", "batch", "engine", "isa")
PEER_RANGE = (1.0, 2.2)  # SpikingJelly's best, in T forward passes of the ANN at batch 32; else something was wrong
LEAST_ANN_SPEED = 0.8  # of the fastest sample


def key(entry: dict, keys: tuple[str, ...] = KEY) -> tuple:
    return tuple(entry[name] for name in keys)


class Results:
    def __init__(self, path: Path, machine: dict) -> None:
        """Raises SystemExit where the file holds what another machine measured."""
        self.path = path
        self.content = json.loads(path.read_text()) if path.exists() else {}
        old = self.content.get("machine", machine)
        if _identity(old) != _identity(machine):
            raise SystemExit(f"{path} is from {_identity(old)}, this is {_identity(machine)}: give another --output")
        self.content = {**self.content, "machine": machine}

    def merge(self, part: str, entries: list[dict], keys: tuple[str, ...] = KEY) -> None:
        stored = {key(entry, keys): entry for entry in self.content.get(part, [])}
        self.content[part] = list((stored | {key(entry, keys): entry for entry in entries}).values())

    def skip(self, entries: list[dict]) -> None:
        """Note what was left out; what has a row was not."""
        self.merge("skipped", entries)
        there = {key(row) for row in self.content.get("rows", [])}
        self.keep("skipped", lambda entry: key(entry) not in there)

    def keep(self, part: str, holds: Callable[[dict], bool]) -> None:
        self.content[part] = [entry for entry in self.content.get(part, []) if holds(entry)]

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, (json.dumps(self.content, indent=1) + "\n").encode())


def _identity(machine: dict) -> tuple:
    return machine["cpu"], f"{machine['threads']} threads", f"torch {machine['versions']['torch']}"


def judge(rows: list[dict], fastest: dict[tuple[str, int], float], why: str = "") -> None:
    """Give a ``void`` to what must not be quoted; ``fastest`` is the ANN's fastest sample by network and batch.

    It may come from a later group, so all rows of a process are judged again after each. ``why`` holds for all.
    """
    for row in rows:
        ann, peer, reasons = row["ann_seconds"], row["peer_seconds"], [why] if why else []
        row.pop("void", None)
        if not ann or not row["seconds"]:
            reasons.append("no undisturbed sample")
        if ann and peer and row["batch"] == 32:
            ratio, (low, high) = peer / (row["timesteps"] * ann), PEER_RANGE
            if not low <= ratio <= high:
                reasons.append(f"SpikingJelly's best took {ratio:.2f} x T x ANN, not {low} to {high}")
        speed = fastest[row["network"], row["batch"]] / ann if ann else 1.0
        if speed < LEAST_ANN_SPEED:
            reasons.append(f"the ANN ran at {speed:.0%} of its best speed")
        if reasons:
            row["void"] = "; ".join(reasons)
