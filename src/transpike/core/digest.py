"""A digest of tensors by name."""

import hashlib
from collections.abc import Mapping

from torch import Tensor


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and values, in the order of the names."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode())
        found.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
