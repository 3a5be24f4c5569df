"""The laws of recipes and passes."""

import copy
import dataclasses
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Graph
from transpike.core.pass_ import Context, Pass
from transpike.core.recipe import Recipe
from transpike.engines import event_status
from transpike.files import load, save
from transpike.passes import FoldBatchNorm, PercentileThresholds, RemoveDropout
from transpike.recipes import ECC
from transpike.testing._law import Law, check_member, same
from transpike.testing._networks import network
from transpike.workflow.capture import capture
from transpike.workflow.convert import TOLERANCE, convert
from transpike.workflow.evaluate.run import evaluate
from transpike.workflow.simulate import simulate

ENGINES = ("dense", "event", "auto")
"""Those that must give the spikes of the reference engine."""


def check_recipe(recipe: Recipe, model: nn.Module | Graph | None = None, calibration: Tensor | None = None) -> None:
    """A recipe converts a network (default: a small one) that spikes alike in all engines and is read back from a file.

    Spikes and logits are compared bit for bit where the network has an exact grid.
    """
    check_member(recipe)
    law = Law(recipe)
    missing = [f.name for f in dataclasses.fields(recipe) if f.default is f.default_factory is dataclasses.MISSING]  # type: ignore[arg-type]
    law("every setting has a default", not missing, missing)
    law("str() begins with its name", str(recipe).startswith(f"{recipe.name}("), str(recipe))
    law("passes are passes", all(isinstance(one, Pass) for one in recipe.passes), recipe.passes)
    if model is None or calibration is None:
        model, calibration = network(recipe.training_free)
    snn, x, ids = convert(model, recipe, calibration), calibration[:4], torch.arange(4)
    cells = [node.name for node in snn.program.lowered.nodes if isinstance(node.op, Cell)]
    trace = simulate(snn, x, engine="reference", record=cells)
    law("something spikes", any(bool(train.any()) for train in trace.trains.values()))
    law("logits are finite", bool(torch.isfinite(trace.logits).all()))
    law("a run that is on no exact grid gives the reason", trace.exact or bool(trace.why))
    if trace.exact:
        for engine in ENGINES if event_status()[0] is not None else ("dense", "auto"):
            other = simulate(snn, x, engine=engine, record=cells)
            differs = [name for name in cells if not _same_train(trace.trains[name], other.trains[name])]
            law(f"the engines reference and {engine} give the same spikes", not differs, differs)
            law(f"the engines reference and {engine} give the same logits", torch.equal(other.logits, trace.logits))
        part = simulate(snn, x[1:3], sample_ids=ids[1:3])
        law(
            "a part of a batch gives its logits",
            torch.equal(part.logits, simulate(snn, x, sample_ids=ids).logits[:, 1:3]),
        )
    classes = trace.logits.shape[-1]
    report = evaluate(snn, [(x, ids % classes)])
    law("evaluate() counts the samples", report.samples == 4 and 0 <= report.final.accuracy <= 1, report.samples)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(save(snn, Path(folder) / "net.transpike"))
    law("the recipe comes back from a file", loaded.recipe == recipe and str(loaded.recipe) == str(recipe))
    again = simulate(loaded, x, engine="reference", record=cells)
    law(
        "a loaded network gives the same spikes and logits",
        same((trace.trains, trace.logits), (again.trains, again.logits)),
    )


def _same_train(a: Tensor, b: Tensor) -> bool:
    """The same levels in every step; in sum where an engine has worked out a whole window at once."""
    a, b = a.double(), b.double()
    return torch.equal(a, b) if len(a) == len(b) else torch.equal(a.sum(0), b.sum(0))


def check_pass(
    one: Pass,
    model: nn.Module | Graph | None = None,
    calibration: Tensor | None = None,
    after: tuple[Pass, ...] | None = None,
) -> None:
    """A pass returns a graph, leaves the one that it is given as it is, and keeps the function where it is ``exact``.

    On a source network (default: a small one) after the passes ``after``: by default an exact pass comes first, one
    that sets thresholds after dropout and batch normalisation are gone, and another when neurons have thresholds.
    """
    check_member(one)
    law = Law(one)
    known = ("", "activations", "spikes", "spikes of each input")
    law("asks is known", one.asks in known, one.asks)
    law("describe() gives text", isinstance(one.describe(), str))
    model, x = (model, calibration) if model is not None and calibration is not None else network(True)
    source, encoder = capture(model, x), ECC().encoder.calibrated(float(x.abs().max()))
    if after is None:
        after = () if one.exact else (RemoveDropout(), FoldBatchNorm())
        after += () if one.exact or one.sets_thresholds else (PercentileThresholds(),)

    def applied(batch: Tensor) -> tuple[Graph, Graph]:
        context, graph = Context(source, (batch,), 8, encoder=encoder, schedule=ECC().schedule, remarks=[]), source
        for first in after:
            graph = first.apply(graph, dataclasses.replace(context, batches=(x,)))
        kept = copy.deepcopy(graph.parameters())
        changed = one.apply(graph, context)
        law("the graph that it is given stays as it is", same(kept, graph.parameters()))
        return graph, changed

    (before, changed), (_, again) = applied(x), applied(x)
    law("the same graph and context give the same graph", same(changed.parameters(), again.parameters()))
    law("the network keeps its input", before.input.shape == changed.input.shape)
    law("the network keeps the shape of its output", before.output.shape == changed.output.shape)
    if not one.asks:  # the range of the input is known to all
        other = applied(x.flip(tuple(range(1, x.ndim))))[1]
        law("it asks nothing of calibration data", same(changed.parameters(), other.parameters()))
    if one.sets_thresholds:
        law("it sets thresholds", any(isinstance(node.op, Neuron) for node in changed))
    if one.exact:
        a, b = (graph.to(dtype=torch.float64).run(x.double()) for graph in (before, changed))
        law.close("an exact pass keeps the function", a, b, TOLERANCE)  # weights are multiplied out in float32
