"""Tandem learning: spike counts forward, the source network's layers backward."""

from typing import Any

import torch
from torch import Tensor

from transpike.core.cell import Cell, Neuron
from transpike.core.graph import Input
from transpike.core.op import Op
from transpike.errors import SettingError
from transpike.training.spiking.unrolled import Unrolled, Wire


class Tandem(Unrolled):
    """``forward: the mean charge sent by neurons;  backward: ∂a(W φ + b)``, a the source's activation.

    The spiking network runs without gradients. In parallel each layer receives the mean output φ of the preceding
    neurons, and only this pass is stored for the backward pass: memory does not grow with the time steps. Only weights
    are trained. Source: Wu et al. 2021 (tandem learning, arXiv 1907.01167), section III-C. Raises SettingError for
    windows, whose closed-form counts have straight-through gradients.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if self.windows:
            raise SettingError("windows already have straight-through gradients of counts: omit gradients='counts'")

    def forward(self, x: Tensor, sample_ids: Tensor | None = None) -> Tensor:
        live = self.tensors()
        ids = torch.arange(len(x), device=x.device) if sample_ids is None else sample_ids
        wires: dict[str, Wire] = {}
        means: dict[str, Tensor] = {}
        for node in self.source_graph:
            op = self.bound(node, live)
            with torch.no_grad():
                wire = self.layer(node, op, [wires[name] for name in node.inputs], x, ids, live)
                sent = _sent(wire.charge) if isinstance(op, (Cell, Input)) else None
            means[node.name] = _mean(op, sent, [means[name] for name in node.inputs])
            if self.seen is not None and node.name in self.wanted:
                self.seen[node.name] = wire
            wires[node.name] = wire
            for name in node.inputs:
                if self.last[name] == node.name:
                    wires.pop(name, None)
                    means.pop(name, None)
        output = self.source_graph.output.name
        along = means[output] - means[output].detach()  # zero forward, only a gradient
        answer = wires[output].charge.detach()
        return answer.expand(self.timesteps, *answer.shape[1:]) + along


def _sent(charge: Tensor) -> Tensor:
    """The mean over time; integers, which are looked up, are constant."""
    return charge.mean(0) if charge.is_floating_point() else charge[0]


def _mean(op: Op | Cell, sent: Tensor | None, means: list[Tensor]) -> Tensor:
    """The mean of a wire with the gradient of the source layer; ``sent`` is the mean of the spikes."""
    if isinstance(op, Op):
        return op.run(*means) if sent is None else sent
    assert sent is not None
    along = op.source.run(*means) if isinstance(op, Neuron) else op.counts(*means, timesteps=1)
    return along + (sent - along).detach()
