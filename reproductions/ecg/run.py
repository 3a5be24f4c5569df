"""ECG on MIT-BIH: a small network screens every beat, a second one tells the classes of those it passes on.

    python reproductions/ecg/run.py [--data-dir DATA] [--seeds 0 1 2]

Needs mitbih_arrhythmia.npz in DATA or TRANSPIKE_DATA, and transpike[ecg]. Trains on 18 patients of DS1 with quantised
clips, chooses the epoch on its other 4 (108, 114, 118, 124), and converts to neurons that sum, then fire, with 8-bit
weights. DS2's 22 patients are only tested on. Then the other protocol, reported apart: the networks of the first seed are
trained on each DS2 patient's first 5 minutes, and tested on the rest. Writes result.json and tables.md next to this file.
"""

import argparse
import copy
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

import transpike as ts
from transpike.core.schedule import Schedule
from transpike.data import mitbih
from transpike.results.writing import write_atomically
from transpike.workflow.cascade import CascadeReport, Outcome, cascade

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from judging import Measured, rows

HERE = Path(__file__).parent
REASONS = {
    "spiking-costs-little": "the neurons give the trained staircase, so that this is what weights of 8 bits cost; class F, whose "
    "few beats count a quarter of a macro-F1, makes it large",
    "else": "settings and epochs were chosen on DS1 alone, whose four held-out patients have few such beats, of other kinds "
    "than DS2's",
}  # fmt: skip
CLASS = {"supraventricular-sensitivity": 1, "ventricular-sensitivity": 2}
LEVELS = 8
STREAMED, STREAMED_BEATS = 50, 2000
BALANCE = {"screen": 0.5, "classes": 0.7}
OPTIONS = {"rhythm": "both"}
INTERVALS = {
    "none": "Beats carry no intervals.",
    "past": "Each beat carries the intervals to the beats before it.",
    "both": "Each beat carries the intervals to the beats before and after it, so that its answer comes a beat late.",
}


def recipe(timesteps: int = LEVELS, schedule: Schedule | None = None) -> ts.recipes.QCFS:
    """Neurons that integrate over a whole window and then fire (sum-spikes-and-fire), unless a schedule is given."""
    return ts.recipes.QCFS(
        timesteps=timesteps, schedule=schedule or ts.schedules.LayerSynchronous(), weight_bits=8,
    )  # fmt: skip


def trained(task: str, data_dir: Path | None, epochs: int, seed: int, checkpoints: Path | None) -> torch.nn.Module:
    checkpoint = checkpoints / f"ecg-{task}-{seed}.safetensors" if checkpoints else None
    dataset = ts.data.load("mitbih", data_dir, task=task, balance=BALANCE[task], **OPTIONS)
    torch.manual_seed(seed)
    module, _ = ts.models.build(f"zoo:ecg-{task}", input_shape=dataset.image_shape)
    module = ts.prepare(module, ts.activations.QuantisedClip(levels=LEVELS, threshold=4.0))
    beats = replace(dataset, test=dataset.validation.subset([]))  # the test has no part in training
    start = time.perf_counter()
    result = ts.train(
        module, beats, ts.Training(epochs=epochs, learning_rate=0.05, warmup_epochs=1, seed=seed), checkpoint=checkpoint
    )
    accuracy = [round(row.validation_accuracy, 4) for row in result.history]
    print(
        f"seed {seed} {task}: epoch {result.best_epoch} of {accuracy}, {time.perf_counter() - start:.0f} s", flush=True
    )
    return module


def converted(module: torch.nn.Module, dataset: ts.data.Dataset, **settings) -> ts.SNN:
    spaced = torch.arange(1000) * len(dataset.train) // 1000
    return ts.convert(module, recipe(**settings), dataset.train.batches(250, indices=spaced))


def patient_wise(modules: dict[str, torch.nn.Module], data_dir: Path | None, epochs: int) -> CascadeReport:
    """Each DS2 patient with networks that were trained on, with that patient's first 5 minutes and common beats."""
    whole: CascadeReport | None = None
    for patient in mitbih.DS2:
        networks = []
        for task, module in modules.items():
            dataset = ts.data.load("mitbih", data_dir, task=task, patient=patient, **OPTIONS)
            own = copy.deepcopy(module)
            ts.train(
                own, dataset, ts.Training(epochs=epochs, learning_rate=0.005, batch_size=64, validation_fraction=0.0)
            )
            networks.append(converted(own, dataset))
        report = cascade(*networks, dataset.test.batches(1000))
        print(f"patient {patient}: ANN {report.ann.accuracy:.2%}, SNN {report.snn.accuracy:.2%}", flush=True)
        whole = report if whole is None else replace(
            whole, ann=whole.ann + report.ann, snn=whole.snn + report.snn, exact=whole.exact and report.exact,
            ties=whole.ties + report.ties,
        )  # fmt: skip
    return whole


def values(ds2: dict[str, dict]) -> dict[str, Measured]:
    """Claim → the mean over seeds, of reports as JSON; n are beats of the class that the claim is about."""
    found = {
        "overall-accuracy": lambda r: 100 * r["snn"]["accuracy"],
        "ventricular-sensitivity": lambda r: 100 * r["snn"]["sensitivity"][2],
        "supraventricular-sensitivity": lambda r: 100 * r["snn"]["sensitivity"][1],
        "abnormal-recall": lambda r: 100 * r["snn"]["abnormal_recall"],
        "normal-recall": lambda r: 100 * r["snn"]["normal_recall"],
        "spiking-costs-little": lambda r: r["snn"]["macro_f1"] - r["ann"]["macro_f1"],
    }
    confusion = next(iter(ds2.values()))["snn"]["confusion"]
    beats = [sum(row) for row in confusion]
    counts = {name: beats[place] for name, place in CLASS.items()}
    counts |= {"normal-recall": beats[0], "abnormal-recall": sum(beats[1:])}
    got = {}
    for name, of in found.items():
        by = {f"seed {seed}": of(report) for seed, report in ds2.items()}
        spread = f"{min(by.values()):.3g} to {max(by.values()):.3g} over {len(by)} seeds: "
        reason = spread + REASONS.get(name, REASONS["else"])
        got[name] = Measured(statistics.mean(by.values()), counts.get(name, sum(beats)), by=by, reason=reason)
    return got


def outcome_rows(name: str, outcome: Outcome) -> str:
    low, high = outcome.interval
    both = " | ".join(f"{s:.1%} / {p:.1%}" for s, p in zip(outcome.sensitivity, outcome.predictive_value, strict=True))
    return (f"| {name} | {outcome.accuracy:.2%} ({low:.2%} to {high:.2%}) | {both} | {outcome.macro_f1:.3f} | "
            f"{outcome.normal_recall:.1%} / {outcome.abnormal_recall:.1%} | {outcome.forwarded:.1%} |")  # fmt: skip


def cost_row(name: str, outcome: Outcome) -> str:
    cost = outcome.cost
    numbers = (cost.macs, cost.synaptic_operations, cost.membrane_updates, cost.weights_fetched, cost.accesses)
    return f"| {name} | " + " | ".join(f"{number / 1e3:,.1f}" for number in numbers) + " |"


HEAD = ["| | overall (95 %) | N | S | V | F | macro-F1 | screen: normal / abnormal | to the second network |",
        "|---|---|---|---|---|---|---:|---|---:|"]  # fmt: skip


def tables(
    reports: dict[int, CascadeReport], streamed: CascadeReport, patients: CascadeReport | None, normal: float
) -> str:
    seed, first = next(iter(reports.items()))
    parts = ["# ECG on MIT-BIH: what was measured", "", "Made by `python reproductions/ecg/run.py`; numbers are in result.json.", "",
             INTERVALS[OPTIONS["rhythm"]], f"All beats called normal: {normal:.2%}. Class columns: sensitivity / positive predictive value. Intervals are",
             "Wilson's as if beats were independent; those of one patient are not, so that they are too narrow.", "",
             f"## Between patients: trained on DS1, tested on DS2, {first.snn.samples} beats", "", *HEAD]  # fmt: skip
    for number, report in reports.items():
        parts += [outcome_rows(f"ANN, seed {number}", report.ann)]
        parts += [outcome_rows(f"SNN, T={LEVELS}, 8-bit weights, seed {number}", report.snn)]
    parts += ["", f"Confusion of the SNN, seed {seed}, rows the truth, columns the answer, N S V F:", "", "```",
              *(" ".join(f"{count:6d}" for count in row) for row in first.snn.confusion), "```", "",
              f"Neurons that sum, then fire: {first.total_steps[0]} steps to the screen's answer, {first.total_steps[1]} more to the second's.", "",
              f"## Streaming neurons, T={STREAMED}, on {streamed.snn.samples} of these beats, evenly spaced", "", *HEAD,
              outcome_rows("ANN", streamed.ann), outcome_rows(f"SNN, streaming, T={STREAMED}", streamed.snn), "",
              "## What a beat takes, both networks, in thousands", "",
              "| | multiplications | synaptic operations | membrane updates | weights fetched | memory accesses |", "|---|---:|---:|---:|---:|---:|",
              cost_row("ANN", first.ann), cost_row(f"SNN, T={LEVELS}", first.snn), cost_row(f"SNN, streaming, T={STREAMED}", streamed.snn), "",
              "Memory accesses as in `transpike.cascade.Cost`; the SNN's multiplications are those of the first layers, whose",
              "input is analogue.", "",
              "## Patient-wise: trained on each DS2 patient's first 5 minutes as well, tested on the rest", ""]  # fmt: skip
    if patients is None:
        return "\n".join([*parts, "Not measured.", ""])
    parts += [f"Another protocol, not to be compared with the above; {patients.snn.samples} beats, seed {seed}.", "", *HEAD,
              outcome_rows("ANN", patients.ann), outcome_rows(f"SNN, T={LEVELS}, 8-bit weights", patients.snn)]  # fmt: skip
    return "\n".join([*parts, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--checkpoints", type=Path, help="Where trainings are kept, to resume a killed run.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--rhythm", choices=["none", "past", "both"], default="both",
        help="Intervals between beats; only with both the answer waits for the next beat. Others write another folder.",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=HERE, help="Where result.json and tables.md go.")
    parser.add_argument("--judge", action="store_true", help="Measure nothing; judge what result.json holds.")
    arguments = parser.parse_args()
    OPTIONS["rhythm"] = arguments.rhythm
    if arguments.judge:
        path = arguments.output / "result.json"
        content = json.loads(path.read_text())
        kept = ("samples", "seeds", "epochs", "versions")
        content["rows"] = rows(HERE, values(content["ds2"]), {name: content["rows"][0][name] for name in kept})
        write_atomically(path, json.dumps(content, indent=1).encode())
        return
    if arguments.rhythm != "both" and arguments.output == HERE:
        parser.error("the claims are about --rhythm both: give another --output")
    torch.set_num_threads(1)
    dataset = ts.data.load("mitbih", arguments.data_dir, **OPTIONS)
    test = dataset.test
    normal = int((test.labels == 0).sum()) / len(test)
    reports, validated, modules, networks = {}, {}, {}, []
    for seed in arguments.seeds:
        pair = {
            task: trained(task, arguments.data_dir, arguments.epochs, seed, arguments.checkpoints)
            for task in ("screen", "classes")
        }
        networks = [converted(module, dataset) for module in pair.values()]
        validated[seed] = cascade(*networks, dataset.validation.batches(1000))
        print(f"seed {seed}, patients held out of DS1:\n{outcome_rows('SNN', validated[seed].snn)}", flush=True)
        reports[seed] = cascade(*networks, test.batches(1000))
        print(f"seed {seed}, DS2:\n{outcome_rows('SNN', reports[seed].snn)}", flush=True)
        modules = modules or pair
    spaced = torch.arange(STREAMED_BEATS) * len(test) // STREAMED_BEATS
    streaming = [
        converted(module, dataset, timesteps=STREAMED, schedule=ts.schedules.Streaming()) for module in modules.values()
    ]
    streamed = cascade(*streaming, test.batches(500, indices=spaced))
    versions = {"torch": torch.__version__, "python": platform.python_version(), "transpike": ts.__version__}
    settings = {"samples": {"train": len(dataset.train), "validation": len(dataset.validation), "test": len(test)},
                "seeds": arguments.seeds, "epochs": arguments.epochs, "versions": versions}  # fmt: skip

    def write(patients: CascadeReport | None) -> None:
        content = {
            "rows": rows(HERE, values({str(s): r.to_json() for s, r in reports.items()}), settings),
            "all_normal": normal,
            "held_out_of_ds1": {str(seed): report.to_json() for seed, report in validated.items()},
            "ds2": {str(seed): report.to_json() for seed, report in reports.items()},
            "streaming": streamed.to_json(),
            "patient_wise": None if patients is None else patients.to_json(),
        }
        write_atomically(arguments.output / "result.json", json.dumps(content, indent=1).encode())
        write_atomically(arguments.output / "tables.md", tables(reports, streamed, patients, normal).encode())

    write(None)  # the other protocol takes a while
    write(patient_wise(modules, arguments.data_dir, arguments.epochs))
    print((arguments.output / "tables.md").read_text())
    for row in json.loads((arguments.output / "result.json").read_text())["rows"]:
        print(row["id"], row["status"], row["measured"])


if __name__ == "__main__":
    main()
