"""Preprocessing that no network has is refused where it is made."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from transpike.core.preprocessing import Preprocessing
from transpike.errors import SettingError


def test_one_value_per_channel_or_one_for_all() -> None:
    x = torch.tensor([[[1.0], [3.0]]])
    assert Preprocessing((1.0, 2.0), (0.5,))(x).tolist() == [[[0.0], [2.0]]]
    assert Preprocessing([1.0, 2.0], [0.5]) == Preprocessing((1.0, 2.0), (0.5,))  # type: ignore[arg-type]
    assert Preprocessing((np.float32(1),), (2,)).std == (2,)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((), (1.0,), "mean .* must be a tuple of finite numbers"),
        ((math.nan,), (1.0,), "mean .* must be a tuple of finite numbers"),
        ((0.0,), (math.inf,), "std .* must be a tuple of finite numbers"),
        (("0",), (1.0,), "mean .* must be a tuple of finite numbers"),
        ("0", (1.0,), "mean .* must be a tuple of finite numbers"),
        (0.5, (1.0,), "mean .* must be a tuple of finite numbers"),
        ((True,), (1.0,), "mean .* must be a tuple of finite numbers"),
        ((10**400,), (1.0,), "mean .* must be a tuple of finite numbers"),
        ((0.0,), (1.0, 0.0), "must not be 0"),
        ((0.0, 1.0), (1.0, 2.0, 3.0), "mean of 2 channels and a std of 3"),
    ],
)
def test_other_values_are_refused(mean: Any, std: Any, words: str) -> None:
    with pytest.raises(SettingError, match=words):
        Preprocessing(mean, std)
