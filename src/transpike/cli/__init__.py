"""The command line of the Python interface.

This module imports neither torch nor the commands: help, version and completion of the command names answer at once.
A command's module is imported when the command is used.

Exit codes: 0 ok · 2 usage · 3 model · 4 gate · 5 file or data · 130 interrupted · 141 closed pipe (``cli/_errors.py``).
"""

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from transpike.cli._common import add_common
from transpike.cli._completion import stand_in
from transpike.cli._errors import ClosedPipe, State, outcome
from transpike.cli._threads import sleep_while_waiting
from transpike.core.spelling import nearest
from transpike.results.terminal import printable_streams

COMMANDS = {
    "demo": "Quick demo: train, convert, evaluate and report on digits.",
    "recipes": "List the conversion methods, or show one.",
    "models": "List the networks of the zoo, or show a trained one.",
    "train": "Train a network, for example for a conversion.",
    "break-even": "Train until the SNN costs less energy than its quantised baseline.",
    "inspect": "Print a network layer by layer; check whether it fits a chip.",
    "convert": "Convert a trained network to a spiking one.",
    "finetune": "Fine-tune a converted network.",
    "evaluate": "Measure accuracy over time, latency and activity.",
    "compare": "Compare recipes on one network; select the best one.",
    "energy": "Estimate the energy, compared with the quantised ANN.",
    "explain": "Find the causes of the accuracy drop, layer by layer.",
    "cuts": "Compare hybrids: spikes up to a layer, the ANN after it.",
    "exit": "Fit an early exit with a guaranteed bound.",
    "export": "Write a network for other tools, proven spike for spike.",
    "report": "Write all results as one page.",
    "push": "Upload a network to a hub, verified, with a model card.",
    "reproduce": "Reproduce the numbers of a paper, next to the published ones.",
    "verify": "Compare the engines' spikes on a file.",
    "doctor": "Show the features of this installation.",
}
"""Command → its line in ``transpike --help``, in the order of use."""


@contextlib.contextmanager
def _pipe() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ClosedPipe from None


class _Group(click.Group):
    """Commands that are imported when they are used; errors are printed by ``outcome``."""

    def list_commands(self, ctx: click.Context | None) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context | None, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        if ctx is not None and ctx.resilient_parsing:  # a shell asks for completion
            return stand_in(cmd_name)
        if cmd_name not in self.commands:
            module = "exit_" if cmd_name == "exit" else cmd_name.replace("-", "_")  # exit is a function of Python
            found: click.Command = importlib.import_module(f"transpike.cli.{module}").command  # imports torch
            found.short_help = COMMANDS[cmd_name]
            self.commands[cmd_name] = add_common(found)
        return self.commands[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no such command: {args[0]!r}{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
        with formatter.section("Options of every command"):
            formatter.write_dl(
                [
                    ("--config FILE.toml", "Read options from a file; flags win."),
                    ("-q, --quiet / -v, --verbose", "Print less, or more."),
                    ("-h, --help", "Show the options of a command."),
                ]
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["transpike.typed"] = tuple(args)
        return super().parse_args(ctx, args)

    def make_context(self, *values: Any, **extra: Any) -> click.Context:
        with _pipe():
            return super().make_context(*values, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _pipe():
            return super().invoke(ctx)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        sleep_while_waiting()  # before a command imports torch
        words = (sys.argv[1:] if args is None else list(args)) or ["--help"]
        state = extra.setdefault("obj", State("--json" in words))
        run: Callable[[], Any] = lambda: super(_Group, self).main(words, prog_name, complete_var, False, **extra)  # noqa: E731
        with printable_streams():
            return sys.exit(outcome(run, state)) if standalone_mode else run()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="transpike", prog_name="transpike")
def main() -> None:
    """Convert trained PyTorch networks to spiking neural networks, and measure accuracy, latency and energy."""
