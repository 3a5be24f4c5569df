"""docs/results.md and README's headline results, made from the JSON that the benchmarks wrote.

``make bench`` calls it, tests compare.

python benchmarks/tables.py
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
README, PAGE = HERE.parent / "README.md", HERE.parent / "docs/results.md"
SHOWN = ("8", "16", "32", "64", "128", "256")
TEST_IMAGES = 10_000
MARKS = ("<!-- results -->", "<!-- end of results -->")
HEADLINES = ("<!-- headlines -->", "<!-- end of headlines -->")


INT8 = "ANN, ONNX Runtime int8"
SETS = ("AVX-512", "AVX2", "NEON", "baseline")  # the first that was measured is shown; docs/speed.md has all


SHOWN_METHODS = (
    "few-steps", "ecc", "snn-calibration(calibrate='advanced')", "snn-calibration", "rueckauer", "few-steps(neuron='signed')",
    "few-steps(neuron='burst')",
)  # fmt: skip


def methods() -> list[str]:
    """The recipes that a reader meets first, and the best peer at each T; the rest is in docs/methods.md.

    Rows of benchmarks/methods_shown.json, on all test images, take the place of those of methods.json.
    """
    content, times = json.loads((HERE / "methods.json").read_text()), (8, 16, 32, 64)
    first = content["settings"]["samples"]
    rows = _of_methods(content, ("binary", "signed and burst"))
    path = HERE / "methods_shown.json"
    shown = json.loads(path.read_text()) if path.exists() else {"rows": {}, "settings": {"samples": first}}
    whole = _of_methods(shown, tuple(shown["rows"]))
    lines = [
        f"Which recipe? ResNet-20 (16-32-64), {content['settings']['data']}, {_images(rows, whole)}; accuracy in %",
        "after T time steps, streaming, no training (`benchmarks/methods.py`; every recipe, intervals, operations, windows and",
        "phase cycles: [methods](methods.md)):",
        "",
        f"| | spikes | test images | {' | '.join(f'T={t}' for t in times)} |",
        f"|---|---|---:|{'---:|' * len(times)}",
    ]
    for name in SHOWN_METHODS:
        samples, of = (len(whole[name][8]["right"]), whole[name]) if name in whole else (first, rows[name])
        cells = [f"{100 * of[t]['accuracy']:.2f}" if t in of else "" for t in times]
        lines.append(f"| `{name}` | {', '.join(of[8]['alphabets'])} | {_count(samples)} | {' | '.join(cells)} |")
    few, many = content["peers"], shown.get("peers") or {}
    for peers, kinds in ((many, f"the better of {' and '.join(many)}"), (few, f"the best of its {len(few)} at each T")):
        if peers:
            right = [
                max((peer["right"][str(t)] for peer in peers.values()), key=lambda one: one.count("1")) for t in times
            ]
            cells = [f"{100 * one.count('1') / len(one):.2f}" for one in right]
            lines.append(f"| SpikingJelly 2.0, {kinds} | binary | {_count(len(right[0]))} | {' | '.join(cells)} |")
    picture = "![Accuracy against total steps and synaptic operations](../benchmarks/methods.png)"
    return [*lines, *_easier(content, whole), "", picture, ""]


def _easier(content: dict, whole: dict) -> list[str]:
    """What the first test images hide: points that few-steps loses at T=32 on them, and on the others, in one run."""
    if "few-steps" not in whole:
        return []
    row, ann = whole["few-steps"][32], next(iter(content["peers"].values()))["ann"]  # of the first images
    first, others = len(ann), len(row["right"]) - len(ann)
    lost_first = ann.count("1") - row["right"][:first].count("1")
    lost = round(row["drop"] * len(row["right"])) - lost_first
    return ["",
            f"The first images are easier: `few-steps` at T=32 loses {100 * lost_first / first:.2f} points on the first {first:,}, and "
            f"{100 * lost / others:.2f} on the other", f"{others:,} of the same run."]  # fmt: skip


def _of_methods(content: dict, groups: tuple[str, ...]) -> dict[str, dict[int, dict]]:
    """Recipe → T → row; recipes without an answer at the first T are left out."""
    found: dict[str, dict[int, dict]] = {}
    for row in (row for group in groups for row in content["rows"].get(group, ()) if "accuracy" in row):
        found.setdefault(row["recipe"].removesuffix("()"), {})[row["timesteps"]] = row
    return {name: of for name, of in found.items() if 8 in of}


def _images(rows: dict, whole: dict) -> str:
    """The ANN's accuracy on the images of both, and by how much the first ones are easier."""
    few = next(iter(rows.values()))[8]
    ann = f"ANN {100 * few['ann_accuracy']:.2f} % on the {_count(len(few['right']))} test images"
    if not whole:
        return ann
    all_ann = f"ANN {100 * next(iter(whole.values()))[8]['ann_accuracy']:.2f} % on all test images"
    return f"{all_ann}, {100 * few['ann_accuracy']:.2f} % on the {_count(len(few['right']))}"


def _count(samples: int) -> str:
    return f"{samples:,}" if samples == TEST_IMAGES else f"first {samples:,}"


def accuracy() -> list[str]:
    content = json.loads((HERE / "accuracy.json").read_text())
    settings, rows = content["settings"], content["rows"]
    anns = ", ".join(
        f"{100 * ann:.2f} % on {'all' if n == TEST_IMAGES else f'the first {n:,}'} test images"
        for n, ann in sorted({(row["samples"], row["ann"]) for row in rows.values()}, reverse=True)
    )
    torches = ", ".join(sorted({row["versions"]["torch"] for row in rows.values()}))
    lines = [
        f"ResNet-20 (16-32-64), {settings['data']}, ANN {anns}; accuracy in %",
        f"after T time steps (`benchmarks/accuracy.py`, torch {torches}, seed {settings['seed']}, "
        f"{settings['calibration_samples']:,} calibration images):",
        "",
        f"| | test images | {' | '.join(f'T={t}' for t in SHOWN)} |",
        f"|---|---:|{'---:|' * len(SHOWN)}",
    ]
    for name, row in rows.items():
        cells = [f"{100 * row['curve'][t]['accuracy']:.2f}" if t in row["curve"] else "" for t in SHOWN]
        lines.append(f"| {name} | {_count(row['samples'])} | {' | '.join(cells)} |")
        if "delayed_curve" in row:
            late = row["delayed_curve"]
            cells = [f"{100 * late[t]['accuracy']:.2f}" if t in late else "" for t in SHOWN]
            lines.append(
                f"| {name}, read from step {row['delay']} on | {_count(row['samples'])} | {' | '.join(cells)} |"
            )
    lines += [
        "",
        "Layer-synchronous answers are ready after 20 · T steps, the others after T. Empty cells were not run.",
        "SpikingJelly's local threshold balancing changes its thresholds once per calibration batch: here 50 batches of 20 images.",
    ]
    return lines


def speed() -> list[str]:
    content = json.loads((HERE / "results.json").read_text())
    machine, isa = content["machine"], next(isa for isa in SETS if any(row["isa"] == isa for row in content["rows"]))
    rows = [row for row in content["rows"] if row["recipe"] == "ecc" and row["isa"] == isa]
    lines = [
        "",
        f"Speed on a CPU ({isa}, {machine['threads']} threads, torch {machine['versions']['torch']}): "
        "every engine and library runs the same",
        "converted graph; milliseconds, and in brackets time / (T × ANN forward) of the same run (`benchmarks/speed.py`):",
    ]
    for network in dict.fromkeys(row["network"] for row in rows):
        for batch in sorted({row["batch"] for row in rows}, reverse=True):
            part = [row for row in rows if (row["network"], row["batch"]) == (network, batch)]
            part = [_of_int8(row) for row in part if row["graph"] != "source" or row["engine"] == INT8]
            if part:
                lines += ["", *_speed_of(f"{network}, batch {batch}", part)]
    return [*lines, *_notes(content, rows)]


def _of_int8(row: dict) -> dict:
    """One forward pass of the ANN in int8 beside T steps of the others."""
    return (
        row
        if row["engine"] != INT8 or not row["ratio_to_ann"]
        else row | {"ratio_to_ann": row["ratio_to_ann"] / row["timesteps"]}
    )


def _speed_of(title: str, rows: list[dict]) -> list[str]:
    steps = sorted({row["timesteps"] for row in rows})
    lines = [f"| {title} | {' | '.join(f'T={t}' for t in steps)} |", f"|---|{'---:|' * len(steps)}"]
    for engine in dict.fromkeys(row["engine"] for row in rows):
        found = {row["timesteps"]: row for row in rows if row["engine"] == engine and row["seconds"]}
        if found:
            lines.append(f"| {engine} | {' | '.join(_cell(found.get(t)) for t in steps)} |")
    return lines


def _cell(row: dict | None) -> str:
    if row is None:
        return ""
    void = "†" if "void" in row else ""
    digits = 1 if row["seconds"] < 0.1 else 0
    return f"{1000 * row['seconds']:.{digits}f} ({row['ratio_to_ann']:.2f}){void}"


def _notes(content: dict, rows: list[dict]) -> list[str]:
    lines = [""]
    for network in dict.fromkeys(row["network"] for row in rows):
        ours = [row for row in rows if (row["network"], row["engine"], row["batch"]) == (network, "transpike auto", 32)]
        facts = []
        for row in ours:
            accuracy = "" if row["snn_accuracy"] is None else f", accuracy {100 * row['snn_accuracy']:.1f} %"
            added = "" if row["added_mib"] is None else f", {row['added_mib']:.0f} MiB added"
            ratio = (
                f"{1 / row['ratio_to_best_peer']:.1f} times as fast as SpikingJelly's best"
                if row["ratio_to_best_peer"]
                else ""
            )
            facts.append(
                f"T={row['timesteps']}: {ratio}, spike rate {100 * row['mean_spike_rate']:.1f} %{accuracy}{added}"
            )
        lines.append(f"- {network} ({ours[0]['weights']} weights), auto, batch 32: {'; '.join(facts)}.")
    exact = _exact(content)
    lines.append(
        f"- Spike counts that differ from the float64 reference, all transpike rows together: "
        f"{sum(row['differing_counts'] for row in exact):,} of {sum(row['compared_counts'] for row in exact):,}."
    )
    for row in content.get("shapes", []):
        lines.append(
            f"- {row['network']}, T={row['timesteps']}, batch {row['batch']}: event {1000 * row['event_seconds']:.1f} ms, dense {1000 * row['dense_seconds']:.1f} ms."
        )
    if any("void" in row for row in rows):
        lines.append("- † In this group the ANN or SpikingJelly ran outside its usual range: do not quote.")
    if "rates" in content:
        lines += ["", "![Cost against firing rate](../benchmarks/rates.png)"]
    return lines


def _exact(content: dict) -> list[dict]:
    """The rows whose spike counts were compared with those of the reference."""
    return [
        row for row in content["rows"] if row["engine"].startswith("transpike") and row["differing_counts"] is not None
    ]


def results() -> str:
    parts = []
    if (HERE / "methods.json").exists():
        parts += methods()
    if (HERE / "accuracy.json").exists():
        parts += accuracy()
    if (HERE / "results.json").exists():
        parts += speed()
    return "\n".join([MARKS[0], "", *parts, "", MARKS[1]])


def headlines() -> str:
    """Four results and their commands, for README."""
    lines = ["| result | measured by |", "|---|---|", *(f"| {text} | {by} |" for text, by in _headlines())]
    return "\n".join([HEADLINES[0], "", *lines, "", HEADLINES[1]])


def _headlines() -> list[tuple[str, str]]:
    stored = json.loads((HERE / "reconstruction.json").read_text())["resnet20"]
    learned = sorted(
        (row for row in stored["rows"] if "reconstruct='network'" in row["recipe"] and "neuron" not in row["recipe"]),
        key=lambda row: row["timesteps"],
    )
    steps = ", ".join(
        f"{100 * row['accuracy']:.1f} % at T = {row['timesteps']} ({100 * row['drop']:.2f} points lost)"
        for row in learned
    )
    accuracy = (
        f"**Accuracy without labels.** ResNet-20 on CIFAR-10 (JPEG copy), binary spikes, all "
        f"{_count(learned[0]['samples'])} test images: {steps}; ANN {100 * learned[0]['ann_accuracy']:.1f} %. "
        f"{stored['network']['calibration_samples']:,} images, at most "
        f"{max(row['cpu_seconds'] for row in learned) / 60:.0f} CPU minutes"
    )
    content = json.loads((HERE / "results.json").read_text())
    timed = [row for row in content["rows"] if row["network"].startswith("resnet20") and row["recipe"] == "ecc"]
    timed = [row for row in timed if (row["batch"], row["timesteps"]) == (32, 32) and "void" not in row]
    isa = next(isa for isa in SETS if any(row["isa"] == isa and row["engine"] == "transpike auto" for row in timed))
    auto = next(row for row in timed if row["isa"] == isa and row["engine"] == "transpike auto")
    int8 = next((row for row in timed if row["isa"] == isa and row["engine"] == INT8), None)
    than = "" if int8 is None else f"; the ANN in int8 takes {1000 * int8['seconds']:.1f} ms"
    speed = (
        f"**Speed.** The same network, batch of 32, 32 steps: {1000 * auto['seconds']:.1f} ms on "
        f"{content['machine']['threads']} threads, {1 / auto['ratio_to_best_peer']:.1f} times as fast as SpikingJelly's "
        f"best{than}"
    )
    exact = (
        f"**Exactness.** Spike counts of the fast engines that differ from the float64 reference: "
        f"{sum(row['differing_counts'] for row in _exact(content)):,} of "
        f"{sum(row['compared_counts'] for row in _exact(content)):,}"
    )
    large = json.loads((HERE / "imagenet.json").read_text())
    four = next(row for row in large["rows"] if (row["recipe"], row["T"]) == ("sigma-delta", 4))
    imagenet = (
        f"**Large networks.** EfficientNet-Lite0 with ImageNet weights agrees with the ANN on "
        f"{100 * four['agreement']:.1f} % of {large['images']:,} pictures after 4 steps, for "
        f"{four['operations / MACs']:.1f} additions per multiplication of the ANN"
    )
    return [
        (accuracy, "`python benchmarks/reconstruction.py`"),
        (speed, "`python benchmarks/speed.py`"),
        (exact, "`python benchmarks/speed.py`"),
        (imagenet, "`python benchmarks/imagenet.py`"),
    ]


def replaced(path: Path, marks: tuple[str, str], text: str) -> str:
    """The text of the page with ``text`` in the place between the marks."""
    pattern = re.compile(re.escape(marks[0]) + ".*?" + re.escape(marks[1]), re.DOTALL)
    return pattern.sub(lambda _: text, path.read_text(encoding="utf-8"))


def main() -> None:
    for path, marks, text in ((PAGE, MARKS, results()), (README, HEADLINES, headlines())):
        path.write_text(replaced(path, marks, text), encoding="utf-8")


if __name__ == "__main__":
    main()
