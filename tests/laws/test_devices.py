"""Runs on a GPU: no tensor is left on the CPU (on a pretended GPU), and spikes are those of the reference (on a real one)."""

import pytest
import torch

import transpike as ts
from networks import STEPS, cells, small_cnn
from pretended_gpu import GPU, pretended_gpu
from transpike import recipes as r
from transpike.engines.dense import fused

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
def test_a_gpu_adds_exactly_unless_it_is_told_to_round(monkeypatch):
    snn, x = _converted(r.ECC(timesteps=STEPS))
    assert ts.simulate(snn, x.cuda(), engine="dense").exact
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    rounded = ts.simulate(snn, x.cuda(), engine="dense")
    assert rounded.exact or "TF32" in rounded.why
