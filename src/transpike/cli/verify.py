"""transpike verify."""

from pathlib import Path

import click
import torch

import transpike as ts
from transpike.cli import _base
from transpike.engines import event_status
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
    """Check a file's checksum, then compare every layer's spikes between the fast engines and the reference."""
    snn = ts.load(file)
    dataset = _base.load_data(data_name, data_dir, snn)
    split = dataset.test if len(dataset.test) else dataset.train
    x = split.batch(torch.arange(min(samples, len(split))))[0]
    steps = timesteps or min(snn.timesteps, 32)
    names = ["fused", "event"] if snn.schedule.every_step and event_status()[0] else ["fused"]
    reference = ts.simulate(snn, x, steps, engine="reference")
    traces = {name: ts.simulate(snn, x, steps, engine=name) for name in names}
    counts = [
        (layer.name, float(layer.spikes.sum()), [float(t.activity.layers[i].spikes.sum()) for t in traces.values()])
        for i, layer in enumerate(reference.activity.layers)
    ]
    different = [name for name, expected, found in counts if any(count != expected for count in found)]
    exact = all(trace.exact for trace in traces.values())
    if as_json:
        _base.print_json(
            {
                "file": str(file),
                "samples": len(x),
                "timesteps": steps,
                "engines": ["reference", *names],
                "exact": exact,
                "layers_that_differ": different,
            }
        )
    else:
        for name, expected, found in counts:
            others = ", ".join(f"{engine} {count:,.0f}" for engine, count in zip(names, found, strict=True))
            click.echo(f"{name:30} {expected:12,.0f} spikes  {others if name in different else 'equal'}")
        click.echo(
            f"{file}: checksum right, {len(counts) - len(different)} of {len(counts)} layers equal "
            f"between {', '.join(['reference', *names])} over {len(x)} samples, T={steps}"
        )
    if different and exact:
        raise GateFailed(f"engines differ in {', '.join(different)} although the run is on the exact grid")
