"""Runs on a GPU: no tensor is left on the CPU (on a pretended GPU), and spikes are those of the reference (on a real one)."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import transpike as ts
from networks import STEPS, cells, small_cnn
from pretended_gpu import GPU, pretended_gpu
from transpike import recipes as r
from transpike.engines import exact_sums
from transpike.engines.dense import fused
from transpike.ops import conv

NEEDS_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="there is no GPU: torch.cuda.is_available() is False"
)
WINDOWS = ts.schedules.LayerSynchronous()
RECIPES = (
    r.ECC(timesteps=STEPS), r.ECC(timesteps=STEPS, reset="hard"), r.ECC(timesteps=STEPS, granularity="neuron"),
    r.ECC(timesteps=STEPS, pooling="gated"), r.ECC(timesteps=STEPS, encoder=ts.encoders.Poisson(seed=3)),
    r.ECC(timesteps=STEPS, schedule=WINDOWS), r.ECC(timesteps=STEPS, schedule=ts.schedules.LayerSynchronous(3)),
    r.FewSteps(timesteps=STEPS), r.FewSteps(timesteps=STEPS, neuron="signed"), r.FewSteps(timesteps=STEPS, neuron="burst"),
    r.SNM(timesteps=STEPS), r.HMT(timesteps=4), r.DCGS(timesteps=8), r.table["sigma-delta"](timesteps=8), r.BSNN(timesteps=8),
    r.TSC(timesteps=8), r.AdaFire(timesteps=4), r.S4NN(),
)  # fmt: skip
ENGINES = [(engine, recipe) for engine in ("dense", "reference") for recipe in RECIPES]
ON = pytest.mark.parametrize(
    ("engine", "recipe"), ENGINES, ids=[f"{e} {i} {one.name}" for i, (e, one) in enumerate(ENGINES)]
)


def _converted(recipe):
    case = small_cnn()
    data, x = (case.calibration.abs(), case.x.abs()) if recipe.name == "s4nn" else (case.calibration, case.x)
    return ts.convert(case.graph, recipe, data), x


def _same(there: ts.Trace, here: ts.Trace) -> None:
    assert there.trains.keys() == here.trains.keys() and here.trains
    for name, train in here.trains.items():
        assert torch.equal(there.trains[name].cpu().double(), train.double()), name
    assert torch.equal(there.logits.cpu(), here.logits)


@ON
def test_no_tensor_is_left_on_the_cpu(engine, recipe):
    snn, x = _converted(recipe)
    steps = snn.timesteps
    here = ts.simulate(snn, x, steps, engine=engine, record=cells(snn))
    snn = _converted(recipe)[0]  # with nothing prepared
    with pretended_gpu():
        there = ts.simulate(snn, x.to(GPU), steps, engine=engine, record=cells(snn))
        assert there.logits.device.type == GPU.type and there.exact == here.exact
        _same(there, here)
    assert [one.spikes.tolist() for one in there.activity.layers] == [
        one.spikes.tolist() for one in here.activity.layers
    ]


@pytest.mark.parametrize(("engine", "recipe"), [("event", r.ECC(timesteps=STEPS)), ("sorted", r.S4NN())])
def test_engines_of_the_cpu_say_so(engine, recipe):
    snn, x = _converted(recipe)
    with pretended_gpu(), pytest.raises(ts.TranspikeError, match="engine='dense'"):
        ts.simulate(snn, x.to(GPU), engine=engine)


def test_evaluations_and_streams_stay_on_the_device():
    snn, x = _converted(r.ECC(timesteps=STEPS))
    y = torch.zeros(len(x), dtype=torch.int64)
    here, steps = ts.evaluate(snn, [(x, y)], engine="dense").final, snn.start(x)
    first = steps.step()
    with pretended_gpu():
        there, others = ts.evaluate(snn, [(x.to(GPU), y)], engine="dense").final, snn.start(x.to(GPU))
        assert torch.equal(others.step().cpu(), first)
    assert there.accuracy == here.accuracy


def test_a_preprocessing_works_on_the_device():
    preprocessing = ts.Preprocessing((0.5, 0.4), (0.2, 0.3))
    x = torch.rand(2, 2, 4, 4)
    with pretended_gpu():
        assert torch.equal(preprocessing(x.to(GPU)).cpu(), preprocessing(x))


@pytest.mark.parametrize("schedule", [ts.schedules.Streaming(), WINDOWS])
def test_a_convolution_that_rounds_is_replaced_by_a_product_of_matrices(schedule, monkeypatch):
    """As one by Winograd, of which only its own attempt can tell."""

    def rounding(convolution):
        def run(x, weight, *settings):
            narrow = x.device.type == GPU.type and x.dtype == torch.float32
            return convolution(x, weight.bfloat16().float() if narrow else weight, *settings)

        return run

    snn, x = _converted(r.ECC(timesteps=STEPS, schedule=schedule))
    here = ts.simulate(snn, x, engine="reference", record=cells(snn))
    monkeypatch.setattr(conv, "_PLAIN", tuple(map(rounding, conv._PLAIN)))
    with pretended_gpu():
        there = ts.simulate(snn, x.to(GPU), engine="dense", record=cells(snn))
        assert there.exact
        _same(there, here)
        monkeypatch.setattr(exact_sums, "unfolds", lambda op: False)
        snn = _converted(r.ECC(timesteps=STEPS, schedule=schedule))[0]
        rounded = ts.simulate(snn, x.to(GPU), engine="dense")
    assert not rounded.exact and "rounds its sums" in rounded.why


@given(st.data())
def test_a_convolution_is_a_product_of_matrices(data):
    dimensions, groups = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    numbers = {name: data.draw(st.tuples(*[st.integers(low, 3)] * dimensions)) for name, low in
               (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1))}  # fmt: skip
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000)))
    weight = torch.randint(-9, 9, (2 * groups, 2, *numbers.pop("kernel")), generator=generator).float()
    op = ts.ops.Conv(weight=weight, groups=groups, **numbers)
    x = torch.randint(0, 2, (3, 2 * groups, *[9] * dimensions), generator=generator).float()
    assert torch.equal(exact_sums.unfolded(op, x), op.linear(x))


def test_settings_of_torch_are_restored():
    places = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = [place.fp32_precision for place in places]
    with pytest.raises(KeyboardInterrupt), exact_sums.without_tf32("cuda"):
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
        raise KeyboardInterrupt
    assert [place.fp32_precision for place in places] == before


def test_a_tensor_that_is_left_on_the_cpu_is_found():
    with pretended_gpu():
        x = torch.ones(3).to(GPU)
        assert (2 * x + torch.tensor(1.0)).device.type == GPU.type  # one number may lie anywhere
        with pytest.raises(RuntimeError, match="lies on the CPU"):
            _ = x + torch.ones(3)


@pytest.mark.gpu
@NEEDS_GPU
@ON
def test_a_gpu_fires_the_spikes_of_the_reference(engine, recipe):
    snn, x = _converted(recipe)
    there = ts.simulate(snn, x.cuda(), snn.timesteps, engine=engine, record=cells(snn))
    assert there.exact, there.why
    _same(there, ts.simulate(snn, x, snn.timesteps, engine="reference", record=cells(snn)))


@pytest.mark.gpu
@NEEDS_GPU
def test_the_kernel_for_gpus_is_there_and_used(monkeypatch):
    assert fused.scan_on("cuda") is not None, "Triton is missing, which torch for GPUs brings"
    calls, scan = [], fused.scan_on("cuda")
    monkeypatch.setattr(fused, "scan_on", lambda device: lambda *given: calls.append(given) or scan(*given))
    snn, x = _converted(r.ECC(timesteps=STEPS))
    ts.simulate(snn, x.cuda(), engine="dense")
    assert calls


@pytest.mark.gpu
@NEEDS_GPU
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_a_gpu_adds_exactly_whatever_torch_is_set_to(precision):
    snn, x = _converted(r.ECC(timesteps=STEPS))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        trace = ts.simulate(snn, x.cuda(), engine="dense")
        assert trace.exact, trace.why
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision(before)
