"""Comparisons in parts from the command line: units, their collection, and the script of a job array."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from stored import FOLDER
from transpike.cli import main
from transpike.workflow.compare.executors import Finished, Local, Ray


@pytest.fixture
def words() -> list[str]:
    """A comparison with four units: ecc answers at all numbers of steps at once, few-steps at each."""
    return [
        "compare", "--model", "zoo:small-cnn", "--weights", str(FOLDER / "small-cnn.safetensors"), "--data", "digits",
        "--recipes", "ecc,few-steps", "--timesteps", "2,4,8", "--limit", "20", "--calibration-samples", "20",
    ]  # fmt: skip


def run(*words: str) -> Result:
    return CliRunner().invoke(main, [*words])


def rows(result: Result) -> list[dict]:
    assert result.exit_code == 0, result.stderr
    return [{k: v for k, v in row.items() if k != "seconds"} for row in json.loads(result.stdout)["rows"]]


def test_parts_make_the_same_table_and_reports_come_with_it(words: list[str], tmp_path: Path) -> None:
    expected = rows(run(*words, "--store", str(tmp_path / "whole"), "--json"))
    report = tmp_path / "table.csv"
    command = [*words, "--store", str(tmp_path / "parts"), "--report", str(report), "--pick", "max=accuracy"]
    first = run(*command, "--unit", "1/2")
    assert "unit 1/2: 4 rows measured and 0 refused" in first.stdout and "--collect" in first.stdout
    missing = run(*command, "--collect")
    assert missing.exit_code == 5 and "2 of 4 units are missing" in missing.stderr and "2,4 (2 is " in missing.stderr
    assert run(*command, "--unit", "2/2").exit_code == 0 and not report.exists()
    collected = run(*command, "--collect", "--json")
    found = json.loads(collected.stdout)
    assert rows(collected) == expected and report.exists() and found["picked"] is not None


@pytest.mark.parametrize("text", ["3", "0/2", "3/2", "a/b", "1/2/3"])
def test_what_is_no_unit_is_refused(words: list[str], text: str, tmp_path: Path) -> None:
    done = run(*words, "--store", str(tmp_path), "--unit", text)
    assert done.exit_code == 2 and "must be K/N" in done.stderr and not list(tmp_path.iterdir())


def test_an_executor_that_there_is_not_is_a_usage_error(words: list[str]) -> None:
    done = run(*words, "--executor", "lokal:2")
    assert done.exit_code == 2 and "did you mean 'local'" in done.stderr


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A command that notes the script that it is given."""
    (tmp_path / "bin").mkdir()
    file = tmp_path / "bin/sbatch"
    file.write_text(f'#!/bin/sh\necho "$1" > {shlex.quote(str(tmp_path / "submitted"))}\necho Submitted batch job 7\n')
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "submitted"


def array(words: list[str], store: Path, executor: str = "slurm-array") -> tuple[Result, str]:
    done = run(*words, "--store", str(store), "--executor", executor)
    assert done.exit_code == 0, done.stderr
    path = store / "transpike-compare.sbatch"
    return done, path.read_text() if path.exists() else ""


def test_the_script_of_a_job_array_runs_what_is_missing(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # there is no sbatch
    store = tmp_path / "a store"
    run(*words, "--store", str(store), "--unit", "2/4")
    done, script = array(words, store, "slurm-array;time=02:00:00;memory=4GiB;cpus=2;gpus=1;partition=long")
    assert (
        "3 of 4 units" in done.stdout and "sbatch is not on this machine" in done.stdout and "--collect" in done.stdout
    )
    lines = script.splitlines()
    assert lines[0] == "#!/bin/bash" and "#SBATCH --array=1,3-4" in lines
    assert {
        f"#SBATCH --{one}"
        for one in ("time=02:00:00", "mem=4096M", "cpus-per-task=2", "gpus-per-task=1", "partition=long")
    } <= {*lines}
    for job in ("1", "3", "4"):  # as Slurm runs it
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": job, "PATH": "/usr/bin:/bin"}
        ended = subprocess.run(["/bin/bash"], input=script, text=True, capture_output=True, env=environment)
        assert ended.returncode == 0 and f"unit {job}/4" in ended.stdout, ended.stderr
    collect = next(line for line in done.stdout.splitlines() if line.endswith("--collect"))
    assert shlex.split(collect)[0] == sys.executable
    table = rows(run(*shlex.split(collect)[3:], "--json"))
    assert table == rows(run(*words, "--store", str(tmp_path / "whole"), "--json"))
    assert "all 4 units have results" in array(words, store)[0].stdout


def test_an_array_is_submitted_where_sbatch_is(words: list[str], tmp_path: Path, sbatch: Path) -> None:
    done, script = array(words, tmp_path / "store", "slurm-array:2")
    assert "#SBATCH --array=1-2" in script and '--unit "$SLURM_ARRAY_TASK_ID/2"' in script
    assert "Submitted batch job 7" in done.stdout
    assert sbatch.read_text().strip() == str(tmp_path / "store/transpike-compare.sbatch")
    (tmp_path / "bin/sbatch").write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
    refused = run(*words, "--store", str(tmp_path / "store"), "--executor", "slurm-array")
    assert refused.exit_code == 2 and "sbatch refused" in refused.stderr and "no such partition" in refused.stderr


def test_json_is_alone_on_stdout_whatever_threads_of_ray_print(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(self: Ray, *given: object) -> Iterator[Finished]:
        print("(raylet) a node is dead")
        yield from Local().run(*given)

    monkeypatch.setattr(Ray, "check", lambda self, task: None)
    monkeypatch.setattr(Ray, "run", noisy)
    done = run(*words, "--store", str(tmp_path), "--executor", "ray", "--json")
    assert len(rows(done)) == 6 and "a node is dead" in done.stderr
