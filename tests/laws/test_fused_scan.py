"""The scan for GPUs, of all steps in one kernel, is the scan of the dense engine: run here by Triton's interpreter."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import transpike as ts
from networks import (
    STEPS,
    assert_fires,
    assert_same_spikes,
    cases,
    cells,
    converted,
    recipes,
    run,
    single_neuron,
    small_cnn,
)
from transpike.engines.dense import fused
from transpike.lowering.exact_grid import RANGE_CHECK_EVERY

pytest.importorskip("triton", reason="Triton is not installed: pip install triton (Linux; torch for GPUs brings it)")
_triton_scan = pytest.importorskip("transpike.engines.dense._triton_scan")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = ((5,), (7, 3), (3, 4, 5), (2, 3, 2, 3), (1100, 1, 1))


@pytest.fixture(autouse=True)
def fused_here(monkeypatch) -> None:
    """On a CPU too, in the interpreter."""
    monkeypatch.setattr(fused, "scan_on", lambda device: _triton_scan.scan)


def loop(train, current, potential, row, reset, exact, before) -> int:
    """The same step by step, as ``FoldedRun._scan_unit``."""
    batch, found = len(potential), 0

    def spread(value):
        last = potential[0].movedim(0, -1) if potential.ndim == 4 else potential[0]
        return value.reshape(last.shape).movedim(-1, 0) if potential.ndim == 4 else value.reshape(last.shape)

    threshold, limit = spread(row[0]), spread(row[2])
    for k in range(len(train) // batch):
        here = train[k * batch : (k + 1) * batch]
        potential += here if current is None else current
        if row[1] is not None:
            potential += spread(row[1])
        if not exact:
            found += int(((potential - threshold).abs() < limit).sum())
        torch.ge(potential, threshold, out=here)
        potential -= here * potential if reset == "hard" else here * threshold
        if exact and (before + k + 1) % RANGE_CHECK_EVERY == 0:
            found += int((potential.abs() > limit).sum())
    return found


@settings(max_examples=40)
@given(
    st.sampled_from(SHAPES), st.integers(1, 3), st.integers(1, 12), st.integers(0, 20), st.sampled_from(["soft", "hard"]),
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["one", "channel", "neuron"]), st.integers(0, 2**31),
)  # fmt: skip
def test_the_kernel_is_the_loop(shape, batch, steps, before, reset, constant, biased, exact, granularity, seed):
    generator = torch.Generator().manual_seed(seed)
    channels = (shape[0], *(1,) * (len(shape) - 1))
    of = {"one": (), "channel": channels, "neuron": shape}[granularity]
    threshold = torch.rand(of, generator=generator) + 0.25
    train = fused.in_order(torch.randn((steps * batch, *shape), generator=generator))
    current = fused.in_order(torch.randn((batch, *shape), generator=generator)) if constant else None
    potential = fused.in_order(torch.rand((batch, *shape), generator=generator))
    if not exact:  # some potentials at the threshold
        potential[:, 0] = threshold.expand(shape)[0]
        (train[:batch] if current is None else current)[:, 0] = 0
    bias = 0.1 * torch.randn((1, *channels), generator=generator) if biased else None
    limit = torch.full(channels, 1.5) if exact else 1e-5 * threshold  # some are beyond it
    row = fused.row(train, threshold, bias, limit)
    expected, after, state = train.clone(), potential.clone(), [potential.to(DEVICE), train.to(DEVICE)]
    found = loop(expected, current, after, row, reset, exact, before)
    row = tuple(None if value is None else value.to(DEVICE) for value in row)
    current = None if current is None else current.to(DEVICE)
    assert _triton_scan.scan(state[1], current, state[0], row, reset, exact, before) == found
    assert torch.equal(state[1].cpu(), expected) and torch.equal(state[0].cpu(), after)


@settings(max_examples=15)
@given(cases(), recipes())
def test_the_dense_engine_with_it_fires_the_spikes_of_the_reference(case, recipe):
    snn = converted(case, recipe)
    here, reference = run(snn, case.x.to(DEVICE)), run(snn, case.x, "reference")
    assert all(torch.equal(here.trains[name].double().cpu(), train) for name, train in reference.trains.items())
    assert torch.equal(here.logits.cpu(), reference.logits)


def test_potentials_beyond_their_exact_range_end_the_promise(monkeypatch):
    case, calls = small_cnn(), []
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS), case.calibration)
    assert_fires(snn, run(snn, case.x), STEPS)
    monkeypatch.setattr(fused, "scan_on", lambda device: lambda *given: calls.append(given) or 1)
    trace = ts.simulate(snn, case.x, engine="dense")
    assert calls and not trace.exact and "left the grid" in trace.why


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_ties_off_the_grid_are_counted_alike(monkeypatch, reset):
    snn = single_neuron(0.5, exact_grid=False, reset=reset)  # reaches its threshold exactly in every second step
    traces = []
    for scan in (_triton_scan.scan, None):
        monkeypatch.setattr(fused, "scan_on", lambda device, scan=scan: scan)
        traces.append(ts.simulate(snn, torch.ones((2, 1)).to(DEVICE), 16, engine="dense", record=cells(snn)))
    assert traces[0].ties == traces[1].ties == 2 * 8
    assert_same_spikes(*traces)


COMPILED = """
import itertools, sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from transpike.engines.dense import _triton_scan
kernel = _triton_scan._steps
types = {name: "*fp32" for name in kernel.arg_names[:6]} | {"found": "*i32"}
types |= {name: "i32" for name in ("neurons", "sample", "steps", "before")}
for constant, exact in itertools.product((False, True), repeat=2):
    chosen = {"CONSTANT": constant, "BIASED": exact, "HARD": constant, "EXACT": exact, "EVERY": 8, "BLOCK": 1024}
    source = ASTSource(kernel, signature=types | dict.fromkeys(chosen, "constexpr"), constexprs=chosen)
    made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": False})
    print(len(made.asm["cubin"]) > 0, "add" in made.asm["ptx"], "fma" in made.asm["ptx"])
"""


@pytest.mark.skipif(
    importlib.util.find_spec("triton.backends.nvidia") is None, reason="this Triton does not compile for NVIDIA's GPUs"
)
def test_it_compiles_for_a_gpu_and_contracts_no_product_with_a_sum(tmp_path):
    """The compiler for NVIDIA's GPUs needs none; only what it gives does."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    (tmp_path / "compiled.py").write_text(COMPILED)
    command = [sys.executable, str(tmp_path / "compiled.py")]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert answer.stdout.split("\n")[:4] == ["True True False"] * 4, answer.stderr
