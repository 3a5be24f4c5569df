"""Passes that place neurons which fire once, with the time code of the source network or of the recipe."""

import dataclasses
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
from transpike.passes.thresholds.squared_error import SquaredErrorThresholds

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
                f"{name} was trained with {code.window} slots, and the recipe has {context.timesteps}: use "
                f"timesteps={code.window}"
            )
        if code.shortened(context.timesteps) == self.code:
            return code
        if not self.learned:
            raise SettingError(
                f"{name} was trained with {code}, and the recipe has {self.code}: use the recipe cat, which keeps the "
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
                    f"the input was trained as {node.op.code}, and the recipe codes it as {encoder.code}: give the "
                    "recipe the same timesteps, tau and kernel_bits"
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
                f"{encoder.largest:.3g}, the largest that a spike stands for, and are cut off: scale the input"
            )
        if dark:
            code = encoder.code.shortened(context.timesteps)
            context.remark(
                f"{dark / lit:.1%} of the non-zero input values on the calibration data are below "
                f"{code.smallest * (encoder.largest or 1.0):.3g}, the last slot's threshold, and vanish"
            )


@dataclass(frozen=True)
class FirstSpikeThresholds(SquaredErrorThresholds):
    """``θ = argmin Σ (a − φ_θ(a))²`` over θ = (1 − i/100) · max a, i = 0 … 94, a the activations.

    Balances clipping against rounding error over the first ``samples`` calibration inputs, for networks that were not
    trained with φ. The rule is ours: it replaces the unpublished optimisation of YOSO (Srivatsa et al. 2020).
    """

    code: TimeCode = TimeCode()

    def _error(self, rows: Tensor, top: Tensor, timesteps: int) -> Tensor:
        top = top.clamp(min=1e-30)[:, None]
        values = first_levels(rows, top, self.code) * (top * self.code.spike_scale)
        return (rows - values).square().sum(1, dtype=torch.float64)

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
            raise SettingError(f"epochs must be a whole number from 0 on, not {self.epochs!r}")

    def apply(self, graph: Graph, context: Context) -> Graph:
        cells = {n.name: n.op for n in graph if is_plain(n.op, FirstSpike) and n.op.code.kernel == "exponential"}
        state = {name: (cell.code.tau / _log(cell.code), cell.code.delay) for name, cell in cells.items()}

        def see(node: Node, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if node.name in cells:
                share = torch.relu(output).double() / cells[node.name].threshold.double()
                state[node.name] = trained_kernel(share, cells[node.name].code.window, *state[node.name])

        for epoch in range(self.epochs):
            for done, batch in enumerate(context.batches, 1):
                context.analogue[0].run(batch, observe=see)
                context.progress(epoch * len(context.batches) + done, self.epochs * len(context.batches))

        def change(node: Node) -> Node | None:
            if node.name not in cells:
                return None
            code, (tau, delay) = cells[node.name].code, state[node.name]
            code = dataclasses.replace(code, tau=tau * _log(code), delay=delay)
            return dataclasses.replace(node, op=dataclasses.replace(cells[node.name], code=code))

        return graph.rewrite(change)

    def describe(self) -> str:
        return f"τ and delay of each layer, {self.epochs} epochs"


def trained_kernel(share: Tensor, window: int, tau: float, delay: float) -> tuple[float, float]:
    """One round of T2FSNN's rule on activations as shares of θ, (batch, …): the new τ' and td."""
    slots = torch.ceil(delay - tau * torch.log(share.clamp(min=1e-30))).clamp(min=0)
    fired = (share > 0) & (slots < window)
    positive = share[share > 0]
    if not len(positive):
        return tau, delay
    value = torch.exp(-(slots - delay) / tau)
    precise = torch.where(fired, (share - value) * value * (slots - delay), 0.0).sum() / fired.sum().clamp(min=1)
    smallest, last = torch.quantile(positive[:MOST_QUANTILE], 0.02), _exp(-(window - delay) / tau)
    least = (smallest - last) * last * (window - delay)
    top, first = share.flatten(1).amax(1), _exp(delay / tau)
    shift = ((top - first) * first / tau).mean()
    return tau + float(10 * precise + 100 * least) / tau**2, delay + float(shift)


MOST_QUANTILE = 2**24  # torch.quantile takes no more


def _exp(value: float) -> Tensor:
    return torch.exp(torch.tensor(value, dtype=torch.float64))


def _log(code: TimeCode) -> float:
    return float(torch.log(torch.tensor(code.base, dtype=torch.float64)))
