"""Passes that place neurons which fire once, with the time code of the source network or of the recipe."""

import dataclasses
import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from transpike.activations import FirstSpikeStaircase, Staircase
from transpike.codes.first_spike import first_levels
from transpike.codes.time_code import TimeCode
from transpike.core.graph import Graph, Node
from transpike.core.pass_ import Context, Pass
from transpike.core.plain import is_plain
from transpike.core.stand_in import check_stand_ins
from transpike.encoders import FirstSpikes
from transpike.encoders.first_spikes import receives_input
from transpike.errors import SettingError
from transpike.neurons import FirstSpike, IntegrateAndFire
from transpike.passes._walk import Walk
from transpike.passes.thresholds.squared_error import SquaredErrorThresholds, candidates

BLOCK = 2**16
"""Activations whose error is computed together, in the cache."""
TOGETHER = 2**29
"""Bytes of the activations of all calibration data with which kernels are trained in a single run of the network."""
TIED = 0.01  # share of a level: CQ's levels begin slightly early, so that float32 rounds no tie down


@dataclass(frozen=True)
class UseFirstSpikes(Pass):
    """Integrate-and-fire neurons become first-spike neurons with ``code``.

    With ``learned`` they take the time code of the source's φ where it has one, and linear kernels round as the
    source's staircase does (``⌊z + φ⌋``, φ = 0 or ½). Raises SettingError where φ was trained with fewer slots than
    the recipe has, and, without ``learned``, where it was trained with a code other than ``code``.
    """

    code: TimeCode = TimeCode()
    learned: bool = False

    def apply(self, graph: Graph, context: Context) -> Graph:
        def change(node: Node) -> Node | None:
            if not is_plain(node.op, IntegrateAndFire):
                return None
            old, code = node.op, self.code
            if is_plain(old.source, FirstSpikeStaircase):
                code = self._trained(node, old.source.code, context)
            elif self.learned and is_plain(old.source, Staircase) and code.kernel == "linear":
                code = self._floor_clip(node, old.source)
            cell = FirstSpike(old.source, old.threshold, torch.zeros_like(old.threshold), code=code)
            return dataclasses.replace(node, op=cell)

        changed = graph.rewrite(change)
        check_stand_ins(changed)
        return changed

    def _trained(self, node: Node, code: TimeCode, context: Context) -> TimeCode:
        name = node.path or node.name
        if context.timesteps > code.window:
            raise SettingError(
                f"{name} was trained with {code.window} slots, but the recipe has {context.timesteps}: use "
                f"timesteps={code.window}"
            )
        if code.shortened(context.timesteps) == self.code:
            return code
        if not self.learned:
            raise SettingError(
                f"{name} was trained with {code}, but the recipe has {self.code}: use the recipe cat, which keeps the "
                "trained code"
            )
        context.remark(f"{name} keeps the code that it was trained with ({code}), not the recipe's ({self.code})")
        return code

    def _floor_clip(self, node: Node, source: Staircase) -> TimeCode:
        down = 0 <= source.shift < TIED
        if source.slope or not (down or source.shift == 0.5):
            raise SettingError(
                f"{node.path or node.name} is a {source.describe()} shifted by {source.shift:g}, and slots round down "
                "or to the nearest: use learned=False"
            )
        return dataclasses.replace(self.code, rounding="down" if down else "nearest")


@dataclass(frozen=True)
class SpikesAtInput(Pass):
    """Removes a φ that the source network applies to its input: the encoder replaces it.

    Remarks state the share of input values that are clipped or lost. Raises SettingError where the two codes differ.
    """

    def apply(self, graph: Graph, context: Context) -> Graph:
        encoder = context.encoder
        if not is_plain(encoder, FirstSpikes):
            return graph
        self._report(encoder, context)

        def change(node: Node) -> str | None:
            if not is_plain(node.op, FirstSpikeStaircase) or not receives_input(graph, node):
                return None
            if node.op.code != encoder.code:
                raise SettingError(
                    f"the input was trained as {node.op.code}, but the recipe encodes it as {encoder.code}: use "
                    "the same timesteps, tau and kernel_bits in the recipe"
                )
            return graph.input.name

        return graph.rewrite(change)

    def _report(self, encoder: FirstSpikes, context: Context) -> None:
        lit = dark = over = 0
        for batch in context.batches:
            encoder.check(batch)
            lit += int((batch > 0).sum())
            over += encoder.beyond(batch)
            dark += int(((batch > 0) & (encoder.counts(batch, torch.zeros(0), context.timesteps) == 0)).sum())
        if over:
            context.remark(
                f"{over / lit:.1%} of the non-zero input values on the calibration data are above "
                f"{encoder.largest:.3g}, the largest value that a spike represents, and are clipped: scale the input"
            )
        if dark:
            code = encoder.code.shortened(context.timesteps)
            context.remark(
                f"{dark / lit:.1%} of the non-zero input values on the calibration data are below "
                f"{code.smallest * (encoder.largest or 1.0):.3g}, the last slot's threshold, and are lost"
            )


@dataclass(frozen=True)
class FirstSpikeThresholds(SquaredErrorThresholds):
    """``θ = argmin Σ (a − φ_θ(a))²`` over θ = (1 − i/100) · max a, i = 0 … 94, a the activations.

    Balances clipping against rounding error over the first ``samples`` calibration inputs, for networks that were not
    trained with φ. The rule is ours: it replaces the unpublished optimisation of YOSO (Srivatsa et al. 2020).
    """

    code: TimeCode = TimeCode()

    def _errors(self, ordered: Tensor, largest: Tensor, timesteps: int) -> Tensor:
        found = []
        for share in candidates().tolist():
            top = (share * largest).clamp(min=1e-30)[:, None]
            parts = ordered.split(max(1, BLOCK // len(ordered)), 1)
            found.append(torch.stack([self._error(part, top) for part in parts]).sum(0))
        return torch.stack(found)

    def _error(self, values: Tensor, top: Tensor) -> Tensor:
        levels = first_levels(values, top, self.code) * (top * self.code.spike_scale)
        return (values - levels).square().sum(1, dtype=torch.float64)

    def describe(self) -> str:
        return f"least squared error of φ, per {self.granularity}"


@dataclass(frozen=True)
class TrainKernels(Pass):
    """τ and the delay td of each layer, two scalars per layer, by T2FSNN's rule on calibration data.

    With a the activation over θ, ``â = base^{−(t − td)/τ}`` of its spike, T slots, in natural units τ' = τ / ln(base):
    ``τ' += 10 δ₁ + 100 δ₂``, ``δ₁ = mean_{fired}[(a − â) â (t − td)] / τ'²``,
    ``δ₂ = (a_min − â_min) â_min (T − td) / τ'²`` with ``â_min = exp(−(T − td)/τ')`` and a_min the 2nd percentile of
    positive a; ``td += mean[(a_max − â_max) â_max / τ']`` with ``â_max = exp(td/τ')`` and a_max each sample's largest.
    Source: Park et al. 2020 (T2FSNN), from its code: 6 epochs over 10,000 images; here ``epochs`` over the
    calibration batches. A td < 0 lowers the first threshold below θ.
    """

    asks: ClassVar[str] = "activations"
    epochs: int = 6

    def __post_init__(self) -> None:
        if isinstance(self.epochs, bool) or not isinstance(self.epochs, int) or self.epochs < 0:
            raise SettingError(f"epochs must be an integer of at least 0, not {self.epochs!r}")

    def work(self, context: Context) -> float:
        return context.samples * (1 + self.epochs / 4)

    def apply(self, graph: Graph, context: Context) -> Graph:
        cells = {n.name: n.op for n in graph if is_plain(n.op, FirstSpike) and n.op.code.kernel == "exponential"}
        state = {name: (cell.code.tau / _log(cell.code), cell.code.delay) for name, cell in cells.items()}
        analogue, batches = context.analogue[0], context.batches

        def train(outputs: Sequence[tuple[str, Tensor]], epochs: int) -> None:
            """The kernel of one layer, with its activations of each batch in turn."""
            name = outputs[0][0]
            threshold, window = cells[name].threshold.double(), cells[name].code.window
            shares = [Shares.of(torch.relu(output).double() / threshold) for _, output in outputs]
            for _ in range(epochs):
                for share in shares:
                    state[name] = trained_kernel(share, window, *state[name])

        if _bytes(analogue, cells) * sum(map(len, batches)) <= TOGETHER:
            walks = [Walk(analogue, batch).to(cells) for batch in batches]
            for done, outputs in enumerate(zip(*walks, strict=True), 1):
                train(outputs, self.epochs)
                context.progress(done, len(cells))
        else:  # layers do not depend on each other: the network runs again for each epoch
            for epoch in range(self.epochs):
                for done, batch in enumerate(batches, 1):
                    for one in Walk(analogue, batch).to(cells):
                        train([one], 1)
                    context.progress(epoch * len(batches) + done, self.epochs * len(batches))

        def change(node: Node) -> Node | None:
            if node.name not in cells:
                return None
            code, (tau, delay) = cells[node.name].code, state[node.name]
            code = dataclasses.replace(code, tau=tau * _log(code), delay=delay)
            return dataclasses.replace(node, op=dataclasses.replace(cells[node.name], code=code))

        return graph.rewrite(change)

    def describe(self) -> str:
        return f"τ and delay of each layer, {self.epochs} epochs"


@dataclass(frozen=True, eq=False)
class Shares:
    """Activations of a batch as shares of θ: those above 0 in ascending order, the sums of the first 0, 1, 2 …, and
    the largest one of each sample.
    """

    ordered: Tensor
    sums: Tensor
    top: Tensor

    @classmethod
    def of(cls, share: Tensor) -> "Shares":
        """``share``: (batch, …)."""
        ordered = share[share > 0].sort().values
        sums = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
        return cls(ordered, sums, share.flatten(1).amax(1))

    @property
    def smallest(self) -> Tensor:
        """The 2nd percentile."""
        place = 0.02 * (len(self.ordered) - 1)
        below = int(place)
        return torch.lerp(self.ordered[below], self.ordered[min(below + 1, len(self.ordered) - 1)], place - below)


def trained_kernel(shares: Shares, window: int, tau: float, delay: float) -> tuple[float, float]:
    """One round of T2FSNN's rule: the new τ' and td."""
    if not len(shares.ordered):
        return tau, delay
    slots = torch.arange(window, dtype=torch.float64)
    value = torch.exp(-(slots - delay) / tau)  # of a spike, and the smallest share that fires in or before its slot
    below = torch.searchsorted(shares.ordered, value)
    before = torch.cat([below.new_tensor([len(shares.ordered)]), below[:-1]])
    fired, charge = before - below, shares.sums[before] - shares.sums[below]  # slot by slot
    precise = ((charge - fired * value) * value * (slots - delay)).sum() / fired.sum().clamp(min=1)
    last = _exp(-(window - delay) / tau)
    least = (shares.smallest - last) * last * (window - delay)
    first = _exp(delay / tau)
    shift = ((shares.top - first) * first / tau).mean()
    return tau + float(10 * precise + 100 * least) / tau**2, delay + float(shift)


def _bytes(graph: Graph, cells: Container[str]) -> int:
    """The largest number of bytes that a sample takes while the layers are trained one after the other."""
    last = {name: index for index, node in enumerate(graph) for name in node.inputs}
    live, most = 0, 0
    ending: dict[int, int] = {}
    for index, node in enumerate(graph):
        size = math.prod(node.shape)
        live += 4 * size
        most = max(most, live + (24 * size if node.name in cells else 0))  # shares, in order, and their sums
        ending[last.get(node.name, -1)] = ending.get(last.get(node.name, -1), 0) + 4 * size
        live -= ending.pop(index, 0)
    return most


def _exp(value: float) -> Tensor:
    return torch.exp(torch.tensor(value, dtype=torch.float64))


def _log(code: TimeCode) -> float:
    return float(torch.log(torch.tensor(code.base, dtype=torch.float64)))
