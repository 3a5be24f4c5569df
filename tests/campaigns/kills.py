"""Commands that are killed: no torn file, the same results after running them again, nothing left behind.

``python tests/campaigns/kills.py --kills 200 --log FOLDER/kills.jsonl``, or ``make kills``. Each command is killed that
many times, drawn by the seed, in three ways, none of which depends on a clock:

- just before its n-th file operation (opening for writing, renaming, removing, flushing to disk …);
- at the n-th byte that it writes into one file, which leaves a part of a write;
- after a share of its processor time.

None lets Python clean up. Between them the disk is full at the n-th byte of a file, which one line must say. After each kill every file in the folder must be whole. After one to four kills the command is
run to its end: its files must hold what those of an unbroken run hold, tensors to the bit, and no other file may remain.
So must those of two runs at once in one folder.
A line of the log is one such series; a run that was stopped goes on where its log ends. Ends with 1 if a series failed.
The commands run in forks of this process, so that torch is imported once.
"""

import argparse
import contextlib
import io
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # forks of a process with other threads may hang

import torch
from safetensors import safe_open
from safetensors.torch import load_file

import transpike as ts
from transpike.cli import main as transpike
from transpike.training.checkpoint import save_weights
from transpike.workflow.compare.store import MARK

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from stored import stored

DATA = ("--data", "digits")
COMMANDS: dict[str, tuple[str, ...]] = {
    "convert": (
        "convert", "--weights", "w.safetensors", "--recipe", "few-steps", "--timesteps", "4", *DATA,
        "--calibration-samples", "16", "--output", "made.transpike",
    ),
    "train": (
        "train", "--model", "zoo:small-cnn", *DATA, "--epochs", "3", "--batch-size", "512", "--output",
        "trained.safetensors",
    ),
    "finetune": (
        "finetune", "net.transpike", *DATA, "--epochs", "2", "--timesteps", "1", "--batch-size", "512", "--output",
        "tuned.transpike",
    ),
    "compare": (
        "compare", "--weights", "w.safetensors", *DATA, "--recipes", "ecc,few-steps,bsnn", "--timesteps", "2,4", "--limit",
        "8", "--calibration-samples", "8", "--store", "store", "--report", "compared.json", "--pick", "min=synops",
        "--output", "picked.transpike",
    ),
    "report": (
        "report", "net.transpike", *DATA, "--limit", "4", "--spike-samples", "1", "--without", "explain", "--output",
        "r.html", "--output", "r.json", "--output", "r.txt",
    ),
    "exit": (
        "exit", "net.transpike", *DATA, "--fit-samples", "300", "--limit", "16", "--drop", "5", "--output",
        "left.transpike", "--report", "left.json",
    ),
}  # fmt: skip
OPERATIONS = ("os.rename", "os.remove", "os.chmod", "os.mkdir", "os.rmdir", "os.link", "os.truncate", "fsync")
"""Audit events that count as file operations, besides opening a file for writing. ``fsync`` is ours."""
CLOCKS = ("seconds",)
"""Names of values that may differ between two runs."""

Killing = Callable[[], None]
"""Arms a child that is about to run a command."""


# -- ways to end a process -------------------------------------------------------------------------------------------


def at_operation(number: int) -> Killing:
    """Killed just before its file operation of this number, from 1."""
    return lambda: on_operations(lambda count: os.kill(os.getpid(), signal.SIGKILL) if count == number else None)


def at_byte(number: int) -> Killing:
    """Killed by the kernel when a file would grow beyond this size; the bytes before are written."""

    def arm() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it, so that writing raises OSError
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))

    return arm


def at_processor_time(seconds: float) -> Killing:
    """Killed by the kernel after this much processor time, however busy the machine is."""
    return lambda: signal.setitimer(signal.ITIMER_VIRTUAL, max(seconds, 1e-3)) and None


def full_disk(number: int) -> Killing:
    """No file can grow beyond this size: an error for Python, as of a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (number, number))


def on_operations(notify: Callable[[int], None]) -> None:
    """Calls ``notify`` with 1, 2, … before each file operation of this process, for the rest of its life."""
    count, flush = 0, os.fsync

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in OPERATIONS or (event == "open" and _is_writing(*arguments)):
            count += 1
            notify(count)

    def audited(descriptor: Any) -> None:
        hook("fsync", ())
        flush(descriptor)

    os.fsync = audited  # the only one of them that Python does not audit
    sys.addaudithook(hook)


def _is_writing(path: object, mode: object, flags: object) -> bool:
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and path != os.devnull


# -- runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How a run ended: its exit code, or minus the signal; what it printed; processor time; file operations."""

    code: int
    printed: str
    seconds: float
    operations: int


def run(folder: Path, arguments: tuple[str, ...], arm: Killing | None = None) -> End:
    """Runs the command line in a fork of this process, in ``folder``. ``arm`` is called in the child first."""
    shared = mmap.mmap(-1, 8)
    output = folder.parent / f"{os.getpid()}.printed"
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            for stream in (1, 2):
                os.dup2(
                    os.open(output, os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if stream == 1 else 0) | os.O_APPEND), stream
                )
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            tempfile.tempdir = str(folder)  # what is left there is seen too
            if arm is None:
                on_operations(lambda count: struct.pack_into("q", shared, 0, count))
            else:
                arm()
            transpike(list(arguments), prog_name="transpike")
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            print(f"not caught: {error!r}", file=sys.stderr)
            code = 99
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
    _, status, usage = os.wait4(child, 0)
    text = output.read_text(errors="replace")
    output.unlink()
    return End(os.waitstatus_to_exitcode(status), text, usage.ru_utime, struct.unpack_from("q", shared)[0])


def base(folder: Path) -> None:
    """The files that the commands start from: weights, and a converted network."""
    folder.mkdir(parents=True)
    save_weights(stored("small-cnn"), folder / "w.safetensors")
    arguments = list(COMMANDS["convert"])
    arguments[arguments.index("made.transpike")] = "net.transpike"
    end = run(folder, tuple(arguments))
    assert end.code == 0, end.printed


# -- files -----------------------------------------------------------------------------------------------------------


def content(path: Path) -> Any:
    """What a file holds, without clocks. Raises an error for a file that is torn."""
    if path.suffix == ".transpike":
        ts.load(path)  # checks its sum
    if path.suffix in (".transpike", ".safetensors"):
        with safe_open(path, "pt") as file:
            words = {key: _plain(value) for key, value in (file.metadata() or {}).items() if key != "sha256"}
        return {name: (t.dtype, tuple(t.shape), t.numpy().tobytes()) for name, t in load_file(path).items()}, words
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        return _without_clocks(json.loads(text))
    if path.suffix == ".jsonl":
        assert text.endswith("\n") or not text, f"{path.name} ends in the middle of a line"
        return [_without_clocks(json.loads(line)) for line in text.splitlines()]
    if path.suffix == ".html":
        assert text.rstrip().endswith("</html>"), f"{path.name} has no end"
    return text


def _plain(text: str) -> Any:
    try:
        return _without_clocks(json.loads(text))
    except ValueError:
        return text


def _without_clocks(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_clocks(v) for k, v in value.items() if k not in (*CLOCKS, "sha256")}
    return [_without_clocks(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Every file below the folder by its path, and what it holds; a string if it is torn."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not is_temporary(path):
            try:
                found[str(path.relative_to(folder))] = content(path)
            except Exception as error:
                found[str(path.relative_to(folder))] = f"torn: {type(error).__name__}: {error}"[:200]
    return found


def is_temporary(path: Path) -> bool:
    """A file that is being written, under a name that no command reads; or a temporary folder."""
    return path.name.startswith((".", "transpike-")) and path.name != MARK


def torn(folder: Path) -> list[str]:
    """What is wrong with the files that a killed command leaves under the names that it reads."""
    return [f"{name} is {text}" for name, text in contents(folder).items() if str(text).startswith("torn: ")]


def left_behind(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if is_temporary(path)]


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    return [
        f"{name} is " + ("new" if name not in expected else "missing" if name not in found else "different")
        for name in sorted(found.keys() | expected.keys())
        if name not in found or name not in expected or found[name] != expected[name]
    ]


# -- the campaign ----------------------------------------------------------------------------------------------------


def refusal(how: str, end: End) -> list[str]:
    """What is wrong with the end of a command on a full disk: it says so in one line, or did not need the space."""
    errors = [line for line in end.printed.splitlines() if line.startswith("error: ")]
    clear = end.code in (2, 5) and len(errors) == 1 and "cannot be" in errors[0] and "Traceback" not in end.printed
    return [] if clear or end.code == 0 else [f"{how}: exit code {end.code}: {end.printed[-400:]}"]


class Campaign:
    """The unbroken runs that all others are compared with."""

    def __init__(self, folder: Path, commands: tuple[str, ...]) -> None:
        self.folder, self.whole, self.ends = folder, dict[str, dict[str, Any]](), dict[str, End]()
        self.largest: dict[str, int] = {}
        base(folder / "base")
        for command in commands:  # in this process: what is imported and measured late is then there in every fork
            printed = io.StringIO()
            with (
                contextlib.chdir(self.fresh(command)),
                contextlib.redirect_stdout(printed),
                contextlib.redirect_stderr(printed),
            ):
                transpike(list(COMMANDS[command]), standalone_mode=False)
        for command in commands:
            here = self.fresh(command)
            end = run(here, COMMANDS[command])
            assert end.code == 0, f"{command}: {end.printed}"
            self.whole[command], self.ends[command] = contents(here), end
            self.largest[command] = max(path.stat().st_size for path in here.rglob("*") if path.is_file())
            shutil.rmtree(here)

    def fresh(self, name: str) -> Path:
        here = self.folder / name
        shutil.rmtree(here, ignore_errors=True)
        return Path(shutil.copytree(self.folder / "base", here))

    def series(self, command: str, seed: int) -> dict[str, Any]:
        """One to four attempts to kill a command, then a run to its end: a line of the log."""
        pick = random.Random(f"{command} {seed}")
        here = self.fresh(f"{command}-{seed}")
        kills, wrong, died = [], list[str](), 0
        for _ in range(pick.randint(1, 4)):
            how, arm = self.kill(command, pick)
            kills.append(how)
            end = run(here, COMMANDS[command], arm)
            died += end.code < 0
            if how.startswith("full disk"):
                wrong += refusal(how, end)
            elif end.code > 0:
                wrong.append(f"after {how}: exit code {end.code}: {end.printed[-300:]}")
            wrong += [f"after {how}: {what}" for what in torn(here)]
        end = run(here, COMMANDS[command])
        if end.code != 0:
            wrong.append(f"the last run: exit code {end.code}: {end.printed[-500:]}")
        wrong += differences(contents(here), self.whole[command])
        left = left_behind(here)
        shutil.rmtree(here)
        return {"command": command, "seed": seed, "kills": kills, "died": died, "wrong": wrong, "left": left}

    def together(self, command: str, count: int = 2) -> dict[str, Any]:
        """Several runs of a command at once in one folder: a line of the log."""
        here, children, wrong = self.fresh(f"{command}-together"), list[int](), list[str]()
        for _ in range(count):
            child = os.fork()
            if child == 0:
                end = run(here, COMMANDS[command])
                print(end.printed if end.code else "", end="", flush=True)
                os._exit(end.code)
            children.append(child)
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        wrong += [f"exit codes {codes}"] if any(codes) else []
        wrong += torn(here) + differences(contents(here), self.whole[command])
        left = left_behind(here)
        shutil.rmtree(here)
        return {"command": command, "seed": -1, "kills": [], "died": 0, "wrong": wrong, "left": left}

    def kill(self, command: str, pick: random.Random) -> tuple[str, Killing]:
        """A way to end the command, in words and as code."""
        how = pick.choice(["operation", "operation", "byte", "time", "full disk"])
        if how == "operation":
            number = pick.randint(1, self.ends[command].operations)
            return f"operation {number}", at_operation(number)
        if how == "byte":
            number = pick.randrange(self.largest[command])
            return f"byte {number}", at_byte(number)
        if how == "full disk":
            number = pick.randrange(2000, self.largest[command])  # what is printed is shorter
            return f"full disk at byte {number}", full_disk(number)
        share = pick.random()
        return f"{share:.3f} of its time", at_processor_time(share * self.ends[command].seconds)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="kills of each command")
    parser.add_argument("--commands", default=",".join(COMMANDS), help="comma-separated")
    parser.add_argument("--log", type=Path, default=Path("build/kills.jsonl"), help="one JSON line per series")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    given.log.parent.mkdir(parents=True, exist_ok=True)
    commands = tuple(given.commands.split(","))
    lines = given.log.read_text().splitlines() if given.log.exists() else []
    rows = {(row["command"], row["seed"]): row for row in map(json.loads, lines)}
    with tempfile.TemporaryDirectory(prefix="kills-") as folder, given.log.open("a") as log:
        campaign = Campaign(Path(folder), commands)
        print({name: (end.operations, round(end.seconds, 2)) for name, end in campaign.ends.items()}, flush=True)
        for command in commands:
            done, seed = 0, -1  # the first line is that of two runs at once
            while done < given.kills:
                row = rows.get((command, seed))
                if row is None or row["wrong"] or row["left"]:  # what failed is tried again
                    row = campaign.together(command) if seed < 0 else campaign.series(command, seed)
                    rows[command, seed] = row
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                if row["wrong"] or row["left"]:
                    print(json.dumps(row), flush=True)
                done, seed = done + row["died"], seed + 1
            print(f"{command}: killed {done} times in {seed} series", flush=True)
    series = [row for row in rows.values() if row["command"] in commands]
    wrong, left = (sum(bool(row[kind]) for row in series) for kind in ("wrong", "left"))
    print(f"{len(series)} series: {wrong} with wrong or torn files, {left} with temporary files left behind")
    return int(bool(wrong or left))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
