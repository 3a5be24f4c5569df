"""Cuts of an event network and of a detector: benchmarks/hybrid.json, hybrid.png and the tables of docs/hybrid.md.

    python benchmarks/hybrid.py --data-dir DATA --models-dir MODELS --folder FOLDER

``events-cnn`` on the 1,000 + 100 recordings of the small N-MNIST (trained here), ECC in whole windows at T = 10; FastestDet with its COCO
weights on the pictures of val2017 with boxes, thresholds from those of train2017, sigma-delta at T = 8. Each network is
converted once, and one run serves all of its cuts (``transpike.cuts``). Finished networks lie in FOLDER.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from detector import RECIPES, SETS, decode, network, pictures
from machine import description

import transpike as ts
from transpike.report.cuts import draw, table
from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "hybrid.md"
BEGIN, END = "<!-- cuts of {}: made by benchmarks/hybrid.py -->\n", "<!-- end of the cuts of {} -->\n"
SEED, EPOCHS, BATCH = 0, 20, 3
MODELS = (ts.energy.Operations(), ts.energy.Lemaire())
SHOWN = ("spikes until", "T", "accuracy (%)", "mAP (%)", "spiking (M SynOps)", "spiking MACs (million)", "analogue MACs (million)",
         "bits across (k)", "operations (µJ)", "lemaire (µJ)", "front")  # fmt: skip


def events(data_dir: Path, folder: Path) -> tuple[ts.SNN, Any]:
    """The event network and its test recordings."""
    data = ts.data.load(f"npz:{data_dir / 'nmnist_small.npz'}", bins=10)
    file = folder / "events.transpike"
    if not file.exists():
        torch.manual_seed(SEED)
        model = ts.models.build("zoo:events-cnn", input_shape=data.image_shape)[0]
        ts.train(
            model,
            data,
            ts.Training(epochs=EPOCHS, learning_rate=0.05, batch_size=64, seed=SEED, validation_fraction=0.0),
        )
        whole_windows = ts.schedules.LayerSynchronous()
        recipe = ts.recipes.ECC(timesteps=10, encoder=ts.encoders.EventFrames(), schedule=whole_windows)
        ts.save(ts.convert(model, recipe, data.train, seed=SEED), file)
    return ts.load(file), data.test.batches(25)


def detector(data_dir: Path, models_dir: Path, folder: Path, images: int) -> tuple[ts.SNN, Any]:
    """The detector and the pictures that it is tested with."""
    x, boxes = pictures(data_dir / SETS["val2017"])
    file = folder / "detector.transpike"
    if not file.exists():
        ts.save(
            ts.convert(network(models_dir), RECIPES["sigma-delta"](), pictures(data_dir / SETS["train2017"])[0]), file
        )
    return ts.load(file), list(zip(x[:images].split(BATCH), boxes[:images].split(BATCH), strict=True))


def told(text: str, name: str, found: dict[str, Any]) -> str:
    """The page with the table of one network between its marks."""
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = text.partition(begin)
    return before + begin + "\n".join(found["table"]) + "\n" + end + rest.partition(end)[2]


def lines(result: Any) -> list[str]:
    """The table in Markdown, with the columns that a page has room for."""
    found = table(result)
    places = [number for number, column in enumerate(found.columns) if column.title in SHOWN]
    head = "| " + " | ".join(found.columns[k].title for k in places) + " |"
    body = [
        "| " + " | ".join(("**{}**" if n in found.strong else "{}").format(found.columns[k].text(row[k])) for k in places) + " |"
        for n, row in enumerate(found.rows)
    ]  # fmt: skip
    return [head, "|---" * len(places) + "|", *body]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("build/hybrid"))
    parser.add_argument("--only", choices=("events", "detector"))
    parser.add_argument("--images", type=int, default=27, help="pictures of the detector")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    output = HERE / "hybrid.json"
    content: dict[str, Any] = json.loads(output.read_text()) if output.exists() else {}
    if arguments.only != "detector":
        snn, data = events(arguments.data_dir, arguments.folder)
        result = ts.cuts(snn, data, answers=(2, 5, 10), models=MODELS)
        content["events"] = result.to_json() | {"table": lines(result), "machine": description(SEED)}
        draw(result, HERE / "hybrid-events.png")
    if arguments.only != "events":
        snn, data = detector(arguments.data_dir, arguments.models_dir, arguments.folder, arguments.images)
        task = ts.tasks.Detection(decode, box_format="cxcywh")
        result = ts.cuts(
            snn,
            data,
            answers=(4, 8),
            models=MODELS,
            task=task,
            progress=lambda done, total: print(done, total, flush=True),
        )
        content["detector"] = result.to_json() | {"table": lines(result), "machine": description(SEED)}
        draw(result, HERE / "hybrid-detector.png")
    write_atomically(output, (json.dumps(content, indent=1) + "\n").encode())
    text = PAGE.read_text()
    for name in content:
        text = told(text, name, content[name])
    write_atomically(PAGE, text.encode())


if __name__ == "__main__":
    main()
