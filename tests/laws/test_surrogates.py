"""Surrogate gradients are what their formulas say, and no spike changes for them."""

import math
import threading
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from networks import mlp, small_cnn
from transpike.core.spike import fire, floor_clip, surrogate_gradient
from transpike.errors import SettingError
from transpike.neurons import IntegrateAndFire
from transpike.training.spiking import surrogates
from transpike.training.spiking.scan import scan
from transpike.training.spiking.surrogates import Arctangent, Linear, Rectangular, Triangle
from transpike.training.spiking.unrolled import Unrolled

FORMULAS = {
    Rectangular(0.3): lambda x: (x.abs() < 0.3).to(x) / 0.6,
    Triangle(0.7): lambda x: (0.7 - x.abs()).clamp(min=0) / 0.49,
    Linear(0.3, 0.9): lambda x: 0.3 * (1 - x.abs() / 0.9).clamp(min=0),
    Arctangent(0.5): lambda x: 2 / (1 + (2 * math.pi * x) ** 2),
}
chosen = st.sampled_from(list(FORMULAS))
seeds = st.integers(0, 10**6)


def rand(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_surrogate_is_tested():
    assert {type(surrogate) for surrogate in FORMULAS} == set(surrogates.table.values())


@pytest.mark.parametrize("surrogate", [s for s in FORMULAS if not isinstance(s, Linear)])
def test_the_area_below_a_surrogate_is_one(surrogate):
    x = torch.linspace(-400, 400, 8_000_001, dtype=torch.float64)
    assert float(surrogate.gradient(x).sum() * 1e-4) == pytest.approx(1, abs=1e-3)


@given(seeds, chosen)
def test_gradients_are_the_formula_at_u_over_threshold_minus_one(seed, surrogate):
    u, threshold = (rand(seed, 50) * 3 - 0.5).requires_grad_(), (rand(seed + 1, 1) + 0.5).requires_grad_()
    g = FORMULAS[surrogate](u / threshold - 1).detach()
    spikes = fire(u, threshold, surrogate=surrogate)
    along_u, along_threshold = torch.autograd.grad(spikes.sum(), (u, threshold))
    assert torch.equal(spikes, (u >= threshold).double()) and 0 < spikes.sum() < 50
    assert torch.allclose(along_u, g / threshold, rtol=1e-9, atol=1e-12)
    assert torch.allclose(along_threshold, -(u / threshold**2 * g).sum(0, keepdim=True), rtol=1e-9, atol=1e-12)
    fixed = fire(u, threshold.detach(), surrogate=surrogate)  # where a mask is all that is kept
    assert torch.allclose(torch.autograd.grad(fixed.sum(), u)[0], along_u, rtol=1e-12, atol=1e-12)


def test_at_the_threshold_and_beside_it_the_spike_is_the_comparison():
    threshold = torch.rand(2000, generator=torch.Generator().manual_seed(0)) * 2 + 1e-3
    for u in (threshold, torch.nextafter(threshold, torch.tensor(0.0)), torch.nextafter(threshold, torch.tensor(9.0))):
        for surrogate in (None, *FORMULAS):
            assert torch.equal(fire(u, threshold, surrogate=surrogate), (u - threshold >= 0).float())


def test_a_surrogate_is_in_force_in_its_own_thread_only():
    u = torch.ones(3, requires_grad=True)
    other: list[bool] = []
    with surrogate_gradient(Rectangular()):
        thread = threading.Thread(target=lambda: other.append(fire(u, torch.ones(())).requires_grad))
        thread.start()
        thread.join()
        assert fire(u, torch.ones(())).requires_grad and floor_clip(u, 2).requires_grad
    assert other == [False] and not fire(u, torch.ones(())).requires_grad


def test_floor_clip_pass_gradients_between_half_a_step_and_half_above_the_top():
    level = torch.tensor([0.3, 0.5, 1.7, 3.4, 3.6], requires_grad=True)
    with surrogate_gradient(Linear()):
        steps = floor_clip(level, 3)
    assert steps.tolist() == [0, 0, 1, 3, 3]
    assert torch.autograd.grad(steps.sum(), level)[0].tolist() == [0, 1, 1, 1, 0]


def moving(reset: str, threshold: Tensor, initial: Tensor, leak: Tensor) -> IntegrateAndFire:
    cell = object.__new__(IntegrateAndFire)  # a leak that learns is a tensor, which the checks do not expect
    for name, value in {"threshold": threshold, "initial": initial, "reset": reset, "leak": leak}.items():
        object.__setattr__(cell, name, value)
    return cell


@given(seeds, chosen, st.sampled_from(["soft", "hard"]), st.sampled_from([1.0, 0.9]), st.sampled_from([1, 4]))
def test_the_scan_is_the_cells_own_steps(seed, surrogate, reset, leak, heard):
    current = (rand(seed, heard, 3, 2, 5) * 1.6 - 0.4).requires_grad_()
    threshold, initial = (rand(seed + 1, 2, 1) + 0.5).requires_grad_(), (rand(seed + 2, 2, 1) * 0.4).requires_grad_()
    kept = torch.tensor(leak, dtype=torch.float64, requires_grad=True)
    weights, inputs = rand(seed + 3, 4, 3, 2, 5), (current, threshold, initial, kept)
    fast = scan(current, threshold, initial, kept, reset, surrogate, 4)
    with surrogate_gradient(surrogate):
        slow = moving(reset, threshold, initial, kept).window(current.expand(4, 3, 2, 5))
    assert torch.equal(fast, slow) and 0 < fast.sum() < fast.numel()
    moved = inputs if leak < 1 else inputs[:3]  # the cell does not multiply by one
    for a, b in zip(
        *(torch.autograd.grad((s * weights).sum(), moved, retain_graph=True) for s in (fast, slow)), strict=True
    ):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    lean = scan(current, threshold.detach(), initial, kept.detach(), reset, surrogate, 4)
    along = torch.autograd.grad((lean * weights).sum(), (current, initial))
    whole = torch.autograd.grad((scan(*inputs, reset, surrogate, 4) * weights).sum(), (current, initial))
    assert all(torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(along, whole, strict=True))


@given(seeds, chosen)
def test_without_gradient_through_the_reset_only_the_potential_remembers(seed, surrogate):
    current = (rand(seed, 3, 2, 4) * 1.6 - 0.4).requires_grad_()
    threshold, initial = torch.tensor(1.0).double(), torch.tensor(0.5).double()
    spikes = scan(current, threshold, initial, 1.0, "soft", surrogate, 3, detach_reset=True)
    (gradient,) = torch.autograd.grad(spikes[2].sum(), current)
    potential = initial + current.detach().cumsum(0) - torch.cat([torch.zeros(1, 2, 4), spikes.detach().cumsum(0)[:2]])
    expected = FORMULAS[surrogate](potential[2] - 1).expand(3, 2, 4)
    assert torch.allclose(gradient, expected, rtol=1e-9, atol=1e-12)


def test_a_big_batch_is_scanned_in_parts_that_fit_together():
    current = (rand(0, 2, 40, 4, 32, 32) * 1.6 - 0.4).requires_grad_()
    threshold = (rand(1, 4, 1, 1) + 0.5).requires_grad_()
    whole = scan(current, threshold, threshold.detach() / 2, 1.0, "soft", Rectangular(), 2)
    parts = [scan(c, threshold, threshold.detach() / 2, 1.0, "soft", Rectangular(), 2) for c in current.split(7, 1)]
    assert torch.equal(whole, torch.cat(parts, 1))
    a, b = (
        torch.autograd.grad((s * current.detach()).sum(), (current, threshold)) for s in (whole, torch.cat(parts, 1))
    )
    assert torch.equal(a[0], b[0]) and torch.allclose(a[1], b[1])


STREAMING, WINDOWS = ts.schedules.Streaming(), ts.schedules.LayerSynchronous()
RECIPES = {
    "soft": ts.recipes.ECC(timesteps=6),
    "hard": ts.recipes.ECC(timesteps=6, beta=0.0),
    "spike_scale": ts.recipes.ECC(timesteps=6),
    "spikes in": ts.recipes.ECC(timesteps=6, encoder=ts.encoders.DeterministicCounts()),
    "random spikes in": ts.recipes.ECC(timesteps=6, encoder=ts.encoders.Poisson()),
    "spikes out": ts.recipes.ECC(timesteps=6, readout=ts.readouts.SpikeCount()),
    "delayed": ts.recipes.FewSteps(timesteps=6, samples=8),
    "signed": ts.recipes.FewSteps(timesteps=6, samples=8, neuron="signed"),
    "memory": ts.recipes.SNM(timesteps=6),
    "burst": ts.recipes.FewSteps(timesteps=6, samples=8, neuron="burst"),
    "windows": ts.recipes.ECC(timesteps=6, schedule=WINDOWS),
    "spikes in windows": ts.recipes.ECC(timesteps=6, schedule=WINDOWS, encoder=ts.encoders.DeterministicCounts()),
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("make", [mlp, small_cnn])
def test_an_unrolled_network_gives_the_spikes_of_the_reference_engine(name, make):
    case = make(0)
    snn = replace(ts.convert(case.graph, RECIPES[name], case.calibration), exact_grid=False)
    if name == "hard":
        cells = {
            n.name: replace(n, op=replace(n.op, reset="hard", leak=0.9))
            for n in snn.graph.cells
            if hasattr(n.op, "leak")
        }
        snn = replace(snn, graph=snn.graph.rewrite(lambda node: cells.get(node.name)))
    if name == "spike_scale":
        cells = {
            n.name: replace(n, op=replace(n.op, spike_scale=0.8 * n.op.threshold)) for n in snn.graph.cells if n.op.unit
        }
        snn = replace(snn, graph=snn.graph.rewrite(lambda node: cells.get(node.name)))
    names = [node.name for node in snn.graph.cells]
    trace = ts.simulate(snn, case.x, engine="reference", record=names)
    module = Unrolled(snn.graph, snn.encoder, snn.schedule, snn.readout, 6).double()
    seen = module.watched(snn.prepare(case.x).double(), names)
    for node in snn.graph.cells:
        levels = seen[node.name].levels * (6 if module.windows else 1)
        if (
            seen[node.name].spike_scale is None and trace.trains[node.name].any()
        ):  # pooling passes charges here, levels there
            continue
        assert torch.equal(levels.round(), trace.trains[node.name]), node.name
        assert torch.allclose(levels, levels.round(), atol=1e-9) and levels.abs().mean() > 0
    logits = module.answers(module(snn.prepare(case.x).double()))
    assert torch.allclose(logits, trace.logits, atol=1e-5) and len(logits) == len(trace.logits)
    gradients = torch.autograd.grad(logits[-1].square().sum(), [*module.groups()["weights"].values()])
    assert all(g.isfinite().all() for g in gradients) and all(bool(g.any()) for g in gradients[::2])


def test_cycles_and_broken_windows_are_refused():
    case = mlp(0)
    for recipe in (
        ts.recipes.BSNN(timesteps=8),
        ts.recipes.ECC(timesteps=8, schedule=ts.schedules.LayerSynchronous(wait_steps=3)),
    ):
        snn = ts.convert(case.graph, recipe, case.calibration)
        with pytest.raises(SettingError, match="LayerSynchronous"):
            Unrolled(snn.graph, snn.encoder, snn.schedule, snn.readout, 8)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan, "wide", True, None])
def test_widths_that_make_no_sense_are_refused(bad):
    for kind in surrogates.table.values():
        with pytest.raises(SettingError, match="width"):
            kind(width=bad)
