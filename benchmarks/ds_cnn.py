"""A depthwise separable network without shortcuts: the zoo's ``ds-cnn``, for benchmarks of its weights.

    PYTHONPATH=benchmarks transpike train --model py:ds_cnn:build --data fashion-mnist --data-dir DATA --epochs 8 \\
        --output ds-cnn.safetensors
"""

from torch import nn

from transpike.models.ds_cnn import DSCNN


def build() -> nn.Module:
    """For ``--model py:ds_cnn:build``: gray images of ten classes."""
    return DSCNN()
