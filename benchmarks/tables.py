"""README's results, made from the JSON that the benchmarks wrote; ``make bench`` calls it, a test compares.

python benchmarks/tables.py
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
SHOWN = ("8", "16", "32", "64", "128", "256")
MARKS = ("<!-- results -->", "<!-- end of results -->")


def accuracy() -> list[str]:
    content = json.loads((HERE / "accuracy.json").read_text())
    settings, rows = content["settings"], content["rows"]
    first = next(iter(rows.values()))
    lines = [
        f"ResNet-20 (16-32-64), {settings['data']}, first {settings['samples']:,} test images, ANN {100 * first['ann']:.2f} %; accuracy in %",
        f"after T time steps (`benchmarks/accuracy.py`, torch {content['versions']['torch']}, seed {settings['seed']}, "
        f"{settings['calibration_samples']:,} calibration images):",
        "",
        f"| | {' | '.join(f'T={t}' for t in SHOWN)} |",
        f"|---|{'---:|' * len(SHOWN)}",
    ]
    for name, row in rows.items():
        cells = [f"{100 * row['curve'][t]['accuracy']:.2f}" if t in row["curve"] else "" for t in SHOWN]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        if "delayed_curve" in row:
            late = row["delayed_curve"]
            cells = [f"{100 * late[t]['accuracy']:.2f}" if t in late else "" for t in SHOWN]
            lines.append(f"| {name}, read from step {row['delay']} on | {' | '.join(cells)} |")
    lines += [
        "",
        "Layer-synchronous answers are ready after 20 · T steps; the others after T. An empty cell was not run.",
        "SpikingJelly's local threshold balancing moves its thresholds once a calibration batch: 50 batches of 20 here.",
    ]
    return lines


def speed() -> list[str]:
    content = json.loads((HERE / "speed.json").read_text())
    lines = [
        "",
        f"Speed on a CPU, same network, {content['rows'][0]['threads']} threads, medians of one run (`benchmarks/speed.py`); "
        "ratio = time / (T × ANN forward):",
        "",
        "| engine | T | batch | ms | ratio to ANN | ratio to best peer |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in content["rows"]:
        lines.append(f"| {row['engine']} | {row['timesteps']} | {row['batch']} | {1000 * row['seconds']:.0f} | "
                     f"{row['ratio_to_ann']:.2f} | {row['ratio_to_best_peer']:.2f} |")  # fmt: skip
    added = content["added_mib"]
    text = ", ".join(f"{value:.0f} MiB at T={t}" for t, value in added.items())
    return [*lines, "", f"Added memory of the fused engine, batch 32: {text}."]


def results() -> str:
    parts = ["## Results", ""]
    if (HERE / "accuracy.json").exists():
        parts += accuracy()
    if (HERE / "speed.json").exists():
        parts += speed()
    return "\n".join([MARKS[0], "", *parts, "", MARKS[1]])


def main() -> None:
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(MARKS[0]) + ".*?" + re.escape(MARKS[1]), re.DOTALL)
    README.write_text(pattern.sub(lambda _: results(), text), encoding="utf-8")


if __name__ == "__main__":
    main()
