"""The drawings of the pages on concepts, in docs/pictures: `python docs/build.py --pictures` writes them."""

import math
from collections.abc import Callable

from sitepages.svg import BLUE, GREEN, ORANGE, Drawing

VALUE, STEPS = 5, 8  # of eighths


def rate(currents: list[float], signed: bool = False) -> list[int]:
    """The spikes of an integrate-and-fire neuron with threshold 1 and soft reset."""
    potential, spikes = 0.0, []
    for current in currents:
        potential += current
        spike = 1 if potential >= 1 else -1 if signed and potential <= -1 else 0
        potential -= spike
        spikes.append(spike)
    return spikes


def sigma_delta(level: int, steps: int) -> list[int]:
    """The changes that a neuron sends to make a constant level known: powers of two, one a step."""
    left, sent = level, []
    for _ in range(steps):
        size = 0 if abs(left) < 0.75 else 2 ** math.floor(math.log2(abs(left) / 0.75))
        sent.append(int(math.copysign(size, left)))
        left -= sent[-1]
    return sent


def codes() -> Drawing:
    signed_input = [1.0] * 6 + [-0.5] * 2
    binary = [VALUE >> (2 - phase) & 1 for phase in range(3)]  # 5/8 is 0.101
    rows = [
        ("Rate", rate([VALUE / STEPS] * STEPS), 1, "5 spikes in 8 steps"),
        ("Burst, up to 4 a step", [4, 1], 4, "(4 + 1) / 8, in 2 steps"),
        ("Signed, uneven input", rate(signed_input, signed=True), 1, "(6 − 1) / 8"),
        ("Phase", [bit * 2 ** (2 - phase) for phase, bit in enumerate(binary)], 4, "1/2 + 1/8, one cycle"),
        ("First spike", [int(slot == STEPS - VALUE) for slot in range(STEPS)], 1, "slot 3: 1 − 3/8"),
        ("Changes", sigma_delta(VALUE, STEPS), 4, "4/8 + 1/8, then silent"),
    ]
    drawing = Drawing(640, 60 + 52 * len(rows), "The value 5/8 in six codes")
    left, width = 170, 34
    for step in range(STEPS):
        drawing.text(left + width * (step + 0.5), 22, str(step + 1), 12, "middle")
    drawing.text(left - 14, 22, "time step", 12, "end")
    for i, (name, spikes, largest, meaning) in enumerate(rows):
        base = 66 + 52 * i
        drawing.text(10, base - 4, name, 13)
        drawing.line(left, base, left + width * STEPS, base, opacity=0.5)
        for step, spike in enumerate(spikes):
            if spike:
                x = left + width * (step + 0.5)
                height = 28 * abs(spike) / largest if largest > 1 else 28 if spike > 0 else 14
                top = base - height if spike > 0 else base
                drawing.rect(x - 4, top, 8, height, BLUE if spike > 0 else ORANGE, "none")
                if largest > 1:
                    drawing.text(x + 8, base - 6, str(spike), 11)
        drawing.text(left + width * STEPS + 14, base - 4, meaning, 12)
    return drawing


def staircase() -> Drawing:
    drawing = Drawing(560, 330, "A ReLU and the staircases of a neuron in four time steps")
    left, bottom, width, height, steps = 70, 270, 420, 230, 4

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * x / 1.4, bottom - height * y / 1.4

    drawing.line(left, bottom, left + width, bottom)
    drawing.line(left, bottom, left, bottom - height)
    for k in range(steps + 1):
        x, y = place(0, k / steps)
        drawing.line(x - 5, y, x, y)
        drawing.text(x - 9, y + 4, f"{k}", 12, "end")
    drawing.text(left - 9, bottom - height + 4, "spikes", 12, "end")
    drawing.text(left + width, bottom + 34, "mean current, in thresholds", 12, "end")
    for tick in (0.5, 1):
        x, y = place(tick, 0)
        drawing.line(x, y, x, y + 5)
        drawing.text(x, y + 18, f"{tick:g}", 12, "middle")
    drawing.path([place(0, 0), place(1.4, 1.4)], "currentColor", 1.6, "5 4")
    for start, colour in ((0.0, ORANGE), (0.5, BLUE)):
        points, level = [place(0, 0)], 0
        for i in range(1, 561):
            x = i * 1.4 / 560
            count = min(steps, math.floor(steps * x + start + 1e-9))
            if count != level:
                points += [place(x, level / steps), place(x, count / steps)]
                level = count
        drawing.path([*points, place(1.4, level / steps)], colour, 2.4)
    for i, (colour, text, dash) in enumerate(
        [
            ("currentColor", "ReLU", "5 4"),
            (ORANGE, "v(0) = 0: rounds down", ""),
            (BLUE, "v(0) = θ/2: rounds to the nearest", ""),
        ]
    ):
        y = 30 + 20 * i
        drawing.path([(105, y), (135, y)], colour, 2.4, dash)
        drawing.text(142, y + 4, text, 12)
    return drawing


def schedules() -> Drawing:
    steps, layers, cell = 4, 3, 16
    integrate = {
        "Streaming, T = 4: 4 total steps": lambda layer: range(4),
        "Layer-synchronous, T = 4: 16 total steps": lambda layer: range(4 * layer, 4 * layer + 4),
        "Phase cycles, K = 4, T = 8: 24 total steps": lambda layer: [
            s for r in range(2) for s in range(4 * (layer + 2 * r), 4 * (layer + 2 * r) + 4)
        ],
        "Time slots, T = 4: 16 total steps": lambda layer: range(4 * layer, 4 * layer + 4),
    }
    totals = [steps, (layers + 1) * steps, (layers + 1) * 4 + 2 * 4, (layers + 1) * steps]
    drawing = Drawing(640, 40 + 118 * len(integrate), "Which layer integrates and fires in which step")
    left = 120
    for i, ((name, heard), total) in enumerate(zip(integrate.items(), totals, strict=True)):
        top = 34 + 118 * i
        drawing.text(10, top - 10, name, 13, bold=True)
        for layer in range(layers + 1):
            y = top + 20 * layer
            drawing.text(left - 10, y + 13, "output" if layer == layers else f"layer {layer + 1}", 12, "end")
            listens = set(heard(layer))
            fires = listens if name.startswith("Streaming") else {s + 4 for s in listens}
            for step in range(total):
                x = left + cell * step
                if step in listens:
                    drawing.rect(x, y, cell - 2, 16, ORANGE, "none", 0.45)
                if layer < layers and step in fires:
                    if name.startswith("Time slots"):
                        spike = step % 4 == (1, 0, 2)[layer]
                        drawing.rect(x, y + (0 if spike else 13), cell - 2, 16 if spike else 3, BLUE, "none")
                    else:
                        drawing.rect(x, y + 8, cell - 2, 8, BLUE, "none")
        x = left + cell * total
        drawing.line(x, top - 2, x, top + 80, width=1.6, dash="3 3")
        drawing.text(x + 6, top + 74, "answer", 12)
    drawing.rect(430, 12, 12, 12, ORANGE, "none", 0.45)
    drawing.text(448, 22, "integrates", 12)
    drawing.rect(530, 16, 12, 8, BLUE, "none")
    drawing.text(548, 22, "may fire", 12)
    return drawing


def rounded(value: float, bits: int = 4) -> float:
    """``value`` with a mantissa of ``bits``, as floating-point hardware rounds."""
    step = 2.0 ** (math.floor(math.log2(value)) - bits + 1)
    return round(value / step) * step


def grid() -> Drawing:
    drawing = Drawing(640, 270, "A sum in two orders, in floating point and on a grid")
    threshold = 10
    for column, (title, weights) in enumerate(
        [("floating point, 4 bits", (8, 0.6, 0.6)), ("on a grid, multiples of 1", (8, 1, 1))]
    ):
        x = 20 + 320 * column
        drawing.text(x, 24, title, 14, bold=True)
        for row, order in enumerate([(0, 1, 2), (1, 2, 0)]):
            first, second, third = (weights[i] for i in order)
            middle = rounded(first + second)
            total = rounded(middle + third)
            y = 60 + 100 * row
            drawing.text(x, y, f"({first:g} + {second:g}) + {third:g}", 14)
            drawing.text(x, y + 24, f"= {middle:g} + {third:g} = {total:g}", 14)
            fires = total >= threshold
            drawing.circle(x + 8, y + 43, 6, BLUE if fires else ORANGE)
            drawing.text(x + 22, y + 48, f"threshold {threshold}: {'a spike' if fires else 'no spike'}", 13)
    drawing.line(318, 14, 318, 220, opacity=0.4)
    drawing.text(
        20,
        250,
        "Left, the order of the sum decides. Right, it cannot: sums of multiples of 1 below 16 need 4 bits.",
        12,
    )
    return drawing


def fanout() -> Drawing:
    drawing = Drawing(560, 240, "The fan-out of a spike in the middle and at the corner of an image")
    cell, size = 26, 6
    for column, (row_of, column_of) in enumerate([(3, 2), (0, 0)]):
        left, top = 40 + 290 * column, 50
        met = [
            (r, c) for r in range(row_of - 1, row_of + 2) for c in range(column_of - 1, column_of + 2)
            if 0 <= r < size and 0 <= c < size
        ]  # fmt: skip
        for r, c in met:
            drawing.rect(left + cell * c, top + cell * r, cell, cell, BLUE, "none", 0.3)
        for k in range(size + 1):
            drawing.line(left, top + cell * k, left + cell * size, top + cell * k, opacity=0.4)
            drawing.line(left + cell * k, top, left + cell * k, top + cell * size, opacity=0.4)
        drawing.circle(left + cell * (column_of + 0.5), top + cell * (row_of + 0.5), 6, ORANGE)
        drawing.text(left, 34, f"{len(met)} operations for each output channel", 13)
    drawing.text(
        40, 230, "A 3 × 3 convolution that keeps the size. Dot: the spike. Blue: the neurons that it reaches.", 12
    )
    return drawing


def break_even() -> Drawing:
    drawing = Drawing(560, 300, "Energy over the firing rate, and the break-even rate")
    left, bottom, width, height = 60, 250, 440, 200
    drawing.line(left, bottom, left + width, bottom)
    drawing.line(left, bottom, left, bottom - height)
    drawing.text(left + width, bottom + 30, "firing rate", 13, "end")
    drawing.text(left + 6, bottom - height - 8, "energy per input", 13)

    def snn(rate: float) -> float:  # what does not depend on spikes, and the spikes
        return 0.18 + 0.9 * rate

    baseline = 0.55
    crossing = (baseline - 0.18) / 0.9

    def place(x: float, y: float) -> tuple[float, float]:
        return left + width * x, bottom - height * y

    drawing.path([place(0, baseline), place(1, baseline)], ORANGE, 2.4)
    drawing.path([place(0, snn(0)), place(0.88, snn(0.88))], BLUE, 2.4)
    x, y = place(crossing, baseline)
    drawing.line(x, y, x, bottom, dash="4 4")
    drawing.circle(x, y, 5, "currentColor")
    drawing.text(x, bottom + 18, "break-even", 12, "middle")
    drawing.text(*place(0.62, 0.59), "quantised network: every product, once", 12)
    drawing.text(*place(0.72, 0.94), "spiking network", 12, "end")
    drawing.text(*place(0.03, 0.06), "paid without any spike: states, biases, first layer", 12)
    return drawing


def architecture() -> Drawing:
    drawing = Drawing(680, 420, "From a trained network to a report")
    drawing.box(20, 20, 150, 50, "nn.Module", "trained with PyTorch", fill=GREEN)
    drawing.box(260, 20, 150, 50, "Graph", "the source network")
    drawing.box(500, 20, 160, 50, "Graph", "the spiking network")
    drawing.arrow(170, 45, 258, 45)
    drawing.text(214, 38, "capture", 12, "middle")
    drawing.arrow(410, 45, 498, 45)
    drawing.text(454, 38, "passes", 12, "middle")
    drawing.text(454, 84, "fold, calibrate, neurons,", 11.5, "middle")
    drawing.text(454, 99, "pooling, corrections", 11.5, "middle")
    drawing.arrow(580, 70, 580, 128)
    drawing.text(588, 104, "lower", 12)
    drawing.box(500, 130, 160, 66, "Lowered form", "wires carry whole levels,", "weights their scale")
    drawing.arrow(500, 163, 412, 163)
    drawing.text(456, 156, "exact grid", 12, "middle")
    drawing.box(260, 138, 150, 50, "Program", "what engines run")
    drawing.box(20, 138, 150, 50, "NAME.transpike", "safetensors + JSON", fill=GREEN)
    drawing.path([(545, 70), (545, 115), (95, 115), (95, 130)], "currentColor", 1.4)
    drawing.arrow(95, 128, 95, 137)
    drawing.text(150, 110, "save, load", 12)
    for x, name, about in (
        (60, "reference", "float64, step by step"),
        (255, "dense", "PyTorch, float32"),
        (450, "event", "C, gathers weights"),
    ):
        drawing.box(x, 250, 165, 50, f"{name} engine", about, fill=ORANGE)
    drawing.line(335, 188, 335, 222, width=1.4)
    drawing.line(142, 222, 532, 222, width=1.4)
    for x in (142, 337, 532):
        drawing.arrow(x, 222, x, 249)
        drawing.line(x, 300, x, 324, width=1.4)
    drawing.line(142, 324, 532, 324, width=1.4)
    drawing.arrow(337, 324, 337, 351)
    drawing.box(240, 353, 195, 50, "Trace", "logits at every t, activity")
    drawing.arrow(435, 378, 498, 378)
    drawing.box(500, 353, 160, 50, "Report", "page, JSON, picture", fill=GREEN)
    return drawing


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "architecture": architecture, "break_even": break_even, "codes": codes, "fanout": fanout, "grid": grid,
    "schedules": schedules, "staircase": staircase,
}  # fmt: skip
