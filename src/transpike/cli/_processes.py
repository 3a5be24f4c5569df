"""Commands whose samples the processes of torchrun share."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transpike import report
from transpike.cli import _base
from transpike.workflow.distributed import distributed_samples, processes


def shares_samples(callback: Callable) -> Callable:
    """The function of a command whose samples the processes of torchrun share; the first one prints and writes."""

    @functools.wraps(callback)
    def run(*values: Any, **options: Any) -> Any:
        with distributed_samples() as group:
            group.check_same({"the command": f"'{_base.typed().splitlines()[-1]}'"})
            return callback(*values, **options)

    return run


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
