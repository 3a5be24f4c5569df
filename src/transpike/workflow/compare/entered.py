"""Network, calibration inputs and samples of a comparison, checked before the work."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.encoder import Encoder
from transpike.core.graph import Graph
from transpike.core.input_check import InputCheck, InputChecks
from transpike.core.input_statistics import InputStatistics
from transpike.core.inputs import InputNames, Inputs, pack, with_any_input
from transpike.data.batches import Sample, calibration_batches, inputs, with_targets, without_targets
from transpike.errors import DataError
from transpike.recipes import ECC
from transpike.workflow.call import several
from transpike.workflow.capture import capture
from transpike.workflow.entrance import Entrance, PreprocessingGiven, is_packed
from transpike.workflow.judged import Judged

Batch = tuple[Any, Tensor]
"""An input, or ``Inputs``, and its targets."""


@dataclass(frozen=True, eq=False)
class Entered:
    """The captured ``source``, its ``raw`` calibration batches, and how inputs are prepared and checked.

    ``shape``: that of one prepared sample; ``check`` begins a check of inputs against those of the calibration.
    """

    source: Graph
    raw: tuple[Any, ...]
    sample: Sample
    prepare: Callable[[Any], Tensor]
    shape: tuple[int, ...]
    check: Callable[[], InputCheck | InputChecks]

    @classmethod
    def of(
        cls, model: nn.Module | Graph, calibration: Any, samples: int | None, encoder: Encoder,
        preprocessing: PreprocessingGiven, any_input: bool, **how: Any,
    ) -> "Entered":  # fmt: skip
        """``how``: the settings of ``capture``. Raises as ``convert`` does before a recipe's passes."""
        names = InputNames.of(model.inputs) if isinstance(model, Graph) else several(model)
        raw = first_batches(calibration, samples, names)
        if raw and is_packed(model, raw[0]):
            return _packed(model, raw, encoder, preprocessing, any_input, **how)
        if isinstance(preprocessing, Mapping):
            Entrance(model, ECC(), (), preprocessing)(raw[0])  # raises
        assert not isinstance(preprocessing, Mapping)
        prepare: Callable[[Any], Tensor] = preprocessing or (lambda x: x.float())
        prepared = calibration_batches(without_targets(raw), prepare)
        with torch.no_grad():
            source = capture(model, encoder.accumulate(prepared[0]), **how)  # of recordings the mean of their frames
        known = replace(InputStatistics.of(map(encoder.accumulate, prepared)), any_input=any_input)
        sample = None if encoder.has_frames else source.input.shape
        check = lambda: InputCheck(known, preprocessing, encoder)  # noqa: E731
        return cls(source, raw, sample, prepare, prepared[0].shape[1:], check)

    def labelled(self, data: Any, limit: int | None, judged: Judged, needs_targets: bool = True) -> Iterator[Batch]:
        """Batches of (input, target) with at most ``limit`` samples; DataError without targets or samples.

        A task that needs no targets gets zeros, which it does not read.
        """
        found = ((x, judged.target(given) if needs_targets else None) for x, given in with_targets(data, self.sample))
        some = False
        for x, y in _limited(found, limit):
            if not needs_targets:
                y = torch.zeros(len(x))
            elif y is None:
                raise DataError("a comparison needs targets: pass data as batches of (input, target)")
            if len(x) != len(y):
                raise DataError(f"a batch has {len(x)} inputs and {len(y)} targets")
            some = True
            yield x, y
        if not some:
            raise DataError("there are no samples to compare with")


@dataclass(eq=False)
class Checked:
    """Batches that are checked while they are read, once; then ``samples`` and ``warnings`` are those of all.

    ``judge`` raises for a batch that the task cannot judge, ``enough`` for the number of all samples. Clear differences
    from the calibration inputs are a DataError, others are ``warnings``.
    """

    entered: Entered
    batches: Iterable[Batch]
    judge: Callable[[Any, Tensor], object]
    enough: Callable[[int], None] = lambda samples: None
    samples: int = 0
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Batch]:
        check = self.entered.check()
        for x, y in self.batches:
            prepared = self.entered.prepare(x)
            if prepared.shape[1:] == self.entered.shape:  # the evaluation refuses others
                check.add(prepared.cpu())
            self.judge(x, y)
            self.samples += len(x)
            yield x, y
        self.warnings = check.finished()
        self.enough(self.samples)


def _packed(
    model: nn.Module | Graph, raw: tuple[Any, ...], encoder: Encoder, preprocessing: PreprocessingGiven,
    any_input: bool, **how: Any,
) -> Entered:  # fmt: skip
    entrance = Entrance(model, ECC(), (), preprocessing)  # a recipe that takes several inputs; others are refused later
    batches = tuple(x if isinstance(x, Inputs) else Inputs({(0,): x}) for x in raw)
    prepared = calibration_batches(without_targets(batches), entrance, names=entrance.names or InputNames(((0,),)))
    assert entrance.example is not None
    with torch.no_grad():
        source = capture(model, entrance.example, **how)
    known = entrance.described(source, prepared)[0]
    known = with_any_input(known) if any_input else known
    names = InputNames.of(source.inputs)
    assert names is not None
    ordered = tuple(x.ordered(names.places) for x in batches)

    def prepare(x: Any) -> Tensor:
        return pack(x if isinstance(x, Inputs) else Inputs.of((x,)), known.inputs)

    return Entered(source, ordered, names, prepare, prepared[0].shape[1:], lambda: InputChecks(known.inputs, encoder))


def first_batches(calibration: Any, samples: int | None, names: InputNames | None = None) -> tuple[Any, ...]:
    """Calibration batches before preprocessing."""
    if calibration is None:
        raise DataError("a comparison needs calibration data: pass calibration=a tensor or a loader of training inputs")
    return tuple(x.cpu() for x, _ in _limited(((x, None) for x in inputs(calibration, names)), samples))


def _limited(batches: Iterable[tuple[Any, Tensor | None]], limit: int | None) -> Iterable[tuple[Any, Tensor | None]]:
    seen = 0
    for x, y in batches:
        if limit is not None and seen >= limit:
            return
        keep = len(x) if limit is None else limit - seen
        yield x[:keep], None if y is None else y[:keep]
        seen += len(x)
