"""The tables of first spikes, and the closed form that must read them as the definition does."""

import math

import pytest
import torch
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from transpike.codes.first_spike import FEW, _entries, first_levels
from transpike.codes.time_code import TIE, TimeCode
from transpike.engines import event_status
from transpike.engines.native import library as _native
from transpike.engines.native.first_spike import table
from transpike.errors import SettingError

FINE = 24  # bits: levels as good as the kernel
VECTORS = {  # ttfs-cq-energy.md, 1.1.1, θ = 1: x → slot, value
    (24, 4.0): {1.3: (0, 1), 1: (0, 1), 0.9: (1, 0.840896), 0.5: (4, 0.5), 0.3: (7, 0.297302), 0.1: (14, 0.088388),
                0.02: (23, 0.018581), 0.018: (None, 0)},
    (48, 8.0): {0.9: (2, 0.840896), 0.5: (8, 0.5), 0.3: (14, 0.297302), 0.1: (27, 0.096388), 0.02: (46, 0.018581),
                0.018: (47, 0.017039), 0.01: (None, 0)},
    (12, 2.0): {0.9: (1, 0.707107), 0.5: (2, 0.5), 0.3: (4, 0.25), 0.1: (7, 0.088388), 0.02: (None, 0)},
}  # fmt: skip
# (T, τ, base): the smallest level, and the largest relative error
SETTINGS = {
    (48, 8.0, 2.0): (0.01704, 0.0830), (24, 4.0, 2.0): (0.01858, 0.1591), (12, 2.0, 2.0): (0.02210, 0.2929),
    (16, 4.0, 2.0): (0.0743, 0.1591), (80, 20.0, math.e): (0.01926, 0.0488),
}  # fmt: skip
MEAN_ERRORS = {(48, 8.0): 0.0424, (24, 4.0): 0.0839, (12, 2.0): 0.1640, (16, 4.0): 0.0843}


@st.composite
def codes(draw: st.DrawFn) -> TimeCode:
    """Codes of every kind whose levels are apart."""
    window = draw(st.integers(1, 60))
    last = draw(st.sampled_from([None, None, window // 2]))
    rounding = draw(st.sampled_from(["down", "nearest"]))
    if draw(st.booleans()):
        return TimeCode(window, last=last, rounding=rounding, kernel="linear")
    tau, base = draw(st.sampled_from([1.0, 2.0, 3.3, 4.0, 8.0, 20.0])), draw(st.sampled_from([2.0, math.e]))
    delay = draw(st.sampled_from([0.0, -2.5, 0.7]))
    assume(window / tau * math.log2(base) < 12)  # a smaller level has no 24 bits
    try:
        return TimeCode(window, tau, base, delay, last, rounding, bits=draw(st.sampled_from([None, None, FINE])))
    except SettingError:
        assume(False)
        raise


@pytest.mark.parametrize("setting", VECTORS)
def test_values_have_the_slots_and_levels_of_the_reference(setting):
    code = TimeCode(*setting, bits=FINE)
    for x, (slot, value) in VECTORS[setting].items():
        assert code.slot(x) == slot
        assert code.value(slot) == pytest.approx(value, abs=6e-7)  # six digits are given


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_smallest_level_and_the_largest_error_are_those_of_the_reference(setting):
    window, tau, base = setting
    code = TimeCode(window, tau, base, bits=FINE)
    smallest, largest_error = SETTINGS[setting]
    assert code.value(code.slots - 1) == pytest.approx(smallest, rel=4e-4)  # as many digits as are given
    # just below a bar a value is rounded to the next level
    worst = max(1 - code.value(t + 1) / float(bar) for t, bar in enumerate(code.slot_thresholds[:-1]))
    assert worst == pytest.approx(largest_error, abs=6e-5)


@pytest.mark.parametrize("setting", MEAN_ERRORS)
def test_the_mean_error_of_even_values_is_that_of_the_reference(setting):
    code = TimeCode(*setting, bits=FINE)
    x = torch.linspace(code.smallest, 1, 200_001, dtype=torch.float64)
    error = (1 - first_levels(x, 1.0, code) * code.spike_scale / x).mean()
    assert float(error) == pytest.approx(MEAN_ERRORS[setting], rel=0.01)  # theirs is of random values


def test_rounding_to_the_nearest_cuts_the_squared_error_of_even_values_fourfold():
    x = torch.linspace(0, 1, 200_001, dtype=torch.float64)
    errors = []
    for rounding in ("down", "nearest"):
        code = TimeCode(24, 4.0, rounding=rounding, bits=FINE)
        errors.append(float((x - first_levels(x, 1.0, code) * code.spike_scale).square().mean()))
    assert errors[0] == pytest.approx(3.33e-3, rel=0.01) and errors[1] == pytest.approx(8.26e-4, rel=0.01)


@settings(max_examples=200)
@given(codes(), st.floats(0.05, 20), st.data())
def test_the_closed_form_finds_the_slot_that_the_definition_finds(code, theta, data):
    slot_thresholds = data.draw(st.lists(st.sampled_from(code.slot_thresholds.tolist()), max_size=6))
    near = [bar * side for bar in slot_thresholds for side in (1, 1 + 1e-9, 1 - 1e-9)]  # float64 tells them apart
    values = near + data.draw(st.lists(st.floats(-2, 2), min_size=1, max_size=8))
    charge = torch.tensor(values, dtype=torch.float64) * theta
    threshold = torch.tensor(theta, dtype=torch.float64)
    wanted = [0.0 if (t := code.slot(float(c / threshold))) is None else float(code.levels[t]) for c in charge]
    # charge / θ and θ · bar round differently: within a rounding of a bar either may be
    clear = [min(abs(float(c / threshold) / bar - 1) for bar in code.slot_thresholds.tolist()) > 1e-14 for c in charge]
    found = first_levels(charge, threshold, code)
    assert all(a == b for a, b, c in zip(found.tolist(), wanted, clear, strict=True) if c)


@settings(max_examples=100)
@given(codes(), st.sampled_from([torch.float32, torch.float64]), st.booleans(), st.integers(0, 2**32 - 1))
@example(TimeCode(6, 2.0, math.e, 0.7, bits=24), torch.float64, False, 551095)  # levels beyond 2^24
def test_the_list_finds_what_comparing_with_every_bar_finds(code, dtype, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    theta = torch.rand(1, 3, 1, 1, generator=generator, dtype=torch.float64).to(dtype) * 3 + 0.05
    theta = theta if channels else theta[:, :1]
    x = torch.rand(8, 3, 16, 16, generator=generator).to(dtype) * 1.4 - 0.1
    slot_thresholds = (
        code.slot_thresholds.to(dtype) * (theta if channels else theta.expand(1, 3, 1, 1))[:, :, 0]
    ).reshape(-1)  # as rounded
    edges = torch.cat(
        [
            slot_thresholds,
            torch.nextafter(slot_thresholds, slot_thresholds - 1),
            torch.nextafter(slot_thresholds, slot_thresholds + 1),
            slot_thresholds * (1 + 1e-6),
        ]
    )
    odd = torch.tensor([0.0, -0.0, 1e30, -1e30, 1e-38, math.inf, -math.inf], dtype=dtype)
    special = torch.cat([edges, odd])
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.5, x * theta, special[torch.randint(
        len(special), x.shape, generator=generator)])  # fmt: skip
    assert x.numel() >= FEW
    reached = (x.double()[..., None] >= theta.double()[..., None] * code.slot_thresholds).sum(-1)
    wanted = torch.cat([torch.zeros(1), code.levels.flip(0)]).to(dtype)[reached]
    assert torch.equal(first_levels(x, theta, code), wanted)
    assert torch.equal(first_levels(x.contiguous(memory_format=torch.channels_last), theta, code), wanted)
    assert torch.equal(first_levels(x[:, :, ::2], theta, code), wanted[:, :, ::2])
    assert torch.equal(first_levels(x[:1, :1], theta[:, :1], code), wanted[:1, :1])  # too few for the list


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_published_settings_need_few_second_looks(setting):
    entries = _entries(TimeCode(*setting))
    assert entries is not None and float((entries.levels < 0).double().mean()) < 0.01
    assert entries.levels[0] == 0 and entries.levels[-1] > 0  # where all that is smaller and larger is put


def test_charges_beside_a_bar_that_stands_between_two_entries_are_told_apart():
    code = TimeCode(24, 4.0, delay=-4 * math.log2(1 - TIE))
    assert code.slot_thresholds[4] == 0.5  # a float whose last bits are all zeros
    below, at = torch.full((FEW,), 0.5 * (1 - 1e-9), dtype=torch.float64), torch.full((FEW,), 0.5, dtype=torch.float64)
    assert set(first_levels(below, 1.0, code).tolist()) == {float(code.levels[5])}
    assert set(first_levels(at, 1.0, code).tolist()) == {float(code.levels[4])}


@settings(max_examples=100)
@given(codes(), st.floats(0.05, 20))
def test_a_level_that_is_coded_again_stays_itself(code, theta):
    threshold = torch.tensor(theta, dtype=torch.float64)
    again = first_levels(code.levels * code.spike_scale * theta, threshold, code)
    assert torch.equal(again, code.levels)


@settings(max_examples=60)
@given(codes(), st.integers(1, 60))
def test_a_shorter_window_loses_what_would_come_later_and_nothing_else(code, window):
    assume(window <= code.window)
    short = code.shortened(window)
    assert torch.equal(short.slot_thresholds, code.slot_thresholds[:window]) and short.spike_scale == code.spike_scale
    assert torch.equal(short.levels, code.levels[:window])


def test_thresholds_stand_a_tie_below_powers_of_two():
    slot_thresholds = TimeCode(24, 4.0).slot_thresholds
    assert float(slot_thresholds[4]) == pytest.approx(0.5 * (1 - TIE), abs=1e-12) and float(slot_thresholds[4]) < 0.5


@pytest.fixture(params=("baseline", "AVX2", "AVX-512"))
def instructions(request):
    library, _ = _native.load()
    chosen = library.tp_instructions()
    if not library.tp_force(request.param.encode()):
        pytest.skip(f"this machine has no {request.param}")
    yield
    assert library.tp_force(chosen)


@pytest.mark.skipif(event_status()[0] is None, reason=f"the native library is {event_status()[1]}")
@settings(
    max_examples=150,
    # the instructions are chosen once for all examples
    suppress_health_check=[*settings.default.suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(codes(), st.floats(0.05, 20), st.integers(0, 2**32 - 1))
def test_the_native_table_is_the_table(instructions, code, theta, seed):
    threshold = torch.tensor(theta)
    native = table(code, threshold)
    assume(native is not None)
    slot_thresholds = (code.slot_thresholds * threshold.double()).float()
    edges = torch.cat(
        [
            slot_thresholds,
            torch.nextafter(slot_thresholds, slot_thresholds - 1),
            torch.nextafter(slot_thresholds, slot_thresholds + 1),
        ]
    )
    odd = torch.tensor([0.0, -0.0, 1e30, -1e30, 1e-38, -1e-38, math.inf, -math.inf])
    x = torch.cat([torch.randn(3001, generator=torch.Generator().manual_seed(seed)) * theta, edges, odd])
    assert torch.equal(native(x), first_levels(x, threshold, code))
    images = x[:3000].reshape(3, 10, 10, 10).contiguous(memory_format=torch.channels_last)
    assert torch.equal(native(images), first_levels(images, threshold, code))
    assert torch.equal(native(images[:, ::3]), first_levels(images[:, ::3], threshold, code))
    wanted, address = first_levels(images, threshold, code), images.data_ptr()
    assert torch.equal(native(images, True), wanted) and images.data_ptr() == address and torch.equal(images, wanted)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"window": 0}, "1 to 65536 slots"), ({"window": 2.5}, "slots"), ({"tau": 0}, "tau must be positive"),
        ({"tau": "4"}, "tau must be a number"), ({"base": 1}, "base above 1"), ({"delay": math.nan}, "delay must be"),
        ({"rounding": "up"}, "rounding must be"), ({"kernel": "ramp"}, "kernel must be"), ({"last": 24}, "last usable slot"),
        ({"bits": 30}, "bits must be"), ({"window": 48, "tau": 8.0, "bits": 8}, "coincide: use more bits"),
        ({"window": 200, "tau": 4.0}, "too close or too small"),
    ],
)  # fmt: skip
def test_codes_that_cannot_be_are_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        TimeCode(**settings)
