"""Laws of the neurons and schedules: balance, closed forms, oracles of the papers, delays."""

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import transpike as ts
from networks import STEPS, Case, assert_same_spikes, cases, cells, network
from transpike.activations import ReLU, Unchanged
from transpike.core.cell import Neuron
from transpike.core.graph import Graph
from transpike.core.pass_ import Context
from transpike.core.schedule import arrivals
from transpike.neurons import (
    Bistable,
    Burst,
    IntegrateAndFire,
    LateralInhibition,
    SignedEncoder,
    SignedIntegrateAndFire,
    Synchronous,
)
from transpike.ops import MaxPool
from transpike.passes import MatchDelays
from transpike.schedules import LayerSynchronous, PhaseCycles

SEEDS = st.integers(0, 10_000)
RULES = ("snm", "fast-snn", "pascal")


def charges(seed: int, steps: int = 12, size: int = 9) -> Tensor:
    """(time, batch, size) multiples of 1/64 between −1 and 2: sums of them are exact in float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-64, 129, (steps, 2, size), generator=generator).double() / 64


def theta(sixteenths: int) -> Tensor:
    return torch.tensor(sixteenths / 16, dtype=torch.float64)


def soft_neurons(threshold: Tensor, initial: Tensor) -> list[Neuron]:
    plain = IntegrateAndFire(ReLU(), threshold, initial)
    bursts = [Burst(ReLU(), threshold, initial, gamma) for gamma in (1, 3)]
    encoder = SignedEncoder(Unchanged(), threshold, initial)
    return [plain, *bursts, encoder, *(SignedIntegrateAndFire(ReLU(), threshold, initial, rule) for rule in RULES)]


def scan(cell: Neuron, train: Tensor) -> tuple[Tensor, Tensor]:
    """The final potential, and the levels sent."""
    state, sent = cell.init(train[0]), []
    for t, x in enumerate(train):
        state, output = cell.step(state, x, t=t + 1)
        sent.append(output)
    return cell.potential(state), torch.stack(sent)


@given(SEEDS, st.integers(4, 40), st.integers(0, 15))
def test_what_a_soft_reset_sends_is_its_input_less_what_it_keeps(seed, sixteenths, share):
    """Σ θ s = Σ x + v(0) − v(T), whatever the rule, the burst or the timing (reference, eq. 1)."""
    threshold, train = theta(sixteenths), charges(seed)
    initial = threshold * share / 16
    fired = 0
    for cell in soft_neurons(threshold, initial):
        left, sent = scan(cell, train)
        assert torch.equal((threshold * sent).sum(0), train.sum(0) + initial - left)
        fired += int(sent.abs().sum())
    assert fired > 0


@given(SEEDS, st.integers(4, 40), st.integers(1, 16), st.integers(1, 5))
def test_the_closed_form_of_a_window_is_what_firing_without_input_gives(seed, sixteenths, steps, gamma):
    charge = 4 * charges(seed, 1)[0]
    for cell in (
        *soft_neurons(theta(sixteenths), theta(sixteenths) / 2),
        Burst(ReLU(), theta(sixteenths), theta(1), gamma),
    ):
        assert torch.equal(cell.counts(charge, timesteps=steps), cell.fire_window(charge, timesteps=steps))


@given(SEEDS, st.integers(1, 5), st.integers(4, 40))
def test_a_burst_is_a_group_of_neurons_on_one_membrane(seed, members, sixteenths):
    """Group neuron (Lv et al. 2024): m members with thresholds θ i/m; it equals Γ = m at θ/m."""
    threshold, train = theta(sixteenths) * members, charges(seed)
    burst = Burst(ReLU(), threshold / members, threshold / members / 2, members)
    potential, expected = (threshold / members / 2).expand_as(train[0]).clone(), []
    for x in train:
        potential = potential + x
        fired = sum((potential >= threshold / members * i).double() for i in range(1, members + 1))
        potential = potential - threshold / members * fired
        expected.append(fired)
    assert torch.equal(scan(burst, train)[1], torch.stack(expected))


@given(SEEDS, st.integers(4, 40))
def test_a_burst_of_one_is_integrate_and_fire(seed, sixteenths):
    train = charges(seed).clamp(min=0)
    ends = [scan(cell, train)[1] for cell in soft_neurons(theta(sixteenths), theta(0))[:2]]
    assert torch.equal(*ends)


@given(SEEDS, st.sampled_from(RULES[:2]), st.integers(4, 40))
def test_a_signed_count_never_falls_below_zero(seed, rule, sixteenths):
    cell = SignedIntegrateAndFire(ReLU(), theta(sixteenths), theta(0), rule)
    counts = scan(cell, charges(seed) - 0.5)[1].cumsum(0)
    assert bool((counts >= 0).all()) and bool((counts > 0).any() or True)


# W = [2, −2], θ = 1, five steps, presynaptic rates 0.6 and 0.4 (QCFS, figure 1; reference, section 1.2)
UNEVEN = {
    "in time": ((1, 3, 5), (2, 4), 2),
    "too many": ((1, 2, 3), (4, 5), 4),
    "too few": ((3, 4, 5), (1, 2), 1),
}


def current(first: tuple[int, ...], second: tuple[int, ...]) -> Tensor:
    train = torch.zeros(5, 1, 1, dtype=torch.float64)
    for t in first:
        train[t - 1] += 2
    for t in second:
        train[t - 1] -= 2
    return train


@pytest.mark.parametrize("label", UNEVEN)
def test_the_order_of_arrival_changes_the_count(label):
    first, second, count = UNEVEN[label]
    left, sent = scan(IntegrateAndFire(ReLU(), theta(16), theta(0)), current(first, second))
    assert int(sent.sum()) == count and float(left) == 2 - count


@pytest.mark.parametrize(("rule", "count"), [("snm", 3), ("fast-snn", 2), ("pascal", 2)])
def test_negative_spikes_take_back_what_came_too_early(rule, count):
    """Given one step more, every rule that fires below zero is back at the source's 2; SNM waits for −θ."""
    train = torch.cat([current((1, 2, 3), (4, 5)), torch.zeros(2, 1, 1, dtype=torch.float64)])
    sent = scan(SignedIntegrateAndFire(ReLU(), theta(16), theta(0), rule), train)[1]
    assert int(sent.sum()) == min(count, 2) and float(sent.min()) == -1


@given(st.integers(0, 300))
def test_a_hard_reset_fires_every_so_many_steps(hundredths):
    """rate = 1 / ⌈θ / z⌉ for a constant z (reference, section 10)."""
    z = hundredths / 128 + 1 / 128
    cell = IntegrateAndFire(ReLU(), theta(16), theta(0), "hard")
    sent = scan(cell, torch.full((48, 1, 1), z, dtype=torch.float64))[1]
    period = max(1, -(-128 // (hundredths + 1)))
    assert int(sent.sum()) == 48 // period


@given(SEEDS, st.integers(1, 15))
def test_a_leak_forgets(seed, sixteenths):
    """v(T) = Σ k^{T−t} x(t) below the threshold: nothing is sent, and the rest is a geometric sum."""
    train, leak = charges(seed).clamp(0, 0.5) / 64, sixteenths / 16
    left, sent = scan(IntegrateAndFire(ReLU(), theta(16), theta(0), "soft", leak), train)
    expected = sum(leak ** (len(train) - 1 - t) * x for t, x in enumerate(train))
    assert not bool(sent.any()) and torch.allclose(left, expected, rtol=0, atol=1e-12)


@given(SEEDS, st.integers(1, 8), st.integers(1, 3))
def test_a_bistable_neuron_spells_its_charge_in_bits(seed, period, rounds):
    """One round in time equals the closed form, with what is left over in the next round; it never fires while it hears."""
    train = charges(seed, 2 * period * rounds) / 8
    cell = Bistable(ReLU(), theta(16), theta(1) / 2**period, period)
    state, closed = cell.init(train[0]), cell.init(train[0])
    for n in range(rounds):
        cycle = train[2 * period * n : 2 * period * (n + 1)]
        sent = torch.zeros_like(train[0])
        for k, x in enumerate(cycle):
            state, output = cell.step(state, x, t=2 * period * n + k + 1)
            assert k >= period or not bool(output.any())
            sent = sent + output
        closed, levels = cell.cycle(closed, cycle[:period].sum(0))
        assert torch.equal(sent, levels) and torch.equal(state, closed)
        assert bool((levels <= 2**period - 1).all())


@given(SEEDS, st.integers(1, 6))
def test_a_synchronous_neuron_repeats_what_it_heard_a_cycle_later(seed, period):
    train = charges(seed, 3 * period)
    sent = Synchronous(period=period).window(train)
    assert torch.equal(sent[period:], train[:-period]) and not bool(sent[:period].any())


@given(SEEDS, st.integers(1, 6))
def test_pooling_within_a_cycle_spells_the_largest_value_in_single_spikes(seed, period):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 2**period, (2, 3, 1, 6, 6), generator=generator)
    train = torch.cat(
        [(values[n] >> (period - 1 - k) & 1)[None] * 2.0 ** (period - 1 - k) for n in range(2) for k in range(period)]
    )
    cell = LateralInhibition(MaxPool(kernel=(3, 3), stride=(2, 2), padding=(1, 1)), period)
    sent = cell.window(train)
    for n in range(2):
        part = sent[n * period : (n + 1) * period]
        assert torch.equal(part.sum(0), cell.pool.run(values[n].float()))
        assert all(set(part[k].unique().tolist()) <= {0.0, 2.0 ** (period - 1 - k)} for k in range(period))


PERIODS = st.sampled_from([1, 3, 4])


def bsnn(case: Case, period: int, rounds: int, **settings: object) -> ts.SNN:
    recipe = ts.recipes.BSNN(timesteps=period * rounds, period=period, **settings)
    return ts.convert(case.graph, recipe, case.calibration)


@given(cases(), PERIODS, st.integers(1, 3))
def test_phase_cycles_in_closed_form_are_the_steps_in_time(case, period, rounds):
    snn = bsnn(case, period, rounds)
    runs = [ts.simulate(snn, case.x, engine=e, record=cells(snn)) for e in ("reference", "dense")]
    assert runs[0].exact and runs[1].exact, runs[0].why
    assert_same_spikes(*runs)
    counts = [[(a.spikes.sum(), a.synaptic_operations.sum()) for a in run.activity.layers] for run in runs]
    assert counts[0] == counts[1] and sum(float(s) for s, _ in counts[0]) > 0


@given(cases(), PERIODS)
def test_phase_cycles_without_delayed_shortcuts_agree_in_all_engines_too(case, period):
    snn = bsnn(case, period, 2, match_delays=False)
    runs = [ts.simulate(snn, case.x, engine=e, record=cells(snn)) for e in ("reference", "dense")]
    assert_same_spikes(*runs)


@given(cases(), PERIODS)
def test_one_round_is_the_staircase_network(case, period):
    """Every activation replaced by clip(⌊z 2^K/θ + β⌋, 0, 2^K − 1) θ 2^−K: the lowered form's own values, in float64."""
    snn = bsnn(case, period, 1)
    lowered = snn.program.lowered.to(dtype=torch.float64)
    trace = ts.simulate(snn, case.x, record=cells(snn))
    values: dict[str, Tensor] = {}
    for node in lowered.nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.op, Bistable):
            z = inputs[0] + lowered.biases[node.name][0]
            unit = node.op.threshold * 2.0**-period
            values[node.name] = torch.floor((z + node.op.initial) / unit).clamp(0, 2**period - 1)
        elif isinstance(node.op, LateralInhibition):
            values[node.name] = node.op.pool.run(inputs[0])
        elif isinstance(node.op, Synchronous):
            values[node.name] = inputs[0]
        else:
            values[node.name] = node.op.linear(*inputs) if inputs else case.x.double()
        if node.name in trace.trains:
            assert torch.equal(trace.trains[node.name][0].double(), values[node.name])
    answer = values[lowered.output.name] + lowered.biases[lowered.output.name][0]
    assert torch.equal(answer.float(), trace.logits[-1])


@given(cases(), st.integers(1, STEPS - 1))
def test_held_windows_agree_in_all_engines(case, wait_steps):
    snn = ts.convert(
        case.graph, ts.recipes.ECC(timesteps=STEPS, schedule=LayerSynchronous(wait_steps)), case.calibration
    )
    runs = [ts.simulate(snn, case.x, engine=e, record=cells(snn)) for e in ("reference", "dense")]
    if runs[1].exact:
        assert_same_spikes(*runs)


@given(cases())
def test_holding_the_whole_window_is_the_closed_form(case):
    """The time-stepped run with starts, bias windows and early shortcuts against counts in one pass."""
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS, schedule=LayerSynchronous()), case.calibration)
    run = ts.engines.Reference().start(snn.program, case.x, torch.arange(len(case.x)))
    run._wait_window(STEPS)
    assert torch.equal(run.finish().logits, ts.simulate(snn, case.x, engine="reference").logits)


def test_a_hold_of_nothing_is_streaming_in_a_window():
    case = network(0)
    held, streaming = (
        ts.convert(case.graph, ts.recipes.ECC(timesteps=STEPS, schedule=schedule), case.calibration)
        for schedule in (LayerSynchronous(0), ts.schedules.Streaming())
    )
    assert held.total_steps() == STEPS
    assert torch.equal(held(case.x), streaming(case.x))


@pytest.mark.parametrize(("schedule", "steps"), [
    (ts.schedules.Streaming(), 12), (LayerSynchronous(), 12 * 4), (LayerSynchronous(2), 3 * 2 + 12),
    (PhaseCycles(4), 4 * 4 + 2 * 8), (PhaseCycles(12), 4 * 12),
])  # fmt: skip
def test_total_steps_counts_every_window_on_the_longest_path(schedule, steps):
    case = next(network(s) for s in range(60) if _neurons_on_path(network(s).graph) == 3)
    recipe = ts.recipes.ECC(timesteps=12, schedule=schedule) if schedule.mode != "cycles" else None
    recipe = recipe or ts.recipes.BSNN(timesteps=12, period=schedule.period)
    assert ts.convert(case.graph, recipe, case.calibration).total_steps() == steps


def _neurons_on_path(graph: Graph) -> int:
    neurons = {n.name for n in graph if getattr(n.op, "role", "") == "activation"}
    depth: dict[str, int] = {}
    for node in graph:
        depth[node.name] = max((depth[i] for i in node.inputs), default=0) + (node.name in neurons)
    return depth[graph.output.name]


@given(cases())
def test_matched_delays_bring_all_wires_in_step_and_change_nothing_else(case):
    graph = ts.convert(case.graph, ts.recipes.BSNN(timesteps=4, match_delays=False), case.calibration).graph
    matched = MatchDelays(4).apply(graph, Context(case.graph, (case.calibration,), 4))
    after = arrivals(matched)
    assert all(len({after[i] for i in node.inputs}) <= 1 for node in matched)
    kept = [node.name for node in matched if not isinstance(node.op, Synchronous)]
    assert kept == [node.name for node in graph]
    again = MatchDelays(4).apply(matched, Context(case.graph, (case.calibration,), 4))
    assert [n.name for n in again] == [n.name for n in matched]


def test_cells_under_a_schedule_that_they_do_not_know_are_refused():
    case = network(1)
    snn = bsnn(case, 4, 1)
    wrong = dataclasses.replace(snn, recipe=ts.recipes.ECC(timesteps=4))
    with pytest.raises(ts.TranspikeError, match=r"bistable, period 4\) does not work under Streaming"):
        _ = wrong.program
