"""Networks in every export format, run back from the files: what differs, how much spikes, how large the files are.

    python benchmarks/export.py [--data-dir DATA] [--models-dir MODELS] [--only digits resnet20] [--formats c golden]

digits: the network of `transpike demo`, T=64, 50 test digits; digits-bytes: with input_bits=8; digits-average: with average pooling, T=32;
digits-cat: first spikes in 24 slots, trained for them, logarithmic weights of 5 bits, bytes; resnet20: CIFAR, T=16, 4 test images; resnet20-ttfs: first spikes
with a linear kernel in 8 slots, 2 images; resnet20-max: with maximum pooling (3, 1, padding 1) after the first activation; ecg: heartbeats, one axis, T=16;
nmnist: frames of events. digits-sigma-delta, digits-bursts and digits-windows are other neurons and whole windows, resnet20-sigma-delta is a residual network of
them. What a network needs and is not there is left out. Accuracy: of the integer networks, on the first test samples (`ACCURACY`). A format has one function, which says what
is particular to it. Writes export.json next to this file and the tables of docs/export.md (`--page`: only the tables).
"""

import argparse
import functools
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import transpike as ts
from transpike import exporters
from transpike.activations import TimeToFirstSpike
from transpike.errors import UnsupportedModel
from transpike.exporters.exporter import Exporter
from transpike.lowering.whole import Samples, Trains, Whole
from transpike.lowering.whole_form import samples_of, whole_form
from transpike.lowering.whole_run import run_whole
from transpike.results.writing import write_atomically
from transpike.workflow.export import refuse, trains_of

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs/export.md"
ACCURACY = {
    "digits": 540, "digits-bytes": 540, "digits-average": 540, "digits-cat": 540, "resnet20": 100,
    "ecg": 1000, "nmnist": 100,
}  # fmt: skip
PART = 50


@dataclass(frozen=True, eq=False)
class Case:
    """A converted network with its test set, and how many of its samples are exported."""

    snn: ts.SNN
    test: Any
    samples: int


def trained(module: nn.Module, dataset: Any, epochs: int, preprocessing: Any = None) -> nn.Module:
    settings = ts.Training(epochs=epochs, learning_rate=0.05, batch_size=64, seed=0, validation_fraction=0.0)
    ts.train(module, dataset, settings, preprocessing=preprocessing)
    return module.eval()


@functools.cache
def small_cnn_module(average: bool) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    module, spec = ts.models.build("zoo:small-cnn", num_classes=10, in_channels=1)
    if average:
        module.pool = nn.AvgPool2d(2)
    return trained(module, ts.data.load("digits"), 12, spec.preprocessing), spec


def small_cnn(recipe: ts.recipes.Recipe, average: bool = False, input_bits: int | None = None) -> Case:
    digits = ts.data.load("digits")
    module, spec = small_cnn_module(average)
    snn = ts.convert(module, recipe, digits.train.batches(64), preprocessing=spec.preprocessing, input_bits=input_bits)
    return Case(snn, digits.test, 50)


def digits(data: Path, models: Path) -> Case:
    return small_cnn(ts.recipes.ECC(timesteps=64))


def digits_bytes(data: Path, models: Path) -> Case:
    return small_cnn(ts.recipes.ECC(timesteps=64), input_bits=8)


def digits_average(data: Path, models: Path) -> Case:
    return small_cnn(ts.recipes.ECC(timesteps=32), average=True)


def digits_sigma_delta(data: Path, models: Path) -> Case:
    return small_cnn(ts.recipes.StreamingSigmaDelta(timesteps=16))


def digits_bursts(data: Path, models: Path) -> Case:
    return small_cnn(ts.recipes.BurstLIP(timesteps=16, percentile=90.0))


def digits_windows(data: Path, models: Path) -> Case:
    return small_cnn(ts.recipes.ECC(timesteps=16, schedule=ts.schedules.LayerSynchronous()))


def digits_cat(data: Path, models: Path) -> Case:
    digits = ts.data.load("digits")
    torch.manual_seed(0)
    module, spec = ts.models.build("zoo:small-cnn", num_classes=10, in_channels=1)
    trained(module, digits, 12, spec.preprocessing)
    images = spec.preprocessing(digits.train.batch(torch.arange(512))[0])
    module = ts.prepare(module, TimeToFirstSpike(24, 4.0), images)
    settings = ts.Training(
        epochs=6, learning_rate=0.01, batch_size=64, seed=0, validation_fraction=0.0, stages={"clip": 1, "quantise": 3}
    )
    ts.train(module, digits, settings, preprocessing=spec.preprocessing)
    recipe = ts.recipes.CAT(timesteps=24, tau=4.0, weight_bits=5)
    snn = ts.convert(module, recipe, digits.train.batches(64), preprocessing=spec.preprocessing, input_bits=8)
    return Case(snn, digits.test, 50)


def resnet20(data: Path, models: Path) -> Case:
    return pictures(data, models, ts.recipes.ECC(timesteps=16))


def resnet20_ttfs(data: Path, models: Path) -> Case:
    return replace(pictures(data, models, ts.recipes.LinearTTFS(timesteps=8)), samples=2)  # of 168 steps


def resnet20_max(data: Path, models: Path) -> Case:
    return pictures(data, models, ts.recipes.ECC(timesteps=16), pool=True)


def resnet20_sigma_delta(data: Path, models: Path) -> Case:
    return pictures(data, models, ts.recipes.StreamingSigmaDelta(timesteps=8))


def pictures(data: Path, models: Path, recipe: ts.recipes.Recipe, pool: bool = False) -> Case:
    module, spec = ts.models.build("zoo:resnet20-16-32-64", weights=models / "resnet20-cifar10.safetensors")
    test = ts.data.load(f"npz:{data / 'cifar10_lossless_5k.npz'}").test
    images = test.batch(torch.arange(len(test) - 128, len(test)))[0]  # the last ones calibrate, the first are run
    if pool:  # its weights were trained without it: the spikes are compared, not the answers
        module.layer1.insert(0, nn.MaxPool2d(3, 1, 1))
    snn = ts.convert(module.eval(), recipe, images, preprocessing=spec.preprocessing)
    return Case(snn, test, 4)


def ecg(data: Path, models: Path) -> Case:
    beats = ts.data.load("mitbih", data_dir=data)
    torch.manual_seed(0)
    module, _ = ts.models.build("zoo:ecg-classes")
    trained(module, beats, 1)
    snn = ts.convert(module, ts.recipes.ECC(timesteps=16), beats.train.batches(64, limit=256))
    return Case(snn, beats.test, 20)


def nmnist(data: Path, models: Path) -> Case:
    events = ts.data.load(f"npz:{data / 'nmnist_small.npz'}", bins=10)
    torch.manual_seed(0)
    module, _ = ts.models.build("zoo:events-cnn", input_shape=events.image_shape)
    trained(module, events, 8)
    recipe = ts.recipes.ECC(timesteps=10, encoder=ts.encoders.EventFrames())
    return Case(ts.convert(module, recipe, events.train.batches(50, limit=500)), events.test, 5)


NETWORKS: dict[str, Callable[[Path, Path], Case]] = {
    "digits": digits, "digits-bytes": digits_bytes, "digits-average": digits_average, "digits-cat": digits_cat, "digits-sigma-delta": digits_sigma_delta, "digits-bursts": digits_bursts, "digits-windows": digits_windows,
    "resnet20": resnet20, "resnet20-ttfs": resnet20_ttfs, "resnet20-max": resnet20_max, "resnet20-sigma-delta": resnet20_sigma_delta, "ecg": ecg, "nmnist": nmnist,
}  # fmt: skip


def size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else sum(file.stat().st_size for file in path.rglob("*"))


def of_c(path: Path) -> dict[str, Any]:
    """Memory, and operations next to the ANN's."""
    costs = json.loads((path / "net.json").read_text())["costs"]
    return {name: costs[name] for name in ("flash", "ram", "additions", "updates", "ann_macs", "ratio")}


def of_others(path: Path) -> dict[str, Any]:
    return {}


FORMATS: dict[str, tuple[str, Mapping[str, Any], Callable[[Path], dict[str, Any]]]] = {
    "golden": ("golden", {}, of_others),
    "onnx": ("onnx", {}, of_others),
    "c": ("c", {}, of_c),
    "c, 8-bit weights": ("c", {"weight_bits": 8}, of_c),
    "nir": ("nir", {}, of_others),
}
"""Heading → format, its settings, what is particular to it."""


def row(
    exporter: Exporter, whole: Whole, given: Samples, expected: Trains, special: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """What one format gives: differing spikes and totals, the rate of spikes, and the size of what was written."""
    try:
        refuse(exporter, whole)
        written = exporter.written(whole)
    except UnsupportedModel as error:
        return {"refused": str(error)}
    if written is not whole:
        expected = run_whole(written, given)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net{exporter.suffix}"
        exporter.write(written, path, given, expected)
        found = {"missing": exporter.missing(), "bytes": size(path), **special(path)}
        if not found["missing"]:
            back = exporter.run(path, given)
            found["differing"] = sum(int((back.levels[name] != train).sum()) for name, train in expected.levels.items())
            found["totals"] = int((back.totals != expected.totals).sum())
    spikes = sum(int((train != 0).sum()) for train in expected.levels.values())
    places = sum(train.size // (len(train) if whole.first_spikes else 1) for train in expected.levels.values())
    return found | {"spikes": spikes, "rate": spikes / places}


def accuracy(case: Case, whole: Whole, written: Whole, count: int) -> dict[str, Any]:
    """Of the first test samples, for transpike's network and the written one."""
    count, right = min(count, len(case.test)), [0, 0]
    for start in range(0, count, PART):  # spikes of all layers and steps are kept
        x, labels = case.test.batch(torch.arange(start, min(count, start + PART)))
        program, ids = case.snn.program, torch.arange(start, start + len(x))
        given = samples_of(program, whole, case.snn.prepare(x), ids, whole.timesteps)
        for k, form in enumerate((whole, written)):
            right[k] += int((run_whole(form, given).totals.argmax(1) == labels.numpy()).sum())
    return {"accuracy_samples": count, "accuracy": right[1] / count, "accuracy_transpike": right[0] / count}


def measured(name: str, case: Case, formats: list[str]) -> dict[str, Any]:
    x = case.test.batch(torch.arange(case.samples))[0]
    preprocessing = case.snn.preprocessing
    ends = None if preprocessing is None else preprocessing.whole
    whole = whole_form(case.snn.program, case.snn.timesteps, ends)
    given, expected = trains_of(case.snn, whole, x, whole.timesteps, case.samples)
    rows = {}
    for heading in formats:
        format, settings, special = FORMATS[heading]
        if format not in exporters.table:
            continue
        exporter = exporters.table[format](**settings)
        rows[heading] = row(exporter, whole, given, expected, special)
        written = whole if "refused" in rows[heading] else exporter.written(whole)
        if name in ACCURACY and (written is not whole or (whole.first_spikes and heading == "c")):
            rows[heading] |= accuracy(case, whole, written, ACCURACY[name])
        print(name, heading, rows[heading], flush=True)
    slots = {"slots": whole.window} if whole.first_spikes else {}
    return {"timesteps": case.snn.timesteps, **slots, "samples": case.samples, "layers": len(expected.levels), "formats": rows}  # fmt: skip


def tables(content: Mapping[str, Any]) -> str:
    """The tables of docs/export.md."""
    lines = ["| network | T | samples | format | spikes | rate | differing spikes | differing totals | size |", "|---|" + "---:|" * 2 + "---|" + "---:|" * 5]  # fmt: skip
    costs = ["| network | format | constants | state | additions | updates of neurons | multiplications of the ANN | operations per multiplication | accuracy |", "|---|---|" + "---:|" * 7]  # fmt: skip
    for name, case in content["networks"].items():
        for heading, one in case["formats"].items():
            start = f"| {name} | {case['timesteps']} | {case['samples']} | {heading} "
            if "refused" in one:
                lines.append(f"{start}| refused: {one['refused']} | | | | |")
                continue
            told = (f"{one['differing']:,}", f"{one['totals']:,}") if not one["missing"] else ("not verified",) * 2
            lines.append(f"{start}| {one['spikes']:,} | {one['rate']:.1%}{' of neurons' if 'slots' in case else ''} | {told[0]} | {told[1]} | {one['bytes'] / 1000:,.0f} kB |")  # fmt: skip
            if "flash" in one:
                before = "" if "slots" in case else f"without rounding {one.get('accuracy_transpike', 0):.1%}, "
                same = f"{one['accuracy']:.1%} ({before}n={one['accuracy_samples']})" if "accuracy" in one else ""
                costs.append(f"| {name} | {heading} | {one['flash'] / 1000:,.1f} kB | {one['ram'] / 1000:,.1f} kB | {one['additions']:,.0f} | {one['updates']:,} | {one['ann_macs']:,} | {one['ratio']:.1f} | {same} |")  # fmt: skip
    return "\n".join(lines) + "\n\n" + "\n".join(costs) + "\n"


BEGIN, END = "<!-- benchmarks/export.py -->\n", "<!-- end -->\n"


def write_page(content: Mapping[str, Any]) -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    write_atomically(PAGE, f"{before}{BEGIN}{tables(content)}{END}{after}".encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, default=Path(os.environ.get("TRANSPIKE_DATA", ".")))
    parser.add_argument("--models-dir", type=Path, default=Path(os.environ.get("TRANSPIKE_MODELS", ".")))
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--page", action="store_true", help="Only write the tables, from export.json.")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stored = HERE / "export.json"
    content: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {"networks": {}}
    if not arguments.page:
        for name in arguments.only:
            try:
                case = NETWORKS[name](arguments.data_dir, arguments.models_dir)
            except ts.TranspikeError as error:
                print(f"{name} is left out: {error}")
                continue
            found = measured(name, case, arguments.formats)
            before = content["networks"].get(name, {"formats": {}})["formats"]
            content["networks"][name] = found | {"formats": before | found["formats"]}
            content["networks"] = {name: content["networks"][name] for name in NETWORKS if name in content["networks"]}
            content["versions"] = {"torch": torch.__version__, "numpy": np.__version__, "transpike": ts.__version__}
            write_atomically(stored, json.dumps(content, indent=1).encode())
    write_page(content)
    print(tables(content))


if __name__ == "__main__":
    main()
