"""FastestDet, a detector with its COCO weights, as spiking networks: benchmarks/detector.json, detector.png and docs/detector.md.

    python benchmarks/detector.py --data-dir DATA --models-dir MODELS --folder FOLDER

53 COCO pictures with boxes (27 of val2017, 26 of train2017): each set is tested with thresholds from the other one. The
pictures of train2017 are training pictures of the detector: read the drop, not the mean average precision. The answer
is decoded outside the network, as its authors do. ``lost``: boxes of the ANN with a score of at least 0.5 without a box
of the same class and an IoU of at least 0.5. Finished batches lie in FOLDER; a rerun continues there.
"""

import argparse
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import description
from PIL import Image, ImageDraw
from torch import Tensor, nn

import transpike as ts
from transpike.recipes import ECC, BurstDigits, FewSteps, StreamingSigmaDelta
from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
WEIGHTS = "fastestdet-coco352.safetensors"
SETS = {"val2017": "coco_val2017_free_licence.npz", "train2017": "coco_train2017_free_licence.npz"}
SIZE, BATCH, SEED = 352, 3, 0
LEAST_SCORE, OVERLAP = 0.001, 0.45  # of a detection, and of two of the same class that are one
CERTAIN, SAME = 0.5, 0.5  # score and IoU of a box that must not be lost
SHOWN, SHOWN_STEPS, SHOWN_SCORE = 4, (1, 2, 3, 4, 8), 0.4
RECIPES: dict[str, Callable[[], Any]] = {
    "sigma-delta": lambda: StreamingSigmaDelta(timesteps=8, threshold_count=8),
    "burst-digits": lambda: BurstDigits(threshold_count=8),
    "few-steps": lambda: FewSteps(timesteps=16),
    "ecc": lambda: ECC(timesteps=32),
}


def pictures(file: Path) -> tuple[Tensor, Tensor]:
    """(n, 3, 352, 352) BGR in 0..1, and (n, most, 5) label and box (cx, cy, w, h), NaN where there is none."""
    data = np.load(file, allow_pickle=False)

    def image(start: int, end: int) -> Tensor:
        found = Image.open(io.BytesIO(data["jpeg"][start:end].tobytes())).convert("RGB")
        return torch.from_numpy(np.asarray(found)[..., ::-1].copy()).permute(2, 0, 1).float() / 255

    x = torch.stack([image(a, b) for a, b in zip(data["offsets"], data["offsets"][1:], strict=False)])
    places = list(zip(data["box_offsets"], data["box_offsets"][1:], strict=False))
    boxes = torch.full((len(x), max(b - a for a, b in places), 5), torch.nan)
    for row, (start, end) in zip(boxes, places, strict=True):
        row[: end - start] = torch.from_numpy(data["boxes"][start:end])
    return x, boxes


def decode(answer: Tensor) -> list[dict[str, Tensor]]:
    """Boxes (cx, cy, w, h in 0..1), scores and labels of each picture, after suppression of overlapping boxes.

    Per cell: score = objectness^0.6 · (largest share)^0.4, centre = (tanh(o₁) + column, tanh(o₂) + row) / cells,
    size = σ(o₃), σ(o₄). Source: github.com/dog-qiuqiu/FastestDet.
    """
    height, width = answer.shape[2:]
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    share, label = answer[:, 5:].max(1)
    score = answer[:, 0].clamp(min=0) ** 0.6 * share.clamp(min=0) ** 0.4
    box = torch.stack(
        [
            (answer[:, 1].tanh() + column) / width, (answer[:, 2].tanh() + row) / height,
            answer[:, 3].sigmoid(), answer[:, 4].sigmoid(),
        ],
        -1,
    )  # fmt: skip
    found = []
    for k in range(len(answer)):
        use = score[k] > LEAST_SCORE
        found.append(suppressed(box[k][use], score[k][use], label[k][use]))
    return found


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The most certain boxes, without those that overlap a more certain one of the same class."""
    order = scores.argsort(descending=True, stable=True)
    boxes, scores, labels = boxes[order], scores[order], labels[order]
    near = (overlap(boxes, boxes) > OVERLAP) & (labels[:, None] == labels[None])
    kept: list[int] = []
    for k in range(len(boxes)):
        if not bool(near[k, kept].any()):
            kept.append(k)
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def overlap(left: Tensor, right: Tensor) -> Tensor:
    """Intersection over union of each pair of boxes (cx, cy, w, h)."""
    low = torch.maximum(*((b[:, :2] - b[:, 2:] / 2).unsqueeze(1 - k) for k, b in enumerate((left, right))))
    high = torch.minimum(*((b[:, :2] + b[:, 2:] / 2).unsqueeze(1 - k) for k, b in enumerate((left, right))))
    common = (high - low).clamp(min=0).prod(-1)
    return common / (left[:, 2:].prod(-1)[:, None] + right[:, 2:].prod(-1)[None] - common).clamp(min=1e-12)


def lost(ann: Tensor, snn: Tensor) -> tuple[int, int, int]:
    """Certain boxes of the ANN, those that the spiking network does not find, and those that it adds."""
    certain = missing = added = 0
    for one, other in zip(decode(ann), decode(snn), strict=True):
        for first, second, wanted in ((one, other, True), (other, one, False)):
            chosen = first["scores"] >= CERTAIN
            close = overlap(first["boxes"][chosen], second["boxes"]) >= SAME
            close &= first["labels"][chosen][:, None] == second["labels"][None]
            close &= second["scores"][None] >= CERTAIN / 2
            unmatched = int((~close.any(1)).sum()) if close.numel() else int(chosen.sum())
            if wanted:
                certain, missing = certain + int(chosen.sum()), missing + unmatched
            else:
                added += unmatched
    return certain, missing, added


def network(models: Path) -> nn.Module:
    module, _ = ts.models.build("zoo:fastestdet", weights=models / WEIGHTS)
    return module


def run(snn: ts.SNN, x: Tensor, file: Path) -> dict[str, Any]:
    """Answers at every step (T, n, 85, 22, 22) in 16 bits and the counts, batch by batch."""
    if file.exists():
        return torch.load(file, weights_only=True)
    answers, spikes, operations, seconds, exact = [], 0, 0, 0.0, True
    for start in range(0, len(x), BATCH):
        begin = time.process_time()
        trace = ts.simulate(snn, x[start : start + BATCH], engine="dense")
        seconds += time.process_time() - begin
        layers = [layer for layer in trace.activity.layers if layer.role == "neuron"]
        answers.append(trace.logits.half())
        spikes += sum(layer.spikes for layer in layers)
        operations += sum(layer.synaptic_operations for layer in layers)
        exact &= trace.exact
        print(
            f"{time.strftime('%H:%M:%S')} {file.stem}: {start + len(x[start : start + BATCH])} of {len(x)}", flush=True
        )
    found = {
        "answers": torch.cat(answers, 1), "spikes": torch.as_tensor(spikes).double().cumsum(0) / len(x),
        "operations": torch.as_tensor(operations).double().cumsum(0) / len(x), "seconds": seconds / len(x), "exact": exact,
    }  # fmt: skip
    torch.save(found, file)
    return found


def precision(answers: Tensor, boxes: Tensor) -> dict[str, float]:
    task = ts.tasks.Detection(decode, box_format="cxcywh")
    rows = task.statistics(answers, task.check(tuple(answers.shape[1:]), len(answers), boxes))
    return {
        metric.name: round(100 * float(value), 2)
        for metric, value in zip(task.metrics, task.from_rows(rows), strict=True)
    }


def drawn(x: Tensor, boxes: Tensor, columns: dict[str, Tensor], output: Path) -> None:
    """A row for each picture: the ANN's boxes, then those of the spiking network at several steps; given boxes white."""
    size, top = SIZE // 2, 18
    sheet = Image.new("RGB", (size * len(columns), (size + top) * len(x)), "white")
    pen = ImageDraw.Draw(sheet)
    for column, (title, answers) in enumerate(columns.items()):
        for k, found in enumerate(decode(answers.float())):
            picture = Image.fromarray((x[k].flip(0).permute(1, 2, 0) * 255).byte().numpy()).resize((size, size))
            inner = ImageDraw.Draw(picture)
            given = boxes[k][~boxes[k, :, 0].isnan()]
            chosen = found["scores"] >= SHOWN_SCORE
            for box in given[:, 1:]:
                inner.rectangle(_corners(box, size), outline="white")
            for box in found["boxes"][chosen]:
                inner.rectangle(_corners(box, size), outline="#ff3b30", width=2)
            sheet.paste(picture, (column * size, k * (size + top) + top))
            pen.text((column * size + 4, k * (size + top) + 3), title, fill="black")
    sheet.save(output)


def _corners(box: Tensor, size: int) -> list[float]:
    x, y, w, h = (float(v) * size for v in box)
    return [max(x - w / 2, 0), max(y - h / 2, 0), min(x + w / 2, size - 1), min(y + h / 2, size - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--models-dir", type=Path, required=True)
    parser.add_argument("--folder", type=Path, default=Path("build/detector"))
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--images", type=int, default=0, help="of each set; 0: all")
    parser.add_argument("--output", type=Path, default=HERE / "detector.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    module = network(arguments.models_dir)
    data = {name: pictures(arguments.data_dir / file) for name, file in SETS.items()}
    tested = {name: (x[: arguments.images or None], y[: arguments.images or None]) for name, (x, y) in data.items()}
    begin = time.process_time()
    with torch.no_grad():
        ann = torch.cat([module(one) for x, _ in tested.values() for one in x.split(BATCH)])
    seconds = (time.process_time() - begin) / len(ann)
    most = max(y.shape[1] for _, y in tested.values())
    boxes = torch.cat(
        [torch.nn.functional.pad(y, (0, 0, 0, most - y.shape[1]), value=torch.nan) for _, y in tested.values()]
    )
    rows: list[dict[str, Any]] = [{"network": "ANN", **precision(ann, boxes)}]
    for name in arguments.recipes:
        runs = []
        for test, other in (("val2017", "train2017"), ("train2017", "val2017")):
            file = arguments.folder / f"{name}-{test}.transpike"
            if not file.exists():
                ts.save(ts.convert(module, RECIPES[name](), data[other][0]), file)
            snn = ts.load(file)
            runs.append(run(snn, tested[test][0], arguments.folder / f"{name}-{test}-{len(tested[test][0])}.pt"))
        answers = torch.cat([one["answers"] for one in runs], 1).float()
        neurons = sum(layer.neurons for layer in snn.program.layers if layer.role == "neuron")
        macs = sum(snn.source.macs(n) or 0 for n in snn.source if getattr(n.op, "role", "") == "synapse")
        share = [len(x) / len(ann) for x, _ in tested.values()]
        for t, now in enumerate(answers, 1):
            if t & (t - 1) and t not in (3, 5, 6):
                continue
            certain, missing, added = lost(ann, now)
            events, operations = (
                float(sum(s * one[key][t - 1] for s, one in zip(share, runs, strict=True)))
                for key in ("spikes", "operations")
            )
            rows.append({
                "network": name, "T": t, **precision(now, boxes),
                "certain boxes of the ANN": certain, "lost": missing, "added": added,
                "relative error": round(float((now - ann).norm() / ann.norm()), 4),
                "events per neuron": round(events / neurons, 3), "operations / MACs": round(operations / macs, 3),
            })  # fmt: skip
            print(rows[-1], flush=True)
        rows[-1][SECONDS] = round(sum(s * one["seconds"] for s, one in zip(share, runs, strict=True)) / seconds, 1)
        rows[-1]["exact"] = all(one["exact"] for one in runs)
        if name == arguments.recipes[0]:
            shown = slice(0, min(SHOWN, len(tested["val2017"][0])))
            columns = {f"ANN, mAP 50 {rows[0]['mAP 50']} %": ann[shown]}
            columns |= {f"{name}, T = {t}": answers[t - 1, shown] for t in SHOWN_STEPS if t <= len(answers)}
            drawn(tested["val2017"][0][shown], boxes[shown], columns, arguments.output.with_suffix(".png"))
    content = {
        "pictures": len(ann), "thresholds": "from the other set", "instructions": torch.backends.cpu.get_cpu_capability(),
        "machine": description(SEED), "rows": rows,
    }  # fmt: skip
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())
    if arguments.output == HERE / "detector.json":
        write_atomically(PAGE, page(content).encode())


PAGE = HERE.parent / "docs" / "detector.md"
SECONDS = "seconds / ANN's"
COLUMNS = ("T", "mAP 50", "mAP", "lost", "added", "relative error", "events per neuron", "operations / MACs")


def page(content: dict[str, Any]) -> str:
    """docs/detector.md."""
    ann, *rows = content["rows"]
    certain = rows[0]["certain boxes of the ANN"]
    lines = [
        "# A detector", "",
        "FastestDet (`zoo:fastestdet`) with its COCO weights, 352×352 pictures, by `python benchmarks/detector.py`. Boxes are "
        "decoded outside the network.", "",
        f"{content['pictures']} COCO pictures with boxes; 26 of them are training pictures of the detector, so read the drop and "
        "not the mean average precision. Thresholds come from the pictures that are not tested. *Lost*: of "
        f"{certain} boxes that the ANN finds with a score of at least {CERTAIN}, those without a box of the same class, an IoU of at "
        f"least {SAME} and half of that score; *added*: the other way round. Operations are additions of the spiking network "
        "per multiplication of the ANN. Intervals would need many more pictures: differences of one or two points are chance.", "",
        "| network | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|",
        f"| ANN | | {ann['mAP 50']} | {ann['mAP']} | | | | | 1 |",
    ]  # fmt: skip
    lines += [f"| {row['network']} | " + " | ".join(str(row[key]) for key in COLUMNS) + " |" for row in rows]
    last = [row for row in rows if "exact" in row]
    lines += [
        "", "Processor time of a whole run over that of the ANN (one run on a shared machine), and whether it lies on the exact grid: "
        + "; ".join(
            f"{row['network']} {row[SECONDS]} × ({'yes' if row['exact'] else 'no'})"
            for row in last
        ) + ".", "",
        "`ecc` and `few-steps` stream binary spikes: the deep linear parts of the network settle in hundreds of steps. Window by "
        "window ECC agrees with the ANN ([coverage](coverage.md)).", "",
        "Boxes with a score of at least 0.4, given boxes in white:", "",
        "![The same pictures with the boxes of the ANN and of the spiking network at several steps](../benchmarks/detector.png)",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
