"""The settings of a comparison."""

from dataclasses import dataclass

from transpike import engines
from transpike import exits as known_exits
from transpike.core.constraints import check_settings, setting
from transpike.core.exit import Exit
from transpike.core.naming import dashed
from transpike.core.registry import hint
from transpike.core.schedule import check_timesteps
from transpike.core.spelling import NamedSettings, unknown
from transpike.core.task import Task
from transpike.energy import EnergyModel, checked
from transpike.engines import engine_named
from transpike.errors import SettingError
from transpike.tasks import exit_task, task_given
from transpike.workflow.capture import OnUnsupported
from transpike.workflow.cut import Selection


@dataclass(frozen=True)
class ComparisonSettings(NamedSettings):
    """Settings of ``transpike.compare``; printable, hashable; each is a flag of ``transpike compare``.

    ``output``, ``spiking``, ``on_unsupported``, ``exact_grid``, ``calibration_samples`` and ``seed`` are those of
    ``convert``, ``judged_output`` is the ``output`` of ``evaluate``, ``engine``, ``memory`` (in bytes, of a process),
    ``energy``, ``task`` and ``limit`` are its settings too.
    ``exits`` (transpike.exits.Exit) add rows: each network that answers step by step, at its largest T, with an early
    exit fitted on ``exit_data``, labelled samples that are in neither ``data`` nor the training set.
    ``any_input``: see ``SNN.accepting_any_input``.
    ``jobs``: number of processes (a script then needs ``if __name__ == "__main__":``). Every conversion and evaluation
    runs with one thread, so that results do not depend on ``jobs``, except ``seconds``. Raises SettingError.
    """

    timesteps: tuple[int, ...] = setting((4, 8, 16, 32, 64), "Time-step counts, comma-separated.")
    limit: int | None = setting(None, "Only the first N test samples.", low=1)
    calibration_samples: int | None = setting(None, "Only the first N calibration samples.", low=1)
    seed: int = setting(0, "Random seed of calibration samples and input spikes.")
    exact_grid: bool = setting(True, "Bit-identical spikes on every engine.")
    engine: str = setting("auto", "Simulation engine.", choices=sorted(engines.table))
    memory: int | None = setting(None, "Memory limit per process, like 2GiB.", low=1, unit="bytes")
    output: str | int | None = setting(None, "Output to use, for models with several.", flag="output-name")
    spiking: tuple[str, ...] = setting((), "Modules that spike, of a hybrid network; repeatable (default: all).")
    on_unsupported: OnUnsupported = setting("error", "Unsupported layers: stop with an error, or keep them analogue.")
    energy: tuple[EnergyModel, ...] = setting((), "Energy model, for joules per sample; repeatable.")
    exits: tuple[Exit, ...] = setting(
        # built-in names only: a look-up in the table would load plug-ins while transpike is imported
        (), f"Add rows with an early exit: score ({', '.join(dashed(kind.__name__) for kind in known_exits.members)}) "
        "and largest drop; repeatable.", flag="exit",
    )  # fmt: skip
    task: Task | None = setting(None, "Task that judges the answers.")
    judged_output: str | int | None = setting(
        None, "Output that the task judges; all outputs are converted (default: all outputs, by fidelity)."
    )
    any_input: bool = setting(False, "Also run on inputs that do not look like those of the calibration.")
    jobs: int = setting(1, "Number of processes, of one thread each.", low=1)

    def __post_init__(self) -> None:
        if isinstance(self.timesteps, int):
            raise SettingError(f"timesteps must be a tuple or a list, not {self.timesteps!r}")
        object.__setattr__(self, "timesteps", tuple(sorted({check_timesteps(t) for t in self.timesteps})))
        object.__setattr__(self, "spiking", Selection.of(self.spiking or None).patterns)
        if not self.timesteps:
            raise SettingError("a comparison needs at least one time-step count")
        if self.task is not None:
            object.__setattr__(self, "task", task_given(self.task))
        check_settings(self)
        engine_named(self.engine, self.memory)
        object.__setattr__(self, "energy", checked(self.energy))
        wishes = (self.exits,) if isinstance(self.exits, Exit) else tuple(self.exits)
        if any(not isinstance(wish, Exit) for wish in wishes):
            raise SettingError(f"exits must be transpike.exits.Exit, like Exit('gap', 0.5), not {self.exits!r}")
        for wish in wishes:
            if wish.score not in known_exits.table:
                raise SettingError(unknown("exit score", wish.score, known_exits.table) + hint())
        object.__setattr__(self, "exits", tuple(dict.fromkeys(wishes)))
        if self.exits:
            exit_task(self.task)
