"""docs/zoo.md, from the catalogue of the trained networks that come with transpike.

python benchmarks/zoo_page.py
"""

import json
from pathlib import Path
from typing import Any

from transpike.results.statistics import wilson

ROOT = Path(__file__).resolve().parents[1]
CATALOGUE = ROOT / "src/transpike/models/zoo/catalogue.json"
PAGE = ROOT / "docs/zoo.md"
INTRODUCTION = """# Networks that come with transpike

Trained networks and their conversions are part of the package: no download, no training.

```python
import transpike as ts

model, spec = ts.models.build("zoo:small-cnn", weights="pretrained")  # a torch.nn.Module; spec.preprocessing is its own
snn = ts.load("zoo:small-cnn")  # the same network, converted
data = ts.data.load("digits")
print(ts.evaluate(snn, data.test.batches(limit=100)).final.accuracy)
for name, one in ts.models.pretrained().items():
    print(name, one.data, one.ann.accuracy, one.snn.accuracy)
```

```bash
transpike models                                   # all networks; transpike models small-cnn shows one
transpike evaluate zoo:small-cnn                   # wherever a command takes a converted FILE
transpike convert --model zoo:small-cnn --weights pretrained --recipe ecc --timesteps 64 --output net.transpike
```

`--weights pretrained` is the network's file of weights; to read a file of this name, write its folder too. The SHA-256 of a
file is compared with the catalogue before it is used. Weights and converted networks have the licences of
[LICENCES.md](../src/transpike/models/zoo/LICENCES.md); data sets do not come with transpike, except for the digits.

"""
RULE = """
**How T and recipe were chosen.** Each network was converted by several recipes and numbers of steps, with 512 training
samples, and measured on held-out samples, which are neither calibration nor test data (they also chose the epoch; those of
ResNet-20 and VGG-8 were training data of their weights). Among the conversions that lose at most 1 point
against the source network there, the one with the fewest synaptic operations is used. A point is one of accuracy; for
heartbeats it is 1 % of answers that are not those of the source network, because nine in ten beats are normal and other
patients are harder, so that accuracy hides what changes. The test samples were measured once, with that one;
those of heartbeats twice, because the rule of one point, which chose T = 2 and lost half of the sensitivity for class S, was replaced
after the first time. Intervals are 95 %: Wilson's of an accuracy, paired of a change. Total steps: until the answer is ready.
Energy: the spiking network against the quantised network that it replaces ([energy](energy.md)).

Half precision: weights are stored as float16, and all numbers are those of the stored weights. `benchmarks/zoo.py` made the
networks and the numbers, and `benchmarks/zoo_page.py` this page.
"""


def percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def accuracy(found: dict[str, int]) -> str:
    low, high = wilson(found["correct"], found["samples"])
    return f"{percent(found['correct'] / found['samples'])} ({100 * low:.2f} to {100 * high:.2f})"


def amount(operations: float) -> str:
    """With three digits, in thousands or millions."""
    return f"{operations / 1e6:.3g} M" if operations >= 999_500 else f"{operations / 1e3:.3g} k"


def favours(energy: dict[str, float]) -> str:
    """How many of the energy models that price both networks make the spiking one cheaper."""
    return f"{sum(ratio < 1 for ratio in energy.values())} of {len(energy)}"


def summary(catalogue: dict[str, Any]) -> list[str]:
    rows = [
        "| network | data | n | ANN (95 %) | SNN (95 %) | T | total steps | synaptic operations / MACs of the ANN | "
        "energy models in favour of the SNN |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, entry in catalogue.items():
        made = entry["conversion"]
        rows.append(
            f"| [`zoo:{name}`](#{name}) | {entry['data']} | {entry['ann']['samples']:,} | {accuracy(entry['ann'])} | "
            f"{accuracy(entry['snn'])} | {made['timesteps']} | {made['total_steps']} | "
            f"{made['synaptic_operations'] / made['ann_macs']:.2f} | {favours(made['energy'])} |"
        )
    return rows


def trained(training: dict[str, Any]) -> str:
    if "where" in training and "settings" in training:
        return f"{training['where']}; {training['epochs']} epochs, {training['cpu_seconds']:.0f} s of one CPU thread"
    if "settings" not in training:
        return f"{training['where']}; the training is not part of transpike"
    settings = training["settings"]
    return (
        f"{training['epochs']} epochs on {training['samples']:,} samples, epoch {training['best_epoch']} is the best of "
        f"{training['held_out']:,} held-out samples; {settings['optimiser']}, learning rate {settings['learning_rate']:g}, "
        f"batches of {settings['batch_size']}; {training['cpu_seconds']:.0f} s of one CPU thread"
    )


def section(name: str, entry: dict[str, Any]) -> list[str]:
    made, training = entry["conversion"], entry["training"]
    options = "".join(f", {key}={value!r}" for key, value in entry["data_options"].items())
    changed = training["changed_by_half_precision"]
    lines = [
        "", f"## {name}", "",
        f"{entry['title'][0].upper()}{entry['title'][1:]}. Input {'×'.join(map(str, entry['input_shape']))}, "
        f"{len(entry['classes'])} classes, {entry['parameters']:,} parameters.", "",
        "| | |", "|---|---|",
        f"| data | {entry['data']}{options}; {entry['data_licence']} |",
        f"| weights | {entry['source']}; licence {entry['licence']} |",
        f"| training | {trained(training)} |",
        f"| made by | `{training['command']}` |",
        f"| test set | {entry['test_set']}, n = {entry['ann']['samples']:,} |",
        f"| ANN | {accuracy(entry['ann'])}; half precision changed {changed} of {entry['ann']['samples']:,} answers |",
        f"| SNN | {accuracy(entry['snn'])}; change {change(made)} points; {percent(made['agreement'])} of the answers are "
        "those of the ANN |",
        f"| recipe | `{made['candidate']}`, {made['total_steps']} total steps, "
        f"{made['calibration_samples']} calibration samples, seed {made['seed']} |",
        f"| work per sample | {amount(made['synaptic_operations'])} synaptic operations and {amount(made['macs'])} "
        f"remaining MACs; ANN {amount(made['ann_macs'])} MACs |",
        f"| energy | {made['verdict']}. SNN / ANN: {ratios(made['energy'])} |",
        f"| report | {report(name, entry)} |",
        *(files(key, entry[key]) for key in ("weights", "converted") if entry[key]),
    ]  # fmt: skip
    if "by_class" in made:
        parts = (
            f"{label} {100 * ann:.1f} / {100 * snn:.1f} %"
            for label, ann, snn in zip(entry["classes"], made["by_class"]["ann"], made["by_class"]["snn"], strict=True)
        )
        lines.append(f"| sensitivity, ANN / SNN | {', '.join(parts)} |")
    lines += ["", f"![Accuracy and energy of {name}, and what both networks cost](pictures/zoo-{name}.png)"]
    lines += ["", "| T | total steps | accuracy (95 %) | synaptic operations |", "|---:|---:|---:|---:|"]
    for answer in made["curve"]:
        found = {"correct": answer["correct"], "samples": entry["snn"]["samples"]}
        lines.append(
            f"| {answer['timesteps']} | {answer['total_steps']} | {accuracy(found)} | "
            f"{amount(answer['synaptic_operations'])} |"
        )
    lines += ["", f"Compared on {made['compared'][0]['samples']:,} held-out samples:", ""]
    what = "answers changed (%)" if "by_class" in made else "points lost"
    lines += [f"| recipe | total steps | {what} | synaptic operations |", "|---|---:|---:|---:|"]
    for row in made["compared"]:
        mark = "**" if row["candidate"] == made["candidate"] else ""
        lines.append(
            f"| {mark}`{row['candidate']}`{mark} | {row['total_steps']} | {row['points_lost']:.1f} | "
            f"{amount(row['synaptic_operations'])} |"
        )
    return lines


def change(made: dict[str, Any]) -> str:
    """SNN minus ANN, in points."""
    return f"{-100 * made['drop']:+.2f} ({-100 * made['drop_high']:+.2f} to {-100 * made['drop_low']:+.2f})"


READ = {"n-mnist": "events:FOLDER"}
"""Data set → how the command line reads it, where it has no name there."""


def report(name: str, entry: dict[str, Any]) -> str:
    """The command that writes the report of a network."""
    if entry["data"] == "mitbih":
        options = ", ".join(f"{key}={value!r}" for key, value in entry["data_options"].items())
        return f"in Python, with the test split of `ts.data.load('mitbih', {options})`"
    if not entry["converted"]:
        recipe = entry["conversion"]["options"]
        return (
            f"`transpike convert --model zoo:{name} --weights pretrained --data {entry['data']} {recipe} --output {name}.transpike`, "
            f"then `transpike report {name}.transpike --data {entry['data']}`"
        )
    return f"`transpike report zoo:{name} --data {READ.get(entry['data'], entry['data'])} --output {name}.html`"


def ratios(energy: dict[str, float]) -> str:
    return ", ".join(f"{model} {ratio:.3g}" for model, ratio in energy.items())


def files(key: str, found: dict[str, Any]) -> str:
    return f"| {key} file | `{found['file']}`, {found['bytes']:,} bytes, SHA-256 `{found['sha256']}` |"


def page() -> str:
    catalogue = json.loads(CATALOGUE.read_text(encoding="utf-8"))
    lines = [*summary(catalogue), RULE.rstrip("\n")]
    for name, entry in catalogue.items():
        lines += section(name, entry)
    return INTRODUCTION + "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
