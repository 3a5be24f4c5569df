"""Data sets that torchvision reads or downloads."""

import importlib
from pathlib import Path

import numpy as np
import torch

from transpike.core.launched import several
from transpike.core.preprocessing import Preprocessing
from transpike.data._base import Dataset, Split
from transpike.errors import DataError, MissingExtra


def load(
    kind: str, root: Path, download: bool, name: str, classes: tuple[str, ...], preprocessing: Preprocessing, note: str
) -> Dataset:
    """``kind`` is torchvision's class name (CIFAR10, MNIST, …). Raises MissingExtra, or DataError if reading fails."""
    if download and several():
        raise DataError(
            f"{name} is not in {root}, and every process of torchrun would download it into the same files: load it "
            "once in one process before"
        )
    try:
        library = importlib.import_module("torchvision.datasets")
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision that was built for another torch
        raise MissingExtra(
            f"{name} in {root} is read by torchvision, which cannot be imported ({error}): "
            "pip install 'transpike[vision]', or make an .npz archive of it"
        ) from error
    splits = []
    for training in (True, False):
        try:
            found = getattr(library, kind)(root=str(root), train=training, download=download)
        except (RuntimeError, OSError) as error:
            way = "download" if download else "read"
            raise DataError(f"torchvision could not {way} {name} in {root}: {error}") from error
        pixels = torch.as_tensor(np.asarray(found.data))
        pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()
        source = f"{'training' if training else 'test'} images of {name}"
        splits.append(Split(pixels, torch.as_tensor(found.targets, dtype=torch.int64), source))
        classes = classes or tuple(map(str, found.classes))
    return Dataset(name, splits[0], splits[1], classes, preprocessing, note)
