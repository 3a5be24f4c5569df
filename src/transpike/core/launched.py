"""How this process was started."""

import os


def several() -> bool:
    """True where torchrun has started other processes too, before they have met."""
    return (os.environ.get("WORLD_SIZE") or "1") != "1"
