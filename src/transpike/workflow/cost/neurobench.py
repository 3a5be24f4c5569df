"""NeuroBench's counts of synaptic operations."""

import dataclasses

import torch
from torch import Tensor

from transpike.core.op import Synapse
from transpike.snn import SNN
from transpike.workflow.hybrid import refuse_hybrid
from transpike.workflow.simulate import simulate


def neurobench_counts(snn: SNN, x: Tensor, timesteps: int | None = None, *, engine: str = "auto") -> dict[str, float]:
    """NeuroBench's SynapticOperations of ``snn`` on x (batch, *shape), per sample, as if run step by step.

    ``Effective_ACs``: synaptic operations of wires that carry −1, 0 and 1; ``Effective_MACs``: nonzero products of all
    others, with analogue layers counted in every step, although transpike computes them once; ``Dense``: all
    connections in every step, without bias and padding. Equal to the harness on the lowered form where no average pool
    lies between neurons and weights: the harness counts pooled fractions as products. Source: NeuroBench 2.3.
    """
    refuse_hybrid(snn, "neurobench", "its rules count networks that spike as a whole")
    steps = snn.timesteps if timesteps is None else snn.schedule.check(timesteps)
    activity = simulate(snn, x, steps, engine=engine).activity
    lowered = snn.program.lowered
    table = {node.name: node for node in lowered.nodes}
    once = {layer.name for layer in activity.layers if layer.alphabet in ("binary", "ternary")}
    values: dict[str, Tensor] = {}
    counted = {"Effective_ACs": 0.0, "Effective_MACs": 0.0, "Dense": 0.0}
    for layer in activity.layers:
        operations = float(layer.synaptic_operations.sum()) / activity.samples
        counted["Effective_ACs" if layer.name in once else "Effective_MACs"] += operations
    prepared = snn.prepare(x).double()
    for node in lowered.nodes:
        if node.name in lowered.time_invariant and snn.encoder.is_constant:
            inputs = [values[name] for name in node.inputs]
            op = node.op.to(dtype=torch.float64)
            values[node.name] = prepared if not inputs else op.linear(*inputs)  # type: ignore[union-attr]
    for c in activity.connections:
        op = table[c.name].op.to(dtype=torch.float64)
        assert isinstance(op, Synapse)
        shape = (1, *table[table[c.name].inputs[0]].shape)
        everything = dataclasses.replace(op, weight=torch.ones_like(op.weight), bias=None)
        counted["Dense"] += steps * float(everything.run(torch.ones(shape, dtype=torch.float64)).sum())
        if c.analogue:
            entering = values[table[c.name].inputs[0]]
            products = op.paths().linear((entering != 0).double())
            counted["Effective_MACs"] += steps * float(products.sum()) / len(x)
    return counted
