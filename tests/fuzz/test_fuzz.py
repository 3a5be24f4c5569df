"""A short form of the campaign (run.py): some mutations of every kind of file, in this process, with a fixed seed."""

import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import campaign
import pytest
from campaign import Subject
from subjects import families, subjects

from transpike.errors import DataError

SEED = 20
MUTATIONS = {"transpike": 5, "data": 12, "checkpoint": 12, "store": 5, "chip": 6, "constants": 4, "onnx": 8}


@pytest.mark.parametrize("subject", subjects(), ids=lambda subject: subject.name)
@pytest.mark.filterwarnings("ignore")
def test_mutated_files_are_read_or_refused(subject: Subject, tmp_path: Path) -> None:
    mutate = subject.prepare(tmp_path)
    subject.read(tmp_path)  # the file as it is can be read, so that its mutations show something
    for index in range(MUTATIONS[subject.family]):
        random = campaign.random_of(SEED, subject.name, index)
        end, detail, _ = campaign.attempt(subject, tmp_path, mutate, random)
        assert end in ("loaded", "refused"), f"mutation {index} of {subject.name}, seed {SEED}: {end}\n{detail}"


def test_every_family_is_there() -> None:
    missing = {"onnx"} if importlib.util.find_spec("onnx") is None else set()
    assert families().keys() == MUTATIONS.keys() - missing
    assert Counter(subject.name for subject in subjects()).most_common(1)[0][1] == 1


def made(read: Callable[[Path], object]) -> Subject:
    """A subject whose file holds one byte, and is read by ``read``."""

    def prepare(folder: Path) -> Callable[[Random], bytes]:
        (folder / "x").write_bytes(b"\0")

        def mutate(random: Random) -> bytes:
            (folder / "x").write_bytes(bytes([random.randrange(2)]))
            return (folder / "x").read_bytes()

        return mutate

    return Subject("made", "made", prepare, lambda folder: read(folder / "x"))


def refuse(path: Path) -> None:
    raise DataError("no")


def fail(path: Path) -> None:
    if path.read_bytes() == b"\1":
        raise KeyError("a")


def eat(path: Path) -> None:
    if path.read_bytes() == b"\1":
        _ = b"x" * (campaign.MEMORY + 2**25)


def start(path: Path) -> None:
    import subprocess

    subprocess.run(["true"], check=True)


def die(path: Path) -> None:
    import faulthandler
    import os

    if path.read_bytes() == b"\1":
        faulthandler.disable()  # pytest's, which would print a traceback
        os.kill(os.getpid(), 11)


def spin(path: Path) -> None:
    while path.read_bytes() == b"\1":
        pass


@pytest.mark.parametrize(
    ("read", "ends"),
    [
        (lambda path: path.read_bytes(), {"loaded"}),
        (refuse, {"refused"}),
        (fail, {"loaded", "traceback KeyError"}),
        (eat, {"loaded", "memory"}),
        (start, {"code"}),
        (die, {"loaded", "crash"}),
        (spin, {"loaded", "hang"}),
    ],
    ids=["loaded", "refused", "traceback", "memory", "code", "crash", "hang"],
)
def test_the_campaign_notices(monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], ends: set[str]) -> None:
    monkeypatch.setattr(campaign, "MEMORY", 2**26)
    if "hang" in ends:
        monkeypatch.setattr(campaign, "SECONDS", 0.5)  # of processor time, not of the clock
    result = campaign.run(made(read), 6, SEED)
    assert {*result.counts} | {failure.kind for failure in result.failures} == ends
    assert sum(result.counts.values()) + sum(failure.kind == "crash" for failure in result.failures) == 6
    again = campaign.run(made(read), 6, SEED)
    assert [f.index for f in again.failures] == [f.index for f in result.failures]


def test_a_failure_can_be_made_again(tmp_path: Path) -> None:
    result = campaign.run(made(fail), 6, SEED)
    lines = list(campaign.report(result, SEED, tmp_path))
    first = result.failures[0]
    assert f"made {first.index} (seed {SEED}): traceback KeyError" in lines[0]
    assert (tmp_path / f"made-{first.index}").read_bytes() == b"\1"
    assert campaign.random_of(SEED, "made", first.index).randrange(2) == 1
