"""Pictures of the archives that hold JPEG files: ``jpeg``, the bytes of all, and ``offsets``, where each begins."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def pictures(
    file: Path, size: int | None = None, cropped: int | None = None, part: str = ""
) -> Callable[[int], Tensor]:
    """The function that returns picture i, (3, height, width) in 0..1.

    Resized to squares of ``size`` if given, of which the centre of ``cropped`` is kept. ``part``: "train_" or "test_",
    where an archive has both.
    """
    archive = np.load(file, allow_pickle=False)
    data, offsets = archive[f"{part}jpeg"], archive[f"{part}offsets"]

    def picture(i: int) -> Tensor:
        image = Image.open(io.BytesIO(data[offsets[i] : offsets[i + 1]].tobytes())).convert("RGB")
        if size is not None:
            edge = (size - (cropped or size)) // 2
            box = (edge, edge, size - edge, size - edge)
            image = image.resize((size, size), Image.Resampling.BICUBIC).crop(box)
        return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255

    return picture
