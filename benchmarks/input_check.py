"""How often data of the same set, and data with another preprocessing, are taken for foreign inputs.

    python benchmarks/input_check.py --data-dir DATA [--sets digits mnist …]

Statistics of 500, 100 and 8 random training samples; then runs over test samples: all at once, in batches of one, 8 and 32 that
are runs of their own, and the samples of one class (all, and the first 8). Wrong preprocessing: the same statistics against
0..255, 0..1, normalised twice and -1..1. Counts are runs with an error, with a warning, and all. Writes input_check.json next
to this file; docs/inputs.md quotes it.
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

import transpike as ts
from transpike.core.input_check import InputCheck
from transpike.core.input_statistics import InputStatistics
from transpike.encoders import ConstantCurrent
from transpike.errors import DataError
from transpike.files import write_atomically

HERE = Path(__file__).parent
SETS = ("digits", "mnist", "fashion-mnist", "cifar10", "tiny-imagenet", "eeg-eye-state", "mitbih")
CALIBRATED, TESTED = (500, 100, 8), 600
UNIT = ts.Preprocessing()
Change = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--sets", nargs="*", default=SETS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {name: measured(ts.data.load(name, arguments.data_dir)) for name in arguments.sets}
    write_atomically(HERE / "input_check.json", json.dumps(found, indent=1).encode())


def measured(data: ts.data.Dataset) -> dict[str, dict[str, str]]:
    """{"500 calibration samples": {"runs of 8": "errors/warnings/runs", …}, …} of one data set."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(data.test), generator=generator)[:TESTED]
    test, labels = UNIT(data.test.batch(chosen)[0]), data.test.labels[chosen]
    normal = None if data.preprocessing.is_identity else data.preprocessing
    found: dict[str, dict[str, str]] = {}
    for count in CALIBRATED:
        train = UNIT(data.train.batch(torch.randperm(len(data.train), generator=generator)[:count])[0])
        classes = [test[labels == label] for label in labels.unique() if int((labels == label).sum()) >= 8]
        same = {
            "all": [test], "runs of 1": test.split(1), "runs of 8": test.split(8), "runs of 32": test.split(32),
            "classes": classes, "first 8 of a class": [one[:8] for one in classes],
        }  # fmt: skip
        rows = {name: counted(train, runs) for name, runs in same.items()}
        if normal is not None:
            rows |= {
                name: counted(right(train), [wrong(test), *wrong(test).split(8)])
                for name, right, wrong in wrongs(normal)
            }
        found[f"{count} calibration samples"] = rows
        print(data.name, count, rows, flush=True)
    return found


def wrongs(normal: ts.Preprocessing) -> list[tuple[str, Change, Change]]:
    """(name, preprocessing of the calibration, that of the run) of values in 0..1."""

    def same(x: Tensor) -> Tensor:
        return x

    return [
        ("0..255 instead of 0..1", same, lambda x: 255 * x),
        ("0..255 instead of normalised", normal, lambda x: 255 * x),
        ("0..1 instead of normalised", normal, same),
        ("normalised instead of 0..1", same, normal),
        ("normalised twice", normal, lambda x: normal(normal(x))),
        ("0..1 instead of 0..255", lambda x: 255 * x, same),
        ("0..1 instead of -1..1", lambda x: 2 * x - 1, same),
        ("-1..1 instead of 0..1", same, lambda x: 2 * x - 1),
    ]


def counted(calibrated: Tensor, runs: Iterable[Tensor]) -> str:
    known = InputStatistics.of(calibrated.split(64))
    errors = warnings = total = 0
    for x in runs:
        check, total = InputCheck(known, None, ConstantCurrent()), total + 1
        try:
            check.add(x)
            warnings += bool(check.finished())
        except DataError:
            errors += 1
    return f"{errors}/{warnings}/{total}"


if __name__ == "__main__":
    main()
