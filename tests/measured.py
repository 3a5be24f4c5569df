"""What the tests of recipes measure: one neuron alone, the currents that neurons hear, mean errors of layers."""

import torch
from torch import Tensor, nn

import transpike as ts
from networks import cells
from transpike.core.alphabet import GRADED
from transpike.core.cell import Cell
from transpike.core.graph import Graph
from transpike.core.recipe import Recipe
from transpike.engines import Reference
from transpike.lowering.lowered import lower
from transpike.lowering.scaling import own_scale, scaled
from transpike.neurons import Bistable
from transpike.results.statistics import binomial_at_most


def alone(recipe: Recipe, z: Tensor, clip: float | None = None) -> Tensor:
    """(time, len(z)): the spikes of one neuron on the constant current z; calibrated on [0, 1], so that θ = 1 or clip."""
    activation = nn.ReLU() if clip is None else nn.Hardtanh(0, clip)
    model = nn.Sequential(nn.Linear(1, 1, bias=False), activation, nn.Linear(1, 1, bias=False))
    for layer in (model[0], model[2]):
        nn.init.ones_(layer.weight)
    snn = ts.convert(model, recipe, torch.linspace(0, 1, 65)[:, None], exact_grid=False)
    return ts.simulate(snn, z[:, None], engine="reference", record=["1"]).trains["1"][:, :, 0]


def activations(graph: Graph, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What each activation of a source network hears and gives."""
    found = {}

    def see(node, inputs, output) -> None:
        if getattr(node.op, "role", "") == "activation":
            found[node.name] = (inputs[0], output)

    graph.run(x, observe=see)
    return found


def undecided(source: Graph, x: Tensor, room: float = 1e-5) -> Tensor:
    """(batch,): whether a value lies within ``room`` levels of an edge of its staircase, in float64.

    Two ways to compute the same network may then round to two sides of it. A sum of n = 144 products, on the scale of a
    clip of 8 levels, is rounded by about √n · 8 · 2⁻²⁴ = 6e-6 levels in float32, in whatever order it is taken.
    """
    found = torch.zeros(len(x), dtype=torch.bool)
    for name, (z, _) in activations(source.to(dtype=torch.float64), x.double()).items():
        floor_clip = source[name].op
        level = z * floor_clip.levels / floor_clip.threshold.double() + floor_clip.shift
        edge = level.round()
        near = ((level - edge).abs() < room) & (edge >= 1) & (edge <= floor_clip.levels)
        found |= near.flatten(1).any(1)
    return found


def chance(better: Tensor, worse: Tensor) -> float:
    """How often fair coins would speak as clearly for ``better``, (samples,) right answers of two networks, or clearer.

    A coin for each sample that only one of the two gets right: a sign test. What is below 0.01 is no accident.
    """
    lost, gained = int((~better & worse).sum()), int((better & ~worse).sum())
    return 1 - binomial_at_most(gained - 1, lost + gained, 0.5) if gained else 1.0


def nearest_mean(data: ts.data.Dataset) -> Tensor:
    """(test images,): which ones the nearest mean of a class gets right, which learns without a gradient."""
    (x, y), (test, labels) = (split.batch(torch.arange(len(split))) for split in (data.train, data.test))
    means = torch.stack([x[y == k].flatten(1).double().mean(0) for k in range(len(data.classes))])
    return torch.cdist(test.flatten(1).double(), means).argmin(1) == labels


def right(snn: ts.SNN, data: ts.data.Dataset, timesteps: int | None = None) -> Tensor:
    """(test images,): which answers of a network, after ``timesteps`` or its own number, are right."""
    report = ts.evaluate(snn, data.test.batches(270))
    return report.outcomes[timesteps or report.final.timesteps]


def counts(snn: ts.SNN, x: Tensor, engine: str = "auto") -> dict[str, Tensor]:
    """Neuron layer → the levels that it sends in a run, (batch, *shape)."""
    names = [node.name for node in snn.graph.cells if node.op.unit is not None]
    trace = ts.simulate(snn, x, record=names, engine=engine)
    return {name: trace.trains[name].double().sum(0) for name in names}


def errors(snn: ts.SNN, x: Tensor) -> dict[str, Tensor]:
    """Neuron layer → its source's activation less the mean charge that it sends, (batch, *shape)."""
    steps, sources = snn.timesteps, activations(snn.source, x)
    return {
        name: sources[name][1].double() - count * snn.graph[name].op.output_scale() / steps
        for name, count in counts(snn, x).items()
    }


def streamed(snn: ts.SNN, x: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor, Cell]]:
    """Neuron layer → its current and its spikes in time, its last potential, and the neuron as it ran (threshold one)."""
    spiking = snn.encoder.spike_scale is not None
    run = Reference().start(snn.program, x, torch.arange(len(x)), [*cells(snn), *(["input"] if spiking else [])])
    run.advance(snn.timesteps)
    trains, lowered, found = run.finish().trains, run.program.lowered, {}
    values = dict(trains) if spiking else {**trains, "input": x.double().expand(snn.timesteps, *x.shape)}
    for node in lowered.nodes[1:]:
        if isinstance(node.op, Cell):
            unit = node.op.unit
            if unit is not None:
                current = values[node.inputs[0]] + lowered.biases[node.name][0]
                found[node.name] = (current, trains[node.name], node.op.potential(run.states[node.name]), node.op)
        else:
            values[node.name] = torch.stack(
                [node.op.linear(*v) for v in zip(*(values[i] for i in node.inputs), strict=True)]
            )
    return found


def staircase_currents(snn: ts.SNN, x: Tensor) -> dict[str, Tensor]:
    """Neuron layer → its current in the network of staircases that one round of phase cycles is said to be."""
    lowered, found = snn.program.lowered.to(dtype=torch.float64), {}
    values: dict[str, Tensor] = {}
    for node in lowered.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.op, Bistable):
            found[node.name] = inputs[0] + lowered.biases[node.name][0]
            unit = node.op.threshold * 2.0**-node.op.period
            level = torch.floor((found[node.name] + node.op.initial) / unit)
            values[node.name] = level.clamp(0, 2**node.op.period - 1)
        elif isinstance(node.op, Cell):
            values[node.name] = node.op.counts(*inputs, timesteps=1)
        else:
            values[node.name] = node.op.linear(*inputs) if inputs else x.double()
    return found


def later(trace: ts.Trace, delay: int) -> Tensor:
    """The mean output current of the steps after ``delay``, from the accumulated membrane of every step."""
    logits, steps = trace.logits.double(), len(trace.logits)
    return (steps * logits[-1] - delay * logits[delay - 1]) / (steps - delay)


def in_own_scale(recipe: Recipe) -> list[tuple[float, float, float]]:
    """(W, b, θ) of ``relu(3 relu(2x + ½) − 1)``, calibrated on [0, 1], in the recipe's scale; activations reach 2.5 and 6.5."""
    model = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        for layer, weight, bias in ((model[0], 2.0, 0.5), (model[2], 3.0, -1.0)):
            layer.weight.fill_(weight), layer.bias.fill_(bias)
    snn = ts.convert(model, recipe, torch.linspace(0, 1, 65)[:, None])
    lowered = lower(snn.graph, None, GRADED)
    form = scaled(lowered, own_scale(recipe.threshold_scale, lowered))
    table = {node.name: node.op for node in form.nodes}
    return [
        (float(table[synapse].weight), float(form.biases[cell][0]), float(table[cell].unit.threshold))
        for synapse, cell in (("0", "1"), ("2", "3"))
    ]


def threshold(recipe: Recipe, values: list[float]) -> float:
    """θ of a neuron whose activations on calibration data are ``values``."""
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
    nn.init.ones_(model[0].weight)
    return float(ts.convert(model, recipe, torch.tensor(values)[:, None]).graph["1"].op.threshold)
