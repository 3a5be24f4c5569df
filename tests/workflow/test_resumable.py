"""Evaluations that are killed continue from their file, and end with the bits of one that was not."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import transpike as ts
from commands import run as command
from stored import stored
from transpike import data
from transpike.core.input_check import InputCheck
from transpike.core.marks import Box, Marks
from transpike.errors import CheckpointError, FileError, LostProcess, SettingError
from transpike.training import ranks
from transpike.workflow.evaluate.pictures import Picture, PictureTally
from transpike.workflow.evaluate.tally import Tally
from transpike.workflow.resumable import file as kept
from transpike.workflow.resumable import run
from transpike.workflow.resumable.file import Saved, packed, unpacked
from transpike.workflow.shared_batches import numbered
from two_processes import environment, finished, needs_gloo, pair
from waiting import HANGS

SAMPLES, SIZE = 90, 20
"""Five batches, the last one of 10."""


class Killed(BaseException):
    """What a kill is in this process."""


class Apart(data.Split):
    """Remembers what is read."""

    def __init__(self, split: data.Split) -> None:
        super().__init__(split.images, split.labels)
        self.read: list[int] = []

    def batch(self, indices: Any) -> Any:
        self.read += torch.as_tensor(indices).tolist()
        return super().batch(indices)


def images() -> Apart:
    return Apart(data.load("digits").test)


def read_batches(split: Apart) -> list[int]:
    """The numbers of the batches that were read."""
    return sorted({place // SIZE for place in split.read})


@pytest.fixture(scope="module")
def snn() -> ts.SNN:
    train = data.load("digits").train.batches(64, limit=128)
    return ts.convert(stored("fully-connected"), ts.recipes.WeightNormalisation(timesteps=8), train)


@pytest.fixture(autouse=True)
def every_batch_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SHARE", 0)


def kill_after(writes: int, patch: pytest.MonkeyPatch) -> None:
    """From now on every ``writes``-th write of a checkpoint is the last thing that its run does.

    What a call takes from a file must be all that it would write there again.
    """
    original, begin, count = run.Checkpoint.save, run.Checkpoint.begin, 0

    def save(self: run.Checkpoint, group: ranks.Ranks) -> None:
        nonlocal count
        original(self, group)
        count += 1
        if count % writes == 0:
            raise Killed

    def restored(self: run.Checkpoint, *given: Any) -> run.Call:
        call = begin(self, *given)
        if call.before is not None:
            assert packed([call.saved()]) == packed([call.before])
        return call

    patch.setattr(run.Checkpoint, "save", save)
    patch.setattr(run.Checkpoint, "begin", restored)


@pytest.fixture
def killing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda writes: kill_after(writes, monkeypatch)


def resumed(path: Path, call: Callable[[], Any]) -> tuple[Any, int]:
    """The result of a call that is started again and again, and how often."""
    for attempt in range(1, 300):
        try:
            with ts.resumable(path):
                found = call()
        except Killed:
            assert path.exists()
        else:
            assert not path.exists()
            return found, attempt
    raise AssertionError("it never ends")


class Several(nn.Module):
    """Two inputs, two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(5, 8), nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(8, 2)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> dict[str, torch.Tensor]:
        together = torch.relu(self.a(first)) + torch.relu(self.b(second))
        return {"classes": self.c(torch.relu(together)), "numbers": self.d(together)}


def of_several() -> tuple[ts.SNN, list]:
    torch.manual_seed(0)
    batches = [((torch.rand(12, 5), torch.rand(12, 3)), None) for _ in range(3)]
    return ts.convert(Several().eval(), ts.recipes.ECC(timesteps=4), batches), batches


def evaluated(snn: ts.SNN, split: data.Split) -> Any:
    return ts.evaluate(snn, split.batches(SIZE, limit=SAMPLES))


def early(snn: ts.SNN, split: data.Split) -> Any:
    exit_ = ts.fit_exit(snn, split.batches(SIZE, indices=range(90, 300)), drop=5, score="entropy", checkpoints=(2, 4))
    return ts.evaluate(exit_, split.batches(SIZE, limit=SAMPLES))


def fidelity(snn: ts.SNN, split: data.Split) -> Any:
    x = split.batch(range(SAMPLES))[0]
    return ts.evaluate(snn, [x[:50], x[50:57], x[57:]], task=ts.tasks.Fidelity(), limit=70)


def regression(snn: ts.SNN, split: data.Split) -> Any:
    x, y = split.batch(range(SAMPLES))
    targets = torch.nn.functional.one_hot(y, 10).float()
    batches = [(x[k : k + SIZE], targets[k : k + SIZE]) for k in range(0, SAMPLES, SIZE)]
    return ts.evaluate(snn, iter(batches), task=ts.tasks.Regression(), timesteps=4)


def several(snn: ts.SNN, split: data.Split) -> Any:
    return ts.evaluate(*of_several())


def priced(snn: ts.SNN, split: data.Split) -> Any:
    return ts.cost(snn, split.batches(30, limit=SAMPLES), activation_bits=(2,), weight_bits=(4,))


def priced_without_targets(snn: ts.SNN, split: data.Split) -> Any:
    x = split.batch(range(SAMPLES))[0]
    return ts.cost(snn, [x[:50], x[50:]])


def explained(snn: ts.SNN, split: data.Split) -> Any:
    return ts.explain(snn, split.batch(range(70)), samples=70)


CALLS: dict[str, tuple[Callable[[ts.SNN, data.Split], Any], int, int | None]] = {
    # function, writes between kills, attempts
    "evaluate": (evaluated, 1, 5 + 1),
    "exit": (early, 1, 11 + 5 + 1),
    "fidelity": (fidelity, 1, 3 + 1),
    "regression": (regression, 2, 5 // 2 + 1),
    "several": (several, 1, 3 + 1),
    "cost": (priced, 4, None),
    "cost without targets": (priced_without_targets, 1, None),
    "explain": (explained, 7, None),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_killed_again_and_again_ends_with_the_same_bits(name, snn, killing, tmp_path):
    call, writes, attempts = CALLS[name]
    whole = call(snn, images())
    killing(writes)
    found, tried = resumed(tmp_path / "run.checkpoint", lambda: call(snn, images()))
    assert json.dumps(found.to_json()) == json.dumps(whole.to_json())
    assert tried == attempts if attempts is not None else tried > 2
    for kind in ("outcomes", "rows"):
        for t, rows in getattr(whole, kind, {}).items():
            assert torch.equal(getattr(found, kind)[t], rows)
    assert not [*tmp_path.iterdir()]


def test_finished_batches_are_not_read_again(snn, killing, tmp_path):
    killing(3)
    split = images()
    with pytest.raises(Killed), ts.resumable(tmp_path / "run"):
        evaluated(snn, split)
    assert read_batches(split) == [0, 1, 2]
    split, counted = images(), []
    with ts.resumable(tmp_path / "run"):
        ts.evaluate(snn, split.batches(SIZE, limit=SAMPLES), progress=lambda done, _: counted.append(done))
    assert read_batches(split) == [0, 3, 4] and counted == [80, 90]  # the first one to compare it


def test_evaluate_takes_a_file_itself(snn, killing, tmp_path):
    whole, path = evaluated(snn, images()), tmp_path / "run"
    killing(2)
    for _ in range(2):
        with pytest.raises(Killed):
            ts.evaluate(snn, images().batches(SIZE, limit=SAMPLES), checkpoint=path)
    found = ts.evaluate(snn, images().batches(SIZE, limit=SAMPLES), checkpoint=path)
    assert found.to_json() == whole.to_json() and not path.exists()


def test_a_file_is_written_when_it_is_worth_it(snn, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(run.FileAt, "write", lambda self, data: written.append(len(data)))
    monkeypatch.setattr(run, "SHARE", 10**9)  # of the time that the first write takes
    with ts.resumable(tmp_path / "run"):
        evaluated(snn, images())
    assert len(written) == 1


# what does not belong together ---------------------------------------------------------------------------------------


@pytest.fixture
def begun(snn, tmp_path) -> Path:
    """The file of an evaluation of which two of five batches are done."""
    with pytest.MonkeyPatch.context() as patch:
        kill_after(2, patch)
        with pytest.raises(Killed), ts.resumable(tmp_path / "run"):
            evaluated(snn, images())
    return tmp_path / "run"


def other_network(snn: ts.SNN) -> ts.SNN:
    train = data.load("digits").train.batches(64, limit=128)
    return ts.convert(stored("fully-connected"), ts.recipes.WeightNormalisation(timesteps=8, percentile=99.0), train)


OTHERS: dict[str, tuple[Callable[[ts.SNN], Any], str]] = {
    "network": (lambda snn: evaluated(other_network(snn), images()), "the network was that with the checksum .* now that"),
    "time steps": (lambda snn: ts.evaluate(snn, images().batches(SIZE, limit=SAMPLES), timesteps=4), r"timesteps was \(8,\), now \(4,\)"),
    "limit": (lambda snn: ts.evaluate(snn, images().batches(SIZE), limit=50), "limit was None, now 50"),
    "task": (lambda snn: ts.evaluate(snn, images().batches(SIZE, limit=SAMPLES), task=ts.tasks.TopK(2)), "task was .*now"),
    "call": (lambda snn: ts.explain(snn, images().batch(range(40))), "the call was evaluate, now explain"),
    "function": (lambda snn: ts.fit_exit(snn, images().batches(SIZE), drop=5, checkpoints=(2, 4)), "the call was evaluate, now fit_exit"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_a_file_of_another_run_is_refused_with_what_differs(name, snn, begun):
    before = begun.read_bytes()
    call, message = OTHERS[name]
    with pytest.raises(SettingError, match=message), ts.resumable(begun):
        call(snn)
    assert begun.read_bytes() == before


def test_a_file_of_another_version_is_refused(snn, begun, monkeypatch):
    monkeypatch.setattr(run, "versions", lambda: "transpike 0.0, torch 0.0")
    with pytest.raises(SettingError, match=r"the version was transpike .*, now transpike 0\.0"), ts.resumable(begun):
        evaluated(snn, images())


def changed(split: data.Split, **parts: Any) -> data.Split:
    return data.Split(parts.get("images", split.images), parts.get("labels", split.labels))


def test_a_file_of_other_samples_is_refused(snn, begun):
    split, before = images(), begun.read_bytes()
    labels, pixels = split.labels.clone(), split.images.clone()
    labels[25], pixels[3, 0, 4, 4] = (labels[25] + 1) % 10, 255 - pixels[3, 0, 4, 4]
    for given, message in (
        (split.batches(30, limit=SAMPLES), "its batches have 20 of them, and those of this run 30"),
        (split.batches(SIZE, limit=30), "the first 40 of this run are not those that it holds"),
        (split.batches(SIZE, limit=20), "it holds 40 of them, and this run has fewer"),
        (split.batches(SIZE, indices=range(1, 91)), "are not those that it holds"),
        (changed(split, labels=labels).batches(SIZE, limit=SAMPLES), "are not those that it holds"),
        (changed(split, images=pixels).batches(SIZE, limit=SAMPLES), "are not those that it holds"),
    ):
        with pytest.raises(CheckpointError, match=message), ts.resumable(begun):
            ts.evaluate(snn, given)
        assert begun.read_bytes() == before


def test_other_targets_of_any_form_are_other_samples(snn):
    x, y = images().batch(range(40))
    one, shape = ranks.Ranks(0, 1, torch.device("cpu")), (1, 8, 8)

    def marks(targets: Any) -> list[int]:
        batches = [(x[:20], targets[:20]), (x[20:], targets[20:])]
        return [batch.mark for batch in numbered(batches, shape, one, marked=True)]

    moved = y.clone()
    moved[30] = (moved[30] + 1) % 10
    for form in (lambda t: t, lambda t: t.numpy(), lambda t: t.tolist(), lambda t: [str(n) for n in t.tolist()]):
        same, again, other = marks(form(y)), marks(form(y)), marks(form(moved))
        assert same == again and same[0] == other[0] and same[1] != other[1]


def test_batches_have_the_same_marks_for_any_number_of_processes():
    for given in (images().batches(SIZE, limit=SAMPLES), [images().batch(range(k, k + 10)) for k in range(0, 30, 10)]):
        found = [
            [(b.first, b.size, b.mark) for b in numbered(given, (1, 8, 8), ranks.Ranks(rank, count, torch.device("cpu")), marked=True)]
            for count in (1, 2, 3) for rank in range(count)
        ]  # fmt: skip
        assert all(one == found[0] for one in found) and len({mark for _, _, mark in found[0]}) == len(found[0])


def test_more_samples_are_added_to_those_that_are_done(snn, begun):
    more = images().batches(SIZE, limit=120)
    with ts.resumable(begun):
        assert ts.evaluate(snn, more).to_json() == ts.evaluate(snn, more).to_json()


# files that are none -------------------------------------------------------------------------------------------------


def test_damaged_files_are_refused(snn, begun):
    whole = begun.read_bytes()
    for size in (0, 3, 8, 100, len(whole) // 2, len(whole) - 1):
        begun.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match=r"truncated or damaged .*Delete it to restart"), ts.resumable(begun):
            evaluated(snn, images())
    for place in range(9, len(whole), len(whole) // 40):
        begun.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises(CheckpointError), ts.resumable(begun):
            evaluated(snn, images())
    begun.write_bytes(whole)
    with ts.resumable(begun):
        evaluated(snn, images())


def test_content_of_another_form_behind_a_checksum_is_refused(snn, begun):
    (found,) = unpacked(begun.read_bytes(), "it")
    state = found.state

    def cut(name: str, value: Any) -> Saved:
        return Saved(**{**vars(found), "state": {**state, name: value}})

    fewer = tuple((t, dataclasses.replace(one, layers=one.layers[:1])) for t, one in state["activities"])
    for wrong in (
        Saved(**{**vars(found), "state": None}), Saved(**{**vars(found), "state": (1, 2)}), cut("counts", {}),
        cut("counts", {**state["counts"], "samples": "many"}), cut("judged", ()), cut("inputs", 3),
        cut("activities", fewer), cut("pictures", (True, (1,))), Saved(**{**vars(found), "batches": "2"}),
    ):  # fmt: skip
        begun.write_bytes(packed([wrong]))
        with pytest.raises(CheckpointError, match="Delete it to restart"), ts.resumable(begun):
            evaluated(snn, images())


def test_files_of_another_kind_are_refused_and_stay(snn, tmp_path):
    network, weights, text = tmp_path / "net.transpike", tmp_path / "weights.safetensors", tmp_path / "notes.txt"
    ts.save(snn, network)
    ts.training.checkpoint.save_weights(stored("two-layers"), weights)
    text.write_text("some notes about the last run, which are longer than a header")
    for path in (network, weights, text):
        before = path.read_bytes()
        for resume in (True, False):
            with pytest.raises(CheckpointError, match=r"is not a checkpoint"):  # noqa: SIM117
                with ts.resumable(path, resume=resume):
                    evaluated(snn, images())
            assert path.read_bytes() == before
        with ts.resumable(path):
            pass  # nothing was evaluated
        assert path.read_bytes() == before


def test_a_file_of_another_format_is_refused(snn, begun, monkeypatch):
    monkeypatch.setattr(kept, "VERSION", "2")
    with pytest.raises(CheckpointError, match="version '1', and this transpike resumes version 2"), ts.resumable(begun):
        evaluated(snn, images())


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    for place, message in ((tmp_path / "no" / "run", "there is no folder"), (tmp_path, "it is a folder")):
        with pytest.raises(FileError, match=message), ts.resumable(place):
            raise AssertionError("the work began")
    with pytest.raises(FileError, match="read again"), ts.resumable(os.devnull):
        raise AssertionError("the work began")


def test_a_link_stays_and_its_file_is_removed(snn, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    seen = []
    with ts.resumable(tmp_path / "link"):
        ts.evaluate(
            snn, images().batches(SIZE, limit=40), progress=lambda *_: seen.append((tmp_path / "file").exists())
        )
    assert seen == [True, True] and (tmp_path / "link").is_symlink() and not (tmp_path / "file").exists()


def test_a_run_can_begin_anew(snn, begun, killing):
    killing(2)
    split = images()
    with pytest.raises(Killed), ts.resumable(begun, resume=False):
        ts.evaluate(snn, split.batches(SIZE, limit=SAMPLES), timesteps=4)
    assert read_batches(split) == [0, 1]
    with pytest.raises(Killed), ts.resumable(begun):  # of the new run, two batches later
        ts.evaluate(snn, split.batches(SIZE, limit=SAMPLES), timesteps=4)


def test_pictures_are_kept():
    tally = PictureTally(ts.tasks.Classification(), (1, 2, 4))
    marks = Marks((Box(0.1, 0.2, 0.3, 0.4, 1, "cat", 0.5),), torch.arange(4).view(2, 2), ("a", "b"), "a note")
    tally.found = [Picture(torch.rand(1, 2, 2), None, marks, {2: marks, 4: Marks()})]
    state = unpacked(packed([Saved({}, 1, 1, 1, "", tally.state())]), "it")[0].state
    other = PictureTally(ts.tasks.Classification(), (1, 2, 4))
    other.restore(state)
    (one,) = other.found
    assert other.open and one.answers.keys() == {2, 4} and one.target is None
    assert one.ann.boxes == marks.boxes and torch.equal(one.ann.mask, marks.mask) and one.ann.note == "a note"
    assert torch.equal(one.input, tally.found[0].input)


def test_every_field_of_a_tally_is_kept_or_known(snn):
    """A field that is added to a tally and forgotten in its state would be lost in silence."""
    known = {"task", "asked", "judged", "observed", "exits", "found"}  # given again; of one batch; in subclasses
    fields = vars(ts_tally(snn)).keys() - known
    expected = {"inputs", "samples", "ties", "early", "beyond", "elements", "fidelity", "outputs", "pictures",
            "activities", "exact", "why", "kernels", "ann_correct", "correct", "agree"}  # fmt: skip
    assert fields == expected
    assert vars(InputCheck(None, None, snn.encoder)).keys() == {
        "calibrated", "preprocessing", "encoder", "values", "far", "beyond"
    }  # fmt: skip


def ts_tally(snn: ts.SNN) -> Tally:
    from transpike.workflow.evaluate.outcomes import OutcomeTally
    from transpike.workflow.judged import Judged

    return OutcomeTally(snn, ts.tasks.Classification(), Judged(), (8,), None)


# commands ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(snn, tmp_path) -> Path:
    return ts.save(snn, tmp_path / "net.transpike")


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "--limit", 60, "--batch-size", 20),
        ("energy", "--limit", 40, "--batch-size", 20),
        ("explain", "--samples", 40, "--no-changes"),
        ("exit", "--limit", 40, "--fit-samples", 150, "--drop", 10, "--output", "exit.transpike"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_command_is_resumed(words, file, killing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (words[0], file, *words[1:], "--json")
    alone = command(*words).stdout
    killing(2)
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(Killed):
        command(*words, "--checkpoint", checkpoint)
    while checkpoint.exists():
        try:
            found = command(*words, "--checkpoint", checkpoint)
        except Killed:
            continue
    assert found.stdout == alone


def test_a_gate_that_is_not_met_is_the_end_of_a_command(file, tmp_path):
    command("evaluate", file, "--limit", 20, "--checkpoint", tmp_path / "run", "--max-drop=-101", code=4)
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_and_a_report_are_two_files(file, tmp_path):
    path = tmp_path / "run.json"
    found = command("evaluate", file, "--limit", 20, "--checkpoint", path, "--report", path, code=2)
    assert "is given for two outputs" in found.output and not path.exists()


# other processes -----------------------------------------------------------------------------------------------------


def going_on(folder: Path) -> Any:
    """The evaluation of one process, or of those of torchrun; each writes what it found and read."""
    split = images()
    with ts.distributed_samples() as group, ts.resumable(folder / "run"):
        report = evaluated(ts.load(folder / "net.transpike"), split)
    outcomes = [report.outcomes[t].int().tolist() for t in sorted(report.outcomes)]
    found = {"report": report.to_json(), "outcomes": outcomes, "read": read_batches(split)}
    (folder / f"found-{group.rank}.json").write_text(json.dumps(found))
    return found


def killed(folder: Path) -> None:
    """One process, which is killed after three batches."""

    def progress(done: int, total: int | None) -> None:
        if done == 3 * SIZE:
            os.kill(os.getpid(), signal.SIGKILL)

    with ts.resumable(folder / "run"):
        ts.evaluate(ts.load(folder / "net.transpike"), images().batches(SIZE, limit=SAMPLES), progress=progress)


def lost(folder: Path) -> None:
    """Two processes, the second of which ends while it reads its second batch."""

    class Broken(Apart):
        def batch(self, indices: Any) -> Any:
            if int(indices[0]) == 3 * SIZE:
                os._exit(9)
            return super().batch(indices)

    with ts.distributed_samples() as group, ts.resumable(folder / "run"):
        split = Broken(images()) if group.rank else images()
        try:
            evaluated(ts.load(folder / "net.transpike"), split)
        except LostProcess as error:
            print(f"LostProcess: {error}", file=sys.stderr)
            os._exit(error.exit_code)


def test_two_processes_continue_where_one_was_killed(file, tmp_path):
    needs_gloo()
    answer = subprocess.run((sys.executable, __file__, str(tmp_path), "killed"), env=environment(), timeout=HANGS, capture_output=True, text=True)  # fmt: skip
    assert answer.returncode == -signal.SIGKILL, answer.stderr[-5000:]
    assert unpacked((tmp_path / "run").read_bytes(), "it")[0].samples == 3 * SIZE
    finished([tmp_path / f"found-{rank}.json" for rank in (0, 1)], __file__, str(tmp_path), "go")
    first, second = (json.loads((tmp_path / f"found-{rank}.json").read_text()) for rank in (0, 1))
    # the first batch is compared, and the missing ones are shared
    assert first.pop("read") == [0, 3] and second.pop("read") == [0, 4] and not (tmp_path / "run").exists()
    alone = json.loads(json.dumps(going_on(tmp_path)))
    assert alone.pop("read") == [0, 1, 2, 3, 4] and first == second == alone


def test_one_process_continues_where_one_of_two_was_lost(file, tmp_path):
    needs_gloo()
    started = pair(__file__, str(tmp_path), "lost")
    errors = [one.communicate(timeout=HANGS)[1] for one in started]
    assert started[1].returncode == 9 and started[0].returncode == LostProcess.exit_code, errors[0][-3000:]
    assert "LostProcess: process 0 of 2 cannot continue" in errors[0]
    found = going_on(tmp_path)
    assert found.pop("read") == [0, 2, 3, 4] and not (tmp_path / "run").exists()
    alone = going_on(tmp_path)
    alone.pop("read")
    assert found == alone


if __name__ == "__main__":
    torch.set_num_threads(1)
    run.SHARE = 0
    {"go": going_on, "killed": killed, "lost": lost}[sys.argv[2]](Path(sys.argv[1]))
    if torch.distributed.is_initialized():
        torch.distributed.barrier()  # so that neither leaves while the other still speaks
