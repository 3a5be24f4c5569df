"""Every activation converts with the differential recipes; the others refuse it and name these."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import transpike as ts
from transpike import recipes
from transpike.activations import Clip, Function, ReLU
from transpike.core.cell import Neuron
from transpike.core.pass_ import Context
from transpike.errors import SettingError, UnsupportedModel
from transpike.neurons import DifferentialMultiThreshold
from transpike.passes import RecogniseFunctions
from transpike.recipes import DCGS, BurstDigits, StreamingSigmaDelta

MODULES = {
    "gelu": nn.GELU(), "gelu-tanh": nn.GELU("tanh"), "silu": nn.SiLU(), "mish": nn.Mish(), "leaky": nn.LeakyReLU(0.1),
    "prelu": nn.PReLU(4, 0.3), "elu": nn.ELU(), "selu": nn.SELU(), "celu": nn.CELU(0.7), "softplus": nn.Softplus(),
    "hardswish": nn.Hardswish(), "hardsigmoid": nn.Hardsigmoid(), "sigmoid": nn.Sigmoid(), "tanh": nn.Tanh(),
    "hardtanh": nn.Hardtanh(), "threshold": nn.Threshold(0.25, -0.5), "identity": nn.Identity(), "relu6": nn.ReLU6(),
    "softshrink": nn.Softshrink(0.3),  "log-sigmoid": nn.LogSigmoid(),
}  # fmt: skip
IN_PLACE = {
    "silu": nn.SiLU(inplace=True), "mish": nn.Mish(inplace=True), "leaky": nn.LeakyReLU(0.1, inplace=True),
    "elu": nn.ELU(inplace=True), "selu": nn.SELU(inplace=True), "celu": nn.CELU(0.7, inplace=True),
    "hardswish": nn.Hardswish(inplace=True), "hardsigmoid": nn.Hardsigmoid(inplace=True),
    "hardtanh": nn.Hardtanh(inplace=True), "threshold": nn.Threshold(0.25, -0.5, inplace=True),
}  # fmt: skip
FUNCTIONAL = {
    "gelu": F.gelu, "silu": F.silu, "mish": F.mish, "leaky": lambda x: F.leaky_relu(x, 0.1), "elu": F.elu, "selu": F.selu,
    "celu": lambda x: F.celu(x, 0.7), "softplus": F.softplus, "hardswish": F.hardswish, "hardsigmoid": F.hardsigmoid,
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "method": lambda x: x.tanh(), "hardtanh": F.hardtanh,
    "threshold": lambda x: F.threshold(x, 0.25, -0.5),
}  # fmt: skip


class Lambda(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


FORMS = (
    {f"module {key}": value for key, value in MODULES.items()}
    | {f"in place {key}": value for key, value in IN_PLACE.items()}
    | {f"functional {key}": Lambda(value) for key, value in FUNCTIONAL.items()}
)


HAND_WRITTEN = {
    "silu": lambda x: x * torch.sigmoid(x), "silu by exp": lambda x: x / (1 + torch.exp(-x)),
    "mish": lambda x: x * torch.tanh(F.softplus(x)), "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "gelu (tanh)": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "hardswish": lambda x: x * F.relu6(x + 3) / 6, "hardsigmoid": lambda x: F.relu6(x + 3) / 6,
    "softplus": lambda x: torch.log(1 + torch.exp(x)), "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "hardswish of thirds": lambda x: x * (torch.clamp(x + 3, 0, 6) / 6),
}  # fmt: skip


def network(activation: nn.Module) -> tuple[nn.Module, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [nn.Linear(6, 4), activation, nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3)]
        return nn.Sequential(*layers).eval(), 2 * torch.randn(48, 6)


@pytest.mark.parametrize("label", FORMS)
def test_sigma_delta_follows_every_activation(label):
    model, x = network(FORMS[label])
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=10, percentile=100.0), x)
    expected = model(x).detach()
    assert sum(isinstance(node.op, Neuron) for node in snn.graph) == 1 + (label != "module identity")
    trace = ts.simulate(snn, x)
    assert trace.exact, trace.why
    mixed = [remark for remark in snn.remarks if remark.startswith("neurons of ReLUs are sigma-delta neurons too")]
    alike = label.removeprefix("module ") in ("identity", "relu6")
    assert mixed == [] if alike else mixed[0].endswith(": 3")
    assert float((trace.logits[-1] - expected).norm()) <= 0.02 * float(expected.norm())
    assert not any(float(layer.spikes[-1]) for layer in trace.activity.layers)


@pytest.mark.parametrize("label", HAND_WRITTEN)
def test_an_activation_that_is_written_by_hand_is_one_neuron(label):
    model, x = network(Lambda(HAND_WRITTEN[label]))
    snn = ts.convert(model, StreamingSigmaDelta(timesteps=10, percentile=100.0), x)
    assert sum(isinstance(node.op, Neuron) for node in snn.graph) == 2
    name = label.split(" by ")[0].split(" of ")[0]
    assert any("written by hand: 1." in remark and f" is {name}" in remark for remark in snn.remarks)
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.02 * float(expected.norm())


JUMPS = {
    "where": lambda x: torch.where(x > 1, x, 0.1 * x), "masked fill": lambda x: x.masked_fill(x > 0.5, 0.25),
    "mask": lambda x: x * (x > 0.5), "two wires": lambda x: torch.where(x > x.flip(1), x, -x),
}  # fmt: skip


@pytest.mark.parametrize("label", JUMPS)
@pytest.mark.parametrize("kind", [StreamingSigmaDelta, DCGS])
def test_comparisons_that_are_kept_select(label, kind):
    """Wires carry real numbers, so that a comparison gives 1 and 0, and a selection reads them."""
    model, x = network(Lambda(JUMPS[label]))
    snn = ts.convert(model, kind(timesteps=32), x)
    expected = model(x).detach()
    apart = (snn(x) - expected).norm(dim=1) <= 0.05 * expected.norm(dim=1)
    assert float(apart.float().mean()) >= 0.8  # at a jump a small error of what is compared is a large one after it


def test_what_depends_on_two_wires_or_on_the_place_is_not_one_function():
    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3)
            self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 8))

        def forward(self, x: Tensor) -> Tensor:
            a = self.a(x)
            return self.last(self.b(x) * torch.sigmoid(a) + a * torch.sigmoid(a * self.scale))

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, x = Gate().eval(), torch.randn(8, 6)
    graph = ts.capture(model, x, on_unsupported="keep")
    assert RecogniseFunctions().apply(graph, Context(graph, (x,), timesteps=1)) is graph


@pytest.mark.parametrize("label", [f"module {label}" for label in MODULES if label != "identity"])
def test_dcgs_follows_every_activation_and_keeps_the_neuron_of_relus(label):
    model, x = network(FORMS[label])
    snn = ts.convert(model, DCGS(timesteps=24), x)
    first, second = (node.op for node in snn.graph if isinstance(node.op, DifferentialMultiThreshold))
    assert (first.follows, second.follows) == ("value", "current")
    expected = model(x).detach()
    a, b = (ts.simulate(snn, x, engine=engine) for engine in ("reference", "dense"))
    assert torch.allclose(a.logits, b.logits, rtol=1e-4, atol=1e-4)
    assert float((a.logits[-1] - expected).norm()) <= 0.02 * float(expected.norm())
    assert label == "module relu6" or any(
        remark.startswith("no ReLUs") and "1; as ReLUs: 3" in remark for remark in snn.remarks
    )


def test_the_value_that_was_sent_is_the_source_of_what_was_received_but_for_the_integral():
    """``r_out = f(r_in) − (v(T) − v(0)) / T`` at every step, in float64."""
    source = Function("aten.gelu.default", (("input", 0),))
    cell = DifferentialMultiThreshold(source, torch.tensor(0.05).double(), torch.tensor(0.01).double(), 5, "value")
    generator = torch.Generator().manual_seed(0)
    state = cell.init(torch.zeros(40).double())
    received = sent = torch.zeros(40).double()
    for t in range(1, 30):
        x = torch.randn(40, generator=generator).double() / t
        state, levels = cell.step(state, x, t=t)
        received, sent = received + x / t, sent + levels * cell.threshold / t
        expected = source.run(received) - (state[0] - cell.initial) / t
        assert float((sent - expected).abs().max()) <= 1e-12


def test_a_neuron_that_follows_its_current_is_a_relu():
    args = torch.tensor(0.1), torch.tensor(0.0)
    with pytest.raises(SettingError, match="follows its current is a ReLU"):
        DifferentialMultiThreshold(Function("aten.gelu.default", (("input", 0),)), *args)
    with pytest.raises(SettingError, match="follows must be"):
        DifferentialMultiThreshold(ReLU(), *args, 8, "both")


def test_dcgs_keeps_the_ceiling_of_a_clip():
    """As a ReLU it would send up to infinity, and the network would be refused."""
    model, x = network(nn.ReLU6())
    with torch.no_grad():
        model[0].weight.mul_(6)
    snn = ts.convert(model, DCGS(timesteps=16), x)
    (first, _) = (node.op for node in snn.graph if isinstance(node.op, DifferentialMultiThreshold))
    assert isinstance(first.source, Clip)
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.02 * float(expected.norm())


@pytest.mark.parametrize("kind", [recipes.ECC, recipes.AdaFire, recipes.SNM, recipes.HMT, recipes.FewSteps])
@pytest.mark.parametrize("label", ["gelu", "silu", "tanh"])
def test_recipes_of_rates_refuse_a_curve_and_name_those_that_can(kind, label):
    model, x = network(MODULES[label])
    with pytest.raises(UnsupportedModel, match="sigma-delta"):
        ts.convert(model, kind(timesteps=8), x)


@pytest.mark.parametrize("kind", [StreamingSigmaDelta, BurstDigits, DCGS])
def test_a_network_of_functions_is_saved_and_loaded(kind, tmp_path):
    model, x = network(nn.PReLU(4, 0.3))
    snn = ts.convert(model, kind(timesteps=4), x)
    ts.save(snn, tmp_path / "f.transpike")
    assert torch.equal(ts.load(tmp_path / "f.transpike")(x), snn(x))


class Normalised(nn.Module):
    """A ReLU network with one norm, whose output enters weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(self.norm(F.relu(self.first(x))))))


def test_dcgs_encodes_only_what_comes_from_analogue_operators():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model, x = Normalised().eval(), torch.randn(64, 6)
        pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1), nn.Flatten()).eval()
        images = torch.rand(16, 1, 6, 6)
    snn = ts.convert(model, DCGS(timesteps=16), x)
    assert sum(isinstance(node.op, Neuron) for node in snn.graph) == 3
    expected = model(x).detach()
    assert float((snn(x) - expected).norm()) <= 0.05 * float(expected.norm())
    assert sum(isinstance(node.op, Neuron) for node in ts.convert(pooled, DCGS(timesteps=4), images).graph) == 1
