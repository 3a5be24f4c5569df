"""The embedded data set: 1,797 handwritten digits of 8x8 grey pixels.

From the UCI Machine Learning Repository, "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, 1998,
https://doi.org/10.24432/C50P49), licence CC BY 4.0: the test part, as distributed by scikit-learn. Changes: pixels
of 0..16 become 0..255, and a fixed permutation in the file gives 1,257 training and 540 test images.
"""

from importlib import resources

import numpy as np
import torch

from transpike.data._base import Dataset, Split, statistics

TRAINING_IMAGES = 1257


def load() -> Dataset:
    """uint8 images (N, 1, 8, 8), ten classes."""
    with resources.files("transpike.data").joinpath("digits.npz").open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        order = archive["permutation"].astype(np.int64)
        pixels = np.rint(archive["images"][order] * (255 / 16)).astype(np.uint8)
        labels = torch.from_numpy(archive["labels"][order].astype(np.int64))
    images = torch.from_numpy(pixels).unsqueeze(1)
    train = Split(images[:TRAINING_IMAGES], labels[:TRAINING_IMAGES], "training images of digits")
    test = Split(images[TRAINING_IMAGES:], labels[TRAINING_IMAGES:], "test images of digits")
    note = "UCI Optical Recognition of Handwritten Digits, CC BY 4.0, embedded"
    return Dataset("digits", train, test, tuple("0123456789"), statistics(train), note)
