"""How a spiking network is fine-tuned, as data, and the settings of published methods by name."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from transpike.errors import SettingError
from transpike.training import augmentation
from transpike.training.layerwise import LayerwiseSchedule
from transpike.training.layerwise import table as schedules
from transpike.training.losses import CrossEntropy, Loss
from transpike.training.losses import table as losses
from transpike.training.surrogates import Linear, Rectangular, _Surrogate
from transpike.training.surrogates import table as surrogates
from transpike.training.unrolled import KINDS

PRECISIONS = ("float32", "bfloat16")
_RATES = ("learning_rate", "threshold_rate", "leak_rate", "initial_rate")


def _setting(default: Any, text: str) -> Any:
    """A field whose command-line flag says ``text``."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class FineTuning:
    """Settings of ``transpike.finetune``; printable, hashable, and each a flag of ``transpike finetune``.

    ``train`` says what moves: "weights" (with biases), "thresholds", "leaks", "initial" (potentials). The last three
    have learning rates of their own, in shares of the layer's mean threshold (leaks: as they are), and no weight decay.
    ``surrogate`` and ``loss`` are members of their tables, or names there. Raises SettingError.
    """

    timesteps: int | None = _setting(None, "Time steps, if not those of the network.")
    epochs: int = _setting(5, "Passes over the training samples; a layer-wise schedule has its own.")
    train: tuple[str, ...] = _setting(("weights", "thresholds", "initial"), "What is trained.")
    surrogate: _Surrogate = _setting(Rectangular(), "What takes the place of the derivative of a spike.")
    loss: Loss = _setting(CrossEntropy(), "What is made small.")
    optimiser: Literal["adam", "amsgrad", "sgd"] = _setting("adam", "Adam, its variant, or SGD with momentum.")
    learning_rate: float = _setting(1e-4, "Of the weights, at its highest.")
    threshold_rate: float = _setting(1e-3, "Of thresholds, in shares of their layer's mean.")
    leak_rate: float = _setting(1e-3, "Of leaks.")
    initial_rate: float = _setting(1e-3, "Of initial potentials, in shares of the threshold.")
    weight_decay: float = _setting(0.0, "Of weights only.")
    momentum: float = _setting(0.9, "Of SGD.")
    warmup_epochs: int = _setting(0, "Epochs in which the learning rate rises.")
    batch_size: int = _setting(64, "Samples of a step.")
    augment: str = _setting("auto", "Random changes of images.")
    padding: str = _setting("zero", "What comes in at the border of a shifted image.")
    validation_fraction: float = _setting(0.1, "Of the training samples, to choose the epoch.")
    gradients: Literal["time", "counts"] = _setting("time", "Through all steps, or straight through spike counts.")
    layerwise: LayerwiseSchedule | None = _setting(None, "One layer after another; None is all at once.")
    detach_reset: bool = _setting(False, "No gradient through the spikes that reset a potential.")
    normalise: bool = _setting(False, "Batch normalisation of the currents while training, folded at the end.")
    pack_spikes: bool = _setting(False, "Keep spikes as bits for the backward pass.")
    precision: Literal["float32", "bfloat16"] = _setting("float32", "Of the products.")
    seed: int = _setting(0, "Draws order, augmentation and the validation part.")

    def __post_init__(self) -> None:
        for name, table, kind in (("surrogate", surrogates, _Surrogate), ("loss", losses, Loss)):
            value = getattr(self, name)
            if isinstance(value, str) and value in table:
                object.__setattr__(self, name, table[value]())
            elif not isinstance(value, kind):
                raise SettingError(f"{name} is one of {', '.join(sorted(table))}, or its object; not {value!r}")
        if isinstance(self.layerwise, str) and self.layerwise in schedules:
            object.__setattr__(self, "layerwise", schedules[self.layerwise])
        elif not isinstance(self.layerwise, LayerwiseSchedule | None):
            raise SettingError(f"layerwise is one of {', '.join(sorted(schedules))}, or None; not {self.layerwise!r}")
        names = (self.train,) if isinstance(self.train, str) else tuple(self.train)
        object.__setattr__(self, "train", names)
        if not names or set(names) - set(KINDS) or len(set(names)) < len(names):
            raise SettingError(f"train takes some of {', '.join(KINDS)}, each once; not {self.train!r}")
        for name, low in (("epochs", 1), ("batch_size", 1), ("seed", 0), ("warmup_epochs", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise SettingError(f"{name} must be a whole number from {low} on, not {value!r}")
        if self.warmup_epochs >= self.epochs:
            raise SettingError(f"warmup_epochs must be below the {self.epochs} epochs, not {self.warmup_epochs}")
        for name in (*_RATES, "weight_decay"):
            self._within(name, math.inf)
        self._within("momentum", 1.0)
        self._within("validation_fraction", 1.0)
        for name, choices in (
            ("optimiser", ("adam", "amsgrad", "sgd")),
            ("precision", PRECISIONS),
            ("gradients", ("time", "counts")),
            ("augment", ("auto", "crop-flip", "crop", "none")),
            ("padding", augmentation.PADDINGS),
        ):
            if getattr(self, name) not in choices:
                raise SettingError(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}")

    def _within(self, name: str, high: float) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < high:
            raise SettingError(f"{name} must be a number from 0 to below {high:g}, not {value!r}")

    def rate_of(self, kind: str) -> float:
        """The learning rate of "weights", "thresholds", "leaks" or "initial"."""
        return {"weights": self.learning_rate, "thresholds": self.threshold_rate, "leaks": self.leak_rate,
                "initial": self.initial_rate}[kind]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Numbers and text only; parts as [name, settings]."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in found.items():
            if dataclasses.is_dataclass(value):
                found[name] = [type(value).__name__, dataclasses.asdict(value)]  # type: ignore[arg-type]
        return found | {"train": list(self.train)}


def fine_tuning(settings: "FineTuning | str | None", changes: dict[str, Any]) -> FineTuning:
    """The settings, or those of a preset of this name, with ``changes``; SettingError for one that is not there."""
    if isinstance(settings, str):
        if settings not in presets:
            raise SettingError(f"no preset is called {settings!r}; choose from {', '.join(sorted(presets))}")
        settings = presets[settings]
    settings = FineTuning() if settings is None else settings
    if not isinstance(settings, FineTuning):
        raise SettingError(f"settings must be a FineTuning or the name of a preset, not {type(settings).__name__}")
    known = [f.name for f in dataclasses.fields(FineTuning)]
    if unknown := sorted(set(changes) - set(known)):
        raise SettingError(f"fine-tuning has no setting {', '.join(unknown)}; it has {', '.join(known)}")
    chosen = dataclasses.replace(settings, **changes)
    if chosen.layerwise is not None and "epochs" in changes:
        raise SettingError("a layer-wise schedule has epochs of its own, for each stage; leave out epochs")
    return chosen


presets: dict[str, FineTuning] = {
    "hybrid-stdb": FineTuning(
        train=("weights",),
        surrogate=Linear(0.3),
        optimiser="amsgrad",
        learning_rate=1e-4,
        weight_decay=5e-4,
        epochs=20,
    ),
    "diet-snn": FineTuning(
        train=("weights", "thresholds", "leaks"),
        surrogate=Linear(0.3),
        optimiser="adam",
        learning_rate=1e-4,
        threshold_rate=1e-4,
        leak_rate=1e-4,
        epochs=20,
    ),
    "tandem": FineTuning(train=("weights",), gradients="counts", learning_rate=1e-3, epochs=20),
    "ptl": FineTuning(
        train=("weights",),
        layerwise=schedules["progressive-tandem"],
        learning_rate=1e-3,
        weight_decay=1e-5,
        batch_size=512,
    ),
    "fast-snn": FineTuning(
        train=("weights",), layerwise=schedules["fast-snn"], optimiser="sgd", learning_rate=1e-3, batch_size=64
    ),
    "local-tandem": FineTuning(train=("weights",), layerwise=schedules["local-tandem"], learning_rate=1e-3),
}
"""Published settings. "hybrid-stdb": Rathi et al. 2020, with the linear surrogate that its code advises; the CE of the
mean output is that of the final membrane of an output that integrates. "diet-snn": Rathi and Roy 2021, thresholds and
leaks trained, without weight decay, analogue input. "tandem" and "ptl": Wu et al. 2021; "fast-snn": Hu et al. 2023;
"local-tandem": Yang et al. 2022. Epochs are fewer than the papers', which train up to 300; batch normalisation has been
folded before, so that none of its pitfalls in frozen layers arise."""
