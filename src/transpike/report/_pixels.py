"""Pictures for pages, as data URLs."""

import base64
import io

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.marks import as_picture
from transpike.report._style import library

LEAST = 96  # pixels of a picture's longer side, to avoid blurring in browsers
MOST = 384  # of a photograph's longer side, so that a page of several stays below a megabyte
CONTRAST = 0.5  # a smaller range in [0, 1] is stretched
SHARP = 128  # a longer side up to which pixels are kept as they are


def image(values: Tensor) -> str:
    """An input as a picture, in colour or grey: the mean frame of recordings, "" for signals."""
    x = as_picture(values)
    return "" if x is None else png(_stretched(x))


def photograph(values: Tensor) -> str:
    """A picture (1 or 3 channels, height, width), reduced to ``MOST`` pixels; a larger one as JPEG."""
    height, width = values.shape[1:]
    if max(height, width) <= SHARP:
        return png(_stretched(values))
    if max(height, width) > MOST:
        size = [max(1, round(side * MOST / max(height, width))) for side in (height, width)]
        values = F.interpolate(values[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
    return _written(_stretched(values), "jpeg", pil_kwargs={"quality": 85})


def coloured(mask: Tensor, colours: dict[int, str]) -> str:
    """A mask (height, width) of class indices in their colours (#rrggbb); classes without a colour are transparent."""
    step = -(-max(mask.shape) // MOST)
    mask = mask[::step, ::step]
    pixels = torch.zeros(*mask.shape, 4)
    for label, colour in colours.items():
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        pixels[mask == label] = torch.tensor([*parts, 1.0])
    return _written(pixels, "png")


def png(pixels: Tensor) -> str:
    """(height, width, 3) in [0, 1] as a data URL, enlarged by integer factors, more in height for a single row."""
    height, width = pixels.shape[:2]
    grow = max(1, -(-LEAST // max(height, width)))
    tall = max(grow, -(-12 // height))
    return _written(pixels.repeat_interleave(tall, 0).repeat_interleave(grow, 1), "png")


def _stretched(x: Tensor) -> Tensor:
    """(height, width, 3) in [0, 1]: as they are, if they lie there and use a good part of it, else from low to high."""
    x = x if x.shape[0] == 3 else x.mean(0, keepdim=True).expand(3, *x.shape[1:])
    low, high = float(x.min()), float(x.max())
    if low >= 0 and high <= 1 and high - low > CONTRAST:
        return x.movedim(0, -1)
    return ((x - low) / ((high - low) or 1.0)).movedim(0, -1)


def _written(pixels: Tensor, kind: str, **settings: object) -> str:
    buffer = io.BytesIO()
    library().image.imsave(buffer, pixels.double().clamp(0, 1).numpy(), format=kind, **settings)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()
