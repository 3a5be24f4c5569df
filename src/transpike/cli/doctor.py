"""transpike doctor."""

import importlib.util
import os
import platform

import click
import torch

import transpike as ts
from transpike import engines

_EXTRAS = {"report": "matplotlib", "images": "PIL", "vision": "torchvision", "bench": "spikingjelly"}


@click.command("doctor")
def command() -> None:
    """Say what this installation can do and how to get the rest."""
    click.echo(
        f"transpike {ts.__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    click.echo(f"engines: {', '.join(sorted(engines.table))}")
    click.echo(f"event engine's native library: {engines.event_status()[1]}")
    for extra, package in _EXTRAS.items():
        found = importlib.util.find_spec(package) is not None
        click.echo(
            f"extra [{extra}]: " + ("installed" if found else f"not installed (pip install 'transpike[{extra}]')")
        )
    click.echo(f"TRANSPIKE_DATA: {os.environ.get('TRANSPIKE_DATA') or 'not set (only digits is embedded)'}")
