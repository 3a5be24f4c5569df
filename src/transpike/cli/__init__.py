"""The command line of the Python interface; exit codes 0 ok · 2 usage · 3 model · 4 gate."""

import errno
import sys
from typing import Any

import click

from transpike.cli import (
    compare,
    convert,
    demo,
    doctor,
    energy,
    evaluate,
    exit_,
    explain,
    finetune,
    inspect,
    report,
    train,
    verify,
)
from transpike.errors import TranspikeError
from transpike.results.terminal import printable_streams

commands = (
    compare.command,
    convert.command,
    demo.command,
    doctor.command,
    energy.command,
    evaluate.command,
    exit_.command,
    explain.command,
    finetune.command,
    inspect.command,
    report.command,
    train.command,
    verify.command,
)


class _Group(click.Group):
    """Prints transpike's errors on stderr and exits with their code; keeps the command line for reports."""

    def main(self, *args: Any, **more: Any) -> Any:
        with printable_streams():
            return super().main(*args, **more)

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        context.meta["transpike.typed"] = tuple(args)
        return super().parse_args(context, args)

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except TranspikeError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader closed our output, which click handles
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="transpike")
def main() -> None:
    """Convert trained PyTorch networks to spiking neural networks, and measure accuracy, latency and energy."""


for _command in commands:
    main.add_command(_command)
