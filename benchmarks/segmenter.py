"""A small segmenter of seeded shapes as spiking networks: benchmarks/segmenter.json, segmenter.png and docs/segmentation.md.

    python benchmarks/segmenter.py                # with the stored weights
    python benchmarks/segmenter.py --train        # trains them first: about three minutes of one core

Pictures of 32×32 pixels hold two to five discs, squares, triangles and rings of random colour, size and place, which hide one
another, on a background with a gradient and noise: only the form tells the class. Test pictures have other seeds than those for
training, and calibration uses training pictures. The report page of every network is written to FOLDER.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from machine import description
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import transpike as ts
from transpike.recipes import ECC, BurstDigits, FewSteps, StreamingSigmaDelta
from transpike.results.writing import write_atomically

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "segmentation.md"
WEIGHTS = HERE / "segmenter.safetensors"
CLASSES = ("background", "disc", "square", "triangle", "ring")
SIZE, WIDTHS, SEED = 32, (12, 24, 32), 0
TRAINED, EPOCHS, BATCH, RATE = 4000, 12, 50, 4e-3
CALIBRATED, TESTED = 200, 500
SHOWN, SHOWN_STEPS, SCALE = 4, (1, 2, 4, 8), 3
COLOURS = ((60, 60, 60), (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40))
RECIPES: dict[str, Callable[[], Any]] = {
    "sigma-delta": lambda: StreamingSigmaDelta(timesteps=8, threshold_count=8),
    "burst-digits": lambda: BurstDigits(threshold_count=8),
    "few-steps": lambda: FewSteps(timesteps=32),
    "ecc": lambda: ECC(timesteps=64),
}


def shapes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(count, 3, 32, 32) in 0..1 and the class indices of the pixels (count, 32, 32)."""
    random = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=random)

    y, x = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")
    images, masks = [], []
    for _ in range(count):
        direction = uniform(-1, 1, 2)
        slope = (x * direction[0] + y * direction[1]) / SIZE
        image = uniform(0.2, 0.8, 3, 1, 1) + 0.3 * uniform(-1, 1, 3, 1, 1) * slope
        mask = torch.zeros(SIZE, SIZE, dtype=torch.long)
        for _ in range(int(torch.randint(2, 6, (), generator=random))):
            kind = int(torch.randint(1, len(CLASSES), (), generator=random))
            radius, angle = float(uniform(4, 8)), float(uniform(0, 6.28))
            u, v = x - float(uniform(3, SIZE - 3)), y - float(uniform(3, SIZE - 3))
            turn = torch.tensor(angle)
            u, v = u * turn.cos() + v * turn.sin(), v * turn.cos() - u * turn.sin()
            distance = (u**2 + v**2).sqrt()
            inside = {
                1: distance < radius,
                2: (u.abs() < 0.9 * radius) & (v.abs() < 0.9 * radius),
                3: (v > -0.6 * radius) & (v + 1.73 * u.abs() < radius),
                4: (distance < radius) & (distance > 0.5 * radius),
            }[kind]
            image = torch.where(inside, uniform(0, 1, 3, 1, 1), image)
            mask = torch.where(inside, kind, mask)
        images.append((image + 0.05 * torch.randn(3, SIZE, SIZE, generator=random)).clamp(0, 1))
        masks.append(mask)
    return torch.stack(images), torch.stack(masks)


def block(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (inputs, outputs):
        layers += [nn.Conv2d(before, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


class Segmenter(nn.Module):
    """Three scales down and up again, with shortcuts (Ronneberger et al. 2015, U-Net): 42,000 weights."""

    def __init__(self) -> None:
        super().__init__()
        fine, middle, coarse = WIDTHS
        self.fine, self.middle, self.coarse = block(3, fine), block(fine, middle), block(middle, coarse)
        self.up_middle, self.up_fine = block(coarse + middle, middle), block(middle + fine, fine)
        self.head = nn.Conv2d(fine, len(CLASSES), 1)
        self.pool, self.up = nn.AvgPool2d(2), nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        middle = self.middle(self.pool(fine))
        coarse = self.coarse(self.pool(middle))
        middle = self.up_middle(torch.cat([self.up(coarse), middle], 1))
        return self.head(self.up_fine(torch.cat([self.up(middle), fine], 1)))


def trained() -> None:
    """Train the weights and store them in 16 bits."""
    torch.manual_seed(SEED)
    model, (x, y) = Segmenter(), shapes(TRAINED, SEED + 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=1e-3)
    steps = EPOCHS * len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
    random = torch.Generator().manual_seed(SEED)
    for epoch in range(EPOCHS):
        total = 0.0
        for chosen in torch.randperm(len(x), generator=random).split(BATCH):
            some, wanted = x[chosen], y[chosen]
            if torch.rand((), generator=random) < 0.5:
                some, wanted = some.flip(-1), wanted.flip(-1)
            loss = F.cross_entropy(model(some), wanted)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen) / len(x)
        print(f"epoch {epoch + 1}: loss {total:.3f}", flush=True)
    save_file(
        {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()},
        WEIGHTS,
    )


def network() -> Segmenter:
    model = Segmenter()
    model.load_state_dict(
        {name: value.float() if value.is_floating_point() else value for name, value in load_file(WEIGHTS).items()}
    )
    return model.eval()


def drawn(x: Tensor, columns: dict[str, Tensor], output: Path) -> None:
    """A row for each picture, then the masks of the columns."""
    side, top = SIZE * SCALE, 18
    sheet = Image.new("RGB", ((side + 6) * (len(columns) + 1), (side + 6) * len(x) + top), "white")
    pen = ImageDraw.Draw(sheet)
    palette = torch.tensor(COLOURS, dtype=torch.uint8)
    for column, title in enumerate(("input", *columns)):
        pen.text((column * (side + 6) + 3, 3), title, fill="black")
        for row in range(len(x)):
            pixels = (x[row].permute(1, 2, 0) * 255).byte() if title == "input" else palette[columns[title][row]]
            one = Image.fromarray(pixels.numpy()).resize((side, side), Image.Resampling.NEAREST)
            sheet.paste(one, (column * (side + 6), row * (side + 6) + top))
    sheet.quantize(128).save(output, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train the stored weights first")
    parser.add_argument("--folder", type=Path, default=Path("build/segmenter"))
    parser.add_argument("--images", type=int, default=TESTED, help="test pictures")
    parser.add_argument("--output", type=Path, default=HERE / "segmenter.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.train:
        trained()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model, task = network(), ts.tasks.PixelClassification(names=CLASSES)
    calibration, (x, y) = shapes(CALIBRATED, SEED + 1)[0], shapes(arguments.images, SEED + 2)
    batches = list(zip(x.split(BATCH), y.split(BATCH), strict=True))
    rows: list[dict[str, Any]] = []
    for name, recipe in RECIPES.items():
        snn = ts.convert(model, recipe(), calibration)
        found = ts.evaluate(snn, batches, task=task)
        ts.report.save(found, arguments.folder / f"{name}.html")
        if not rows:
            rows.append({"network": "ANN", **_numbers(found.ann), "operations / MACs": 1.0})
        neurons = sum(layer.neurons for layer in found.layers if layer.role == "neuron")
        for answer in found.curve:
            t = answer.timesteps
            if t & (t - 1) == 0:
                close = next(one for one in found.fidelity if one.timesteps == t)
                change = answer.changes["mean IoU"]
                rows.append({
                    "network": name, "T": t, **_numbers(answer.metrics),
                    "change": [_points(change.value), _points(change.low), _points(change.high)],
                    "pixels as the ANN": _points(close.argmax_agreement),
                    "spikes per neuron": round(answer.spikes / neurons, 3),
                    "operations / MACs": round(answer.synaptic_operations / found.ann_macs, 3),
                })  # fmt: skip
                print(rows[-1], flush=True)
        rows[-1]["exact"] = found.exact
        if name == "sigma-delta":
            with torch.no_grad():
                columns = {"target": y[:SHOWN], "ANN": model(x[:SHOWN]).argmax(1)}
            answers = ts.simulate(snn, x[:SHOWN]).logits.argmax(2)
            columns |= {f"T = {t}": answers[t - 1] for t in SHOWN_STEPS}
            drawn(x[:SHOWN], columns, arguments.output.with_suffix(".png"))
    content = {
        "pictures": len(x), "calibration": CALIBRATED, "machine": description(SEED), "rows": rows,
    }  # fmt: skip
    write_atomically(arguments.output, (json.dumps(content, indent=1) + "\n").encode())
    if arguments.output == HERE / "segmenter.json":
        write_atomically(PAGE, page(content).encode())


def _points(value: float | None) -> float | None:
    return None if value is None else round(100 * value, 2)


def _numbers(metrics: Any) -> dict[str, Any]:
    iou, accuracy = metrics["mean IoU"], metrics["pixel accuracy"]
    return {
        "mean IoU": [_points(iou.value), _points(iou.low), _points(iou.high)],
        "pixel accuracy": _points(accuracy.value),
    }


def page(content: dict[str, Any]) -> str:
    """docs/segmentation.md."""

    def spread(three: list[float]) -> str:
        return f"{three[0]:.2f} ({three[1]:.2f} to {three[2]:.2f})"

    ann, *rows = content["rows"]
    lines = [
        "# A segmenter", "",
        f"A U-Net of 42,000 weights labels every pixel of {SIZE}×{SIZE} pictures as background, disc, square, triangle or ring, by "
        "`python benchmarks/segmenter.py`. The pictures are made from seeds: shapes of random colour, size and place that hide one "
        "another, on a background with a gradient and noise.", "",
        f"{content['pictures']} test pictures, thresholds from {content['calibration']} training pictures. Mean IoU and its change "
        "(SNN minus ANN) in percent and points with 95 % intervals of resampled pictures, those of the change paired. Operations: "
        "additions of the spiking network per multiplication of the ANN.", "",
        "| network | T | mean IoU | change | pixel accuracy | pixels as the ANN | spikes per neuron | operations / MACs |",
        "|---" * 8 + "|",
        f"| ANN | | {spread(ann['mean IoU'])} | | {ann['pixel accuracy']:.2f} | | | 1 |",
    ]  # fmt: skip
    lines += [
        f"| {row['network']} | {row['T']} | {spread(row['mean IoU'])} | {spread(row['change'])} | {row['pixel accuracy']:.2f} | "
        f"{row['pixels as the ANN']:.2f} | {row['spikes per neuron']} | {row['operations / MACs']} |"
        for row in rows
    ]
    last = [row for row in rows if "exact" in row]
    lines += [
        "", "On the exact grid: " + ", ".join(f"{row['network']} {'yes' if row['exact'] else 'no'}" for row in last) + ".", "",
        "Inputs, targets, and the masks of the ANN and of `sigma-delta` over time (background grey, disc blue, square orange, "
        "triangle green, ring red):", "",
        "![Masks of four test pictures: target, ANN, and the spiking network at T = 1, 2, 4 and 8](../benchmarks/segmenter.png)", "",
        "The pages that `ts.report.save` writes for such a task show the same over the pictures ([the report](report.md)).",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
