"""A graph as a trainable ``nn.Module`` under the source model's own parameter names."""

from typing import TYPE_CHECKING

from torch import Tensor, nn

from transpike.core.graph import Graph, Node

if TYPE_CHECKING:
    from transpike.core.op import Op


class GraphModule(nn.Module):
    """Runs a graph of ops; its state_dict has the names of the model that was captured.

    In ``train()`` batch normalisation uses batch statistics and updates its running ones, and dropout drops.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.source_graph = graph
        for node in graph:
            for field, key in node.keys().items():
                self._place(key, getattr(node.op, field), trainable=field not in getattr(node.op, "buffers", ()))

    def _place(self, key: str, value: Tensor, *, trainable: bool) -> None:
        *folders, name = key.split(".")
        owner: nn.Module = self
        for folder in folders:
            if folder not in owner._modules:
                owner.add_module(folder, nn.Module())
            owner = owner._modules[folder]  # type: ignore[assignment]
        if name in owner._parameters or name in owner._buffers:
            return  # tied: the same tensor under the same name
        if trainable:
            owner.register_parameter(name, nn.Parameter(value.detach().clone()))
        else:
            owner.register_buffer(name, value.detach().clone())

    def tensors(self) -> dict[str, Tensor]:
        """Name → the live tensor, parameters and buffers."""
        return {**dict(self.named_parameters(remove_duplicate=False)), **dict(self.named_buffers())}

    def bound(self, node: Node, live: dict[str, Tensor]) -> "Op":
        """The node's op on the live tensors."""
        return node.op.with_tensors(**{field: live[key] for field, key in node.keys().items()})  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        live = self.tensors()
        values: dict[str, Tensor] = {}
        for node in self.source_graph:
            op = self.bound(node, live)
            inputs = [values[name] for name in node.inputs] or [x]
            values[node.name] = op.train_run(*inputs) if self.training else op.run(*inputs)
        return values[self.source_graph.output.name]

    def to_graph(self) -> Graph:
        """The graph with the present weights."""
        return self.source_graph.bind({name: value.detach() for name, value in self.tensors().items()})
