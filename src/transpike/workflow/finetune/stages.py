"""Fine-tuning layer by layer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.cell import Neuron
from transpike.core.graph import Node
from transpike.core.op import Synapse
from transpike.errors import SettingError
from transpike.training import checkpoint as files
from transpike.training.spiking.layer_stages import is_lower, place, stages
from transpike.workflow.finetune.loop import Tuning
from transpike.workflow.train import Row


class Stagewise(Tuning):
    """The loop with stages, which train separate parameters by separate objectives."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        assert self.settings.layerwise is not None
        if self.settings.gradients == "counts":
            raise SettingError("layer-wise fine-tuning trains through time: omit gradients='counts'")
        self.plan = self.settings.layerwise
        self.stages = stages(self.module, self.plan, self.settings.train)  # type: ignore[arg-type]
        self.features = self._features() if self.plan.objective != "task" else {}
        if self.plan.weight_bits is not None and self.settings.normalise:
            raise SettingError("weights cannot be rounded before a normalisation scales them: use normalise=False")
        self.epochs = len(self.stages) * self.plan.epochs
        self.stage, self.prepared = self.stages[0], -1
        if self.source is None:
            self.source = self.snn.source.to(device=self.device)

    def _features(self) -> dict[str, str]:
        """Followed layer → the corresponding layer of the source network."""
        there = {node.name for node in self.snn.source}
        found = {}
        for name in {name for stage in self.stages for name in stage.followed}:
            node = self.module.source_graph[name]
            behind_output = isinstance(node.op, Neuron) and name not in there
            found[name] = node.inputs[0] if behind_output else name
            if found[name] not in there:
                raise SettingError(f"{name} has no layer in the source network to follow; use objective='task'")
        return found

    def ready(self, state: files.State) -> bool:
        now = place(state.history, self.plan)
        if now.begins and state.history and self.prepared < now.stage:
            self._finish(state, now.stage - 1)
        if now.stage >= len(self.stages):
            state.best, state.best_epoch = self._values(), len(state.history)
            return True
        if self.prepared < now.stage:
            self._begin(now.stage, fresh=now.begins)
        return False

    def _begin(self, number: int, *, fresh: bool) -> None:
        self.stage, self.prepared = self.stages[number], number
        self.module.spiking, self.module.cut = self.stage.spiking, self.plan.trains == "each"
        for name, parameter in self.trained.items():
            parameter.requires_grad_(name in self.stage.trained)
            parameter.grad = None
        if fresh:
            self.optimiser.state.clear()

    def _finish(self, state: files.State, number: int) -> None:
        """End the stage with its best values, and round its weights."""
        self.module.load_state_dict(state.best)
        if self.plan.weight_bits is not None:
            self._round(self.stages[number].trained, self.plan.weight_bits)

    @torch.no_grad()
    def _round(self, names: frozenset[str], bits: int) -> None:
        for node in self.module.source_graph:
            key = node.keys().get("weight")
            if key in names and isinstance(node.op, Synapse):
                op = self.module.bound(node, self.module.tensors())
                assert isinstance(op, Synapse)
                self.trained[key].copy_(op.rounded(_step(op, bits)).weight)

    def _values(self) -> dict[str, Tensor]:
        self.module.spiking, self.module.cut = None, False
        for parameter in self.trained.values():
            parameter.requires_grad_(True)
        return {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def is_better(self, row: Row, state: files.State) -> bool:
        now = place(state.history, self.plan)
        return now.begins or not now.best or is_lower(row, state.history[now.best - 1])

    def factor(self, epoch: int, step: int, steps: int) -> float:
        return self.plan.last_rate if self.stage is self.stages[-1] else 1.0

    def loss(self, inputs: Tensor, labels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        if self.plan.objective == "task":
            return super().loss(inputs, labels, ids)
        source: dict[str, Tensor] = {}
        wanted = {self.features[name] for name in self.stage.followed}

        def see(node: Node, given: tuple[Tensor, ...], output: Tensor) -> None:
            if node.name in wanted:
                source[node.name] = output

        assert self.source is not None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            with torch.no_grad():
                teacher = self.output.part(self.source.run(self.snn.encoder.accumulate(inputs), observe=see).float())
            seen = self.module.watched(inputs, (*self.stage.followed, self.module.source_graph.output.name), ids)
        total = torch.zeros((), device=self.device)
        for name in self.stage.followed:
            theirs = source[self.features[name]].float()
            total = total + F.mse_loss(seen[name].charge.float().mean(0), theirs) / theirs.square().mean().clamp(
                min=1e-9
            )
        output = seen[self.module.source_graph.output.name].charge.float()
        currents = output.expand(1 if self.module.windows else self.timesteps, *output.shape[1:])
        answer = self.output.part(self.module.answers(currents)[-1])
        if self.plan.objective == "features+distil":
            total = total + self.criterion(self.output.part(currents), answer, labels, teacher)
        return total, answer

    def measured(self, part: Tensor) -> tuple[float, Tensor]:
        """The stage's objective, and what the task needs of the answers of the network in this stage."""
        if self.plan.objective == "task":
            return super().measured(part)
        inputs, labels = self.samples.batch(part)
        inputs, labels = self.snn.prepare(inputs).to(self.device), labels.to(self.device)
        loss, answer = self.loss(inputs, labels, part.to(self.device))
        return loss.item() * len(part), self.judged(answer, labels)


def _step(op: Synapse, bits: int) -> Tensor:
    """The largest |w| of each output channel over 2^(bits − 1) − 1, shaped like the weight."""
    channels = op.bias.numel() if op.bias is not None else op.weight.shape[1 if getattr(op, "transposed", False) else 0]
    marks = op.per_output(torch.arange(channels, dtype=torch.float64).to(op.weight.device)).expand_as(op.weight).long()
    peaks = torch.zeros(channels, dtype=op.weight.dtype, device=op.weight.device)
    peaks = peaks.scatter_reduce(0, marks.flatten(), op.weight.abs().flatten(), "amax")
    return (op.per_output(peaks) / (2 ** (bits - 1) - 1)).clamp(min=1e-30)
