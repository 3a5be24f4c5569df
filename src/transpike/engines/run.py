"""Base of the engines' runs: dispatch by schedule mode, counters, exactness."""

import functools
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from transpike.core.cell import Cell
from transpike.core.graph import Input, Node
from transpike.engines.counter import Counter
from transpike.engines.exact_sums import without_tf32
from transpike.engines.presence import Presence
from transpike.engines.rows import Rows
from transpike.errors import SettingError
from transpike.lowering.entrances import in_ranges
from transpike.lowering.program import Program
from transpike.lowering.trace import Trace


class Run:
    """One simulation in progress. ``advance(n)`` gives the logits of the next n steps, (answers, batch, classes)."""

    def __init__(
        self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str], count: bool,
        origin: Program | None = None,
    ) -> None:  # fmt: skip
        """``origin``: the same program on the CPU, if ``program`` lies on the device of x; what is counted before a run
        is counted there.
        """
        self.program, self.x, self.sample_ids = program, x, sample_ids
        self.origin = program if origin is None else origin
        self.counter = Counter(self.origin, x, record, count)
        self.logits = [Rows()]  # others after samples have left
        self.timesteps: list[int] = []
        self.t, self.ties, self.early = 0, 0, 0
        self.reading: Tensor | None = None
        self.replaced: Tensor | None = None  # the input before the last ``enter``, until the next step
        self.changes = False  # of differences: whether ``enter`` has changed the input
        self.presence: Presence | None = None
        self.ends = False  # whether no steps follow those of the next ``advance``
        self.exact, self.why = _exact(program, x)
        self.kernels: dict[str, str] = {}
        self.double = any(isinstance(node.op, Cell) and node.op.sends_reals for node in program.lowered.nodes)

    def advance(self, steps: int) -> Tensor:
        """Simulate ``steps`` more steps. Runs in windows, slots and cycles have a fixed length: one call only."""
        with without_tf32(self.x.device.type):
            return self._advance(steps)

    def complete(self, steps: int) -> Trace:
        """``advance`` and ``finish``: the last steps, after which no state is needed."""
        self.ends = True
        self.advance(steps)
        return self.finish()

    def _advance(self, steps: int) -> Tensor:
        schedule, logits = self.program.schedule, self.logits[-1]
        before = len(logits)
        if schedule.mode == "steps":
            self._steps(steps)
        elif schedule.mode == "differences":
            self._differences(steps)
        elif self.t:
            raise SettingError("a run under this schedule cannot be extended; start another run for another length")
        elif schedule.mode == "cycles":
            self._cycles(steps)
        elif schedule.mode == "slots":
            self.program.check_steps(steps)
            self._slots(steps)
        elif schedule.lag(steps) < steps or self.program.single_steps:
            self.program.check_steps(steps)
            self._wait_window(steps)
        else:
            self._window(steps)
        self.counter.add_steps(steps)
        exactness = self.program.lowered.exactness
        if (
            self.exact
            and exactness is not None
            and schedule.mode != "slots"
            and self.t > exactness.timesteps
            and self._steps_spent(steps) > exactness.timesteps
        ):
            self.exact, self.why = False, f"exact up to {exactness.timesteps} steps only: {exactness.reason}"
        return logits.since(before)

    def _steps_spent(self, last: int) -> int:
        """The steps t; if inputs change in a run of differences, those in which neurons can have sent their sums.

        ``last``: the number of the last steps, within which a sum may have been larger.
        """
        if not self.changes:
            return self.t
        table = self.program.table
        cells = ((table[name].op, state) for name, state in self.cell_states.items())
        return last + max((cell.steps_sent(state) for cell, state in cells if isinstance(cell, Cell)), default=0)

    def enter(self, x: Tensor) -> None:
        """The input (batch, *shape) of the steps from now on, of a network that streams or sends differences."""
        if self.program.schedule.mode == "differences" and self.t and self.replaced is None:
            self.replaced, self.changes = self.x, True
        self.x = x.to(self.x)
        if self.exact:
            self.exact, self.why = _exact(self.program, self.x)

    def grow(self, x: Tensor, positions: int) -> None:
        """``enter`` of a sequence of which the first ``positions`` have arrived; the rest does not exist yet.

        Those that had arrived before must be the same.
        """
        self.enter(x)
        if self.presence is None:
            self.presence = Presence(self.origin.positions).to(self.x.device)
        self.presence.now = positions
        self.counter.grow(self.presence)

    def arriving(self, node: Node) -> Tensor | None:
        """What a constant input sends in the next step of differences: at first all of it, later what ``enter`` has
        changed; None if nothing.
        """
        assert isinstance(node.op, Input)
        if self.t and self.replaced is None:
            return None
        value = whole = node.op.part(self.x)
        if self.t and self.replaced is not None:
            value = whole - node.op.part(self.replaced)
        if self.presence is not None:
            value = torch.where(self.presence.fresh(node.name), whole, value) * self.presence.present(node.name)
        return value

    def arrived(self) -> None:
        """A step of differences is over, in which everything new has been sent."""
        self.replaced = None
        if self.presence is not None:
            self.presence.arrived()

    def read(self, output: Tensor, t: int) -> None:
        """Pass the output's current of step t, bias included, to the readout."""
        readout = self.program.readout
        state = readout.init(output) if self.reading is None else self.reading
        self.reading = readout.update(state, output, t)
        logits = readout.logits(self.reading, t)
        self.logits[-1].add((logits if self.double else logits.float())[None])
        self.timesteps.append(t)

    def note_undecided(self, name: str, number: int) -> None:
        """A run with values of the layer ``name`` that arithmetic may round apart is not exact."""
        self.ties += number
        if number and self.exact:
            self.exact = False
            self.why = f"a value of {name} lies so close to an edge of its rounding that arithmetic may decide"

    def keep(self, mask: Tensor) -> Tensor:
        """Continue with the samples where ``mask`` (batch,) is True; counters keep the counts of the others.

        Returns (remaining samples,): the old position of each remaining sample. Gaps are filled from the end, so that
        few samples move.
        """
        order = compacted_order(mask)
        self.x, self.sample_ids = self.x[order], self.sample_ids[order]
        self.replaced = None if self.replaced is None else self.replaced[order]
        self.reading = None if self.reading is None else self.reading[order]
        self.counter.keep(order)
        if len(mask) != len(order):
            self.logits.append(Rows())
        self._keep(order)
        return order

    def finish(self) -> Trace:
        trains = {name: torch.cat(parts) for name, parts in self.counter.trains.items() if parts}
        rows = [rows for rows in self.logits if len(rows)]
        return Trace(
            rows[0].since() if len(rows) == 1 else rows[-1].since(len(rows[-1]) - 1),
            tuple(self.timesteps),
            self.counter.activity(),
            trains,
            self.exact,
            self.why,
            self.ties,
            self.kernels,
            self.early,
        )

    def _steps(self, steps: int) -> None:
        raise TypeError(f"{type(self).__name__} must define _steps()")

    def _differences(self, steps: int) -> None:
        """Steps that carry differences; constants arrive in the first one."""
        raise TypeError(f"{type(self).__name__} must define _differences()")

    def _window(self, timesteps: int) -> None:
        """A whole window for every layer, layer by layer."""
        raise TypeError(f"{type(self).__name__} must define _window()")

    def _wait_window(self, timesteps: int) -> None:
        """A window in which layers wait for fewer steps than its length before they fire."""
        raise TypeError(f"{type(self).__name__} must define _wait_window()")

    def _slots(self, timesteps: int) -> None:
        """Windows of ``timesteps`` slots, at most one spike per neuron and window."""
        raise TypeError(f"{type(self).__name__} must define _slots()")

    def _cycles(self, timesteps: int) -> None:
        """Phase cycles; ``timesteps`` counts the steps in which a layer integrates."""
        raise TypeError(f"{type(self).__name__} must define _cycles()")

    @property
    def cell_states(self) -> dict[str, Any]:
        """The states of cells after the last step, by name, of runs of differences."""
        return {}

    def _keep(self, order: Tensor) -> None:
        """Reorder the engine's state to the samples ``order``."""
        raise TypeError(f"{type(self).__name__} must define _keep()")


@functools.cache
def adds_exactly(settings: tuple[object, ...]) -> bool:
    """True if the CPU's convolution and matrix product add multiples of one step without rounding.

    Winograd and bfloat16 kernels do not. ``settings``: torch's settings for the choice of kernels, part of the cache
    key only. On other devices ``ExactSums`` tries each layer.
    """
    random = torch.Generator().manual_seed(0)
    spikes = torch.randint(0, 2, (8, 64, 16, 16), generator=random).double()
    weights = torch.randint(-(2**17), 2**17, (64, 64, 3, 3), generator=random).double()
    flat = weights.flatten(1)
    images = F.conv2d(spikes.float(), weights.float(), padding=1).double()
    rows = F.linear(spikes.flatten(1)[:, : flat.shape[1]].float(), flat.float()).double()
    same_images = torch.equal(images, F.conv2d(spikes, weights, padding=1))
    return same_images and torch.equal(rows, F.linear(spikes.flatten(1)[:, : flat.shape[1]], flat))


def _exact(program: Program, x: Tensor) -> tuple[bool, str]:
    largest = float(in_ranges(program.inputs, x).abs().max()) if x.numel() else 0.0
    exactness = program.lowered.exactness
    if exactness is None:
        return False, "the network is not on the exact grid"
    if exactness.timesteps == 0:
        return False, exactness.reason
    if program.encoder.spike_scale is None and largest > exactness.input_bound:
        return False, f"an input of {largest:.3g} lies beyond the calibrated range of {exactness.input_bound:.3g}"
    if x.device.type == "cpu":
        settings = (torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled)
        if not adds_exactly(settings):
            return False, "the convolution of torch rounds its sums (Winograd or bfloat16)"
    return True, ""


def compacted_order(mask: Tensor) -> Tensor:
    """The positions where ``mask`` (batch,) is True: the first n stay, gaps are filled from the positions after."""
    going = mask.nonzero()[:, 0]
    order = torch.arange(len(going), device=mask.device)
    order[~mask[: len(going)]] = going[going >= len(going)]
    return order


def map_state(state: object, change: object) -> object:
    """Apply ``change`` to every tensor in a cell's state."""
    if isinstance(state, Tensor):
        return change(state)  # type: ignore[operator]
    if isinstance(state, tuple):
        return tuple(map_state(part, change) for part in state)
    return state
