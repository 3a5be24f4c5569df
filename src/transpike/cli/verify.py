"""transpike verify."""

from pathlib import Path

import click
import torch

import transpike as ts
from transpike.cli import _base, _inputs
from transpike.engines import event_status
from transpike.errors import GateFailed


@click.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@_base.data_options
@_inputs.of_file
@click.option("--samples", type=click.IntRange(1), default=4, show_default=True, help="Samples to simulate.")
@click.option("--timesteps", type=click.IntRange(1), help="Time steps to simulate (default: the recipe's, at most 32).")
@_base.json_option
@_base.threads_option
def command(
    file: Path,
    data_name: str,
    data_dir: Path | None,
    samples: int,
    timesteps: int | None,
    as_json: bool,
    threads: int | None,
) -> None:
    """Verify a file's checksum, and compare the spikes of every layer between the fast engines and the reference."""
    _base.with_threads(threads)
    snn = ts.load(file)
    dataset = _base.load_data(data_name, data_dir, snn)
    snn = _inputs.adapted(snn, dataset)
    split = dataset.test if len(dataset.test) else dataset.train
    x = split.batch(torch.arange(min(samples, len(split))))[0]
    steps = timesteps or min(snn.timesteps, 32)
    names = ["dense", "event"] if snn.schedule.mode == "steps" and event_status()[0] else ["dense"]
    cells = [node.name for node in snn.graph.cells]
    reference = ts.simulate(snn, x, steps, engine="reference", record=cells)
    traces = {name: ts.simulate(snn, x, steps, engine=name, record=cells) for name in names}
    counts = [
        (cell, float(reference.trains[cell].abs().sum()), [_differing(reference, t, cell) for t in traces.values()])
        for cell in cells
    ]
    different = [cell for cell, _, found in counts if any(found)]
    answers = {name: float((t.logits - reference.logits).abs().max()) for name, t in traces.items()}
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
                "largest_difference_of_logits": answers,
            }
        )
    else:
        for cell, sent, found in counts:
            others = ", ".join(f"{engine} differs in {n:,}" for engine, n in zip(names, found, strict=True) if n)
            click.echo(f"{cell:30} {sent:12,.0f} levels sent  {others or 'equal'}")
        click.echo(
            f"{file}: checksum correct, {len(counts) - len(different)} of {len(counts)} layers equal, for every neuron "
            f"and time step, between {', '.join(['reference', *names])} over {len(x)} samples, T={steps}"
        )
        if not exact:
            why = next(trace.why for trace in traces.values() if not trace.exact)
            click.echo(f"not exact, so engines may differ: {why}")
    if exact and (different or any(answers.values())):
        raise GateFailed(
            f"engines differ in {', '.join(different or ['the answer'])} although the run is on the exact grid"
        )


def _differing(reference: ts.Trace, other: ts.Trace, cell: str) -> int:
    """Number of different values in a layer's train."""
    first, second = reference.trains[cell].double(), other.trains[cell].double()
    if len(first) != len(second):  # slots and one pass: a neuron fires once, and its level gives the slot
        first, second = first.sum(0), second.sum(0)
    return int((first != second).sum())
