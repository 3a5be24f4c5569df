"""Inputs that the network was not calibrated on are noticed; those of the same data set never are."""

import dataclasses

import pytest
import torch
from torch import Tensor

import transpike as ts
from transpike.core.input_check import InputCheck
from transpike.core.input_statistics import InputStatistics
from transpike.encoders import ConstantCurrent, EventFrames
from transpike.errors import DataError

DIGITS = ts.data.load("digits")
NORMAL = DIGITS.preprocessing
UNIT = ts.Preprocessing()
TRAIN, TEST = (split.batch(torch.arange(len(split)))[0] for split in (DIGITS.train, DIGITS.test))


def check(calibrated: Tensor, preprocessing: ts.Preprocessing | None = None, any_input: bool = False) -> InputCheck:
    known = dataclasses.replace(InputStatistics.of(calibrated.split(100)), any_input=any_input)
    return InputCheck(known, preprocessing, ConstantCurrent())


def warnings(calibrated: Tensor, *batches: Tensor, **settings: object) -> tuple[str, ...]:
    found = check(calibrated, **settings)
    for batch in batches:
        found.add(batch)
    return found.finished()


def test_statistics_are_those_of_all_values_and_of_the_samples() -> None:
    x = torch.tensor([[[0.0, 2.0]], [[4.0, 6.0]], [[1.0, 5.0]]])  # (samples, channel, values)
    found = InputStatistics.of([x[:1], x[1:]])
    assert (found.samples, found.low, found.high, found.mean) == (3, (0.0,), (6.0,), (3.0,))
    assert found.std == pytest.approx(((9 + 1 + 1 + 9 + 4 + 4) / 6) ** 0.5 * torch.ones(1).double().numpy())
    # the quantiles of three values, interpolated: 1 % lies 0.02 steps from the smallest
    assert found.smallest[0] == pytest.approx((0 + 0.02 * 1, 4 - 0.02 * 3))
    assert found.average[0] == pytest.approx((1 + 0.02 * 2, 5 - 0.02 * 2))
    assert found.largest[0] == pytest.approx((2 + 0.02 * 3, 6 - 0.02 * 1))
    assert str(found) == "3 samples from 0 to 6"


def test_statistics_do_not_depend_on_the_batches() -> None:
    one, other = InputStatistics.of([UNIT(TRAIN)]), InputStatistics.of(UNIT(TRAIN).split(7))
    for field in dataclasses.fields(one):
        assert torch.allclose(*(torch.tensor(getattr(each, field.name)).double() for each in (one, other)))


def test_channels_have_their_own_statistics_and_flat_inputs_have_one() -> None:
    x = torch.rand(50, 3, 2, 2) * torch.tensor([1.0, 10.0, 100.0]).reshape(3, 1, 1)
    assert len(InputStatistics.of([x]).mean) == 3
    assert len(InputStatistics.of([x.flatten(1)]).mean) == len(InputStatistics.of([torch.rand(9, 65, 2)]).mean) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 0}, {"low": (2.0,)}, {"low": (0.0, 0.0)}, {"std": (-1.0,)}, {"mean": (float("nan"),)},
        {"mean": (True,)}, {"smallest": ((1.0, 0.0),)}, {"largest": (1.0,)}, {"any_input": 1}, {"high": [1.0]},
    ],
)  # fmt: skip
def test_statistics_that_make_no_sense_are_refused(wrong: dict) -> None:
    pair = ((0.0, 1.0),)
    good = InputStatistics(9, (0.0,), (1.0,), (0.5,), (0.2,), pair, pair, pair)
    with pytest.raises(DataError, match="inputs"):
        dataclasses.replace(good, **wrong)


@pytest.mark.parametrize("prepare", [UNIT, NORMAL], ids=["0..1", "normalised"])
@pytest.mark.parametrize("calibrated", [1000, 100, 8])
def test_the_test_data_of_the_same_set_never_triggers(prepare: ts.Preprocessing, calibrated: int) -> None:
    known = prepare(TRAIN[:calibrated])
    groups = [(TEST,), TEST.split(1), *((part,) for size in (1, 8, 32) for part in TEST.split(size))]
    groups += [(TEST[DIGITS.test.labels == label],) for label in range(10)]  # sorted data, only the first samples
    assert not any(warnings(known, *map(prepare, parts)) for parts in groups)


WRONG = {
    "bytes instead of 0..1": (UNIT, lambda x: x.float(), "raw 0..255: divide by 255; .*--preprocessing unit"),
    "bytes instead of normalised": (NORMAL, lambda x: x.float(), r"divide by 255, then normalise .*--mean 0\.3"),
    "0..1 instead of normalised": (NORMAL, UNIT, r"0\.\.1 without normalisation.*--mean 0\.3"),
    "normalised instead of 0..1": (UNIT, NORMAL, "look normalised, but the calibration inputs were not"),
    "divided by 255 twice": (UNIT, lambda x: UNIT(x) / 255, "divided by 255 once too often"),
    "0..1 instead of bytes": (lambda x: x.float(), UNIT, "divided by 255 once too often"),
    "normalised twice": (NORMAL, lambda x: NORMAL(NORMAL(x)), "normalised twice"),
    "-1..1 instead of 0..1": (UNIT, lambda x: 2 * UNIT(x) - 1, "look normalised"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_preprocessing_is_an_error_that_names_it(case: str) -> None:
    right, wrong, advice = WRONG[case]
    with pytest.raises(DataError, match=f"do not look like.*{advice}.*accepting_any_input.*--any-input"):
        warnings(right(TRAIN), *wrong(TEST).split(32))
    with pytest.raises(DataError, match=advice):
        warnings(right(TRAIN), wrong(TEST[:8]))
    (warning,) = warnings(right(TRAIN), wrong(TEST), any_input=True)
    assert warning.startswith("the inputs differ from those of the calibration")


def test_inputs_that_are_preprocessed_already_are_told_apart_from_bytes_in_floating_point() -> None:
    with pytest.raises(DataError, match=r"preprocessed already, but the network applies \(x - .*pass raw inputs"):
        warnings(NORMAL(TRAIN), NORMAL(NORMAL(TEST)), preprocessing=NORMAL)
    with pytest.raises(DataError, match=r"0\.\.255 in floating point: pass uint8"):
        warnings(NORMAL(TRAIN), NORMAL(TEST.float()), preprocessing=NORMAL)


def test_the_message_has_the_numbers_of_both_and_the_channel() -> None:
    x = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    other = x * torch.tensor([1.0, 20.0, 1.0]).reshape(3, 1, 1)
    with pytest.raises(
        DataError, match=r"values from 0\.\d+ to 20, .* in channel 1, but the calibration had .* to 1, "
    ):
        warnings(x, other)
    assert not warnings(x, x.flip(0))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_one_sample_that_is_only_dark_or_bright_is_neither_error_nor_warning(level: float) -> None:
    assert not warnings(UNIT(TRAIN), torch.full((1, 1, 8, 8), level))
    assert not warnings(NORMAL(TRAIN), NORMAL(torch.full((1, 1, 8, 8), level)))


def test_one_sample_with_another_scale_is_an_error() -> None:
    with pytest.raises(DataError, match=r"raw 0\.\.255"):
        warnings(NORMAL(TRAIN), TEST[:1].float())


def test_the_whole_run_decides_and_not_its_first_batches() -> None:
    wrong, right = UNIT(TEST[:60]), NORMAL(TEST)
    assert not warnings(NORMAL(TRAIN), *wrong[:7].split(1), right)
    assert not warnings(NORMAL(TRAIN), *wrong[:8].split(1), right)
    assert not warnings(UNIT(TRAIN), TEST[:1].float(), UNIT(TEST))  # one artefact
    found = check(NORMAL(TRAIN))
    with pytest.raises(DataError):  # not at the end of a long run
        for _ in range(100):
            found.add(UNIT(TEST[:32]))
    assert found.values.samples == 64


def test_a_slight_difference_is_a_warning() -> None:
    x, noise = UNIT(TEST), torch.randn(TEST.shape, generator=torch.Generator().manual_seed(0))
    assert not warnings(UNIT(TRAIN), x + 0.1 * noise)
    assert "differ" in warnings(UNIT(TRAIN), x + 0.5 * noise)[0]
    assert "differ" in warnings(UNIT(TRAIN), 1 - x)[0]
    assert not warnings(UNIT(TRAIN[:50]), 1 - x)  # few calibration samples do not show what is usual


def test_without_statistics_nothing_is_checked() -> None:
    found = InputCheck(None, None, ConstantCurrent())
    found.add(TEST.float())
    assert found.finished() == ()


def test_another_density_of_events_is_a_warning_and_no_error() -> None:
    """The encoder refuses values other than 0 and 1; a mean of frames has no unit that could be wrong."""
    draw = torch.rand(64, 8, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    frames = [(draw < density).float() for density in (0.05, 0.06, 0.6)]
    known = InputStatistics.of([frames[0].repeat(2, 1, 1, 1, 1).mean(1)])
    for x, count in zip(frames, (0, 0, 1), strict=True):
        found = InputCheck(known, None, EventFrames())
        found.add(x)
        assert len(found.finished()) == count


def test_other_channels_than_those_of_the_statistics_are_an_error() -> None:
    with pytest.raises(DataError, match="of 1 channels, but the inputs have 3"):
        warnings(UNIT(TRAIN), torch.rand(8, 3, 8, 8))


@pytest.mark.parametrize(("scale", "shift", "refused"), [(0.42, 0.41, False), (0.3, 0.46, True), (4.0, 0.45, True)])
def test_another_source_of_signals_within_the_calibrated_range_is_a_warning(scale, shift, refused):
    """The numbers of one patient of MIT-BIH: mean 0.59 and deviation 0.05, calibrated with 0.42 and 0.13 on 0..1."""
    draw = torch.Generator().manual_seed(0)
    calibration = (0.42 + 0.126 * torch.randn(500, 1, 180, generator=draw)).clamp(0.02, 1)
    x = (0.42 + 0.126 * torch.randn(200, 1, 180, generator=draw)).clamp(0.02, 1) * scale + shift
    check = InputCheck(InputStatistics.of([calibration]), None, ConstantCurrent())
    if refused:
        with pytest.raises(DataError, match="do not look like"):
            check.add(x)
    else:
        check.add(x)
        assert check.finished()[0].startswith("the inputs differ from those of the calibration")


@pytest.mark.parametrize("samples", [1, 7, 8])
@pytest.mark.parametrize("scale", [1.0, 8.0, 10.0, 255.0])
def test_the_short_way_of_few_samples_decides_as_the_long_one(samples, scale):
    draw = torch.Generator().manual_seed(0)
    statistics = InputStatistics.of(
        [torch.rand(100, 2, 5, 5, generator=draw) * torch.tensor([1.0, 0.01])[:, None, None]]
    )
    x = scale * torch.rand(samples, 2, 5, 5, generator=draw)

    def decided(check: InputCheck, short: bool) -> object:
        try:
            if short:
                return check.single(x)
            check.add(x)
            return check.finished()
        except DataError as error:
            return str(error)

    checks = [InputCheck(statistics, None, ConstantCurrent()) for _ in range(2)]
    assert decided(checks[0], True) == decided(checks[1], False)
