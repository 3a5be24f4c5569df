"""Many recipes in one table: the numbers, what is kept, what is refused, and what is picked."""

import dataclasses
import functools
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import Tensor

import plugged
import transpike as ts
from compared import GATE, LOG, Told, ToldForEach
from stored import stored
from transpike.encoders import Poisson
from transpike.errors import DataError, GateFailed, SettingError
from transpike.recipes import BSNN, ECC, WeightNormalisation
from transpike.results.statistics import paired_difference
from transpike.schedules import LayerSynchronous
from transpike.workflow.compare.executors import DEATH
from waiting import HANGS, wait_until

T = (2, 4, 8)
SYNCHRONOUS = ECC(schedule=LayerSynchronous())
CYCLES = BSNN(period=2)


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A network that knows some digits, and what to compare it on."""

    graph: ts.Graph
    calibration: Tensor
    data: tuple[Tensor, Tensor]
    preprocessing: ts.Preprocessing

    def compare(self, recipes: list, **settings: object) -> ts.Comparison:
        given = {"data": self.data, "preprocessing": self.preprocessing}
        given |= {
            name: settings.pop(name) for name in ("data", "preprocessing", "store", "progress") if name in settings
        }
        chosen = ts.ComparisonSettings(**{"timesteps": T, **settings})
        return ts.compare(self.graph, recipes, self.calibration, chosen, **given)


@pytest.fixture(scope="module")
def job() -> Job:
    digits = ts.data.load("digits")
    calibration, test = digits.train.images[:200], (digits.test.images[:150], digits.test.labels[:150])
    graph = ts.capture(stored("small-cnn"), digits.preprocessing(calibration))
    return Job(graph, calibration, test, digits.preprocessing)


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(LOG, str(tmp_path / "log"))
    (tmp_path / "log").touch()
    return tmp_path / "log"


def conversions(log: Path) -> int:
    return len(log.read_text().splitlines())


def content(comparison: ts.Comparison) -> dict:
    """The JSON without what a clock decides."""
    found = comparison.to_json()
    for row in found["rows"]:
        row.pop("seconds", None)
    return found


# --- numbers


@pytest.mark.parametrize("recipe", [ECC(), SYNCHRONOUS, CYCLES, ECC(encoder=Poisson(seed=3))], ids=str)
def test_rows_are_what_evaluate_says_of_each_recipe_alone(job: Job, recipe: ECC) -> None:
    comparison = job.compare([WeightNormalisation(), recipe])
    rows = [row for row in comparison.measured if row.recipe == str(recipe)]
    assert [row.timesteps for row in rows] == list(T) and len(comparison.rows) == 2 * len(T)
    for row in rows:
        made = dataclasses.replace(recipe, timesteps=max(T) if recipe.schedule.every_step else row.timesteps)
        assert row.made_by == made
        snn = ts.convert(job.graph, made, job.calibration, preprocessing=job.preprocessing)
        report = ts.evaluate(snn, job.data, timesteps=row.timesteps, answers=(row.timesteps,))
        answer = report.final
        for name in dataclasses.asdict(answer):
            assert getattr(row, name) == getattr(answer, name), name
        assert torch.equal(row.outcomes, report.outcomes[row.timesteps]) and 0.2 < row.accuracy < 1
        assert (row.ann_accuracy, row.ann_macs) == (report.ann_accuracy, report.ann_macs)
        assert (row.drop, row.drop_low, row.drop_high) == paired_difference(report.ann_outcomes, row.outcomes)
        assert row.schedule == report.schedule and row.exact == report.exact and row.training_free
        assert set(row.alphabets) == {layer.alphabet for layer in report.layers if layer.role == "neuron"}
        steps = {SYNCHRONOUS: 4 * row.timesteps, CYCLES: 8 + 2 * (row.timesteps - 2)}
        assert row.total_steps == steps.get(recipe, row.timesteps)


def test_an_answer_counts_what_a_run_that_ends_there_counts(job: Job) -> None:
    snn = ts.convert(job.graph, ECC(timesteps=8), job.calibration, preprocessing=job.preprocessing)
    early, report = ts.evaluate(snn, job.data, timesteps=3), ts.evaluate(snn, job.data, timesteps=8)
    assert report.at(3) == early.final and early.final.spikes > 100
    assert early.final.macs == sum(early.macs.values()) > 0
    assert early.final.spikes == pytest.approx(sum(row.spikes for row in early.layers))
    assert early.final.synaptic_operations == pytest.approx(sum(row.synaptic_operations for row in early.layers))
    assert report.outcomes[3].float().mean() == pytest.approx(report.at(3).accuracy)
    assert report.ann_outcomes.float().mean() == pytest.approx(report.ann_accuracy)


def test_phase_cycles_count_every_sample_once_for_each_answer(job: Job) -> None:
    snn = ts.convert(
        job.graph, dataclasses.replace(CYCLES, timesteps=8), job.calibration, preprocessing=job.preprocessing
    )
    several = ts.evaluate(snn, job.data, answers=(2, 4, 8))
    assert several.curve == tuple(ts.evaluate(snn, job.data, answers=(t,)).final for t in (2, 4, 8))
    assert all(len(right) == several.samples for right in several.outcomes.values())


def test_an_answer_counts_the_multiplications_of_its_own_steps() -> None:
    torch.manual_seed(0)
    layers = (torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 6), torch.nn.Sigmoid(), torch.nn.Linear(6, 3))
    x = torch.rand(16, 5)
    snn = ts.convert(torch.nn.Sequential(*layers), ECC(timesteps=8), x, on_unsupported="keep")
    curve = ts.evaluate(snn, (x, torch.arange(16) % 3)).curve
    assert [answer.macs for answer in curve] == [40 + 18 * t for t in range(1, 9)]  # the first layer once


def test_one_conversion_serves_every_number_of_steps_where_it_can(job: Job, log: Path) -> None:
    synchronous = Told(schedule=LayerSynchronous())
    for recipe, expected in ((Told(), 1), (ToldForEach(), 3), (synchronous, 3)):
        log.write_text("")
        assert len(job.compare([recipe]).measured) == 3 and conversions(log) == expected


def test_every_known_recipe_is_compared_unless_told_otherwise(job: Job) -> None:
    comparison = job.compare(None, timesteps=(2,), limit=10)
    assert {row.recipe.partition("(")[0] for row in comparison.rows} == {kind.name for kind in ts.recipes.members}


# --- jobs, threads, processes


def test_any_number_of_jobs_gives_the_same_result_with_one_thread_each(
    job: Job, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # of a process that starts
    recipes = [ECC(), SYNCHRONOUS, Told(multiple=4), Told(ending="break"), Told(ending="refuse")]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one, two = (job.compare(recipes, jobs=jobs, store=tmp_path / str(jobs)) for jobs in (1, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert content(one) == content(two) and len(one.measured) == 8
    assert all(torch.equal(a.outcomes, b.outcomes) for a, b in zip(one.measured, two.measured, strict=True))
    workers = [line.split() for line in log.read_text().splitlines()]
    assert {threads for _, threads in workers} == {"1"} and str(os.getpid()) not in dict(workers[3:])


def test_a_process_that_dies_is_a_row_and_the_others_go_on(job: Job) -> None:
    comparison = job.compare([Told(ending="die"), Told()], jobs=2)
    assert {row.recipe: row.reason for row in comparison.refused} == {"told(ending='die')": DEATH}
    assert all(row.failed for row in comparison.refused) and len(comparison.measured) == len(T)


# --- code that is not ours


def _shifted(share: float) -> type[ECC]:
    @dataclasses.dataclass(frozen=True)
    class Mine(ECC):
        name: ClassVar[str] = "mine"

        @property
        def shifts(self) -> tuple[ts.passes.InitialPotential, ...]:
            return (ts.passes.InitialPotential(share),)

    Mine.__qualname__ = "Mine"
    return Mine


def _small() -> tuple[torch.nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    x = torch.rand(32, 6)
    return model, x, torch.arange(32) % 3


def _spikes(recipes: list, store: Path | None, **settings: object) -> tuple[list[float], ts.Comparison]:
    model, x, y = _small()
    chosen = ts.ComparisonSettings(timesteps=(4,), **settings)
    comparison = ts.compare(model, recipes, x, chosen, data=(x, y), store=store)
    return [row.spikes for row in comparison.measured], comparison


def test_a_recipe_whose_code_cannot_be_known_is_not_kept_and_a_remark_says_so(tmp_path: Path) -> None:
    right = [_spikes([_shifted(share)()], None)[0] for share in (0.0, 0.875)]
    assert right[0] != right[1]
    for share, expected in zip((0.0, 0.875), right, strict=True):
        found, comparison = _spikes([_shifted(share)()], tmp_path)
        assert found == expected
        assert any("mine" in remark and "not stored" in remark for remark in comparison.remarks)
    assert not list(tmp_path.glob("mine-*"))
    both, _ = _spikes([_shifted(0.0)(), _shifted(0.875)()], tmp_path)  # in one comparison neither
    assert both == [right[0][0], right[1][0]]


def test_an_edited_recipe_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, first = _spikes([plugged.OurECC()], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(plugged.OurECC, "shifts", property(_no_shifts))
        edited, _ = _spikes([plugged.OurECC()], tmp_path)
        assert edited == _spikes([plugged.OurECC()], None)[0] != before
    again, comparison = _spikes([plugged.OurECC()], tmp_path)
    assert again == before and comparison.remarks == first.remarks == ()
    assert len(list(tmp_path.glob("our-ecc-*"))) == 2


def _no_shifts(self: ECC) -> tuple:
    return ()


def test_an_edited_neuron_or_energy_model_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = functools.partial(_spikes, [plugged.RefractoryECC()], tmp_path, energy=plugged.PerSpike())
    before, first = run()
    monkeypatch.setattr(plugged.Refractory, "step", _always_silent)  # which only the pass's method names
    edited, _ = run()
    assert edited == [0.0] != before
    monkeypatch.undo()
    monkeypatch.setattr(plugged.PerSpike, "rows", _nothing)
    again, second = run()
    assert again == before
    joule = [one.measured[0].energy_joule["per-spike"] for one in (first, second)]
    assert joule[0] > 0 == joule[1]


def _always_silent(self: object, state: tuple, *inputs: Tensor, t: int) -> tuple:
    return state, torch.zeros_like(inputs[0])


def _nothing(self: object, activity: object) -> tuple:
    return ()


# --- refusals


def test_what_is_refused_has_a_row_with_the_reason(job: Job, log: Path, tmp_path: Path) -> None:
    recipes = [Told(multiple=4), Told(ending="refuse"), Told(ending="break")]
    for times in (1, 2):
        comparison = job.compare(recipes, store=tmp_path / "store")
        assert [row.timesteps for row in comparison.rows] == list(T) * 3
        reasons = [getattr(row, "reason", None) for row in comparison.rows]
        assert reasons[0] == "timesteps must be a multiple of 4" and reasons[1:3] == [None, None]
        assert reasons[3:] == ["told to refuse"] * 3 + ["RuntimeError: told to break"] * 3
        assert conversions(log) == 2 + times  # what a recipe refuses it refuses again; what broke may work now
    assert [row["failed"] for row in comparison.to_json()["rows"] if "reason" in row] == [False] * 4 + [True] * 3


def test_a_comparison_without_a_measured_row_still_says_why(job: Job) -> None:
    comparison = job.compare([Told(ending="refuse")])
    assert comparison.measured == () and comparison.ann is None and comparison.front() == ()
    assert "told to refuse" in ts.report.text(comparison)
    with pytest.raises(GateFailed, match="nothing was measured"):
        comparison.pick("min=steps")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"timesteps": ()}, SettingError, "at least one"),
        ({"timesteps": (0,)}, SettingError, "timesteps must be"),
        ({"jobs": 0}, SettingError, "jobs must be"),
        ({"engine": "steam"}, SettingError, "dense"),
        ({"data": torch.rand(4, 1, 8, 8)}, DataError, "targets"),
        ({"data": []}, DataError, "no samples"),
    ],
)
def test_settings_that_make_no_sense_are_refused(job: Job, settings: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        job.compare([ECC()], **settings)


def test_a_recipe_is_there_once(job: Job) -> None:
    with pytest.raises(SettingError, match="twice"):
        job.compare([ECC(timesteps=4), ECC(timesteps=8)])
    comparison = job.compare([ECC(encoder=Poisson(seed=seed)) for seed in (1, 2)], timesteps=(2,), limit=20)
    assert [row.recipe for row in comparison.rows] == ["ecc(encoder=Poisson(seed=1))", "ecc(encoder=Poisson(seed=2))"]


# --- the store


def test_what_is_kept_is_not_done_again_unless_something_changed(job: Job, log: Path, tmp_path: Path) -> None:
    def count(**settings: object) -> int:
        log.write_text("")
        job.compare([Told(), Told(number=1)], store=tmp_path / "store", **settings)
        return conversions(log)

    assert count() == 2 and count() == 0 and count(jobs=2) == 0
    changes: list[dict] = [{"limit": 100}, {"seed": 1}, {"timesteps": (2, 4)}, {"timesteps": (2, 8)}, {"preprocessing": None}, {"memory": 2**30},
                           {"exact_grid": False}, {"calibration_samples": 100}, {"engine": "dense"}]  # fmt: skip
    assert [count(**change) for change in changes] == [2] * len(changes)
    assert [count(**change) for change in changes] == [0] * len(changes)
    images, labels = job.data
    assert count(data=(images, labels.flip(0))) == 2 and count() == 0


@pytest.mark.parametrize("damage", [lambda old: old[:300], lambda old: old.replace('"drop": ', '"drop": 1', 1),
                                    lambda old: "", lambda old: "[1]", lambda old: "{}"])  # fmt: skip
def test_damaged_results_are_named_and_done_again(job: Job, log: Path, tmp_path: Path, damage) -> None:
    recipes = [Told(), Told(number=1)]
    before = job.compare(recipes, store=tmp_path, limit=30)
    victim = sorted(tmp_path.glob("told-*.json"))[0]
    victim.write_text(damage(victim.read_text()))
    again = job.compare(recipes, store=tmp_path, limit=30)
    assert conversions(log) == 3 and len(again.remarks) == 1 and victim.name in again.remarks[0]
    assert content(again) | {"remarks": []} == content(before)
    assert job.compare(recipes, store=tmp_path, limit=30).remarks == ()


def test_damaged_inputs_are_written_again(job: Job, tmp_path: Path) -> None:
    before = job.compare([ECC()], store=tmp_path, limit=30)
    inputs = next(tmp_path.glob("inputs-*"))
    inputs.write_bytes(inputs.read_bytes()[:-1] + b"x")
    next(tmp_path.glob("ecc-*")).unlink()
    assert content(job.compare([ECC()], store=tmp_path, limit=30)) == content(before)


KILLED = """
import signal, sys, torch
from compared import Told
from networks import small_cnn
import transpike as ts

def main(store, jobs):
    case = small_cnn()
    recipes = [Told(number=n) for n in range(6)]
    data = (case.calibration, torch.arange(len(case.calibration)) % 3)
    settings = ts.ComparisonSettings(timesteps=(2, 4), jobs=jobs)
    return ts.compare(case.graph, recipes, case.calibration, settings, data=data, store=store)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which the background jobs of a shell ignore
    main(sys.argv[1], int(sys.argv[2]))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_comparison_goes_on_and_leaves_no_process(
    log: Path, tmp_path: Path, end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third and the fourth conversion wait for a file that never comes: only their parent's end can end them."""
    (tmp_path / "killed.py").write_text(KILLED)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]), prepend=os.pathsep)
    monkeypatch.setenv(GATE, str(tmp_path / "never"))
    store = tmp_path / "store"
    process = subprocess.Popen(
        [sys.executable, tmp_path / "killed.py", store, "2"], stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        wait_until(lambda: conversions(log) == 4 or process.poll() is not None)
        assert process.poll() is None, process.communicate()[1].decode()
        process.send_signal(end)
        process.communicate(timeout=HANGS)
        assert process.returncode == -end
        workers = {int(line.split()[0]) for line in log.read_text().splitlines()}
        assert len(workers) == 2
        wait_until(lambda: not any(_is_alive(worker) for worker in workers))
    finally:
        (tmp_path / "never").touch()  # whatever has gone wrong, nobody waits on
    assert len(list(store.glob("told-*.json"))) == 2
    monkeypatch.delenv(GATE)
    log.write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    import killed

    resumed = killed.main(store, 1)
    keys = [json.loads(path.read_text())["key"] for path in store.glob("told-*.json")]
    values = {name: {json.dumps(key[name]) for key in keys} for name in keys[0]}
    assert conversions(log) == 4, {name: found for name, found in values.items() if len(found) > 1}
    assert content(resumed) == content(killed.main(tmp_path / "fresh", 1)) and len(resumed.measured) == 12
    sys.modules.pop("killed")


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/stat")  # a zombie has ended; nobody has asked for its status yet
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


# --- the picked network, reports


@pytest.mark.parametrize("recipe", [ECC(), SYNCHRONOUS, ECC(encoder=Poisson(seed=1))], ids=str)
def test_the_network_of_a_row_has_its_numbers_from_a_file_too(job: Job, recipe: ECC, tmp_path: Path) -> None:
    comparison = job.compare([recipe], timesteps=(3, 32))
    for one in comparison.measured:
        snn = ts.load(ts.save(comparison.snn(one), tmp_path / "row.transpike"))
        report = ts.evaluate(snn, job.data)
        assert report.final.timesteps == one.timesteps and torch.equal(report.outcomes[one.timesteps], one.outcomes)
        assert report.final.accuracy == one.accuracy
        assert report.final.synaptic_operations == one.synaptic_operations
        made = comparison.convert(one.made_by)
        assert weights(snn) == weights(made)
        alone = comparison.convert(dataclasses.replace(recipe, timesteps=one.timesteps))
        other_grid = one.timesteps != one.made_by.timesteps
        assert (weights(alone) != weights(made)) == other_grid


def weights(snn: ts.SNN) -> list:
    """Everything on the grid."""
    return [value.tolist() for node in snn.program.lowered.nodes for value in node.op.tensors().values()]


def test_reports_show_and_save_comparisons(job: Job, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    recipes = [ECC(), SYNCHRONOUS, Told(multiple=4), ECC(pooling="before-neuron", timesteps=64)]
    comparison = job.compare(recipes, limit=60)
    for ending in ("json", "txt", "png", "svg"):
        assert ts.report.save(comparison, tmp_path / f"c.{ending}").stat().st_size > 1000
    assert json.loads((tmp_path / "c.json").read_text()) == comparison.to_json()
    lines = (tmp_path / "c.txt").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line == "ecc()")
    assert max(len(line) for line in lines[: start + 4]) <= 120
    found = comparison.measured[0]
    assert lines[start + 1].split()[:3] == ["2", "2", f"{100 * found.accuracy:.2f}"]
    assert "told(multiple=4) at T=2 has no result: timesteps must be a multiple of 4" in lines
    assert (tmp_path / "c.svg").read_text().count(
        "ecc(schedule=LayerSynchronous)"
    ) == 1  # text as paths has the label once
    ts.report.show(comparison)
    assert "refused" in capsys.readouterr().out


def test_the_json_says_what_the_documents_say(job: Job) -> None:
    document = (Path(__file__).parents[2] / "docs/report-schema.md").read_text().partition("# A comparison")[2]
    found = job.compare([Told(multiple=4)], limit=20).to_json()
    names = {*found, *found["ann"], *(key for one in found["rows"] for key in one), *found["provenance"]}
    assert not {name for name in names if not re.search(rf"[`.]{name}(\[\])?`", document)}
