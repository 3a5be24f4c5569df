"""Normalisation and other analogue operators between sigma-delta neurons."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import transpike as ts
from gated import NORMS, network
from transpike.neurons import DifferentialOperator, SigmaDelta
from transpike.ops.analogue import AnalogueOp
from transpike.recipes import StreamingSigmaDelta

NORM = AnalogueOp("aten.layer_norm.default", (("input", 0), (6,)))


@given(st.integers(0, 1000))
def test_a_rounded_operator_gives_the_function_of_the_estimates_to_half_a_grid_step(seed):
    cell = DifferentialOperator(NORM, "unit").on_grid(3.0)
    random = torch.Generator().manual_seed(seed)
    heard, said = torch.zeros(2, 4, 6).double(), torch.zeros(2, 4, 6).double()
    state = cell.init(heard)
    for t in range(1, 8):
        now = torch.randn(2, 4, 6, generator=random, dtype=torch.float64)
        state, sent = cell.step(state, now, t=t)
        heard, said = heard + now, said + sent
        assert float((said - NORM.run(heard)).abs().max()) <= cell.grid / 2
        assert torch.equal(said / cell.grid, (said / cell.grid).round())
        assert float(sent.abs().max()) <= float(cell.bound(now))
    assert cell.grid == 2.0**-18  # 4 · 2^−20


def test_a_rounded_operator_counts_values_at_an_edge_and_beyond_its_room():
    same = AnalogueOp("aten.alias.default", (("input", 0),))
    cell = DifferentialOperator(same, "unit").on_grid(1.0)
    edges = torch.tensor([[0.5, 0.25, 1.5, 9.0 / cell.grid, 7.0 / cell.grid]]).double() * cell.grid
    assert cell.undecided((edges, edges)) == 3
    assert DifferentialOperator(same, "reciprocal").on_grid(1.0).undecided((edges, edges)) == 0


@pytest.mark.parametrize("label", NORMS)
def test_networks_with_norms_are_on_the_grid_and_settle_at_the_answer(label, tmp_path):
    model, x = network(label)
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=12), x)
    names = [node.name for node in snn.graph if isinstance(node.op, SigmaDelta)]
    a, b = (ts.simulate(snn, x, engine=engine, record=names) for engine in ("reference", "dense"))
    assert a.exact, a.why
    assert torch.equal(a.logits, b.logits)
    assert all(torch.equal(a.trains[name], b.trains[name]) for name in names)
    expected = model(x).detach()
    assert float((a.logits[-1] - expected).norm()) <= 0.03 * float(expected.norm())
    assert sum(float(layer.spikes[-1]) for layer in a.activity.layers) == 0
    single = ts.simulate(snn, x[3:4], engine="dense", record=names)
    assert all(torch.equal(single.trains[name], b.trains[name][:, 3:4]) for name in names)
    ts.save(snn, tmp_path / "net.transpike")
    assert torch.equal(ts.load(tmp_path / "net.transpike")(x), snn(x))


def test_inputs_far_beyond_the_calibration_leave_the_room_of_an_operator():
    """A softmax cannot, but a square can."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Square(), torch.nn.Linear(4, 2)).eval()
    x = torch.rand(16, 4, generator=torch.Generator().manual_seed(1)) - 0.5
    snn = ts.convert(model, StreamingSigmaDelta(), x).accepting_any_input()
    assert ts.simulate(snn, x).exact
    far = ts.simulate(snn, torch.cat([x, 100 * x]), engine="reference")
    assert not far.exact


class Square(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.pow(2)
