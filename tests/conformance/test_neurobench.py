"""NeuroBench's own harness on the lowered form, run step by step, beside our counts."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from networks import mlp
from transpike.core.cell import Cell
from transpike.core.op import Synapse
from transpike.encoders import DeterministicCounts
from transpike.ops import Conv
from transpike.recipes import ECC, SNM
from transpike.workflow.cost.neurobench import neurobench_counts

workload = pytest.importorskip(
    "neurobench.metrics.workload", reason="needs NeuroBench: pip install neurobench==2.3.0 (it is no dependency)"
)
models = pytest.importorskip("neurobench.models", reason="needs NeuroBench: pip install neurobench==2.3.0")


class Stepped(nn.Module):
    """The lowered form as modules that the harness knows, one step after another."""

    def __init__(self, snn: ts.SNN, timesteps: int) -> None:
        super().__init__()
        self.snn, self.timesteps = snn, timesteps
        self.layers = nn.ModuleDict()
        for node in snn.program.lowered.nodes:
            if isinstance(node.op, Synapse):
                self.layers[node.name.replace(".", "_")] = _module(node.op)

    def forward(self, x: Tensor) -> Tensor:
        lowered, states, total = self.snn.program.lowered.to(dtype=torch.float64), {}, 0.0
        for t in range(1, self.timesteps + 1):
            values: dict[str, Tensor] = {}
            for node in lowered.nodes:
                inputs = [values[name] for name in node.inputs]
                if not inputs:
                    values[node.name] = self.snn.encoder.encode(x, torch.arange(len(x)), t).double()
                elif isinstance(node.op, Synapse):
                    values[node.name] = self.layers[node.name.replace(".", "_")](inputs[0])
                elif isinstance(node.op, Cell):
                    biases = lowered.biases.get(node.name, (torch.zeros(()),) * len(inputs))
                    charges = [value + bias.double() for value, bias in zip(inputs, biases, strict=True)]
                    state = states[node.name] if node.name in states else node.op.init(*charges)
                    states[node.name], values[node.name] = node.op.step(state, *charges, t=t)
                else:
                    values[node.name] = node.op.linear(*inputs)
            total = total + values[lowered.output.name]
        return total


def _module(op: Synapse) -> nn.Module:
    if isinstance(op, Conv):
        out, inner = op.weight.shape[:2]
        layer = nn.Conv2d(
            inner * op.groups,
            out,
            tuple(op.weight.shape[2:]),
            op.stride,
            op.padding,
            op.dilation,
            op.groups,
            bias=False,
        )
    else:
        layer = nn.Linear(op.weight.shape[1], op.weight.shape[0], bias=False)
    layer = layer.double()
    layer.weight.data.copy_(op.weight)
    return layer


def vgg() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, stride=2, padding=1, groups=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(32, 12), nn.ReLU(), nn.Linear(12, 4),
    )  # fmt: skip
    with torch.no_grad():
        model[3].weight[0, 0] = 0.0  # connections that are none
    return model, torch.rand(16, 2, 8, 8)


@pytest.mark.parametrize(
    ("network", "recipe"),
    [("vgg", ECC(7)), ("vgg", ECC(7, encoder=DeterministicCounts())), ("mlp", ECC(7)), ("mlp", SNM(5))],
    ids=["currents", "spikes", "linear", "signed"],
)
def test_our_synaptic_operations_are_those_of_the_harness(network, recipe):
    model, x = vgg() if network == "vgg" else (mlp().model, mlp().calibration.abs())
    snn = ts.convert(model, recipe, x)

    class Model(models.NeuroBenchModel):
        def __init__(self) -> None:
            super().__init__()
            self.net = Stepped(snn, recipe.timesteps)

        def __call__(self, batch: Tensor) -> Tensor:
            return self.net(batch)

        def __net__(self) -> nn.Module:
            return self.net

    wrapped, metric = Model(), workload.SynapticOperations()
    wrapped.register_hooks()
    with torch.no_grad():
        predictions = wrapped(x)
    harness = metric(wrapped, predictions, (x, None))
    ours = neurobench_counts(snn, x)
    assert ours["Effective_ACs"] > 0
    for name, value in ours.items():
        assert float(harness[name]) == pytest.approx(value, rel=1e-6), name
