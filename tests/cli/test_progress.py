"""The time left that a progress bar shows is that of the whole work."""

import rich.progress

import transpike as ts
from networks import small_cnn
from transpike.cli import _base
from transpike.core.pass_ import Context, Pass
from transpike.workflow.conversion_progress import ConversionProgress


class Clock:
    """Bars with a time of their own."""

    def __init__(self, monkeypatch) -> None:
        self.now, self.bars = 0.0, []
        clock = self

        class Timed(rich.progress.Progress):
            def __init__(self, *columns: object, **settings: object) -> None:
                super().__init__(*columns, get_time=lambda: clock.now, **settings)
                clock.bars.append(self)

        monkeypatch.setattr(_base, "Progress", Timed)

    @property
    def task(self) -> rich.progress.Task:
        return self.bars[-1].tasks[0]


def test_the_time_left_is_that_of_all_stages(monkeypatch):
    clock = Clock(monkeypatch)
    with _base.progress_bar("converting", shown=False, counted=False) as update:
        told = ConversionProgress(update, 30)
        for stage, work in (("thresholds", 10), ("nothing", 0), ("biases", 20)):
            part = told.stage(stage, work)
            for done in range(1, 6):  # two seconds for each unit of work
                clock.now += 2 * work / 5
                part(done, 5)
                if work:
                    assert clock.task.description == f"converting: {stage}" and clock.task.total == 30
                    first = stage == "thresholds" and done == 1  # no speed is known yet
                    assert clock.task.time_remaining == (None if first else 60 - clock.now)
        told.finish("biases")
    assert clock.task.completed == 30


def test_another_total_begins_anew(monkeypatch):
    clock = Clock(monkeypatch)
    with _base.progress_bar("evaluating", shown=False) as update:
        for total, seconds in ((10, 1.0), (20, 3.0)):
            for done in range(6):
                update(done, total)
                clock.now += seconds
            assert (clock.task.completed, clock.task.total) == (5, total)
            assert clock.task.time_remaining == (total - 5) * seconds


def test_a_stage_that_tells_less_than_before_does_not_move_the_bar_back():
    heard = []
    told = ConversionProgress(lambda *what: heard.append(what), 10)
    part = told.stage("a", 8)
    for done in (1, 2, 1, 4, 5):
        part(done, 4)
    told.stage("b", 2)(1, 1)
    told.finish("b")
    assert [done for _, done, _ in heard] == [0, 2, 4, 4, 8, 8, 8, 10, 10]


def test_the_bar_of_a_conversion_is_fed_by_its_passes(monkeypatch):
    """A clock that runs with the work: the time left is what remains, within what rounding to whole units hides."""
    clock, case = Clock(monkeypatch), small_cnn()
    left: list[tuple[float, float]] = []
    with _base.progress_bar("converting", shown=False, counted=False) as update:

        def progress(stage: str, done: int, total: int) -> None:
            clock.now = float(done)
            update(stage, done, total)
            if done:
                left.append((clock.task.time_remaining, total - done))

        ts.convert(case.graph, ts.recipes.FewSteps(timesteps=4), case.calibration, progress=progress)
    assert len(left) > 10 and all(shown is None or abs(shown - true) <= 1 for shown, true in left)


def test_work_that_a_pass_of_others_does_not_declare_is_none():
    context = Context(small_cnn().graph, (), 4)
    assert Pass().work(context) == 0
