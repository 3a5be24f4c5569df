"""Early exit on ResNet-20: does the bound hold on images that were not used to fit it, and how many steps and seconds are saved?

    python benchmarks/early_exit.py --weights resnet20-cifar10-jpeg.safetensors --data-dir DATA

Every score is fitted on the first 2,000 test images and checked on the other 8,000; equal accuracy is that of the fixed run
on the same 8,000. Seconds: interleaved medians of whole batches of 256, one thread, with samples that have stopped leaving the
batch, against fixed runs of T and of the steps of equal accuracy; and of 32 images one by one. Synaptic operations:
evaluate() on the first 500 of the 8,000. `--checkpoint-cost` measures only the cost of a checkpoint, in steps of the event
engine; `transpike.workflow.early_exit` uses it, rounded.
Writes early_exit.json next to this file, and the table of docs/early-exit.md (`--page` writes only the table, from the JSON).
"""

import argparse
import dataclasses
import itertools
import json
import math
import time
from pathlib import Path

import torch
from machine import description, interleaved

import transpike as ts
from transpike import exits
from transpike.core.exit import ExitPolicy
from transpike.results.statistics import paired_difference, wilson
from transpike.results.writing import write_atomically
from transpike.workflow.early_exit import checkpoints_until, fit_policy

HERE = Path(__file__).parent
FIT, COUNTED, BATCH, TIMED, ALONE = 2000, 500, 100, 256, 32
DROPS, CONFIDENCE, TIMED_SCORE = (0.5, 1.0), 0.95, "confidence"
RECIPES = (
    ts.recipes.ECC(128),
    ts.recipes.SNNCalibration(64),
    ts.recipes.FewSteps(32),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--budget", type=float, default=40.0, help="Seconds a timed function.")
    parser.add_argument(
        "--store", type=Path, default=Path("runs/early_exit"), help="Folder of stored answers; a rerun resumes."
    )
    parser.add_argument(
        "--answers", action="store_true", help="Only the answers, which do not depend on the load of the machine."
    )
    parser.add_argument("--checkpoint-cost", action="store_true", help="Measure only the cost of a checkpoint.")
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if arguments.page:
        return _page(json.loads((HERE / "early_exit.json").read_text()))
    assert arguments.weights is not None, "give --weights"
    torch.set_num_threads(1)
    model, spec = ts.models.build("zoo:resnet20-16-32-64", weights=arguments.weights)
    data = ts.data.load("cifar10", arguments.data_dir)
    calibration = data.train.batch(torch.arange(1000))[0]
    arguments.store.mkdir(parents=True, exist_ok=True)
    cost = _checkpoint_cost(ts.convert(model, RECIPES[0], calibration, preprocessing=spec.preprocessing), data)
    print(json.dumps(cost), flush=True)
    if arguments.checkpoint_cost:
        content = json.loads((HERE / "early_exit.json").read_text()) | {"looks": cost}
        return write_atomically(HERE / "early_exit.json", json.dumps(content, indent=1).encode())
    rows: list[dict] = []
    content = {
        "rows": rows, "looks": cost, "fitted_on": FIT, "images": arguments.images, "machine": description(0),
    }  # fmt: skip
    for recipe in RECIPES:
        snn = ts.convert(model, recipe, calibration, preprocessing=spec.preprocessing)
        file = arguments.store / f"{recipe.name}-{snn.timesteps}-{arguments.images}.pt"
        if not file.exists():
            torch.save([_answers(snn, data, torch.arange(*part)) for part in ((FIT, arguments.images), (0, FIT))], file)
        (logits, y, ann), (before, labels, _) = torch.load(file)
        if arguments.answers:
            continue
        right = logits.argmax(-1) == y
        places = checkpoints_until(snn.timesteps)
        wanted = torch.tensor([*places, snn.timesteps]) - 1
        for score, points in itertools.product(exits.table, DROPS):
            never = (math.inf,) * len(places)
            kind = exits.table[score]()
            start = ExitPolicy(kind, snn.timesteps, places, never, never, points / 100, CONFIDENCE, 0)
            fitted = dataclasses.replace(snn, exit=fit_policy(start, before[wanted].double(), labels))
            assert fitted.exit is not None
            stops = fitted.exit.stops(logits)
            early = right.gather(0, stops[None] - 1)[0]
            enough = right.sum(1) >= early.sum()
            equal = int(enough.byte().argmax()) + 1 if bool(enough.any()) else snn.timesteps
            drop, low, high = (100 * value for value in paired_difference(right[-1], early))
            row = {
                "recipe": str(recipe), "score": score, "T": snn.timesteps, "ann": float(ann),
                "accuracy": float(early.double().mean()), "interval": wilson(int(early.sum()), len(early)),
                "full_accuracy": float(right[-1].double().mean()), "drop": drop, "drop_interval": [low, high],
                "lost": float((right[-1] & ~early).double().mean()), "promised": fitted.exit.drop,
                "mean_steps": float(stops.double().mean()),
                "looks": list(fitted.exit.checkpoints),
                "quantiles": [int(stops.double().quantile(q, interpolation="higher")) for q in (0.5, 0.95, 0.99)],
                "equal_steps": equal, "share": float(stops.double().mean()) / equal,
                "oracle_steps": float(_first(right).double().mean()),
            }  # fmt: skip
            if score == TIMED_SCORE:
                row |= _measured(fitted, data, equal, arguments.budget)
            rows.append(row)
            print(json.dumps(row), flush=True)
            write_atomically(HERE / "early_exit.json", json.dumps(content, indent=1).encode())
    return None if arguments.answers else _page(content)


def _page(content: dict) -> None:
    """The table between the marks of docs/early-exit.md."""
    path = HERE.parent / "docs" / "early-exit.md"
    text = path.read_text()
    head, rest = text.split("<!-- results -->")
    tail = rest.split("<!-- end of results -->")[1]
    checked = content["images"] - content["fitted_on"]
    lines = [
        f"ResNet-20 (16-32-64), CIFAR-10 (JPEG copy): fitted on the first {content['fitted_on']:,} test images, checked on the",
        f"other {checked:,} (`benchmarks/early_exit.py`; ANN {100 * content['rows'][0]['ann']:.2f} % there). Lost: right at T,",
        "wrong at the stop. Equal: the first fixed T of equal accuracy. Seconds (in a batch of 256, and one by one) and",
        "synaptic operations against that T, one thread, the same run.\n",
        "| network | score | bound | lost | accuracy | at T | mean steps (p50, p95, p99) | equal T | share | seconds | SynOps |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in content["rows"]:
        steps = ", ".join(map(str, row["quantiles"]))
        seconds, operations = "", ""
        if "time_over_equal" in row:
            seconds = f"{row['time_over_equal']:.2f}, {row['time_over_equal_alone']:.2f}"
            operations = f"{row['synaptic_operations'] / row['equal_synaptic_operations']:.2f}"
        lines.append(
            f"| `{row['recipe']}` | {row['score']} | {100 * row['promised']:g} | {100 * row['lost']:.2f} | "
            f"{100 * row['accuracy']:.2f} | {100 * row['full_accuracy']:.2f} | {row['mean_steps']:.1f} ({steps}) | "
            f"{row['equal_steps']} | {row['share']:.2f} | {seconds} | {operations} |"
        )
    held = sum(row["lost"] <= row["promised"] for row in content["rows"])
    lines.append(f"\nThe bound held in {held} of {len(content['rows'])} rows.\n")
    write_atomically(path, f"{head}<!-- results -->\n\n{chr(10).join(lines)}\n<!-- end of results -->{tail}".encode())


def _answers(snn: ts.SNN, data: ts.data.Dataset, rest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(T, images, classes) of every step, the labels, and the ANN's accuracy."""
    logits, labels, correct = [], [], 0
    for x, y in data.test.batches(BATCH, indices=rest):
        logits.append(snn.run(x, count=False).logits)
        labels.append(y)
        correct += int((snn.source.run(snn.prepare(x)).argmax(-1) == y).sum())
    return torch.cat(logits, 1), torch.cat(labels), correct / len(rest)


def _checkpoint_cost(snn: ts.SNN, data: ts.data.Dataset) -> dict:
    """c / a of seconds(n, chunk) = n a + n/chunk c, from runs in chunks of 8 and of 32 steps, the best of five each."""
    steps, chunks = 96, (8, 32)
    x = snn.prepare(data.test.batch(torch.arange(FIT, FIT + 128))[0])
    engine, best = ts.engines.table["auto"](), {}
    with torch.inference_mode():
        for chunk in chunks * 5:
            run = engine.start(snn.program, x, torch.arange(len(x)), (), False)
            start = time.perf_counter()
            for _ in range(steps // chunk):
                run.advance(chunk)
            best[chunk] = min(best.get(chunk, math.inf), time.perf_counter() - start)
    checkpoint = (best[8] - best[32]) / (steps / 8 - steps / 32)
    step = (best[32] - steps / 32 * checkpoint) / steps
    return {"in_steps": checkpoint / step, "chunks_of_8_over_32": best[8] / best[32], "seconds": best}


def _first(right: torch.Tensor) -> torch.Tensor:
    """The oracle's stop: the first right answer, the last step where there is none."""
    return torch.where(right.any(0), right.byte().argmax(0), len(right) - 1) + 1


def _measured(fitted: ts.SNN, data: ts.data.Dataset, equal: int, budget: float) -> dict:
    """Seconds and synaptic operations."""
    plain = dataclasses.replace(fitted, exit=None)
    x = data.test.batch(torch.arange(FIT, FIT + TIMED))[0]
    functions = {
        "early": lambda: ts.answer_early(fitted, x),
        "fixed": lambda: ts.simulate(plain, x, count=False),
        "equal": lambda: ts.simulate(plain, x, equal, count=False),
        "early alone": lambda: [ts.answer_early(fitted, x[k : k + 1]) for k in range(ALONE)],
        "equal alone": lambda: [ts.simulate(plain, x[k : k + 1], equal, count=False) for k in range(ALONE)],
    }
    with torch.inference_mode():
        timings = {name: found.median for name, found in interleaved(functions, budget, 0.3, "fixed").items()}
    report = ts.evaluate(fitted, data.test.batches(BATCH, indices=torch.arange(FIT, FIT + COUNTED)))
    assert report.exit is not None
    ratios = {}
    for name, (first, second) in {
        "time_over_fixed": ("early", "fixed"),
        "time_over_equal": ("early", "equal"),
        "time_over_equal_alone": ("early alone", "equal alone"),
    }.items():
        if timings[first] is not None and timings[second] is not None:  # else the machine was too busy to tell
            ratios[name] = timings[first] / timings[second]
    return ratios | {
        "seconds": timings,
        "synaptic_operations": report.exit.synaptic_operations,
        "fixed_synaptic_operations": report.final.synaptic_operations,
        "equal_synaptic_operations": report.at(equal).synaptic_operations,
    }  # fmt: skip


if __name__ == "__main__":
    main()
