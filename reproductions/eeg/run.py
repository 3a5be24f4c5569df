"""EEG: valence and arousal on DEAP where its files are, and one recording of eye state from end to end.

    python reproductions/eeg/run.py [--data-dir DATA]

Needs transpike[ecg]. On DEAP: the published split (parts of one trial in both sets) and the splits by trial and by
subject; then from one label to the other. Without its files those claims are "not measured". Eye state needs
eeg_eye_state.npz; the last 30 % of two minutes of one person are the test. Writes result.json and tables.md next to this file.
"""

import argparse
import json
import platform
import sys
from dataclasses import replace
from pathlib import Path

import torch

import transpike as ts
from transpike.results.writing import write_atomically

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured, lost, rows

HERE = Path(__file__).parent
LEVELS = 8
SPLITS = ("segment", "trial", "subject")
OTHER = {"valence": "arousal", "arousal": "valence"}


def recipe() -> ts.recipes.QCFS:
    return ts.recipes.QCFS(timesteps=LEVELS, schedule=ts.schedules.LayerSynchronous(), weight_bits=8)


def trained(dataset: ts.data.Dataset, network: str, epochs: int, seed: int, module: torch.nn.Module | None = None):
    """``module``, or a new network, after training; the last epoch, so that nothing is chosen on the test."""
    if module is None:
        torch.manual_seed(seed)
        module, _ = ts.models.build(f"zoo:{network}", input_shape=dataset.image_shape)
        module = ts.prepare(module, ts.activations.QuantisedClip(levels=LEVELS, threshold=4.0))
    rate = 0.05
    ts.train(
        module,
        dataset,
        ts.Training(epochs=epochs, learning_rate=rate, augment="none", validation_fraction=0.0, seed=seed),
    )
    return module


def measured(module: torch.nn.Module, dataset: ts.data.Dataset) -> ts.Report:
    spaced = torch.arange(500) * len(dataset.train) // 500
    calibration = dataset.train.batches(250, indices=spaced)
    snn = ts.convert(module, recipe(), calibration, preprocessing=dataset.preprocessing)
    return ts.evaluate(snn, dataset.test.batches(500), answers=(LEVELS,))


def transferred(data_dir: Path | None, label: str, split: str, epochs: int, seed: int) -> tuple[ts.Report, ts.Report]:
    """``label`` with a separate network, and with one that was trained on the other label first.

    The same segments are tested for both labels, so that the first training has seen none of them.
    """
    own = ts.data.load("deap", data_dir, label=label, split=split, split_seed=seed)
    other = ts.data.load("deap", data_dir, label=OTHER[label], split=split, split_seed=seed)
    alone = measured(trained(own, "eeg-power", epochs, seed), own)
    first = trained(replace(other, test=other.test.subset([])), "eeg-power", epochs, seed)
    return alone, measured(trained(own, "eeg-power", epochs, seed, first), own)


def on_deap(data_dir: Path | None, epochs: int, seed: int) -> dict[str, dict[str, ts.Report]]:
    """Split → claim → report; empty without DEAP's files."""
    found: dict[str, dict[str, ts.Report]] = {}
    try:
        for split in SPLITS:
            found[split] = {}
            for label in OTHER:
                alone, after = transferred(data_dir, label, split, epochs, seed)
                found[split] |= {label: alone, f"{OTHER[label]}-to-{label}": after}
                print(
                    f"{split}, {label}: {alone.final.accuracy:.2%}, transferred {after.final.accuracy:.2%}", flush=True
                )
    except ts.errors.DataError as error:
        if any(found.values()):
            raise
        print(error, flush=True)
        return {}
    return found


def values(deap: dict[str, dict], eyes: dict, constant: float) -> dict[str, Measured]:
    """Claim → what was measured for it, of reports as JSON; ``constant``: the accuracy of always the same answer."""
    found = {}
    for name, report in deap.get("segment", {}).items():
        value = 100 * report["snn"]["accuracy"]
        reason = f"{value:.2f} %: fewer epochs than published, and 8 steps instead of 100"
        found[name] = Measured(value, report["samples"], reason=reason)
    ann, snn = eyes["ann"]["accuracy"], eyes["snn"]["accuracy"]
    useless = (
        f"the network is right on {ann:.1%} of windows, and always the same answer on {constant:.1%}: it has learnt nothing that a "
        "conversion could lose"
    )
    found["eye-state-conversion"] = lost(ann, snn, eyes["samples"], not_judged=useless if ann <= constant else "")
    return found


def row(name: str, report: ts.Report) -> str:
    last = report.final
    return (f"| {name} | {report.ann_accuracy:.2%} ({report.ann_low:.2%} to {report.ann_high:.2%}) | {last.accuracy:.2%} "
            f"({last.low:.2%} to {last.high:.2%}) | {report.ann_macs / 1e3:,.0f} | {last.synaptic_operations / 1e3:,.0f} | "
            f"{last.macs / 1e3:,.0f} | {last.total_steps} |")  # fmt: skip


HEAD = ["| | ANN (95 %) | SNN (95 %) | ANN, k multiplications | SNN, k synaptic operations | SNN, k multiplications left | steps |",
        "|---|---|---|---:|---:|---:|---:|"]  # fmt: skip


def tables(deap: dict[str, dict[str, ts.Report]], eyes: ts.Report, dataset: ts.data.Dataset) -> str:
    closed = int((dataset.test.labels == 1).sum()) / len(dataset.test)
    parts = ["# EEG: what was measured", "", "Made by `python reproductions/eeg/run.py`; numbers are in result.json.", "",
             "## Eye state, split by time", "",
             f"One recording of one person: {len(dataset.train)} windows of one second from its first 70 %, {len(dataset.test)} from the "
             f"last 30 %, of which {closed:.1%} closed.", "It shows that a 1-D network runs from end to end, and nothing about people. Windows "
             "overlap, so that the intervals are", f"too narrow. Always answering the commoner state would give {max(closed, 1 - closed):.1%}.", "", *HEAD, row(f"eeg-windows, T={LEVELS}, 8-bit weights", eyes), "",
             "## DEAP", ""]  # fmt: skip
    if not deap:
        return "\n".join([*parts, "Not measured: its files need a signed agreement.", ""])
    parts += [
        "The split by segment is the published one and tests on pieces of trials that were trained on.",
        "",
        *HEAD,
    ]
    parts += [row(f"{name}, by {split}", report) for split, reports in deap.items() for name, report in reports.items()]
    return "\n".join([*parts, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", action="store_true", help="Measure nothing; judge what result.json holds.")
    arguments = parser.parse_args()
    if arguments.judge:
        path = HERE / "result.json"
        content = json.loads(path.read_text())
        settings = {name: content["rows"][0][name] for name in ("seed", "epochs", "versions")}
        content["rows"] = rows(
            HERE, values(content["deap"], content["eye_state"], content["constant answer"]), settings
        )
        write_atomically(path, json.dumps(content, indent=1).encode())
        return
    torch.set_num_threads(1)
    dataset = ts.data.load("eeg-eye-state", arguments.data_dir)
    eyes = measured(trained(dataset, "eeg-windows", arguments.epochs, arguments.seed), dataset)
    deap = on_deap(arguments.data_dir, arguments.epochs, arguments.seed)
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    settings = {"seed": arguments.seed, "epochs": arguments.epochs, "versions": versions}
    closed = int((dataset.test.labels == 1).sum()) / len(dataset.test)
    content = {
        "eye_state": eyes.to_json(),
        "deap": {split: {name: r.to_json() for name, r in reports.items()} for split, reports in deap.items()},
        "constant answer": max(closed, 1 - closed),
    }
    content["rows"] = rows(HERE, values(content["deap"], content["eye_state"], content["constant answer"]), settings)
    write_atomically(HERE / "result.json", json.dumps(content, indent=1).encode())
    write_atomically(HERE / "tables.md", tables(deap, eyes, dataset).encode())
    print(tables(deap, eyes, dataset))
    for line in content["rows"]:
        print(line["id"], line["status"], line["measured"])


if __name__ == "__main__":
    main()
