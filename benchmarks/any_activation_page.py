"""Makes docs/any-activation.md from any_activation.json: ``python benchmarks/any_activation_page.py``."""

import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "any-activation.md"
TITLES = {
    "denoiser": ("Denoiser", "LeakyReLU, SiLU, Hardswish, a strided and a transposed convolution, a concatenation; "
                 "28×28 digits (MNIST) with noise of standard deviation 0.7. PSNR in dB."),
    "unet": ("U-Net", "SiLU, average pooling, bilinear upsampling, concatenations; 32×32 images of three digits "
             "(MNIST) at random places, one of 11 classes for every pixel. Mean IoU in points, over classes."),
    "mobilenet-v3": ("MobileNetV3's blocks", "hardswish, depthwise convolutions, squeeze-excite of ReLU and "
                     "hardsigmoid; CIFAR-10 (JPEG copy). Accuracy in %."),
    "efficientnet": ("EfficientNet's blocks", "SiLU, depthwise convolutions, squeeze-excite of SiLU and sigmoid; "
                     "CIFAR-10 (JPEG copy). Accuracy in %."),
}  # fmt: skip
SCALES = {"PSNR": (1, "dB"), "mean IoU": (100, "points"), "accuracy in %": (1, "points")}
HEAD = """# Smooth activations: measurements

Trained networks whose activations are not ReLUs, converted by the recipes `sigma-delta`, `burst-digits` and `dcgs`. Made
by `benchmarks/any_activation_page.py` from `benchmarks/any_activation.json`, which

    python benchmarks/any_activation.py denoiser unet mobilenet-v3 efficientnet --folder FOLDER --data-dir DATA

writes; the networks and their training are in `benchmarks/any_activation_networks.py`. Test samples are the first n of
the test set, thresholds come from 512 training samples (seed 0). Settings that a row does not name are the defaults.
Thresholds at the percentile 99.5 give smaller errors of the first two networks at T = 4 than the default 99.9, at more
operations, and larger ones of [EfficientNet-Lite0](imagenet.md).

- **change**: SNN minus ANN, with its 95 % interval (accuracies: paired; other metrics: resampled samples).
- **error**: √(Σ(o − r)²/Σr²) of the SNN's outputs o and the ANN's r.
- **operations**: synaptic operations (additions) until then per multiplication of the ANN. A product of two wires counts
  one for every event of either wire; a wire after an interpolation counts every path through it.
- **fp32**, **8 bit**: joules of the SNN divided by those of the ANN, with the energy models `operations-fp32` (4.6 pJ for a
  multiply-accumulate, 0.9 pJ for an addition) and `operations` (8-bit factors, 0.3 and 0.1 pJ; this ANN is the quantised
  one). The first layer, whose input is analogue, and comparisons with thresholds are included, memory is not.
- **spikes**: per neuron, until then.
"""


def _number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    return "" if value is None else f"{round(value, digits) + 0.0:{'+' if sign else ''}.{digits}f}"  # no -0.00


def _steps(row: dict[str, Any]) -> list[dict[str, Any]]:
    """All steps of a short run, of a long one powers of two."""
    steps = row["steps"]
    return steps if len(steps) <= 8 else [step for step in steps if step["T"] & (step["T"] - 1) == 0]


def _table(row: dict[str, Any]) -> list[str]:
    scale, _ = SCALES[row["steps"][0]["metric"]]
    lines = [
        "| T | ANN | SNN | change | error | operations | fp32 | 8 bit | spikes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for step in _steps(row):
        low, high = (_number(scale * step[key], 2, True) for key in ("low", "high"))
        cells = [
            str(step["T"]), _number(scale * step["ANN"]), _number(scale * step["SNN"]),
            f"{_number(scale * step['change'], 2, True)} ({low} to {high})", f"{100 * step['relative error']:.2f} %",
            _number(step["operations / MACs"]), _number(step["operations-fp32 / ANN"]), _number(step["operations / ANN"]),
            _number(step["spikes per neuron"]),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _summary(content: dict[str, Any]) -> str:
    """The first row of every case after four steps."""
    lines = [
        "\n## After four steps\n",
        "| network | n | change | error | operations | fp32 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, (title, _) in TITLES.items():
        row = next(iter(content[name]["rows"].values()))
        step = next(step for step in row["steps"] if step["T"] == 4)
        scale, unit = SCALES[step["metric"]]
        low, high = (_number(scale * step[key], 2, True) for key in ("low", "high"))
        change = f"{_number(scale * step['change'], 2, True)} {unit} ({low} to {high})"
        cells = (
            _number(100 * step["relative error"]) + " %",
            _number(step["operations / MACs"]),
            _number(step["operations-fp32 / ANN"]),
        )
        lines.append(f"| {title} | {row['samples']} | {change} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _rate(rows: dict[str, Any]) -> str:
    """The rate code with the fewest operations among those that reach the error of sigma-delta after four steps."""
    own = next(step for step in next(iter(rows.values()))["steps"] if step["T"] == 4)
    reached = [
        (step["operations / MACs"], step["T"], recipe, row["samples"])
        for recipe, row in rows.items()
        for step in row["steps"]
        if recipe.startswith("rates") and step["relative error"] <= own["relative error"]
    ]
    operations, steps, recipe, samples = min(reached)
    return (
        f"\nThe best rate code that reaches the error of `sigma-delta` after four steps is `{recipe}` (n = {samples}): at "
        f"T = {steps}, with {operations / own['operations / MACs']:.1f} times the operations. `rates` are neurons of "
        "`benchmarks/any_activation_rates.py`: the mean of what is sent follows the function of the mean current.\n"
    )


def _silence(row: dict[str, Any]) -> str:
    last, steps = row["last step with a spike"], row["steps"]
    if len(steps) == 1:
        return ""
    if last < steps[-1]["T"]:
        return f" The last spike of all samples is in step {last}."
    return (
        f" In step {last}, the last one, {steps[-1]['spikes of the step per neuron']:.2g} spikes per neuron are sent."
    )


def page() -> str:
    content = json.loads(HERE.joinpath("any_activation.json").read_text(encoding="utf-8"))
    parts = [HEAD, _summary(content)]
    for name, (title, text) in TITLES.items():
        parts.append(f"\n## {title}\n\n{text}\n")
        if name == "denoiser":
            parts.append(_rate(content[name]["rows"]))
        for recipe, row in content[name]["rows"].items():
            seconds = ", ".join(f"{which} {value:.2g}" for which, value in row["seconds per image"].items())
            exact = "exact grid" if row["exact"] else f"not exact ({row['why']})"
            parts.append(
                f"\n`{recipe}`, n = {row['samples']}, {exact}.{_silence(row)} Seconds per image on one thread of a shared "
                f"machine: {seconds}.\n\n" + "\n".join(_table(row)) + "\n"
            )
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
