"""The time left that a progress bar shows is that of the stage in hand."""

import rich.progress

from transpike.cli import _base


def test_the_time_left_is_that_of_the_stage(monkeypatch):
    now, bars = [0.0], []

    class Timed(rich.progress.Progress):
        def __init__(self, *columns: object, **settings: object) -> None:
            super().__init__(*columns, get_time=lambda: now[0], **settings)
            bars.append(self)

    monkeypatch.setattr(_base, "Progress", Timed)
    with _base.progress_bar("converting", shown=False) as update:
        for stage, seconds in (("thresholds", 1.0), ("biases", 3.0)):
            for done in range(5):
                update(stage, done, 10)
                now[0] += seconds
            update(stage, 5, 10)
            (task,) = bars[0].tasks
            assert task.description == f"converting: {stage}" and (task.completed, task.total) == (5, 10)
            assert task.time_remaining == 5 * seconds
