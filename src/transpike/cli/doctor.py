"""transpike doctor."""

import importlib.util
import os
import platform

import click
import torch

import transpike as ts
from transpike import engines
from transpike.cli import _base, _threads
from transpike.core import registry
from transpike.core.naming import GROUP, is_ours
from transpike.engines.native import instructions
from transpike.errors import SettingError

_EXTRAS = {
    "report": "matplotlib", "images": "PIL", "vision": "torchvision", "onnx": "onnxruntime", "hub": "huggingface_hub",
    "lightning": "lightning", "tensorboard": "tensorboard", "wandb": "wandb", "bench": "spikingjelly",
}  # fmt: skip


@click.command("doctor")
def command() -> None:
    """Show the features of this installation, and how to install missing ones."""
    _base.with_threads(None)
    click.echo(
        f"transpike {ts.__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    quota = _threads.granted()
    click.echo(f"threads: {_threads.waiting()}" + ("" if quota is None else f"; the container's quota: {quota} CPUs"))
    click.echo(f"engines: {', '.join(sorted(engines.table))}")
    try:
        library, status = engines.event_status()
    except SettingError as error:
        library, status = None, f"not used: {error}"
    click.echo(f"native library of the event engine: {status}")
    if library is not None:
        click.echo(
            f"instruction sets: {', '.join(instructions.compiled(library))} compiled, "
            f"{', '.join(instructions.available(library))} available; {instructions.VARIABLE} chooses one"
        )
    for extra, package in _EXTRAS.items():
        found = importlib.util.find_spec(package) is not None
        click.echo(
            f"extra [{extra}]: " + ("installed" if found else f"not installed (pip install 'transpike[{extra}]')")
        )
    for plugin in registry.plugins():
        state = f"not loaded: {plugin.error}" if plugin.error else "loaded"
        click.echo(f"plug-in {plugin.name} of {plugin}: {state}")
    outside = {kind: [e.name for e in one.entries.values() if not is_ours(e.module)]
               for kind, one in registry.families.items()}  # fmt: skip
    for kind, names in outside.items():
        if names:
            click.echo(f"registered from outside, {kind}: {', '.join(sorted(names))}")
    if not registry.plugins():
        click.echo(f"plug-ins: none installed (entry points {GROUP})")
    click.echo(
        f"TRANSPIKE_DATA: {os.environ.get('TRANSPIKE_DATA') or 'not set (only the digits data set is included)'}"
    )
