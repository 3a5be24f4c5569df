"""Preprocessing holds finite numbers, and says for which inputs it is."""

from typing import Any

import numpy as np
import pytest
import torch

import transpike as ts
from transpike.core.preprocessing import described
from transpike.errors import DataError, SettingError


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        (0.5, (1.0,), "mean is a tuple of numbers.*not 0.5"),
        ("0.5", (1.0,), "mean is a tuple"),
        ((), (1.0,), "mean is a tuple"),
        (("a",), (1.0,), "mean is a tuple"),
        ((True,), (1.0,), "mean is a tuple"),
        (({},), (1.0,), "mean is a tuple"),
        (torch.zeros(1, 3), (1.0,), "mean is a tuple"),
        ((float("nan"),), (1.0,), "mean must be finite"),
        ((0.0,), (0.0,), r"std must be positive, not \(0.0,\); use 1 for a constant channel"),
        ((0.0,), (-1.0, 1.0), "std must be positive"),
        ((0.0, 0.0, 0.0), (1.0, 1.0), "mean has 3 channels and std has 2"),
    ],
)
def test_values_that_make_no_sense_are_refused(mean: Any, std: Any, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        ts.Preprocessing(mean, std)


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, tuple])
def test_numbers_of_other_kinds_become_floats(kind: Any) -> None:
    found = ts.Preprocessing(kind([0.5, 0.25]), kind([2.0, 1.0]))
    assert found == ts.Preprocessing((0.5, 0.25), (2.0, 1.0)) and hash(found)
    assert torch.equal(found(torch.ones(1, 2, 1)), torch.tensor([[[0.25], [0.75]]]))


def test_inputs_with_other_channels_are_refused() -> None:
    three = ts.Preprocessing((0.1, 0.2, 0.3), (1.0,))
    assert three(torch.zeros(2, 3, 4, 4)).shape == (2, 3, 4, 4)
    with pytest.raises(DataError, match=r"\(batch, 3, …\), not \(2, 1, 4, 4\)"):
        three(torch.zeros(2, 1, 4, 4))
    with pytest.raises(DataError, match=r"\(batch, channels, …\), not \(3,\)"):
        ts.Preprocessing()(torch.zeros(3))


def test_preprocessing_as_text() -> None:
    assert described(None) == "unknown" and described(ts.Preprocessing()) == "bytes / 255"
    assert described(ts.Preprocessing((0.5, 0.25), (2.0,))) == "(x - 0.5,0.25) / 2"
