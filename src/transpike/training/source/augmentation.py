"""Random crops, flips, policies and cutout of a batch, reproducible for a given generator."""

import torch
from torch import Generator, Tensor

from transpike.errors import SettingError
from transpike.training.source import policies

MODES = ("crop-flip", "crop", "none", *policies.POLICIES)
PADDINGS = ("zero", "reflect")
LEAST_PIXELS = 16  # shifts and rotations of a policy would remove smaller images completely


def check(mode: str, padding: str, cutout: int, shape: tuple[int, ...], recordings: bool = False) -> None:
    """Raises SettingError if samples of ``shape``, (channels, height, width) for images, do not fit these settings.

    Raises MissingExtra if a policy is used without torchvision.
    """
    if mode not in MODES or padding not in PADDINGS:
        modes = f"augment {('auto', *MODES)}, padding {PADDINGS}"
        raise SettingError(f"settings must be {modes}; not {mode!r}, {padding!r}")
    if mode == "none" and cutout == 0:
        return
    if len(shape) != 3:
        raise SettingError(f"samples of shape {shape} are not images; use augment='none' and cutout=0")
    channels, height, width = shape
    if isinstance(cutout, bool) or not isinstance(cutout, int) or not 0 <= cutout < min(height, width):
        raise SettingError(
            f"cutout must be an integer number of pixels, less than the image's {height}x{width}; {cutout}"
        )
    if recordings and (cutout or mode in policies.POLICIES):
        raise SettingError(f"{mode}, cutout {cutout}: recordings are not images; use augment='crop' and cutout=0")
    if mode in policies.POLICIES:
        if channels not in (1, 3) or min(height, width) < LEAST_PIXELS:
            wanted = f"images of 1 or 3 channels and at least {LEAST_PIXELS} pixels"
            raise SettingError(f"{mode} is for {wanted}, not {channels}x{height}x{width}; use 'crop-flip' or 'none'")
        policies.operations(mode, 0, channels)


def usual(shape: tuple[int, ...]) -> str:
    """The mode for samples of ``shape``, the last axes height and width: flips of colour images only, none below 16."""
    if len(shape) < 3 or shape[-2] < LEAST_PIXELS:
        return "none"
    return "crop-flip" if len(shape) == 3 and shape[0] > 1 else "crop"


def for_targets(mode: str, usual: str, classes: bool, targets: Tensor) -> str:
    """``mode``, where "auto" is the ``usual`` one of samples with classes, else "none".

    Raises SettingError for one that moves the pixels of images whose ``targets`` (N, …) have pixels too.
    """
    if mode == "auto":
        return usual if classes else "none"
    if mode != "none" and targets.ndim > 2:
        raise SettingError(
            f"augment={mode!r} moves the pixels of an image, and not those of its target, {tuple(targets.shape[1:])}: "
            "augment both before, and use augment='none'"
        )
    return mode


def augment(
    images: Tensor,
    mode: str,
    generator: Generator,
    padding: str = "zero",
    pixels: int | None = None,
    place: tuple[int, int] | None = None,
) -> Tensor:
    """Shift every image by up to ``pixels``, mirror half of them, and apply the policy; same shape and type.

    ``images`` (batch, channels, height, width); ``generator`` is on the CPU, so that every device draws the same
    numbers; ``padding`` fills the border; ``pixels`` defaults to an eighth of the height (4 of 32). Only "crop-flip",
    and policies for colour images, mirror. ``place`` (first, total): the images are those from ``first`` on in a batch
    of ``total``, for which the generator draws.
    """
    if mode not in MODES or padding not in PADDINGS:
        raise SettingError(f"augment is one of {MODES} with padding {PADDINGS}, not {mode!r} with {padding!r}")
    if mode == "none":
        return images
    if mode in policies.POLICIES:
        before = "crop-flip" if images.shape[1] == 3 else "crop"
        images = augment(images, before, generator, padding, pixels, place)
        first, total = place or (0, len(images))
        return policies.apply(images, mode, policies.seeds(total, generator)[first : first + len(images)])
    batch, _, height, width = images.shape
    first, total = place or (0, batch)
    mine = slice(first, first + batch)
    reach = max(1, height // 8) if pixels is None else pixels
    if not 0 <= reach < min(height, width):
        raise SettingError(f"pixels must be from 0 to less than the image's size, not {reach}")
    shift = torch.randint(-reach, reach + 1, (2, total, 1), generator=generator)[:, mine]
    rows = (torch.arange(height) + shift[0]).to(images.device)
    columns = torch.arange(width).expand(batch, width)
    if mode == "crop-flip":
        mirrored = torch.rand(total, 1, generator=generator)[mine] < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = (columns + shift[1]).to(images.device)
    # one gather crops and flips, also for bytes, for which torch has no reflecting padding
    which = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    inside_rows, inside_columns = _reflected(rows, height), _reflected(columns, width)
    result = images[which, channel, inside_rows[:, None, :, None], inside_columns[:, None, None, :]]
    if padding == "zero":
        outside = (rows != inside_rows)[:, None, :, None] | (columns != inside_columns)[:, None, None, :]
        result = result.masked_fill(outside, 0)
    return result


def cutout(images: Tensor, size: int, generator: Generator, place: tuple[int, int] | None = None) -> Tensor:
    """Each image with a square of side ``size`` pixels set to 0, at a random centre, clipped at the border.

    After preprocessing 0 is the mean colour. Source: DeVries and Taylor 2017 (Cutout); QCFS cuts 16 of 32 pixels.
    """
    if not size:
        return images
    first, total = place or (0, len(images))
    inside = []
    for pixels in images.shape[2:]:
        start = torch.randint(pixels, (total, 1), generator=generator)[first : first + len(images)] - size // 2
        index = torch.arange(pixels)
        inside.append(((index >= start) & (index < start + size)).to(images.device))
    return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0)


def _reflected(index: Tensor, size: int) -> Tensor:
    """−1 → 1, size → size − 2: the border itself is not repeated."""
    return (size - 1) - ((size - 1) - index.abs()).abs()
