"""--log of the commands that train."""

import click

from transpike.cli import _base
from transpike.training.loggers import Logs

log_option = click.option(
    "--log",
    "log_to",
    multiple=True,
    metavar="KIND:PLACE",
    help="Numbers of every epoch: csv:FILE, tensorboard:FOLDER or wandb:PROJECT; repeatable.",
)


def check(log_to: tuple[str, ...]) -> None:
    """Raise before the work where a log cannot be written."""
    logs = Logs(log_to)
    logs.check()
    _base.check_outputs(*logs.paths)
