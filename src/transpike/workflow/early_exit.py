"""Early exit with a guaranteed bound: fit a policy, and stop each sample as soon as the policy allows."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from transpike import exits
from transpike.core.exit import FIT_SHARE, Exit, ExitPolicy, ExitScore, class_logits
from transpike.core.input_check import InputCheck, InputChecks
from transpike.core.registry import hint
from transpike.core.spelling import unknown
from transpike.core.structure import Structure
from transpike.core.task import AnyTask, OutcomeTask
from transpike.data import Batches
from transpike.engines import engine_named
from transpike.errors import DataError, SettingError
from transpike.exits import Conformal
from transpike.results.statistics import binomial_at_most
from transpike.snn import SNN, takes_snn
from transpike.tasks import Classification, exit_task
from transpike.workflow.distributed import check_alike, processes
from transpike.workflow.hybrid import refuse_hybrid
from transpike.workflow.judged import Judged
from transpike.workflow.judged import asked as judgement
from transpike.workflow.resumable.run import added
from transpike.workflow.shared_batches import Batch

CANDIDATES = 400
COUNTS, SHORTEST = (6, 16), 8  # checkpoints of short and of long runs, in chunks of 8 steps or more
CHECKPOINT_COST = 3  # time steps; layers of the event engine restart (measured by benchmarks/early_exit.py)
STRICTER = (8.0, 4.0, 2.0, 1.4)  # times the largest nonconformity: the strictest candidates
TEMPERATURES = torch.logspace(-3, 3, 241, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class EarlyAnswers:
    """``logits`` (batch, classes) of each sample at its stop, ``timesteps`` (batch,) of the stops, ``warnings``
    about the inputs. For a network with several outputs, ``logits`` (batch, N) holds them side by side, and ``answer``
    is in the ``structure`` of the model.
    """

    logits: Tensor
    timesteps: Tensor
    warnings: tuple[str, ...] = ()
    structure: Structure | None = None

    @property
    def answer(self) -> Any:
        """The answers, (batch, *shape), in the structure of the source model."""
        return self.logits if self.structure is None else self.structure.filled(self.logits)


def checkpoints_until(timesteps: int) -> tuple[int, ...]:
    """Multiples of T/6 for short runs, of 8 steps for longer ones, of T/16 for the longest.

    Engines are inefficient in chunks of fewer than eight steps.
    """
    few, many = COUNTS
    step = max(1, min(round(timesteps / few), max(SHORTEST, round(timesteps / many))))
    return tuple(range(step, timesteps, step))


@takes_snn
def fit_exit(
    snn: SNN,
    data: Any,
    *,
    score: str | ExitScore = "confidence",
    drop: float = 0.5,
    confidence: float = 0.95,
    checkpoints: tuple[int, ...] | None = None,
    timesteps: int | None = None,
    seed: int = 0,
    engine: str = "auto",
    output: str | int | None = None,
    task: AnyTask | None = None,
    progress: Callable[[int, int | None], None] | None = None,
) -> SNN:
    """Fit an exit policy: at most ``drop`` percent of samples lose a correct answer, with ``confidence``.

    ``data``: batches of (input, target) that are in neither the training nor the test set. A fifth of them, drawn by
    ``seed``, fits temperatures ``κ_t = argmin mean −ln softmax(z_t/κ)_a`` and candidate thresholds, where a is the
    answer after T steps: an exit predicts this answer, correct or not. It also removes checkpoints that cost more than
    they save, unless ``checkpoints`` gives them. The other samples test the candidates from the strictest to the
    least strict, ``P(Bin(n, drop) ≤ lost) ≤ 1 − confidence``, until one fails; the last that passed is used. ``lost``
    counts samples that are correct at T and not at their stop, an upper bound of the accuracy drop; ``task`` (of
    ``transpike.tasks``, default: classification) defines correct. With several outputs, the exit is about the one named
    ``output``; all of them stop together. ``score``: one of ``transpike.exits`` or its name.
    Inside of ``distributed_samples`` the processes of torchrun share the batches.
    Source of the test: Angelopoulos et al. 2021 (Learn then Test), fixed-sequence testing with exact binomial tails.
    Raises SettingError where answers do not come step by step, DataError for too few samples for this bound.
    """
    wish = Exit("", drop, confidence)
    if isinstance(data, Batches):  # other data are counted after the run
        wish.check_samples(len(data.indices))
    if isinstance(score, str):
        if score not in exits.table:
            raise SettingError(unknown("exit score", score, exits.table) + hint())
        score = exits.table[score]()
    if not isinstance(score, ExitScore):
        raise SettingError(f"score must be an exit score or the name of one ({', '.join(exits.table)}), not {score!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise SettingError(f"seed must be an integer of at least 0, not {seed!r}")
    if snn.rest is not None:
        refuse_hybrid(
            snn, "fit_exit", "an exit needs an answer after every step, for which the analogue part runs again"
        )
    if not snn.schedule.every_step:
        raise SettingError(
            f"early exit needs an answer after every step, but {type(snn.schedule).__name__} gives one per window: "
            "convert with the streaming schedule"
        )
    steps = snn.timesteps if timesteps is None else snn.schedule.check(timesteps)
    late = getattr(snn.readout, "delay", None) or 0
    if checkpoints is None:  # before its delay a readout includes time steps without output
        places = tuple(step for step in checkpoints_until(steps) if step > late)
    elif isinstance(checkpoints, Iterable):
        places = tuple(checkpoints)
    else:
        raise SettingError(f"checkpoints must be steps, like (8, 16), not {checkpoints!r}")
    if not places:
        raise SettingError(
            f"there is no checkpoint: a run of {steps} steps has none before its last step and after the {late} steps "
            "that the readout skips; pass more timesteps"
        )
    never = (math.inf,) * len(places)
    asked = exit_task(task)
    judged = judgement(snn.outputs, asked, output)[1]
    wanted = ExitPolicy(
        score, steps, places, (1.0,) * len(places), never, drop / 100, confidence, 0, str(asked), judged.name or ""
    )
    check_alike(processes(), snn, policy=wanted, engine=engine, seed=seed)
    logits, y, warnings = _answers(snn, data, wanted, engine, asked, judged, progress)
    fitted = fit_policy(wanted, logits, y, seed=seed, thin=checkpoints is None, task=asked)
    remarks = tuple(f"the early exit was fitted although {warning}" for warning in warnings)
    return dataclasses.replace(snn, exit=fitted, remarks=(*snn.remarks, *remarks))


def fit_policy(
    policy: ExitPolicy,
    logits: Tensor,
    y: Tensor,
    fit_share: float = FIT_SHARE,
    seed: int = 0,
    thin: bool = True,
    task: OutcomeTask | None = None,
) -> ExitPolicy:
    """``policy`` with temperatures and thresholds fitted as ``fit_exit`` does; ``thin``
    removes checkpoints that cost more than they save.

    ``logits`` (checkpoints + 1, samples, classes) at its checkpoints and after T steps, ``y`` (samples,).
    """
    task = task or Classification()
    Exit("", 100 * policy.drop, policy.confidence).check_samples(len(y), fit_share)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    first, second = order[: round(fit_share * len(y))], order[round(fit_share * len(y)) :]
    logits = logits.double()
    answers = task.answers(logits[-1])
    temperatures = tuple(
        _temperature(class_logits(logits[k, first]), answers[first]) for k in range(len(policy.checkpoints))
    )
    warm = dataclasses.replace(policy, temperatures=temperatures, samples=len(y))
    if thin:
        kept = _worthwhile(warm, logits[:, first], y[first], task)
        logits = logits[[*kept, -1]]
        places, temperatures = tuple(warm.checkpoints[k] for k in kept), tuple(temperatures[k] for k in kept)
        warm = dataclasses.replace(
            warm, checkpoints=places, temperatures=temperatures, thresholds=(math.inf,) * len(kept)
        )
    return _tested(warm, logits, y, first, second, task)


def _answers(
    snn: SNN,
    data: Any,
    policy: ExitPolicy,
    engine: str,
    task: OutcomeTask,
    judged: Judged,
    progress: Callable[[int, int | None], None] | None,
) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """(checkpoints + 1, samples, classes) logits, float64, the last row after T steps; targets; warnings."""
    chosen, ranks = engine_named(engine), processes()
    rows = torch.tensor([*policy.checkpoints, policy.timesteps]) - 1
    total = len(data.indices) if isinstance(data, Batches) else None
    tally = _Answered(snn.input_check())

    def run(batch: Batch) -> tuple[Any, Tensor, Tensor]:
        assert batch.content is not None
        x, given = batch.content
        y = judged.target(given)
        if y is None:
            raise DataError("an exit needs targets: pass batches of (input, target)")
        ids = torch.arange(batch.first, batch.first + len(x))
        prepared = snn.prepare(x)
        seen: Any = tally.inputs.observe(prepared)
        if ranks.count == 1:  # before the run
            tally.inputs.count(seen)
            seen = None
        trace = snn.run_prepared(prepared, policy.timesteps, chosen, ids, (), False)
        logits = judged.part(trace.logits[rows].double().cpu())
        return seen, logits, task.check(tuple(logits.shape[2:]), len(x), y.cpu())

    asked = {"steps": rows.tolist(), "engine": engine, "task": task, "output": judged.name}
    for _ in added("fit_exit", tally, snn, data, run, asked):
        if progress is not None:
            progress(tally.samples, total)
    if not tally.samples:
        raise DataError("there are no samples to fit an exit with")
    return torch.cat(tally.logits, 1), torch.cat(tally.targets), tally.inputs.finished()


class _Answered:
    """The answers and targets of all batches, and how the inputs look."""

    def __init__(self, inputs: InputCheck | InputChecks) -> None:
        self.inputs, self.logits, self.targets = inputs, list[Tensor](), list[Tensor]()

    @property
    def samples(self) -> int:
        return sum(map(len, self.targets))

    def merge(self, part: tuple[Any, Tensor, Tensor]) -> None:
        """Add a batch; what was observed of its inputs is None where it is counted already."""
        seen, logits, y = part
        if seen is not None:
            self.inputs.count(seen)
        self.logits.append(logits)
        self.targets.append(y)

    def state(self) -> tuple[Any, ...]:
        return self.inputs.state(), torch.cat(self.logits, 1), torch.cat(self.targets)

    def restore(self, state: tuple[Any, ...]) -> None:
        inputs, logits, y = state
        self.inputs.restore(inputs)
        self.logits, self.targets = [logits], [y]


def _temperature(logits: Tensor, y: Tensor) -> float:
    """argmin over κ of mean −ln softmax(z/κ)_y, on a logarithmic grid of 2.9 % steps around the logits' size."""
    size = float(logits.abs().max()) or 1.0
    losses = [torch.nn.functional.cross_entropy(logits / (size * k), y) for k in TEMPERATURES]
    return size * float(TEMPERATURES[int(torch.stack(losses).argmin())])


def _tested(
    policy: ExitPolicy, logits: Tensor, y: Tensor, first: Tensor, second: Tensor, task: OutcomeTask
) -> ExitPolicy:
    """The least strict policy before the first failed test."""
    right = task.outcomes(logits[:, second], y[second])
    scores, found = _scores(policy, logits[:, second]), policy
    for thresholds in _candidates(policy, logits[:, first], task):
        early = right.gather(0, _places(scores, thresholds)[None])[0]
        lost = int((right[-1] & ~early).sum())
        if binomial_at_most(lost, len(second), policy.drop) > 1 - policy.confidence:
            break
        found = dataclasses.replace(policy, thresholds=thresholds)
    return found


def _scores(policy: ExitPolicy, logits: Tensor) -> Tensor:
    """(checkpoints, samples)."""
    scores = torch.stack([policy.score(class_logits(logits[k]) / t) for k, t in enumerate(policy.temperatures)])
    if scores.shape != (len(policy.temperatures), logits.shape[1]) or bool(scores.isnan().any()):
        raise DataError(f"the exit score {policy.score} must return one number per sample, not NaN")
    return scores


def _places(scores: Tensor, thresholds: tuple[float, ...]) -> Tensor:
    """(samples,): index of the checkpoint that stops each sample; the number of checkpoints where none does."""
    passed = scores >= scores.new_tensor(thresholds)[:, None]
    return torch.where(passed.any(0), passed.byte().argmax(0), len(thresholds))


def _worthwhile(policy: ExitPolicy, logits: Tensor, y: Tensor, task: OutcomeTask) -> tuple[int, ...]:
    """Checkpoints that save more steps than they cost, under the least strict candidate that keeps the drop.

    Removes one after another while ``mean (stop + CHECKPOINT_COST · checkpoints passed)`` decreases.
    """
    right, scores = task.outcomes(logits, y), _scores(policy, logits)
    laxest: tuple[float, ...] | None = None
    for thresholds in _candidates(policy, logits, task):
        early = right.gather(0, _places(scores, thresholds)[None])[0]
        if float((right[-1] & ~early).double().mean()) > policy.drop:
            break
        laxest = thresholds
    kept = tuple(range(len(policy.checkpoints)))
    if laxest is None:
        return kept

    def cost(places: tuple[int, ...]) -> float:
        at = _places(scores[list(places)], tuple(laxest[k] for k in places))
        steps = torch.tensor([*(policy.checkpoints[k] for k in places), policy.timesteps])
        return float((steps[at] + CHECKPOINT_COST * (at + 1).clamp(max=len(places))).double().mean())

    while len(kept) > 1:
        cheapest = min((tuple(k for k in kept if k != out) for out in kept), key=cost)
        if cost(cheapest) > cost(kept):
            break
        kept = cheapest
    return kept


def _candidates(policy: ExitPolicy, logits: Tensor, task: OutcomeTask) -> list[tuple[float, ...]]:
    """Thresholds of all checkpoints, strictest first; the last ``logits`` are the answers after T."""
    count = len(policy.checkpoints)
    if isinstance(policy.score, Conformal):
        answers, found = task.answers(logits[-1]), []
        shares = torch.logspace(-4, 0, CANDIDATES, dtype=torch.float64) / count
        strange = [_strangeness(class_logits(logits[k]) / t, answers) for k, t in enumerate(policy.temperatures)]
        found = [tuple(times * float(s.max()) for s in strange) for times in STRICTER]
        found += [tuple(_quantile(s, share) for s in strange) for share in shares.tolist()]
        above = (tuple(math.nextafter(q, math.inf) for q in one) for one in found if one[0] < math.inf)
        return list(dict.fromkeys(above))
    levels = torch.linspace(1, 0, CANDIDATES, dtype=torch.float64)
    values = _scores(policy, logits).flatten().quantile(levels)
    return [(value,) * count for value in dict.fromkeys(values.tolist())]


def _strangeness(logits: Tensor, answers: Tensor) -> Tensor:
    """(samples,) −ln softmax(z)_a, sorted, smallest first."""
    return (-logits.log_softmax(-1).gather(1, answers[:, None])[:, 0]).sort().values


def _quantile(strange: Tensor, alpha: float) -> float:
    """The ⌈(n+1)(1 − α)⌉-th smallest of the sorted ``strange``; infinite where n is too small for α."""
    rank = math.ceil((len(strange) + 1) * (1 - alpha))
    return math.inf if rank > len(strange) else float(strange[max(0, rank - 1)])


@takes_snn
def answer_early(
    snn: SNN, x: Any, *, engine: str = "auto", memory: int | None = None, sample_ids: Tensor | None = None
) -> EarlyAnswers:
    """Run x, one or several inputs as for ``simulate``, until the exit policy stops each sample.

    ``sample_ids`` (batch,) seed random encoders, default 0, 1 …, as for ``simulate``.
    Raises SettingError for a network without a policy.
    """
    policy = snn.exit
    if policy is None:
        raise SettingError("this network has no exit policy: fit one with fit_exit(snn, data)")
    prepared, chosen = snn.prepare(x), engine_named(engine, memory)
    warnings = snn.checked(prepared)
    snn.encoder.check_steps(prepared, policy.timesteps)
    limit = chosen.batch_limit(snn.program)
    named = torch.arange(len(prepared)) if sample_ids is None else sample_ids
    if named.shape != (len(prepared),):
        raise DataError(
            f"{len(prepared)} samples need sample_ids of shape ({len(prepared)},), not {tuple(named.shape)}"
        )
    named = named.to(prepared.device)
    parts, judged = [], Judged(snn.outputs, policy.output or None)
    with torch.no_grad():
        for start in range(0, len(prepared), limit):
            ids = named[start : start + limit]
            run = chosen.start(snn.program, prepared[start : start + limit], ids, (), False)
            parts.append(_stopped(run, policy, judged, len(ids)))
    logits, steps = (torch.cat(found) for found in zip(*parts, strict=True))
    return EarlyAnswers(logits, steps, warnings, snn.outputs)


def _stopped(run: Any, policy: ExitPolicy, judged: Judged, samples: int) -> tuple[Tensor, Tensor]:
    """(logits, steps) of each sample; stopped samples leave the batch."""
    here, steps = torch.arange(samples), torch.full((samples,), policy.timesteps)
    found: Tensor | None = None
    before = 0
    for place, step in enumerate((*policy.checkpoints, policy.timesteps)):
        logits = run.advance(step - before)[-1]
        before = step
        if found is None:
            found = logits.new_zeros((samples, *logits.shape[1:]))
        ready = logits.new_ones(len(logits), dtype=torch.bool)
        if step < policy.timesteps:
            ready = policy.ready(judged.part(logits), place)
        found[here[ready.cpu()]], steps[here[ready.cpu()]] = logits[ready], step
        if bool(ready.all()):
            break
        if bool(ready.any()):
            here = here[run.keep(~ready).cpu()]
    assert found is not None
    return found, steps
