"""Energy of Yan, Bai, Wong 2024: the formulas of `transpike.energy` at the paper's own sparsity and fan-in.

    python reproductions/energy/run.py

Writes result.json and tables.md next to this file. Needs nothing.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import torch

import transpike as ts
from transpike.core.activity import Activity, LayerActivity
from transpike.energy import AnnActivity, AnnLayer, EnergyModel, MemoryHierarchy, SpatialDataflow
from transpike.results.writing import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured
from judging import rows as judged

HERE = Path(__file__).parent
INPUTS, NEURONS = 2395, 1000  # the paper's average fan-in; any number of neurons
SYNAPSES = INPUTS * NEURONS
DENSITY = 0.45  # of the ANN's activations, the paper's best case
STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16)
ANN = AnnActivity((AnnLayer("VGG-16", SYNAPSES, DENSITY * SYNAPSES, 1, 1, 1, 3, 3),))


def network(timesteps: int, sparsity: float) -> Activity:
    events = torch.tensor([timesteps * (1 - sparsity) * SYNAPSES], dtype=torch.float64)
    layer = LayerActivity(
        "VGG-16", "IF", "neuron", NEURONS, "binary", torch.zeros(1), events, NEURONS * timesteps, synapses=SYNAPSES
    )
    return Activity((layer,), 1, {}, (), timesteps)


def ratio(model: EnergyModel, timesteps: int, sparsity: float) -> float:
    snn, ann = model.joule(network(timesteps, sparsity)), model.ann_joule(ANN, True)
    assert snn is not None and ann
    return snn / ann


def break_even(model: EnergyModel, timesteps: int) -> float:
    """The sparsity at which both cost the same."""
    silent, busy = (ratio(model, timesteps, s) for s in (1.0, 0.0))
    return 1 - (1 - silent) / (busy - silent)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    classical, spatial = MemoryHierarchy(), SpatialDataflow()
    found = {
        "table5-classical": ratio(classical, 6, 0.9419), "table5-spatial": ratio(spatial, 6, 0.9419),
        "sparsity-t6-classical": 100 * break_even(classical, 6), "sparsity-t6-spatial": 100 * break_even(spatial, 6),
        "sparsity-t16-classical": 100 * break_even(classical, 16), "best-ratio": ratio(spatial, 6, 0.9419),
    }  # fmt: skip
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    measured = {name: Measured(value) for name, value in found.items()}
    rows = judged(HERE, measured, {"seed": 0, "versions": versions})
    lines = ["# Energy by the formulas of arXiv 2409.08290 v1", "", "Made by `python reproductions/energy/run.py`.", "",
             "| claim | published | by the formulas | |", "|---|---:|---:|---|"]  # fmt: skip
    for row in rows:
        status = row["status"] + (f": {row['reason']}" if row["reason"] else "")
        lines.append(f"| {row['claim']} | {row['published']:g} | {row['measured']:.4g} {row['unit']} | {status} |")
    lines += ["", "## Sparsity at which both cost the same", "", "| T | classical | spatial |", "|---:|---:|---:|"]
    lines += [f"| {t} | {break_even(classical, t):.4f} | {break_even(spatial, t):.4f} |" for t in STEPS]
    write_atomically(HERE / "result.json", json.dumps({"rows": rows}, indent=1).encode())
    write_atomically(HERE / "tables.md", ("\n".join(lines) + "\n").encode())
    print("\n".join(lines))


if __name__ == "__main__":
    main()
