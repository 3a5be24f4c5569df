"""Connectivity of a network: the number of non-zero weights, layer by layer."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from transpike.core.graph import Graph
from transpike.core.op import Synapse
from transpike.errors import SettingError


@dataclass(frozen=True)
class Row:
    """The number of weights of a layer, and of those that are not zero."""

    name: str
    weights: int
    connections: int

    @property
    def connectivity(self) -> float:
        """The share of the weights that are not zero; 1 − connectivity is the sparsity."""
        return self.connections / self.weights


@dataclass(frozen=True)
class Connectivity:
    """Rows in the network's order; prints one line per layer."""

    rows: tuple[Row, ...]

    @property
    def total(self) -> Row:
        """All layers together."""
        return Row("total", sum(row.weights for row in self.rows), sum(row.connections for row in self.rows))

    def __str__(self) -> str:
        rows = (*self.rows, self.total)
        width = max(len(row.name) for row in rows)
        return "\n".join(
            f"{row.name:{width}}  {row.connections:>10,} of {row.weights:>10,} weights  {row.connectivity:7.2%}"
            for row in rows
        )


def connectivity(network: nn.Module | Graph) -> Connectivity:
    """Counts the non-zero weights of a module's parameters, or of a graph's synapses (``snn.graph``).

    Parameters with one axis (biases, batch normalisation) are not counted. Raises SettingError if no weights remain.
    """
    if not isinstance(network, nn.Module | Graph):
        raise SettingError(f"connectivity takes a torch.nn.Module or a Graph, not {type(network).__name__}")
    rows = tuple(
        Row(name, w.numel(), int(w.count_nonzero())) for name, w in _weights(network) if w.ndim > 1 and w.numel()
    )
    if not rows:
        raise SettingError(f"{type(network).__name__} has no weights of two axes or more to count")
    return Connectivity(rows)


def _weights(network: nn.Module | Graph) -> Iterator[tuple[str, Tensor]]:
    if isinstance(network, nn.Module):
        yield from network.named_parameters()
    else:
        yield from ((node.name, node.op.weight) for node in network if isinstance(node.op, Synapse))
