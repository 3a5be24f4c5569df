"""Settings of fine-tuning, and presets of published methods by name."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from transpike.core.constraints import check_settings, setting
from transpike.core.spelling import NamedSettings, unknown
from transpike.errors import SettingError
from transpike.training.source import augmentation
from transpike.training.spiking.layerwise import LayerwiseSchedule
from transpike.training.spiking.layerwise import table as schedules
from transpike.training.spiking.losses import Loss
from transpike.training.spiking.losses import table as losses
from transpike.training.spiking.surrogates import Linear, Rectangular, _Surrogate
from transpike.training.spiking.surrogates import table as surrogates
from transpike.training.spiking.unrolled import KINDS

MODES = ("auto", "crop-flip", "crop", "none")


@dataclass(frozen=True)
class FineTuning(NamedSettings):
    """Settings of ``transpike.finetune``; printable, hashable, and each a flag of ``transpike finetune``.

    ``train`` selects the trained parameters: "weights" (with biases), "thresholds", "leaks", "initial" (potentials).
    The last three have separate learning rates, relative to the layer's mean threshold (leaks: absolute), and no weight
    decay. ``surrogate`` and ``loss`` are objects, or names in their tables. Raises SettingError.
    """

    timesteps: int | None = setting(None, "Time steps; default: those of the network.", low=1)
    epochs: int = setting(5, "Training epochs; a layer-wise schedule defines its own.", low=1)
    train: tuple[str, ...] = setting(("weights", "thresholds", "initial"), "Trained parameters.", names=KINDS)
    surrogate: _Surrogate = setting(Rectangular(), "Surrogate gradient of a spike.", names=sorted(surrogates))
    loss: Loss | None = setting(None, "Loss; default: that of the task.", names=sorted(losses))
    optimiser: Literal["adam", "amsgrad", "sgd"] = setting("adam", "Optimiser: Adam, AMSGrad, or SGD with momentum.")
    learning_rate: float = setting(1e-4, "Peak learning rate of weights.")
    threshold_rate: float = setting(1e-3, "Learning rate of thresholds, relative to the layer's mean threshold.")
    leak_rate: float = setting(1e-3, "Learning rate of leaks.")
    initial_rate: float = setting(1e-3, "Learning rate of initial potentials, relative to the layer's mean threshold.")
    weight_decay: float = setting(0.0, "Weight decay, of weights only.")
    momentum: float = setting(0.9, "Momentum of SGD.", below=1)
    warmup_epochs: int = setting(0, "Epochs of learning rate warm-up.")
    batch_size: int = setting(64, "Samples per optimiser step.", low=1)
    batch_parts: int | None = setting(
        None, "Parts of a batch, whose gradients are added; default: one for each process.", low=1
    )
    augment: str = setting("auto", "Image augmentation.", choices=MODES)
    padding: str = setting("zero", "Padding of shifted images.", choices=augmentation.PADDINGS)
    validation_fraction: float = setting(0.1, "Share of the training samples used to select the best epoch.", below=1)
    gradients: Literal["time", "counts"] = setting(
        "time", "Gradient path: through all time steps, or through spike counts (tandem)."
    )
    layerwise: LayerwiseSchedule | None = setting(
        None, "Layer-wise schedule; default: all layers at once.", names=sorted(schedules)
    )
    detach_reset: bool = setting(False, "Block the gradient through the reset.")
    normalise: bool = setting(False, "Batch normalisation of currents during training, folded at the end.")
    pack_spikes: bool = setting(False, "Store spikes as bits for the backward pass.")
    precision: Literal["float32", "bfloat16"] = setting("float32", "Type of products.")
    seed: int = setting(0, "Random seed of order, augmentation and validation split.")

    def __post_init__(self) -> None:
        for name, table, kind in (("surrogate", surrogates, _Surrogate), ("loss", losses, Loss)):
            value = getattr(self, name)
            if isinstance(value, str) and value in table:
                object.__setattr__(self, name, table[value]())
            elif not isinstance(value, kind) and (value is not None or name == "surrogate"):
                raise SettingError(f"{name} must be one of {', '.join(sorted(table))}, or an object; not {value!r}")
        if isinstance(self.layerwise, str) and self.layerwise in schedules:
            object.__setattr__(self, "layerwise", schedules[self.layerwise])
        elif not isinstance(self.layerwise, LayerwiseSchedule | None):
            raise SettingError(f"layerwise is one of {', '.join(sorted(schedules))}, or None; not {self.layerwise!r}")
        names = (self.train,) if isinstance(self.train, str) else tuple(self.train)
        object.__setattr__(self, "train", names)
        if not names or set(names) - set(KINDS) or len(set(names)) < len(names):
            raise SettingError(f"train must name some of {', '.join(KINDS)}, each once; not {self.train!r}")
        check_settings(self)
        if self.warmup_epochs >= self.epochs:
            raise SettingError(f"warmup_epochs must be below the {self.epochs} epochs, not {self.warmup_epochs}")

    def rate_of(self, kind: str) -> float:
        """The learning rate of "weights", "thresholds", "leaks" or "initial"."""
        return {"weights": self.learning_rate, "thresholds": self.threshold_rate, "leaks": self.leak_rate,
                "initial": self.initial_rate}[kind]  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The settings as numbers and text; surrogate, loss and schedule as [name, settings]."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name, value in found.items():
            if dataclasses.is_dataclass(value):
                found[name] = [type(value).__name__, dataclasses.asdict(value)]  # type: ignore[arg-type]
        return found | {"train": list(self.train)}


def fine_tuning(settings: "FineTuning | str | None", changes: dict[str, Any]) -> FineTuning:
    """The settings, or those of a named preset, with ``changes``; raises SettingError for unknown names."""
    if isinstance(settings, str):
        if settings not in presets:
            raise SettingError(unknown("preset", settings, presets))
        settings = presets[settings]
    settings = FineTuning() if settings is None else settings
    if not isinstance(settings, FineTuning):
        raise SettingError(f"settings must be a FineTuning or the name of a preset, not {type(settings).__name__}")
    chosen = dataclasses.replace(settings, **changes)
    if chosen.layerwise is not None and "epochs" in changes:
        raise SettingError("a layer-wise schedule defines the epochs of each stage; omit epochs")
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
"""Published settings. "hybrid-stdb": Rathi et al. 2020, with the linear surrogate that its code recommends; the CE of
the mean output equals that of the final membrane of an integrating output. "diet-snn": Rathi and Roy 2021, thresholds
and leaks trained, without weight decay, analogue input. "tandem" and "ptl": Wu et al. 2021; "fast-snn": Hu et al. 2023;
"local-tandem": Yang et al. 2022. The papers train for more epochs, up to 300; batch normalisation is
folded before fine-tuning."""
