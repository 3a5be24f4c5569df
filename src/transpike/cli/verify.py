"""transpike verify."""

from pathlib import Path

import click
import torch

import transpike as ts
from transpike.cli import _base
from transpike.errors import GateFailed


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@_base.data_options
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True)
@click.option("--timesteps", type=click.IntRange(1), help="Steps to simulate (default: the recipe's, at most 32).")
@_base.json_option
def command(
    file: Path, data_name: str, data_dir: Path | None, samples: int, timesteps: int | None, as_json: bool
) -> None:
    """Check a file's checksum, then compare every layer's spikes between the fused engine and the reference."""
    snn = ts.load(file)
    dataset = _base.load_data(data_name, data_dir)
    split = dataset.test if len(dataset.test) else dataset.train
    x = split.batch(torch.arange(min(samples, len(split))))[0]
    steps = timesteps or min(snn.timesteps, 32)
    fused, reference = (ts.simulate(snn, x, steps, engine=name) for name in ("fused", "reference"))
    counts = [
        (a.name, float(a.spikes.sum()), float(b.spikes.sum()))
        for a, b in zip(fused.activity.layers, reference.activity.layers, strict=True)
    ]
    different = [name for name, a, b in counts if a != b]
    if as_json:
        _base.print_json(
            {
                "file": str(file),
                "samples": len(x),
                "timesteps": steps,
                "exact": fused.exact,
                "layers_that_differ": different,
            }
        )
    else:
        for name, a, b in counts:
            click.echo(f"{name:30} {a:12,.0f} spikes  {'equal' if a == b else f'reference {b:,.0f}'}")
        click.echo(
            f"{file}: checksum right, {len(counts) - len(different)} of {len(counts)} layers equal "
            f"over {len(x)} samples, T={steps}"
        )
    if different and fused.exact:
        raise GateFailed(f"engines differ in {', '.join(different)} although the run is on the exact grid")
