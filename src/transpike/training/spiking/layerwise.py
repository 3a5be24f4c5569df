"""Settings of layer-wise fine-tuning, and published schedules by name."""

from dataclasses import dataclass
from typing import Literal, get_args

from transpike.errors import SettingError

Objective = Literal["task", "features", "features+distil"]
Trained = Literal["rest", "layer", "each"]


@dataclass(frozen=True)
class LayerwiseSchedule:
    """In stage l the first l neuron layers spike; the layers after compute the source network's activation.

    ``trains``: "rest", the layers after the l-th neurons (the prefix is frozen); "layer", the weights before the l-th
    neurons and their thresholds; "each", every layer at once, all spiking, without gradients between layers.
    ``objective``: "task", the loss of FineTuning; "features", ``Σ mean((φ − a)²) / mean(a²)`` between the mean outputs
    of neurons (φ) and the source's activations (a); "features+distil", the sum of both.
    A stage ends after ``patience`` epochs without a lower validation loss, or after ``epochs``, with its best values;
    ``last_rate`` multiplies the learning rate of the last stage. ``weight_bits`` rounds the weights of a finished stage
    to ``2^bits − 1`` levels between −max |w| and max |w| of a channel.
    """

    trains: Trained = "layer"
    objective: Objective = "features"
    patience: int = 1
    epochs: int = 1
    last_rate: float = 1.0
    weight_bits: int | None = None

    def __post_init__(self) -> None:
        if self.trains not in get_args(Trained) or self.objective not in get_args(Objective):
            raise SettingError(
                f"trains must be one of {get_args(Trained)}, objective one of {get_args(Objective)}, not "
                f"{self.trains!r} and {self.objective!r}"
            )
        if self.trains == "rest" and self.objective != "task":
            raise SettingError(
                "trains='rest' trains the layers after the spiking ones by the task's loss: use objective='task'"
            )
        if self.trains == "each" and self.objective == "task":
            raise SettingError(
                "trains='each' passes no gradient between layers and needs target features: use objective='features'"
            )
        for name, value, low in (("patience", self.patience, 1), ("epochs", self.epochs, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise SettingError(f"{name} must be an integer, at least {low}, not {value!r}")
        if not 0 < self.last_rate <= 1:
            raise SettingError(f"last_rate must be in (0, 1], not {self.last_rate!r}")
        if self.weight_bits is not None and not 2 <= self.weight_bits <= 16:
            raise SettingError(f"weight_bits must be from 2 to 16, or None, not {self.weight_bits!r}")


table: dict[str, LayerwiseSchedule] = {
    "fast-snn": LayerwiseSchedule("layer", "features", patience=8, epochs=8),
    "local-tandem": LayerwiseSchedule("each", "features", patience=6, epochs=20),
    "progressive-tandem": LayerwiseSchedule("rest", "task", patience=6, epochs=30, last_rate=0.1),
}
"""Progressive tandem learning: Wu et al. 2021 (arXiv 2007.01204). Fast-SNN's layer-wise fine-tuning: Hu et al. 2023.
Local tandem learning: Yang et al. 2022 (NeurIPS). Epochs are upper bounds."""
