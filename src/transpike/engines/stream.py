"""A run whose input comes step by step: frames of a camera, events as they arrive, answers at any time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from transpike.core.alphabet import Alphabet
from transpike.core.encoder import Encoder
from transpike.engines.dense.engine import Dense
from transpike.engines.event.run import Event
from transpike.engines.native import library as _native
from transpike.engines.run import Run
from transpike.errors import DataError, SettingError
from transpike.lowering.program import Program
from transpike.lowering.trace import Trace


class Engine(Protocol):
    """What starts a run."""

    def start(
        self, program: Program, x: Tensor, sample_ids: Tensor, record: Iterable[str] = (), count: bool = True
    ) -> Run: ...


@dataclass(frozen=True)
class Frame(Encoder):
    """The spikes of one step as they are given, for networks whose inputs are recordings."""

    frames: Encoder | None = None

    @property
    def alphabet(self) -> Alphabet:  # type: ignore[override]
        assert self.frames is not None
        return self.frames.alphabet

    def encode(self, x: Tensor, sample_ids: Tensor, t: int) -> Tensor:
        return x


class Stream:
    """A run in progress: ``step`` gives the answer after one more step. ``snn.start`` makes it.

    ``t`` is the number of steps so far. Streams of the same inputs give the spikes and answers of ``snn.run``.
    """

    def __init__(self, run: Run, prepare: Callable[[Any], Tensor], started: bool) -> None:
        self._run, self._prepare, self._started = run, prepare, started

    @property
    def t(self) -> int:
        return self._run.t

    def step(self, frame: Any = None) -> Tensor:
        """One time step: the logits after it, (batch, classes).

        ``frame`` (batch, *shape): the input from this step on, for recordings the spikes of this step only, which must
        be given. Several inputs are a tuple or a dictionary of such tensors. Without it the last one goes on. Raises
        DataError for a frame of another shape, and SettingError where there is none yet.
        """
        if frame is not None:
            x = self._prepare(frame)
            if len(x) != len(self._run.x):
                raise DataError(f"the stream has {len(self._run.x)} samples, but the frame has {len(x)}")
            self._run.enter(x)
            self._started = True
        elif not self._started:
            raise SettingError("the stream has no input yet: pass step() a frame")
        elif isinstance(self._run.program.encoder, Frame):
            raise SettingError("spikes of a recording are those of one step: pass step() the next frame")
        with torch.no_grad():
            return self._run.advance(1)[-1]

    def finish(self) -> Trace:
        """Logits of all steps and counts so far."""
        return self._run.finish()


def opened(
    program: Program, engine: Engine | None, x: Tensor, prepare: Callable[[Any], Tensor], waits: bool, count: bool
) -> Stream:
    """A stream that begins with prepared inputs ``x`` (batch, *shape), or ``waits`` for the first frame.

    Without an ``engine``: events where they are possible. "auto" would measure firing rates, and there may be no input.
    """
    if engine is None:
        events = program.schedule.mode == "steps" and x.device.type == "cpu" and _native.load()[0] is not None
        engine = Event() if events else Dense()
    encoder = program.encoder
    if program.schedule.mode != "steps" and program.schedule.gain != "unit":
        raise SettingError(f"start() is for networks that stream, not for {program.schedule}: use run()")
    if encoder.has_frames:
        if not waits:
            raise SettingError("for recordings, pass start() the number of samples, and one frame to each step()")
        program = replace(program, encoder=Frame(largest=encoder.largest, frames=encoder), prepared={})
    return Stream(engine.start(program, x, torch.arange(len(x)), (), count), prepare, not waits)
