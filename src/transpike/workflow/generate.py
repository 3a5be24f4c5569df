"""Continue sequences with a converted decoder: one position after another, in a run whose states are the memory."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transpike.core.inputs import Inputs
from transpike.engines import Engine, engine_given
from transpike.errors import DataError, SettingError
from transpike.lowering.positions import multiplications
from transpike.snn import SNN, takes_snn
from transpike.workflow.hybrid import refuse_hybrid


@dataclass(frozen=True, eq=False)
class Generated:
    """Sequences ``ids`` (batch, prompt + n), whose last n numbers are new, and what each new number cost.

    ``logits`` (batch, n, vocabulary): those that each was taken from. Per new number, (n,), the mean over samples:
    ``operations``, synaptic operations of the ``timesteps`` steps before it, with ``product_operations``, those of
    them that read a state, and ``repeated``, those of positions that had been there before: 0 if they had settled. The
    first number's are those of the whole prompt. ``evaluations``: function → evaluations of parts whose inputs changed.
    ``macs``: multiplications of the network without spikes, constant factors folded, for the new position only, with
    the keys and values of the others in a cache; ``macs_recomputed``: those of a pass over everything so far. ``exact``
    and ``why`` as of a Trace.
    """

    ids: Tensor
    logits: Tensor
    timesteps: int
    operations: Tensor
    product_operations: Tensor
    repeated: Tensor
    evaluations: dict[str, Tensor]
    macs: Tensor
    macs_recomputed: Tensor
    exact: bool
    why: str = ""

    def __str__(self) -> str:
        n = len(self.operations)
        lines = [f"{n} new after {self.ids.shape[1] - n}, {self.timesteps} steps each"]
        for label, part in (("the first, with all before it", slice(1)), ("each of the others", slice(1, None))):
            if len(self.operations[part]):
                spent, macs, again = (float(v[part].mean()) for v in (self.operations, self.macs, self.macs_recomputed))
                lines.append(
                    f"{label}: {spent:,.0f} additions ({float(self.product_operations[part].mean()):,.0f} of states, "
                    f"{float(self.repeated[part].mean()):,.0f} of earlier positions); the source network {macs:,.0f} "
                    f"multiplications with a cache, {again:,.0f} without"
                )
        return "\n".join(lines)


@takes_snn
def generate(
    snn: SNN,
    ids: Tensor,
    n: int,
    *,
    timesteps: int | None = None,
    temperature: float = 0.0,
    seed: int = 0,
    engine: Engine | str | None = None,
) -> Generated:
    """Continue sequences of integers by ``n``: ``ids`` (batch, length) → ``Generated.ids`` (batch, length + n).

    The network is a decoder of sigma-delta neurons that takes up to L numbers and answers at each position with the
    logits of the next number. Positions that have no number yet do not exist: they send nothing and are not computed.
    A new number is an input that begins later; the sums of differences in the products of attention are its cache, so
    that it costs its own position only, for ``timesteps`` steps (default: the recipe's). What settled before remains
    silent. With ``burst-digits`` at T = 1 all spikes and logits are those of a run over the whole sequence; other
    sigma-delta neurons may end one level away, because each remembers what it has sent.
    ``temperature`` 0 takes the largest logit, else numbers are drawn from the softmax of logits / temperature by
    ``seed``. ``engine``: "dense" (default) or "reference", which give the same spikes.

    Raises UnsupportedModel for a network that is not such a decoder, or whose answers depend on later positions,
    SettingError for another code or more than L numbers, DataError for ids that are not integers of its table.
    """
    refuse_hybrid(snn, "generate", "the cache of a sequence is the states of neurons")
    steps = snn.schedule.check(snn.timesteps if timesteps is None else timesteps)
    if snn.schedule.gain != "unit":
        raise SettingError(
            f"generate() is for networks of sigma-delta neurons, not for {snn.recipe}: convert with the recipe "
            "sigma-delta or burst-digits"
        )
    if not isinstance(temperature, (int, float)) or not 0 <= temperature < float("inf"):
        raise SettingError(f"temperature must be 0 or a positive number, not {temperature!r}")
    waits, length = snn.program.positions, snn.program.lowered.output.shape[0]
    growing = _Growing(snn, _checked(ids, n, length), length, engine_given(engine or "dense"))
    first, random, logits = ids.shape[1], torch.Generator().manual_seed(seed), []
    for position in range(first, first + n):
        logits.append(growing.answers(position, steps))
        growing.ids[:, position] = _chosen(logits[-1], temperature, random)
    macs = [multiplications(snn.program.lowered, {k: v < p for k, v in waits.items()}) for p in range(first, first + n)]
    once = torch.tensor([0.0, *macs[:-1]])
    operations, products, repeated = (_each(count, n) / len(ids) for count in growing.counts())
    evaluations = {name: _each(count, n) / len(ids) for name, count in growing.evaluations().items()}
    exact, why = growing.exactness()
    return Generated(
        growing.ids[:, : first + n], torch.stack(logits, 1), steps, operations, products, repeated, evaluations,
        torch.tensor(macs) - once, torch.tensor(macs), exact, why,
    )  # fmt: skip


class _Growing:
    """Runs over parts of a batch, whose sequences ``ids`` (batch, length) are filled from the left."""

    def __init__(self, snn: SNN, ids: Tensor, length: int, engine: Engine) -> None:
        self.snn, samples = snn, len(ids)
        self.ids = torch.zeros((samples, length), dtype=torch.int64)
        self.ids[:, : ids.shape[1]] = ids
        x, limit = self._prepared(), engine.batch_limit(snn.program)
        self.parts = [slice(start, start + limit) for start in range(0, samples, limit)]
        self.runs = [engine.start(snn.program, x[part], torch.arange(samples)[part]) for part in self.parts]

    def _prepared(self) -> Tensor:
        return self.snn.prepare(Inputs.of((self.ids,)))

    def answers(self, positions: int, steps: int) -> Tensor:
        """The logits (batch, vocabulary) at the last of ``positions``, after that many steps with all of them."""
        x, found = self._prepared(), []
        with torch.no_grad():
            for run, part in zip(self.runs, self.parts, strict=True):
                run.grow(x[part], positions)
                found.append(run.advance(steps)[-1][:, positions - 1])
        return torch.cat(found).float()

    def counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Per step, summed over samples: synaptic operations, those that read states, those of earlier positions."""
        layers = [layer for run in self.runs for layer in run.counter.activity().layers]
        return (
            torch.stack([layer.synaptic_operations for layer in layers]).sum(0),
            torch.stack([layer.product_operations for layer in layers]).sum(0),
            torch.stack([run.counter.repetitions() for run in self.runs]).sum(0),
        )

    def evaluations(self) -> dict[str, Tensor]:
        """Function → its evaluations per step, where an input changed, summed over samples."""
        found: dict[str, Tensor] = {}
        for run in self.runs:
            for one in run.counter.activity().evaluations:
                for name, count in one.each.items():
                    found[name] = found.get(name, torch.zeros(())) + count / one.parts * one.needed
        return found

    def exactness(self) -> tuple[bool, str]:
        why = next((run.why for run in self.runs if not run.exact), "")
        return all(run.exact for run in self.runs), why


def _checked(ids: Tensor, n: int, length: int) -> Tensor:
    """The prompts, of which ``n`` more fit into ``length`` positions."""
    whole = isinstance(ids, Tensor) and not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)
    if not whole or ids.ndim != 2 or not ids.numel():
        form = f"{ids.dtype!s} of shape {tuple(ids.shape)}" if isinstance(ids, Tensor) else type(ids).__name__
        raise DataError(f"ids must be integers of shape (batch, length), at least one, not {form}")
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise SettingError(f"n must be an integer of at least 1, not {n!r}")
    if ids.shape[1] + n > length:
        raise SettingError(
            f"the network takes {length} numbers, but {ids.shape[1]} with {n} more are {ids.shape[1] + n}: pass a "
            f"smaller n, or only the last {max(1, length - n)} numbers"
        )
    return ids.detach().cpu().long()


def _chosen(logits: Tensor, temperature: float, random: torch.Generator) -> Tensor:
    """One number per sample, (batch,)."""
    if temperature == 0:
        return logits.argmax(-1)
    return torch.multinomial((logits.double() / temperature).softmax(-1), 1, generator=random)[:, 0]


def _each(count: Tensor, n: int) -> Tensor:
    """A count per step as one per new number, (n,)."""
    return count.reshape(n, -1).sum(1)
