"""Charts on white paper, which a dark page shows with inverted brightness and the same hues."""

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image

from sitepages.staging import Site, normal, outside_code

PNG = re.compile(r"!\[[^\]]*\]\(([^()\s#]+\.png)\)")
MOSTLY = 0.5
"""Share of white pixels above which a picture is a chart; the others are images, whose brightness has a meaning."""


def is_chart(content: bytes) -> bool:
    grey = np.asarray(Image.open(io.BytesIO(content)).convert("L"))
    return bool((grey > 245).mean() > MOSTLY)


def mark(site: Site) -> None:
    """Give charts a class, which site.css draws for dark pages. Pictures with a drawing for each scheme stay as they are."""
    for place, text in site.pages.items():
        folder = Path(place).parent

        def marked(found: re.Match[str], folder: Path = folder) -> str:
            content = site.files.get(normal(folder / found[1]))
            if isinstance(content, Path):
                content = content.read_bytes()
            return found[0] + "{ .chart }" if isinstance(content, bytes) and is_chart(content) else found[0]

        site.pages[place] = outside_code(text, lambda prose, change=marked: PNG.sub(change, prose))
