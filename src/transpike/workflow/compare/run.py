"""Many recipes on one network: one table of accuracy, latency and cost."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from transpike import recipes as known
from transpike.core.constraints import settings_given, takes_settings
from transpike.core.graph import Graph
from transpike.core.precision import without_autocast
from transpike.core.recipe import Recipe
from transpike.errors import SettingError
from transpike.results.writing import scratch_folder
from transpike.workflow.compare.comparison import Comparison
from transpike.workflow.compare.executors import Executor, Local, executor_named
from transpike.workflow.compare.settings import ComparisonSettings
from transpike.workflow.compare.store import Folder, enter, store_at
from transpike.workflow.compare.sweep import Sweep
from transpike.workflow.compare.units import named
from transpike.workflow.distributed import processes
from transpike.workflow.entrance import PreprocessingGiven


@takes_settings(ComparisonSettings)
@without_autocast
def compare(
    model: nn.Module | Graph,
    recipes: Iterable[Recipe | str] | None = None,
    calibration: Any = None,
    settings: ComparisonSettings | None = None,
    *,
    data: Any,
    preprocessing: PreprocessingGiven = None,
    exit_data: Any = None,
    store: str | Path | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    executor: str | Executor | None = None,
    unit: tuple[int, int] | None = None,
    collect: bool = False,
) -> Comparison:
    """Every recipe (default: all built-in ones) at every time-step count, on the same samples.

    ``recipes``: objects or names, like ``[ECC(percentile=99.9), "bsnn"]``. ``settings``: a ``ComparisonSettings``, by
    default ``ComparisonSettings()``. ``model``, ``calibration`` and ``preprocessing`` are those of ``convert``,
    ``data`` that of ``evaluate``. The time steps of a recipe are ignored: it is converted for each of
    ``settings.timesteps``, or once for the largest where that run gives all answers. A recipe that does not support a
    time-step count, or fails, has a row with the reason. Compare rows by ``total_steps``, not by T. ``exit_data``:
    labelled samples for fitting exits.

    ``store`` is a folder, or an address of fsspec like s3://bucket/folder, for the results of each conversion: the same
    call, also after an interruption, only adds missing results. Several runs may write to one store. Results depend on
    settings, network, samples, versions of transpike and torch, and the code of custom recipes, neurons and energy
    models. Where that code cannot be read, as in a notebook or for a class made by a function, nothing is stored, and a
    remark states it. ``progress(done, total)`` counts the samples of all conversions, wherever they
    run.

    ``executor``: where conversions run, "local:4" (processes), "ray" or "ray:ADDRESS" (a cluster), by default
    ``settings.jobs`` processes; results do not depend on it. ``unit=(K, N)`` measures each N-th conversion, from the
    K-th on, into the store, and returns their rows; ``collect`` reads all from the store. See docs/scale.md.

    Raises what ``convert`` raises before a recipe's passes, DataError for data without targets and for
    conversions that ``collect`` misses, FileError for a store that another version wrote, SettingError.
    """
    if processes().count > 1:
        raise SettingError(
            "a comparison shares conversions, not samples: call compare() outside of distributed_samples(), in one "
            "process, and pass an executor (docs/scale.md)"
        )
    chosen = settings_given(ComparisonSettings, settings)
    runner = _executor(executor, chosen)
    runner.check(chosen.task)
    _check_part(unit, collect, store)
    together = unit is not None or collect
    given = (model, recipes, calibration, chosen, data, preprocessing, exit_data, store)
    with planned(*given, together=together, begun=collect) as sweep:
        if together:
            sweep.check_parts()
        return sweep.collected() if collect else sweep.measured(runner, progress, unit)


@contextlib.contextmanager
def planned(
    model: nn.Module | Graph, recipes: Iterable[Recipe | str] | None, calibration: Any, chosen: ComparisonSettings,
    data: Any, preprocessing: PreprocessingGiven, exit_data: Any, store: str | Path | None, *, together: bool = False,
    begun: bool = False,
) -> Iterator[Sweep]:  # fmt: skip
    """The units of this comparison, as long as the inputs of all of them are there.

    ``together``: other runs add to the same store; ``begun``: they have done so already.
    """
    if isinstance(recipes, (Recipe, str)):
        raise SettingError(f"recipes must be a tuple or a list, not {recipes!r}: write [{recipes!r}]")
    by_name = named([kind() for kind in known.members] if recipes is None else list(recipes))
    if not by_name:
        raise SettingError("a comparison needs at least one recipe")
    kept = None if store is None else store_at(store)  # before the work
    if kept is not None:
        enter(kept, together, begun)
    with scratch_folder() as scratch:
        # of many runs at once each would write the same inputs
        folder = kept.path if isinstance(kept, Folder) and not together else scratch
        yield Sweep.of(model, by_name, calibration, chosen, data, preprocessing, exit_data, kept, folder)


def _executor(given: str | Executor | None, chosen: ComparisonSettings) -> Executor:
    if given is None:
        return Local(chosen.jobs)
    if chosen.jobs != 1:
        raise SettingError(
            f"jobs={chosen.jobs} and executor={given!r} contradict each other: write local:{chosen.jobs}"
        )
    found = executor_named(given) if isinstance(given, str) else given
    if not isinstance(found, Executor):
        raise SettingError(f"executor must be text like 'local:4', or an Executor, not {given!r}")
    return found


def _check_part(unit: tuple[int, int] | None, collect: bool, store: str | Path | None) -> None:
    if unit is not None and collect:
        raise SettingError("pass unit= or collect=, not both")
    if unit is not None:
        whole = isinstance(unit, tuple) and len(unit) == 2 and all(type(number) is int for number in unit)
        if not whole or not 1 <= unit[0] <= unit[1]:
            raise SettingError(f"unit must be (K, N) with 1 ≤ K ≤ N, not {unit!r}")
    if store is None and (unit is not None or collect):
        raise SettingError("a comparison in parts needs a store that all parts can access: pass store=")
