"""The settings of a training, and a fingerprint of the network that it is of."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.constraints import check_settings, setting
from transpike.core.fingerprint import code_of
from transpike.errors import DataError, SettingError
from transpike.training.source import augmentation, learners, stages
from transpike.training.source.optimisers import ALPHA, DECAY, RATES, SPARSITY
from transpike.training.source.precision import TYPES

SCHEDULES = ("cosine", "step")


@dataclass(frozen=True)
class Training:
    """Settings of ``transpike.train``; printable, hashable, and each a flag of ``transpike train``.

    Optimisation: ``optimiser`` "sgd" (Nesterov's ``momentum``), "adam" (β₁ = ``momentum``), or "grad-r", which prunes
    while it trains (``training.GradR`` with ``alpha``, 0.05, and ``sparsity``, 0.9, the share that its prior has at
    zero; long training or a large α comes near it; the last epoch is taken); ``learning_rate`` is 0.1, 0.001
    or 0.001 unless given; ``weight_decay`` (5e-4; not for "grad-r"), also of thresholds unless ``decay_thresholds`` is
    off; ``schedule`` "cosine", or "step": times ``gamma`` (0.1) every ``step_size`` epochs; both after a line up over
    ``warmup_epochs``. ``batch_size`` counts the images of all processes; ``sync_batchnorm`` normalises over all of
    them. ``precision``: "bfloat16" and, on GPUs, "float16" multiply in 16 bits; weights and sums stay float32.
    The best epoch is chosen on ``validation_fraction`` of the training images (0: the last epoch is taken).
    Activations: ``stages`` {"clip": 3, "quantise": 5} sets the attribute ``stage`` of source activations by the epoch
    from which it holds, "relu" before the first; the best epoch is one of the last stage. ``learn`` "activations"
    trains the parameters of source activations alone, in a network that else is as in evaluation (see ``RateNorm``).
    Images: ``augment`` is "crop-flip", "crop", "none", "auto-augment", "rand-augment", "trivial-augment" (torchvision,
    after crop and flip), or "auto": flips for colour images only, nothing below 16 pixels; ``padding`` "zero" or
    "reflect" is what comes in at the border; ``cutout`` sets a square of so many pixels to the mean colour.
    Raises SettingError.
    """

    epochs: int = setting(30, "Passes over the training images.", low=1)
    optimiser: str = setting("sgd", "SGD with Nesterov's momentum, Adam, or Grad R, which prunes.", choices=RATES)
    learning_rate: float | None = setting(None, "At its highest (default: 0.1, for the others 0.001).")
    momentum: float = setting(0.9, "For adam and grad-r: beta 1.", below=1)
    batch_size: int = setting(128, "Images of a step, of all processes together.", low=1)
    weight_decay: float | None = setting(None, "Default: 0.0005, for grad-r 0.")
    decay_thresholds: bool = setting(True, "Weight decay of thresholds too.")
    alpha: float | None = setting(None, f"For grad-r: the pull of its prior (default: {ALPHA}).")
    sparsity: float | None = setting(
        None, f"For grad-r: the share of its prior at zero; what is reached is told (default: {SPARSITY})."
    )
    schedule: str = setting("cosine", "How the learning rate falls.", choices=SCHEDULES)
    step_size: int | None = setting(None, "Epochs between two steps of the schedule 'step'.", low=1)
    gamma: float | None = setting(None, "Factor of a step (default: 0.1).", high=1)
    warmup_epochs: int = setting(0, "Epochs in which the learning rate rises.")
    stages: Mapping[str, int] | tuple[tuple[str, int], ...] | None = setting(
        None, f"From which epoch activations are in a stage ({', '.join(stages.STAGES)}), like clip=3,quantise=5."
    )
    learn: learners.Learn = setting("all", "activations: thresholds alone, the rest as in evaluation.")
    augment: str = setting("auto", "Random changes of images.", choices=("auto", *augmentation.MODES))
    padding: str = setting("zero", "What comes in at the border of a shifted image.", choices=augmentation.PADDINGS)
    cutout: int = setting(0, "Pixels of the square cut out.", unit="pixels")
    label_smoothing: float = setting(0.0, "The share of the target that all classes get.", below=1)
    validation_fraction: float = setting(0.1, "Of the training set, to choose the epoch.", below=1)
    precision: str = setting(
        "float32",
        "Of the products; bfloat16 is faster on a CPU or GPU that has it, float16 is for GPUs.",
        choices=TYPES,
    )
    sync_batchnorm: bool = setting(False, "Normalise over the images of all processes (GPUs).")
    seed: int = setting(0, "Draws order, augmentation and the validation part.")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.warmup_epochs >= self.epochs:
            raise SettingError(f"warmup_epochs must be below the {self.epochs} epochs, not {self.warmup_epochs}")
        if self.schedule == "step":
            if self.step_size is None:
                raise SettingError("schedule 'step' needs step_size, the epochs between two steps")
            if self.gamma == 0:
                raise SettingError("gamma must be above 0: nothing is learned at a learning rate of 0")
        elif not self.step_size is self.gamma is None:
            raise SettingError("step_size and gamma belong to schedule 'step'; leave them out, or choose it")
        if self.optimiser == "grad-r" and (self.weight_decay or not self.decay_thresholds):
            raise SettingError("grad-r has a prior on weights in place of weight decay; leave out what is about it")
        if self.optimiser != "grad-r" and not self.alpha is self.sparsity is None:
            raise SettingError(
                f"alpha and sparsity belong to optimiser 'grad-r', not {self.optimiser!r}; leave them out"
            )
        if self.stages is not None:
            object.__setattr__(self, "stages", tuple(stages.ordered(dict(self.stages), self.epochs).items()))

    @property
    def prior(self) -> dict[str, float]:
        """``alpha`` and ``sparsity`` of Grad R; nothing for another optimiser."""
        if self.optimiser != "grad-r":
            return {}
        return {
            "alpha": ALPHA if self.alpha is None else self.alpha,
            "sparsity": SPARSITY if self.sparsity is None else self.sparsity,
        }

    def to_json(self) -> dict[str, Any]:
        """Numbers and text only, with what is usual in the place of what was left out."""
        decay = 0.0 if self.optimiser == "grad-r" else DECAY
        return {
            "epochs": self.epochs,
            "optimiser": self.optimiser,
            "learning_rate": RATES[self.optimiser] if self.learning_rate is None else self.learning_rate,
            "batch_size": self.batch_size,
            "weight_decay": decay if self.weight_decay is None else self.weight_decay,
            **self.prior,
            "decay_thresholds": self.decay_thresholds,
            "momentum": self.momentum,
            "schedule": self.schedule,
            "step_size": self.step_size,
            "gamma": 0.1 if self.schedule == "step" and self.gamma is None else self.gamma,
            "warmup_epochs": self.warmup_epochs,
            "stages": dict(self.stages or ()),
            **({} if self.learn == "all" else {"learn": self.learn}),
            "augment": self.augment,
            "padding": self.padding,
            "cutout": self.cutout,
            "label_smoothing": self.label_smoothing,
            "seed": self.seed,
            "validation_fraction": self.validation_fraction,
            "precision": self.precision,
            "sync_batchnorm": self.sync_batchnorm,
        }


def check_images(settings: Training, dataset: str, images: int, ranks: int = 1) -> None:
    """SettingError where a process would get no image of a batch, DataError for fewer than two images."""
    if settings.batch_size < ranks:
        raise SettingError(f"batch_size must be from {ranks} on, an image for each process, not {settings.batch_size}")
    if images < 2:
        raise DataError(f"training needs at least two images; {dataset} has {images}")


def fingerprint(module: nn.Module) -> str:
    """Sixteen digits for names, shapes and types of the network's tensors, and for the plain settings of its layers."""
    lines = [f"{name} {tuple(t.shape)} {t.dtype}" for name, t in module.state_dict().items()]
    for path, part in module.named_modules():
        own = {
            key: value
            for key, value in vars(part).items()
            if isinstance(value, bool | int | float | str)
            and not key.startswith("_")
            and key not in ("training", "stage")
        }
        lines.append(f"{path} {type(part).__name__} {sorted(own.items())}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def origins(images: Any, *things: Any) -> dict[str, str]:
    """What else must be the same when a training goes on: the images, where they are held in memory, and code.

    ``things`` are objects and classes; code that is not transpike's has a digest, where it can be known.
    """
    found = {}
    if isinstance(images, Tensor):
        data = images.detach().cpu().contiguous()
        found["images"] = hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
    if digest := code_of(*things).digest:
        found["code"] = digest[:16]
    return found
