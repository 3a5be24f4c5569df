"""Layers that a conversion simulates one by one: the native kernels send what PyTorch sends."""

import dataclasses
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from instruction_sets import LIBRARY, instructions  # noqa: F401 (a fixture of the whole module)
from networks import Case, cases
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context
from transpike.encoders import ConstantCurrent, Poisson
from transpike.engines.event import one_layer
from transpike.lowering.layerwise import LayerInput, sequential
from transpike.neurons._threshold import ThresholdNeuron
from transpike.ops import AvgPool

SAMPLES = 5
RECIPES = (
    ts.recipes.ECC(20, percentile=98.0),
    ts.recipes.ECC(40, percentile=97.0, granularity="neuron"),
    ts.recipes.ECC(33, percentile=98.0, reset="hard"),
    ts.recipes.ECC(9, percentile=99.0, average_pooling="spiking", residual="shared"),
    ts.recipes.FewSteps(20, neuron="signed", calibrate="none"),
    ts.recipes.SNM(16, granularity="channel"),
    ts.recipes.ECC(20, linear_wires="signed"),
)
pytestmark = pytest.mark.skipif(LIBRARY is None, reason="the native library is not built")


def on_grid(graph: Graph) -> Graph:
    """Few bits in every number, so that sums are exact in any order; thresholds are powers of two."""

    def change(node: Node) -> Node | None:
        found = node.op.tensors()
        if not found:
            return None
        if isinstance(node.op, ThresholdNeuron):
            new = {name: torch.exp2(value.clamp(min=2**-6).log2().round()) for name, value in found.items()}
            new["initial"] = (found["initial"] * 64).round() / 64
        else:
            new = {name: (value * 64).round() / 64 for name, value in found.items()}
        return dataclasses.replace(node, op=node.op.with_tensors(**new))

    return graph.rewrite(change)


def sent(case: Case, recipe: ts.recipes.ECC, kernels: bool) -> tuple[dict[str, tuple[Tensor, Tensor]], int]:
    """Layer → (train, mean) of changed neurons after a shift, and the number of layers that a kernel ran."""
    x = (case.calibration[:SAMPLES] * 16).round() / 16
    encoder = recipe.encoder.suited(case.graph).calibrated(float(case.calibration.abs().max()))
    compiled = one_layer.compiled if kernels else None
    context = Context(case.graph, (case.calibration,), recipe.timesteps, encoder=encoder, kernels=compiled)
    graph = case.graph
    for one in recipe.passes:
        graph = one.apply(graph, context)
    graph, context = on_grid(graph), dataclasses.replace(context, batches=(x,))
    found, native = dict[str, tuple[Tensor, Tensor]](), 0

    def visit(layer: LayerInput) -> None:
        nonlocal native
        native += layer.kernel is not None
        axis, rank = layer.graph.channel_axes[layer.node.name], len(layer.node.shape)
        shift = (torch.arange(layer.node.shape[axis - 1]) % 5 - 2) / 32
        shift = shift.reshape([-1 if k == axis else 1 for k in range(1, rank + 1)])
        start = (torch.arange(prod(layer.node.shape)) % 7 / 16).reshape(layer.node.shape)
        fired = layer.fired(layer.cell.with_tensors(initial=start), shift)
        found[layer.node.name] = fired.train.part(slice(1, SAMPLES)), fired.mean

    averages = [node.op for node in graph if isinstance(node.op, AvgPool)]
    if any(prod(op.kernel) & prod(op.kernel) - 1 for op in averages):
        return {}, 0  # a ninth is on no grid
    sequential(graph, context, SAMPLES, visit)
    return found, native


@settings(max_examples=12)
@given(case=cases(), recipe=st.sampled_from(RECIPES), encoder=st.sampled_from((ConstantCurrent(), Poisson(seed=3))))
def test_a_kernel_sends_what_pytorch_sends(case, recipe, encoder):
    recipe = dataclasses.replace(recipe, encoder=encoder)
    native, layers = sent(case, recipe, True)
    torch_alone, none = sent(case, recipe, False)
    assert not none
    if recipe.encoder.is_constant:
        assert layers or not native, "nothing was compared"
    assert native.keys() == torch_alone.keys()
    for name, (train, mean) in torch_alone.items():
        assert torch.equal(native[name][0], train), name
        assert torch.allclose(native[name][1], mean, rtol=1e-6, atol=0), name
