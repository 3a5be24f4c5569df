"""Commands whose samples the processes of torchrun share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

import transpike as ts
from transpike import report
from transpike.cli import _base
from transpike.core.launched import several
from transpike.errors import SettingError
from transpike.workflow.distributed import distributed_samples, processes


def shares_samples(callback: Callable) -> Callable:
    """The function of a command whose samples the processes of torchrun share; the first one prints and writes."""

    @functools.wraps(callback)
    def run(*values: Any, **options: Any) -> Any:
        with distributed_samples() as group:
            group.check_same({"the command": f"'{_base.typed().splitlines()[-1]}'"})
            return callback(*values, **options)

    return run


def in_one_process(callback: Callable) -> Callable:
    """The function of a command that writes files and shares nothing: started several times, all would write them."""

    @functools.wraps(callback)
    def run(*values: Any, **options: Any) -> Any:
        if several():
            raise SettingError(
                "torchrun has started this command in several processes, which would all write the same files: start "
                "it once, or unset WORLD_SIZE"
            )
        return callback(*values, **options)

    return run


def resumes(callback: Callable) -> Callable:
    """The function of a command that continues from --checkpoint; below ``shares_samples`` in the list of decorators.

    The file is removed when the command has delivered its result.
    """

    @functools.wraps(callback)
    def run(*values: Any, checkpoint: Path | None, resume: bool, **options: Any) -> Any:
        if checkpoint is None:
            return callback(*values, **options)
        # with the other outputs, of which none may be the same file
        _base.check_outputs(checkpoint, options.get("output"), reports=options.get("reports", ()))
        with ts.resumable(checkpoint, resume=resume):
            return callback(*values, **options)

    return _base.options(
        click.option(
            "--checkpoint",
            type=click.Path(path_type=Path, dir_okay=False),
            help="File for finished batches: rerun to resume. Removed at the end.",
        ),
        click.option(
            "--resume/--no-resume", default=True, show_default=True, help="Continue from an existing checkpoint."
        ),
    )(run)


def deliver(result: Any, reports: tuple[Path, ...], as_json: bool) -> None:
    """Write the reports of a result and show it; of several processes only in the first one."""

    def work() -> None:
        for path in reports:
            report.save(result, path, command=_base.typed())
        if as_json:
            _base.print_json(result.to_json())
        else:
            report.show(result)

    processes().in_first(work)
