"""transpike inspect."""

import dataclasses
from pathlib import Path
from typing import Any

import click
import torch

import transpike as ts
from transpike import chips, report
from transpike.cli import _base, _inputs, _processes
from transpike.core.graph import Graph
from transpike.errors import GateFailed, SettingError
from transpike.lowering.activity import multiplications
from transpike.workflow.chip_fit.run import ChipFit


@click.command("inspect")
@_inputs.optional_file_argument
@_base.model_options
@_base.data_options
@_base.capture_options
@click.option(
    "--fit",
    "chips",
    multiple=True,
    help=f"Check whether FILE fits a chip: {', '.join(chips.names())} or a .toml; repeatable.",
)
@click.option(
    "--report", "reports", type=click.Path(path_type=Path), multiple=True,
    help="Table of the limits of --fit to write: .csv, .md or .tex; repeatable.",
)  # fmt: skip
@_base.json_option
@_processes.in_one_process
def command(
    file: Path | None,
    model_name: str,
    weights: Path | None,
    data_name: str,
    data_dir: Path | None,
    output_name: str | None,
    on_unsupported: Any,
    chips: tuple[str, ...],
    reports: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print a network, one line per layer: a converted FILE, or a --model as transpike reads it.

    --fit compares a converted FILE with the published limits of a chip and lists necessary changes; the exit code is 4
    if limits are violated.
    """
    _base.check_outputs(reports=reports, only_tables=True)
    if chips and file is None:
        raise SettingError("--fit needs a converted FILE: convert the model first")
    if reports and not chips:
        raise SettingError("--report writes the limits of --fit: add --fit")
    fits: list[ChipFit] = []
    known: dict[str, Any] = {}
    if file is not None:
        snn = ts.load(file)
        graph, text = snn.graph, str(snn)
        known = {
            "preprocessing": "unknown" if snn.preprocessing is None else dataclasses.asdict(snn.preprocessing),
            "calibration_inputs": "unknown" if snn.inputs is None else dataclasses.asdict(snn.inputs),
        }
        if snn.is_hybrid:
            known["spiking"] = list(snn.spiking)
            known["analogue"] = {n: _rows(part) for n in ("before", "rest") if (part := getattr(snn, n)) is not None}
        fits = [ts.chip_fit(snn, chip) for chip in chips]
        for path in reports:
            report.save_tables(fits, path)
    else:
        dataset = _base.load_data(data_name, data_dir)
        module, preprocessing = _base.load_model(model_name, weights, dataset)
        split = dataset.train if len(dataset.train) else dataset.test
        example = preprocessing(split.accumulated().batch(torch.arange(2))[0])
        graph = ts.capture(module, example, output=output_name, on_unsupported=on_unsupported)
        text = str(graph)
    if as_json:
        found = {"layers": _rows(graph), "macs": _total(graph), "parameters": _parameters(graph)}
        _base.print_json(found | known | ({"fit": [one.to_json() for one in fits]} if fits else {}))
    else:
        click.echo(text)
        click.echo(f"{_total(graph) / 1e6:.4g} M MACs per sample, {_parameters(graph):,} parameters")
        for one in fits:
            click.echo(one)
    if failed := [one.target.title for one in fits if not one.fits]:
        raise GateFailed(f"the network does not fit {', '.join(failed)}")


def _total(graph: Graph) -> int:
    return multiplications(graph)


def _parameters(graph: Graph) -> int:
    return sum(
        value.numel() for node in graph for name, value in node.op.tensors().items() if name in ("weight", "bias")
    )


def _rows(graph: Graph) -> list[dict[str, Any]]:
    return [
        {
            "name": node.name,
            "op": node.op.describe(),
            "inputs": list(node.inputs),
            "shape": list(node.shape),
            "macs": graph.macs(node),
            "path": node.path,
        }
        for node in graph
    ]
