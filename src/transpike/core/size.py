"""Sizes as text."""

from transpike.errors import SettingError


def bytes_of(text: str) -> int:
    """2GiB, 500MB, 64MiB or plain bytes."""
    units = {"gib": 2**30, "mib": 2**20, "kib": 2**10, "gb": 10**9, "mb": 10**6, "kb": 10**3, "b": 1, "": 1}
    number = text.strip().lower().rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = text.strip().lower()[len(number) :]
    try:
        return int(float(number) * units[unit])
    except (ValueError, KeyError, OverflowError):
        raise SettingError(f"memory is a size like 2GiB or 500MB, not {text!r}") from None
