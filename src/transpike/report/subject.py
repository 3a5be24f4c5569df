"""The network that a page is about."""

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path

from transpike.hub.address import address_of
from transpike.snn import SNN


@dataclass(frozen=True)
class Subject:
    """The network that results are about: ``snn``, and the ``file`` that holds it, both if known.

    A page shows the settings of its recipe, its size and the size of the file, and commands with the name of the file;
    ``data``: their flags that select the data, like "--data cifar10".
    """

    snn: SNN | None = None
    file: str | Path | None = None
    data: str = ""

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Every setting of the recipe."""
        if self.snn is None:
            return []
        recipe = self.snn.recipe
        names = [field.name for field in dataclasses.fields(recipe)]  # type: ignore[arg-type]
        return [(name.replace("_", " "), _shown(getattr(recipe, name))) for name in names]

    @property
    def parameters(self) -> int | None:
        """The number of weights and biases of the spiking network, with its analogue parts."""
        if self.snn is None:
            return None
        graphs = [graph for graph in (self.snn.before, self.snn.graph, self.snn.rest) if graph is not None]
        tensors = (item for graph in graphs for node in graph for item in node.op.tensors().items())
        return sum(value.numel() for name, value in tensors if name in ("weight", "bias"))

    @property
    def bytes(self) -> int | None:
        """The size of the file; None if there is none."""
        path = None if self.file is None else Path(self.file)
        return path.stat().st_size if path is not None and path.is_file() else None

    def command(self, name: str, more: str = "", data: bool = True) -> str:
        """A command line of transpike with this file."""
        words = ["transpike", name, shlex.quote(str(self.file)), self.data if data else "", more]
        return " ".join(word for word in words if word)

    def beside(self, ending: str) -> str:
        """The name of a new file next to this one, for a command line; of a network on a hub in the current folder."""
        address = address_of(str(self.file))
        path = Path(str(self.file)) if address is None else Path(f"{address.repository.partition('/')[2]}.transpike")
        return shlex.quote(str(path.with_name(f"{path.stem}{ending}")))


def _shown(value: object) -> str:
    return value if isinstance(value, str) else repr(value)
