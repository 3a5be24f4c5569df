"""FewSteps: what fits the rounding staircase, two calibrations, and a readout that leaves out the beginning."""

import pytest
import torch

import transpike as ts
from measured import alone, errors, later, threshold
from transpike.readouts import AccumulatedMembrane
from transpike.recipes import ECC, FewSteps, SNNCalibration

T = 8


@pytest.fixture(scope="module")
def left(digits) -> dict[str, list[float]]:
    """What is calibrated → the mean error of a channel of each layer, without its sign, on the calibration inputs."""
    found = {}
    for kind in ("none", "bias", "potential", "both"):
        layers = errors(digits.converted(FewSteps(timesteps=T, calibrate=kind)), digits.calibration[:128]).values()
        found[kind] = [float(error.movedim(1, 0).flatten(1).mean(1).abs().mean()) for error in layers]
    return found


def test_calibration_takes_most_of_the_mean_error_away(left):
    share = {kind: [now / before for now, before in zip(left[kind], left["none"], strict=True)] for kind in left}
    assert share["both"][0] < 0.8  # its current is exact: what is left comes from single neurons
    assert max(share["both"][1:]) < 0.3
    for kind in ("bias", "potential"):
        assert max(share[kind]) < 0.8
        assert sum(share["both"]) < sum(share[kind])


def test_thresholds_fit_the_rounding_staircase():
    # one step, nine values of ½ and one of 1: all round to θ, and 9 (½ − θ)² + (1 − θ)² is least at 5.5/10
    values = [0.5] * 9 + [1.0]
    assert threshold(FewSteps(timesteps=1, calibrate="none"), values) == pytest.approx(0.55)
    assert threshold(SNNCalibration(timesteps=1), values) == 0.5
    assert threshold(ECC(timesteps=1, percentile=100.0), values) == 1.0


def test_bursts_need_a_smaller_threshold():
    # up to four spikes a step reach 1 from θ = ¼, without an error
    values = [0.25, 0.5, 0.75, 1.0] * 2
    burst = FewSteps(timesteps=1, calibrate="none", neuron="burst", gamma=4)
    assert threshold(burst, values) == 0.25
    assert alone(burst, torch.tensor([0.5])).sum() >= 2


def test_the_answer_leaves_out_the_first_quarter(digits):
    x = digits.images[:64]
    snn = digits.converted(FewSteps(timesteps=16))
    plain = ts.simulate(digits.converted(FewSteps(timesteps=16, readout=AccumulatedMembrane())), x)
    assert snn.readout.delay == 4
    answer = snn(x).double()
    # sums of float32 logits: 1e-5 of their size
    assert torch.allclose(answer, later(plain, 4), rtol=1e-4, atol=1e-3)
    assert float((answer - plain.logits[-1]).abs().mean()) > 0.05


def test_uncalibrated_neurons_start_at_half_their_threshold(digits):
    for kind, exact in (("none", True), ("potential", False)):
        units = [n.op.unit for n in digits.converted(FewSteps(timesteps=T, calibrate=kind)).graph.cells if n.op.unit]
        assert len(units) == 5
        assert all(bool((unit.initial == unit.threshold / 2).all()) == exact for unit in units)


def test_signed_neurons_end_nearer_to_the_source(digits):
    def error(neuron: str) -> list[float]:
        snn = digits.converted(FewSteps(timesteps=T, calibrate="none", neuron=neuron))
        return [float(e.square().mean()) for e in errors(snn, digits.images[:64]).values()]

    signed, unsigned = error("signed"), error("integrate-and-fire")
    assert signed[0] == unsigned[0]  # a constant current needs no negative spike
    assert all(s < u for s, u in zip(signed[1:], unsigned[1:], strict=True))
