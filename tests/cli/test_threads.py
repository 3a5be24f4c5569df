"""Threads of the command line: how many, and what they do while they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import transpike.cli
from transpike.cli._threads import granted


def environment(**extra: str) -> dict[str, str]:
    """Without what the tests or the user chose."""
    chosen = {"OMP_WAIT_POLICY", "OMP_NUM_THREADS", "TRANSPIKE_THREADS"}
    return {name: value for name, value in os.environ.items() if name not in chosen} | extra


def printed(code: str, **extra: str) -> str:
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment(**extra), capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.parametrize("chosen", ["", "ACTIVE"])
def test_threads_of_a_command_sleep_while_they_wait_unless_the_user_chose(chosen: str) -> None:
    """The variable must be there when torch is loaded: OpenMP reads it once."""
    code = (
        "import os, sys\nfrom transpike.cli import main\nfound = []\n"
        "class Finder:\n"
        "    def find_spec(name, *rest):\n"
        "        if name == 'torch': found.append(os.environ.get('OMP_WAIT_POLICY'))\n"
        "sys.meta_path.insert(0, Finder)\n"
        "main(['doctor'], standalone_mode=False)\nprint('first', found[0])"
    )
    extra = {"OMP_WAIT_POLICY": chosen} if chosen else {}
    text = printed(code, **extra)
    assert text.splitlines()[-1] == f"first {chosen or 'PASSIVE'}"
    assert ("may spin" if chosen else "sleep while they wait") in text


def test_a_library_does_not_change_the_variables_of_the_process_that_uses_it() -> None:
    code = "import os, torch, transpike as ts\nts.convert\nprint(os.environ.get('OMP_WAIT_POLICY'))"
    assert printed(code).strip() == "None"


def test_threads_come_from_the_flag_or_the_variable() -> None:
    code = (
        "import click, torch\nfrom transpike.cli import _base\n"
        "@click.command()\n@_base.threads_option\n"
        "def command(threads):\n    _base.with_threads(threads)\n    print(torch.get_num_threads())\n"
        "command({words}, standalone_mode=False)"
    )
    assert printed(code.format(words=["--threads", "3"])).strip() == "3"
    assert printed(code.format(words=[]), TRANSPIKE_THREADS="2").strip() == "2"
    assert printed(code.format(words=["--threads", "3"]), TRANSPIKE_THREADS="2").strip() == "3"
    assert printed(code.format(words=[]), OMP_NUM_THREADS="1").strip() == "1"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 2),
        ("0::/a/b", {"a/cpu.max": "800000 100000", "a/b/cpu.max": "300000 100000"}, 3),
        ("0::/not/visible", {"cpu.max": "400000 100000"}, 4),
        ("3:cpu,cpuacct:/box\n0::/", {"cpu/box/cpu.cfs_quota_us": "250000", "cpu/box/cpu.cfs_period_us": "100000"}, 3),
        ("1:cpu:/\n0::/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/", {}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
    ],
)
def test_a_quota_of_the_container_limits_the_threads(
    tmp_path: Path, own: str, files: dict[str, str], expected: int | None
) -> None:
    for name, text in files.items():
        file = tmp_path / "groups" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    (tmp_path / "own").write_text(own + "\n")
    assert granted(tmp_path / "groups", tmp_path / "own") == expected
    assert granted(tmp_path / "groups", tmp_path / "missing") is None


def test_every_command_that_computes_has_the_flag() -> None:
    """compare uses processes with one thread each, for results that do not depend on the number (--jobs)."""
    without = {"recipes", "models", "inspect", "compare", "doctor"}
    for name in transpike.cli.COMMANDS:
        command = transpike.cli.main.get_command(None, name)
        assert command is not None
        assert any("--threads" in param.opts for param in command.params) == (name not in without), name
