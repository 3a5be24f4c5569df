"""A short form of the campaigns, and that they see what is wrong."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kills import content, differences, torn
from random_networks import tried

from stored import stored
from transpike.engines.dense.run import FoldedRun
from transpike.training.checkpoint import save_weights

HERE = Path(__file__).parent


SEEDS = range(2001, 2015)


@functools.cache
def end(seed: int) -> str:
    row = tried(seed)
    return row["end"] if row["end"] in ("equal", "refused") else str(row)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_fire_the_same_spikes_however_they_are_run(seed):
    assert end(seed) in ("equal", "refused")


def test_most_of_these_networks_are_converted():
    """A refused network compares nothing."""
    assert [end(seed) for seed in SEEDS].count("equal") >= len(SEEDS) - 3


def test_one_wrong_spike_is_found(monkeypatch):
    scan = FoldedRun._scan

    def wrong(self, node, cell, values, steps):
        spikes = scan(self, node, cell, values, steps)
        spikes[-1] = 1 - spikes[-1]
        return spikes

    monkeypatch.setattr(FoldedRun, "_scan", wrong)
    rows = [tried(seed) for seed in (2006, 2007, 2012, 2013)]
    assert "failed" in {row["end"] for row in rows} and "crashed" not in {row["end"] for row in rows}, rows
    assert all("spikes" in row["why"] for row in rows if row["end"] == "failed"), rows


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are killed in forks")
def test_killed_commands_tear_nothing_and_resume(tmp_path):
    """In a process of its own, because a fork takes over the threads of a test runner."""
    log = tmp_path / "kills.jsonl"
    arguments = ["--commands", "train,compare", "--kills", "4", "--log", str(log)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    answer = subprocess.run(
        [sys.executable, str(HERE / "kills.py"), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert sum(row["died"] for row in rows) >= 8 and not any(row["wrong"] or row["left"] for row in rows)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory are read from /proc")
def test_a_long_run_keeps_its_memory_limit():
    arguments = ["--only", "T=512 batch=16", "--engines", "dense", "--runs", "0"]
    answer = subprocess.run(
        [sys.executable, str(HERE / "memory.py"), *arguments], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0 and "limit 16 MiB" in answer.stdout, answer.stdout + answer.stderr


def test_torn_files_are_seen(tmp_path):
    weights = tmp_path / "w.safetensors"
    save_weights(stored("two-layers"), weights)
    log = tmp_path / "log.jsonl"
    log.write_text('{"epoch": 1}\n')
    (tmp_path / "r.json").write_text('{"seconds": 1.5, "rows": [1]}')
    assert not torn(tmp_path)
    assert content(tmp_path / "r.json") == {"rows": [1]}
    whole = {"w": content(weights)}
    with torch.no_grad():
        changed = stored("two-layers")
        changed[1].bias[0] += 1e-3
    save_weights(changed, weights)
    assert differences({"w": content(weights)}, whole) == ["w is different"]
    assert differences({}, whole) == ["w is missing"] and differences(whole, {}) == ["w is new"]
    weights.write_bytes(weights.read_bytes()[:-1])
    log.write_text('{"epoch": 1}\n{"epo')
    (tmp_path / "r.json").write_text('{"rows": [1')
    assert [line.partition(" ")[0] for line in torn(tmp_path)] == ["log.jsonl", "r.json", "w.safetensors"]
