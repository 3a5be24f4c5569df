"""The command line: the sentences of the Python interface, with exit codes 0 ok · 2 usage · 3 model · 4 gate."""

import errno
import sys

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
    """Turns transpike's errors into one line on stderr and their exit code; keeps what was typed for reports."""

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
            if error.errno == errno.EPIPE:  # whoever reads our output has closed it, which click knows about
                raise
            click.echo(f"error: {error}", err=True)
            sys.exit(2)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="transpike")
def main() -> None:
    """Turn trained PyTorch networks into spiking neural networks, and know what you gained."""


for _command in commands:
    main.add_command(_command)
