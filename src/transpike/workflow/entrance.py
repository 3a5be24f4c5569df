"""How calibration inputs enter a conversion: preprocessing, recordings, and several inputs packed into one tensor."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.graph import Graph, Node, PackedInput
from transpike.core.input_statistics import InputStatistics
from transpike.core.inputs import WHOLE, InputNames, Inputs, Place, named
from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.core.structure import packed
from transpike.data import Batches
from transpike.errors import SettingError
from transpike.workflow.call import called, several
from transpike.workflow.exported import copied
from transpike.workflow.whole_input import whole_input

KEPT_RECORDINGS = 256  # with all their frames, for passes that simulate spikes
PreprocessingGiven = Preprocessing | Mapping[str, Preprocessing] | None


class Entrance:
    """Preprocesses calibration inputs, takes the mean over the frames of recordings, and packs several inputs.

    ``recorded`` keeps the first samples as the spiking network receives them; ``example`` is the first batch of several
    inputs, None for one input.
    """

    recorded: Tensor
    example: Inputs | None = None
    bytes = False
    """True if the network receives values 0..255."""
    look_up: bool | None = None

    def __init__(
        self, model: nn.Module | Graph, recipe: Recipe, data: Any, preprocessing: PreprocessingGiven = None
    ) -> None:
        self.model, self.recipe, self.encoder = model, recipe, recipe.encoder
        self.by_name = dict(preprocessing) if isinstance(preprocessing, Mapping) else {}
        self.preprocessing = None if isinstance(preprocessing, Mapping) else preprocessing
        self.places: tuple[Place, ...] = ()
        self.names = InputNames.of(model.inputs) if isinstance(model, Graph) else None
        if isinstance(model, nn.Module):
            self.names = several(model)
        framed = isinstance(data, Batches) and data.split.frames is not None
        if framed and not self.encoder.has_frames:
            raise SettingError(
                f"the calibration data are recordings of {data.split.frames} frames; the recipe needs an encoder for "
                "them: encoder=transpike.encoders.EventFrames(), or SignedEventFrames() for signed events"
            )
        if self.encoder.has_frames and self.preprocessing is not None:
            if not self.preprocessing.is_identity:
                raise SettingError(
                    "preprocessing would make silent pixels of recordings nonzero and change the value of events; "
                    "train the network and convert it without preprocessing"
                )
            self.preprocessing = None

    def __call__(self, x: Tensor | Inputs) -> Tensor:
        if isinstance(x, Tensor) and x.dtype in WHOLE and self._looks_up(x):
            x = Inputs({(0,): x})
        x = self._packed(x) if isinstance(x, Inputs) else self._single(x)
        still = self.encoder.accumulate(x)
        if not hasattr(self, "recorded"):
            self.encoder.check_steps(x, self.recipe.timesteps)
            self.recorded = x[:0].cpu()
        if len(self.recorded) < (KEPT_RECORDINGS if self.encoder.has_frames else 16):
            self.recorded = torch.cat([self.recorded, x.cpu()])[:KEPT_RECORDINGS]
        return still

    def _looks_up(self, x: Tensor) -> bool:
        if self.look_up is None:
            self.look_up = is_packed(self.model, x)
        return self.look_up

    def _single(self, x: Tensor) -> Tensor:
        if self.by_name:
            raise SettingError("the network has one input: pass one Preprocessing, not a dictionary")
        self.bytes = self.bytes or (x.dtype == torch.uint8 and self.preprocessing is None)
        return x.float() if self.preprocessing is None else self.preprocessing(x)

    def _packed(self, x: Inputs) -> Tensor:
        if not self.places:
            bound = called(self.model, x)[0] if isinstance(self.model, nn.Module) else x
            self.places = tuple(bound.values) if self.names is None or not self.names.shapes else self.names.places
            self._check_settings()
        x = x.ordered(self.places)
        values = {place: self.by_name.get(named(place), _unchanged)(value) for place, value in x.values.items()}
        self.bytes = self.bytes or any(value.dtype == torch.uint8 for value in values.values())
        if self.example is None:
            self.example = Inputs(values)
        return packed([value.float() for value in values.values()])

    def _check_settings(self) -> None:
        names = list(map(named, self.places))
        if self.encoder.has_frames:
            raise SettingError(
                f"{self.encoder} takes one recording, but the network takes the inputs {', '.join(names)}: join "
                "recordings along their channels, and split them in the network"
            )
        if self.recipe.schedule.mode == "slots":
            raise SettingError(
                f"{self.recipe.schedule} has one window of time slots for one input, but the network has the inputs "
                f"{', '.join(names)}: use a recipe that streams, like ecc, or sigma-delta"
            )
        if self.preprocessing is not None or (unknown := sorted(self.by_name.keys() - set(names))):
            what = "one Preprocessing for all" if self.preprocessing is not None else f"one for {', '.join(unknown)}"
            raise SettingError(
                f"the network has the inputs {', '.join(names)}, but there is {what}: pass a dictionary with the "
                "Preprocessing of each input that needs one"
            )

    def made_whole(self, bits: int, source: Graph, batches: tuple[Tensor, ...]) -> tuple[Graph, tuple[Tensor, ...]]:
        """The network for inputs of integers, and the calibration inputs as such; see ``whole_input``."""
        if self.example is not None:
            raise SettingError("input_bits is for networks with one input: omit it")
        found = whole_input(bits, self.preprocessing, self.encoder, batches, source.input_shape)
        self.preprocessing, self.recorded = found.preprocessing, found(self.recorded)
        return found.before(source), tuple(map(found, batches))

    def described(self, source: Graph, batches: tuple[Tensor, ...]) -> tuple[Graph, float]:
        """The source network whose inputs know their preprocessing, range and statistics, and the encoder's range."""
        if self.example is None:
            return source, max(float(batch.abs().max()) for batch in batches)

        def change(node: Node) -> Node | None:
            op = node.op
            if not isinstance(op, PackedInput):
                return None
            parts = [op.part(batch) for batch in batches]
            largest = max(float(part.abs().max()) for part in parts) or 1.0
            op = dataclasses.replace(
                op,
                preprocessing=self.by_name.get(node.name),
                largest=1.0 if op.is_static or self.encoder.largest is not None else largest,
                statistics=None if op.is_static else InputStatistics.of(parts),
            )
            return dataclasses.replace(node, op=op)

        return source.rewrite(change), 1.0


def is_packed(model: nn.Module | Graph, x: Tensor | Inputs) -> bool:
    """Whether a batch enters as a packed tensor: several inputs, and one of integers that are looked up."""
    return isinstance(x, Inputs) or (x.dtype in WHOLE and _looks_up(model, x))


def _looks_up(model: nn.Module | Graph, x: Tensor) -> bool:
    """True if the network looks integers up: it has an embedding, or does not take them as real ones."""
    if isinstance(model, Graph):
        return InputNames.of(model.inputs) is not None
    if any(isinstance(part, (nn.Embedding, nn.EmbeddingBag)) for part in model.modules()):
        return True
    model, few = copied(model).eval(), x[:2].cpu()
    return not _runs(model, few.float()) and _runs(model, few)


def _unchanged(x: Tensor) -> Tensor:
    return x


def _runs(model: nn.Module, x: Tensor) -> bool:
    try:
        with torch.no_grad():
            model(x)
    except Exception:  # whatever torch or the model's own code raises
        return False
    return True
