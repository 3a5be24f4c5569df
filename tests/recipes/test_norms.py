"""Normalisation and other analogue operators between sigma-delta neurons."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import transpike as ts
from gated import NORMS, network
from transpike.errors import DataError
from transpike.neurons import DifferentialOperator, SigmaDelta
from transpike.ops.analogue import AnalogueOp
from transpike.recipes import DCGS, ECC, StreamingSigmaDelta
from transpike.schedules import LayerSynchronous

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
    """A sum whose parts cancel on the calibration data, and its square."""
    model = nn.Sequential(nn.Linear(4, 1, bias=False), Applied(lambda x: x.pow(2)), nn.Linear(1, 2)).eval()
    nn.init.ones_(model[0].weight)
    x = torch.rand(16, 2, generator=torch.Generator().manual_seed(1))
    snn = ts.convert(model, StreamingSigmaDelta(), torch.cat([x, 0.5 - x], 1)).accepting_any_input()
    for engine in ("reference", "dense"):
        near, far = (ts.simulate(snn, torch.cat([x, y], 1), engine=engine) for y in (0.5 - x, x))
        assert near.exact, near.why
        assert "1.pow" in far.why
        assert far.ties > 0


class Applied(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


UNDEFINED = {
    "layer_norm": nn.LayerNorm(4, eps=0.0),
    "rms_norm": Applied(lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True))),
    "log": Applied(torch.log),
    "sqrt": Applied(torch.sqrt),
}
"""Functions that have no finite value for a row of zeros, or for negative numbers."""


@pytest.mark.parametrize("engine", ["reference", "dense", "auto"])
@pytest.mark.parametrize("label", UNDEFINED)
def test_a_value_that_does_not_exist_is_an_error_with_layer_operator_and_step(label, engine):
    """Calibrated on positive inputs, run on a sample of zeros (a norm without eps) or of negative values."""
    model = nn.Sequential(nn.Linear(4, 4, bias=False), UNDEFINED[label], nn.Linear(4, 2)).eval()
    nn.init.eye_(model[0].weight)
    x = torch.rand(16, 4, generator=torch.Generator().manual_seed(1)) + 0.5
    snn = ts.convert(model, StreamingSigmaDelta(), x).accepting_any_input()
    assert bool(torch.isfinite(snn(x)).all())
    bad = torch.cat([x, torch.zeros(1, 4) if label != "sqrt" else -x[:1]])
    with pytest.raises(DataError, match=rf"1.*: {label}.* gives NaN or infinite values for 1 of 17 samples in step 1;"):
        ts.simulate(snn, bad, engine=engine)
    with pytest.raises(DataError, match=r"1.*, on the test data: .* gives NaN or infinite values for 1 of 17 samples"):
        ts.evaluate(snn, (bad, torch.zeros(17, dtype=torch.long)), engine=engine)


def test_a_value_that_does_not_exist_on_the_calibration_data_is_an_error_with_layer_and_operator():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.LayerNorm(4, eps=0.0), nn.Linear(4, 2)).eval()
    x = torch.rand(16, 4, generator=torch.Generator().manual_seed(1))
    for zero in (0, 12):  # among those that check the capture, and after them
        bad = x.clone()
        bad[zero] = 0
        with pytest.raises(DataError, match=r"1, on the calibration data: layer_norm .* a row of zeros"):
            ts.convert(model, StreamingSigmaDelta(), bad)


def test_a_softmax_of_minus_infinity_only_is_an_error():
    def masked(x: Tensor) -> Tensor:
        return torch.softmax(torch.log(torch.relu(x)), -1)

    model = nn.Sequential(nn.Linear(4, 4, bias=False), Applied(masked), nn.Linear(4, 2)).eval()
    nn.init.eye_(model[0].weight)
    x = torch.rand(16, 4, generator=torch.Generator().manual_seed(1)) + 0.5
    snn = ts.convert(model, StreamingSigmaDelta(), x).accepting_any_input()
    for engine in ("reference", "dense"):
        with pytest.raises(DataError, match=r"1.log: log .* in step 1; .* softmax needs a finite value"):
            ts.simulate(snn, torch.cat([x, -x[:1]]), engine=engine)


@pytest.mark.parametrize("engine", ["reference", "dense"])
def test_values_that_do_not_exist_are_errors_in_rate_codes_too(engine):
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.ReLU(), nn.LayerNorm(4, eps=0.0), nn.Linear(4, 2)).eval()
    nn.init.eye_(model[0].weight)
    x = torch.rand(16, 4, generator=torch.Generator().manual_seed(1)) + 0.5
    for recipe in (ECC(timesteps=4), ECC(timesteps=4, schedule=LayerSynchronous()), DCGS(timesteps=4)):
        snn = ts.convert(model, recipe, x, on_unsupported="keep").accepting_any_input()
        with pytest.raises(DataError, match=r"2: layer_norm .* gives NaN or infinite values"):
            ts.simulate(snn, torch.cat([x, torch.zeros(1, 4)]), engine=engine)
