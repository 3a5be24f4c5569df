"""Network reconstruction: a spiking network is trained to follow its source network, without labels."""

import hashlib
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from transpike.core.cell import Neuron
from transpike.core.digest import digest
from transpike.core.graph import Graph, Node
from transpike.core.op import Synapse
from transpike.core.pass_ import Context, Pass
from transpike.core.readout import Readout
from transpike.errors import DataError, SettingError
from transpike.readouts import AccumulatedMembrane
from transpike.training import checkpoint as files
from transpike.training import schedule
from transpike.training.settings import fingerprint
from transpike.training.source import augmentation
from transpike.training.source.loop import diverged, generator_of
from transpike.training.spiking.ranges import bounds, current_ranges
from transpike.training.spiking.unrolled import Kind, Unrolled

FEWEST = 16
"""Calibration inputs without which nothing can be held out and learned."""
HELD_OUT = 1 / 8
"""Share of the calibration inputs that select the best values."""
STAGES = 20
"""Number of measurements on the held-out inputs; after each of them a checkpoint is written."""
ROWS = 256
"""Samples of a batch times time steps; a batch has 8 to 32 samples, fewer where they do not fit into ``BUDGET``."""
BUDGET = 2**31
"""Bytes of the values that the backward pass needs, about."""
TRAINED: tuple[Kind, ...] = ("weights", "thresholds", "initial")


@dataclass(frozen=True)
class Reconstruct(Pass):
    """Trains weights, thresholds and initial potentials so that answers and layers follow the source network.

    ``min ‖y − y*‖² / ‖y* − ȳ*‖² + mean_l ‖φ_l − a_l‖² / ‖a_l‖²``: y the readout's answer after T steps, φ_l the mean
    charge that neuron layer l sends in T steps, y* and a_l what the source network computes for the same input. Adam
    through all time steps by surrogate gradients (``Rectangular``), cosine schedule; a step moves a parameter by
    ``learning_rate`` times its unit: the root mean square of a weight, of a bias that of its layer's output, of the
    others the layer's mean threshold. Images are shifted and mirrored; the source answers for the changed image. One
    of eight calibration inputs is held out, and the values with the smallest error of the answers on them are used, at
    worst those from before. Weights that are zero remain zero. No labels. Raises SettingError for schedules other than
    streaming and whole windows, DataError for fewer than 16 inputs.
    Source: transpike's own. Layers that follow the source's activations are the reconstruction of post-training
    quantisation (Nagel et al. 2020; Li et al. 2021, BRECQ, which has these granularities) with the surrogate gradients
    of spiking networks (Neftci, Mostafa, Zenke 2019). ``granularity`` "layer" passes no gradient from a layer to those
    before it, as in local tandem learning (Yang et al. 2022).
    """

    asks: ClassVar[str] = "spikes"
    granularity: Literal["network", "layer"] = "network"
    readout: Readout = AccumulatedMembrane()
    iterations: int = 1000
    learning_rate: float = 0.01

    def __post_init__(self) -> None:
        if self.granularity not in ("network", "layer"):
            raise SettingError(f"granularity must be 'network' or 'layer', not {self.granularity!r}")
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise SettingError(f"iterations must be an integer of at least 1, not {self.iterations!r}")
        if not 0 < self.learning_rate < math.inf:
            raise SettingError(f"learning_rate must be a positive number, not {self.learning_rate!r}")

    def work(self, context: Context) -> float:
        batch = min(max(8, ROWS // context.timesteps), 32)
        return 3 * self.iterations * batch * context.timesteps  # a backward pass is two of them

    def apply(self, graph: Graph, context: Context) -> Graph:
        with torch.enable_grad():
            return _Reconstruction(self, graph, context).run(context.checkpoint)

    def describe(self) -> str:
        return "reconstruction of the network" if self.granularity == "network" else "reconstruction of each layer"


class _Reconstruction:
    """One reconstruction in progress."""

    def __init__(self, settings: Reconstruct, graph: Graph, context: Context) -> None:
        self.settings, self.graph, self.context = settings, graph, context
        self.x = torch.cat(context.batches) if context.recorded is None else context.recorded
        if len(self.x) < FEWEST:
            raise DataError(
                f"a reconstruction needs at least {FEWEST} calibration inputs, but there are {len(self.x)}: pass more, "
                "or use reconstruct='none'"
            )
        self.source = context.analogue[0]
        readout = settings.readout.calibrated(graph, context)
        self.module = Unrolled(graph, context.encoder, context.schedule, readout, context.timesteps)
        self.module.cut = settings.granularity == "layer"
        order = torch.randperm(len(self.x), generator=generator_of(context.seed, 0))
        held_out = round(len(order) * HELD_OUT)
        self.held_out, self.training = order[:held_out], order[held_out:]
        kept = 4 * context.timesteps * sum(math.prod(node.shape) for node in graph)
        self.size = max(1, min(max(8, ROWS // context.timesteps), 32, len(self.training), BUDGET // kept))
        images = context.recorded is None and len(graph.inputs) == 1
        self.augment = augmentation.usual(tuple(self.x.shape[1:])) if images else "none"
        names = {node.name for node in self.source}
        # a neuron after the last layer follows the output before it
        neurons = [node for node in graph if isinstance(node.op, Neuron)]
        found = {node.name: node.name if node.name in names else node.inputs[0] for node in neurons}
        self.followed = {ours: theirs for ours, theirs in found.items() if theirs in names}
        self.trained = self._chosen()
        rate = settings.learning_rate
        groups = [{"params": [self.trained[name]], "lr": rate * unit} for name, unit in self._units().items()]
        self.optimiser = torch.optim.Adam([{**group, "initial_lr": group["lr"]} for group in groups])
        self.least = {name: low for name, (low, _) in bounds(self.module).items() if low > -math.inf}
        weights = {node.keys().get("weight", "") for node in graph if isinstance(node.op, Synapse)}
        masks = {name: (self.trained[name] != 0).float() for name in weights & self.trained.keys()}
        self.kept = {name: mask for name, mask in masks.items() if not bool(mask.all())}
        self.spread = self._spread()

    def _chosen(self) -> dict[str, nn.Parameter]:
        """Mark and return the trained parameters; all others are frozen."""
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)
        groups = self.module.groups()
        found = {name: parameter for kind in TRAINED for name, parameter in groups[kind].items()}
        for parameter in found.values():
            parameter.requires_grad_(True)
        return found

    def _units(self) -> dict[str, float]:
        """Name of a parameter → the size by which its steps are measured."""
        outputs: dict[str, float] = {}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            outputs[node.name] = _size(output)

        with torch.no_grad():
            self.source.run(self.still(self.training[:64]), observe=see)
        neurons, found = {name: unit for name, (_, unit) in bounds(self.module).items()}, dict[str, float]()
        for node in self.graph:
            for field, key in node.keys().items():
                if key in self.trained:
                    own = _size(self.trained[key].detach())
                    found[key] = neurons.get(key, outputs.get(node.name, own) if field == "bias" else own)
        return {key: unit for key, unit in found.items() if 0 < unit < math.inf}

    def _spread(self) -> float:
        """The mean square of the source's answers around their mean, over samples."""
        with torch.no_grad():
            answers = [self.source.run(self.still(part)) for part in self.training.split(64)]
        spread = float(torch.cat(answers).var(0, unbiased=False).mean())
        if not 0 < spread < math.inf:
            raise DataError(
                "the source network gives the same answer for all calibration inputs, so there is nothing to learn: "
                "use other inputs, or reconstruct='none'"
            )
        return spread

    def still(self, indices: Tensor) -> Tensor:
        """The inputs of the source network."""
        return self.context.encoder.accumulate(self.x[indices])

    def errors(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The error of the answers, and the mean error of the layers, both relative."""
        theirs: dict[str, Tensor] = {}
        wanted = set(self.followed.values())

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if node.name in wanted:
                theirs[node.name] = output

        with torch.no_grad():
            target = self.source.run(self.context.encoder.accumulate(x), observe=see)
        last = self.module.source_graph.output.name
        seen = self.module.watched(x, {*self.followed, last}, ids)
        layers = torch.zeros(())
        for ours, name in self.followed.items():
            sent, scale = seen[ours].levels.mean(0), seen[ours].spike_scale
            wrong = (sent if scale is None else sent * scale) - theirs[name]
            layers = layers + wrong.square().mean() / theirs[name].square().mean().clamp(min=1e-9)
        currents = seen[last].charge
        currents = currents.expand(1 if self.module.windows else self.module.timesteps, *currents.shape[1:])
        answers = (self.module.answers(currents)[-1] - target).square().mean() / self.spread
        return answers, layers / max(1, len(self.followed))

    @torch.no_grad()
    def measure(self) -> float:
        """The relative error of the answers on the held-out inputs."""
        parts = self.held_out.split(self.size)
        return sum(float(self.errors(self.x[part], part)[0]) * len(part) for part in parts) / len(self.held_out)

    def run(self, path: Path | None) -> Graph:
        """The trained graph; ``path`` is a checkpoint that is written after every stage, and from which it resumes."""
        steps, stages = self.settings.iterations, min(STAGES, self.settings.iterations)
        facts, before = self._facts(), self.measure()
        state = files.State([], 0, self._values())
        if path is not None and path.exists():
            state = files.load(path, facts, self.module, self.optimiser, self.trained, "delete the file to restart")
        while len(state.history) < stages:
            stage, start = len(state.history), time.perf_counter()
            first, last = steps * stage // stages, steps * (stage + 1) // stages
            loss = self._train(stage + 1, first, last)
            error = self.measure()
            if not math.isfinite(error):
                raise self._diverged(f"the error on the held-out inputs after step {last} is {error}")
            least = min([before, *(row.validation_loss or 0.0 for row in state.history)])
            if error < least:
                state.best_epoch, state.best = stage + 1, self._values()
            rate = self.optimiser.param_groups[0]["lr"] / self.optimiser.param_groups[0]["initial_lr"]
            seconds = round(time.perf_counter() - start, 3)
            state.history.append(files.Row(stage + 1, rate, loss, None, error, None, seconds))
            if path is not None and self.context.writes:
                files.save(path, facts, self.module, self.optimiser, self.trained, state)
        return self._result(state, before)

    def _train(self, stage: int, first: int, last: int) -> float:
        """The steps from ``first`` to before ``last``; returns their mean loss."""
        generator, total = generator_of(self.context.seed, stage), 0.0
        for step in range(first, last):
            chosen = self.training[torch.randperm(len(self.training), generator=generator)[: self.size]]
            x = self.x[chosen]
            if self.augment != "none":
                x = augmentation.augment(x, self.augment, generator, "reflect")
            factor = schedule.cosine(step, self.settings.iterations, self.settings.iterations // 20)
            for group in self.optimiser.param_groups:
                group["lr"] = group["initial_lr"] * factor
            self.optimiser.zero_grad()
            answers, layers = self.errors(x, chosen)
            loss = answers + layers
            if not math.isfinite(loss.item()):
                raise self._diverged(f"the loss is {loss.item()} in step {step + 1} of {self.settings.iterations}")
            loss.backward()
            self.optimiser.step()
            self._constrain()
            total += loss.item()
            self.context.progress(step + 1, self.settings.iterations)
        return total / (last - first)

    def _diverged(self, what: str) -> DataError:
        return diverged(f"reconstruction: {what}", self.settings.learning_rate)

    @torch.no_grad()
    def _constrain(self) -> None:
        """Thresholds stay positive, zero weights zero."""
        for name, low in self.least.items():
            self.trained[name].clamp_(min=low)
        for name, mask in self.kept.items():
            self.trained[name].mul_(mask)

    def _values(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.module.state_dict().items()}

    def _result(self, state: files.State, before: float) -> Graph:
        shown = f"on {len(self.held_out)} held-out calibration inputs"
        if not state.best_epoch:
            self.context.remark(f"reconstruction: no step reduced the error {shown}, so nothing was changed")
            return self.graph
        after = state.history[state.best_epoch - 1].validation_loss
        self.context.remark(
            f"reconstructed in {self.settings.iterations} steps: the squared error of the answers, over the variance "
            f"of the source's, fell from {before:.3g} to {after:.3g} {shown}"
        )
        self.module.load_state_dict(state.best)
        self.context.ranges.update(
            current_ranges(self.module, (self.x[part] for part in self.training.split(self.size)))
        )
        return self.module.to_graph()

    def _facts(self) -> dict[str, Any]:
        """Everything that must match to resume from a checkpoint."""
        inputs = self.x.detach().cpu().contiguous().numpy().tobytes()
        return {
            "pass": type(self.settings).__name__,
            "granularity": self.settings.granularity,
            "iterations": self.settings.iterations,
            "learning_rate": self.settings.learning_rate,
            "readout": [type(self.module.readout).__name__, asdict(self.module.readout)],
            "schedule": [type(self.context.schedule).__name__, asdict(self.context.schedule)],
            "encoder": str(self.context.encoder),
            "timesteps": self.context.timesteps,
            "seed": self.context.seed,
            "inputs": hashlib.sha256(inputs).hexdigest()[:16],
            "source": digest(self.source.parameters())[:16],
            "network": fingerprint(self.module),
            "start": digest(self.module.state_dict())[:16],
            "preprocessing": None,
            "spec": "",
        }


def _size(value: Tensor) -> float:
    """The root mean square of the elements that are not zero."""
    value = value.detach()
    return float(value[value != 0].square().mean().sqrt()) if bool((value != 0).any()) else 0.0
