"""Names that every reader of ONNX accepts."""

import re
from collections.abc import Iterable


class Names:
    """Identifiers of C that occur once, as the specification of ONNX asks for."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def new(self, wanted: str) -> str:
        """``wanted`` with other characters as underscores, and a number if it is taken."""
        plain = re.sub(r"\W", "_", wanted, flags=re.ASCII)
        plain = f"_{plain}" if not plain or plain[0].isdigit() else plain
        found, number = plain, 1
        while found in self._taken:
            number += 1
            found = f"{plain}_{number}"
        self._taken.add(found)
        return found
