"""Random crops and flips for a whole batch at once, the same for the same generator."""

import torch
from torch import Generator, Tensor

from transpike.errors import SettingError

MODES = ("crop-flip", "crop", "none")
PADDINGS = ("zero", "reflect")


def augment(
    images: Tensor, mode: str, generator: Generator, padding: str = "zero", pixels: int | None = None
) -> Tensor:
    """Shift every image by up to ``pixels`` and, for "crop-flip", mirror half of them; same shape and type.

    ``images`` (batch, channels, height, width); ``generator`` lives on the CPU, so that every device draws the same;
    ``padding`` is what comes in at the border; ``pixels`` is an eighth of the height unless given (4 of 32).
    """
    if mode not in MODES or padding not in PADDINGS:
        raise SettingError(f"augment is one of {MODES} with padding {PADDINGS}, not {mode!r} with {padding!r}")
    if mode == "none":
        return images
    batch, _, height, width = images.shape
    reach = max(1, height // 8) if pixels is None else pixels
    if not 0 <= reach < min(height, width):
        raise SettingError(f"pixels must be from 0 to less than the image's size, not {reach}")
    shift = torch.randint(-reach, reach + 1, (2, batch, 1), generator=generator)
    rows = (torch.arange(height) + shift[0]).to(images.device)
    columns = torch.arange(width).expand(batch, width)
    if mode == "crop-flip":
        mirrored = torch.rand(batch, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = (columns + shift[1]).to(images.device)
    # One gather does crop and flip, and works for bytes as well, for which torch has no reflecting pad.
    which = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    inside_rows, inside_columns = _reflected(rows, height), _reflected(columns, width)
    result = images[which, channel, inside_rows[:, None, :, None], inside_columns[:, None, None, :]]
    if padding == "zero":
        outside = (rows != inside_rows)[:, None, :, None] | (columns != inside_columns)[:, None, None, :]
        result = result.masked_fill(outside, 0)
    return result


def _reflected(index: Tensor, size: int) -> Tensor:
    """−1 → 1, size → size − 2: the border itself is not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
