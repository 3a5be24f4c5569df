"""The settings of a training, and a fingerprint of the trained network."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transpike.core.constraints import check_settings, setting
from transpike.core.fingerprint import code_of
from transpike.core.inputs import Inputs
from transpike.core.spelling import NamedSettings
from transpike.core.structure import packed
from transpike.core.task import Task
from transpike.errors import DataError, SettingError
from transpike.tasks import task_given
from transpike.training.source import augmentation, learners, stages
from transpike.training.source.optimisers import ALPHA, DECAY, RATES, SPARSITY
from transpike.training.source.precision import TYPES

SCHEDULES = ("cosine", "step")


@dataclass(frozen=True)
class Training(NamedSettings):
    """Settings of ``transpike.train``; printable, hashable, and each a flag of ``transpike train``.

    Optimisation: ``optimiser`` "sgd" (Nesterov's ``momentum``), "adam" (β₁ = ``momentum``), or "grad-r", which prunes
    during training (``training.GradR`` with ``alpha``, 0.05, and ``sparsity``, 0.9, the share of its prior at zero,
    which long training or a large α approaches; the last epoch is used); ``learning_rate`` defaults to 0.1 for "sgd",
    0.001 for the others; ``weight_decay`` (5e-4; not for "grad-r"), also of thresholds unless ``decay_thresholds`` is
    off; ``schedule`` "cosine", or "step": times ``gamma`` (0.1) every ``step_size`` epochs; both after a linear warm-up
    over ``warmup_epochs``. ``batch_size`` counts the images of all processes; ``sync_batchnorm`` normalises over all
    of them. ``precision``: "bfloat16" and, on GPUs, "float16" products; weights and sums remain float32.
    The best epoch is selected on ``validation_fraction`` of the training images (0: the last epoch is used).
    Activations: ``stages`` {"clip": 3, "quantise": 5} gives the first epoch of each ``stage`` of source activations,
    "relu" before the first; the best epoch is one of the last stage. ``learn`` "activations" trains only the
    parameters of source activations, with the rest of the network in evaluation mode (see ``RateNorm``).
    Images: ``augment`` is "crop-flip", "crop", "none", "auto-augment", "rand-augment", "trivial-augment" (torchvision,
    after crop and flip), or "auto": flips for colour images only, none below 16 pixels; ``padding`` "zero" or
    "reflect" fills the border of a shifted image; ``cutout`` is the side in pixels of a square of the mean colour.
    ``task`` (of ``transpike.tasks``) gives loss and metric; the best epoch is that of the best accuracy,
    of tasks without one that of the lowest loss. Only images with a class each are augmented by "auto".
    Raises SettingError.
    """

    epochs: int = setting(30, "Passes over the training images.", low=1)
    optimiser: str = setting("sgd", "SGD with Nesterov momentum, Adam, or Grad R with pruning.", choices=RATES)
    learning_rate: float | None = setting(None, "Peak learning rate (default: 0.1 for sgd, else 0.001).")
    momentum: float = setting(0.9, "Momentum of sgd; beta 1 of adam and grad-r.", below=1)
    batch_size: int = setting(128, "Images per optimiser step, over all processes.", low=1)
    weight_decay: float | None = setting(None, "Weight decay (default: 0.0005, for grad-r 0).")
    decay_thresholds: bool = setting(True, "Apply weight decay to thresholds.")
    alpha: float | None = setting(None, f"Strength of the prior of grad-r (default: {ALPHA}).")
    sparsity: float | None = setting(
        None, f"Target sparsity of grad-r; the sparsity reached is reported (default: {SPARSITY})."
    )
    schedule: str = setting("cosine", "Learning rate schedule.", choices=SCHEDULES)
    step_size: int | None = setting(None, "Epochs between two reductions of the schedule 'step'.", low=1)
    gamma: float | None = setting(None, "Factor of a reduction (default: 0.1).", high=1)
    warmup_epochs: int = setting(0, "Epochs of linear learning rate warm-up.")
    stages: Mapping[str, int] | tuple[tuple[str, int], ...] | None = setting(
        None, f"First epoch of each activation stage ({', '.join(stages.STAGES)}), such as clip=3,quantise=5."
    )
    learn: learners.Learn = setting("all", "Parameters to train: all, or only those of activations.")
    augment: str = setting("auto", "Image augmentation.", choices=("auto", *augmentation.MODES))
    padding: str = setting("zero", "Padding of shifted images.", choices=augmentation.PADDINGS)
    cutout: int = setting(0, "Side of the cutout square.", unit="pixels")
    label_smoothing: float = setting(0.0, "Label smoothing.", below=1)
    validation_fraction: float = setting(0.1, "Share of the training set used to select the best epoch.", below=1)
    precision: str = setting(
        "float32",
        "Type of products; bfloat16 is faster on a CPU or GPU with support, float16 is for GPUs.",
        choices=TYPES,
    )
    sync_batchnorm: bool = setting(False, "Batch normalisation over the images of all processes (GPUs).")
    seed: int = setting(0, "Random seed of order, augmentation and validation split.")
    task: Task | None = setting(None, "Task of loss and metric (default: that of the data set, classification).")

    def __post_init__(self) -> None:
        check_settings(self)
        if self.task is not None:
            object.__setattr__(self, "task", task_given(self.task))
        if self.warmup_epochs >= self.epochs:
            raise SettingError(f"warmup_epochs must be below the {self.epochs} epochs, not {self.warmup_epochs}")
        if self.schedule == "step":
            if self.step_size is None:
                raise SettingError("schedule 'step' needs step_size, the epochs between two reductions")
            if self.gamma == 0:
                raise SettingError("gamma must be above 0: a learning rate of 0 trains nothing")
        elif not self.step_size is self.gamma is None:
            raise SettingError("step_size and gamma need schedule='step'; omit them, or use it")
        if self.optimiser == "grad-r" and (self.weight_decay or not self.decay_thresholds):
            raise SettingError(
                "grad-r has a prior on weights instead of weight decay; omit weight_decay and decay_thresholds"
            )
        if self.optimiser != "grad-r" and not self.alpha is self.sparsity is None:
            raise SettingError(f"alpha and sparsity need optimiser='grad-r', not {self.optimiser!r}; remove them")
        if self.stages is not None:
            object.__setattr__(self, "stages", tuple(stages.ordered(dict(self.stages), self.epochs).items()))

    @property
    def prior(self) -> dict[str, float]:
        """``alpha`` and ``sparsity`` of Grad R; empty for another optimiser."""
        if self.optimiser != "grad-r":
            return {}
        return {
            "alpha": ALPHA if self.alpha is None else self.alpha,
            "sparsity": SPARSITY if self.sparsity is None else self.sparsity,
        }

    def to_json(self) -> dict[str, Any]:
        """The settings as numbers and text, with defaults filled in."""
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
            **({} if self.task is None else {"task": str(self.task)}),
        }


def check_images(settings: Training, dataset: str, images: int, ranks: int = 1) -> None:
    """Raises SettingError if a process would get no image of a batch, DataError for fewer than two images."""
    if settings.batch_size < ranks:
        raise SettingError(f"batch_size must be at least {ranks}, one image per process, not {settings.batch_size}")
    if images < 2:
        raise DataError(f"training needs at least two images; {dataset} has {images}")


def fingerprint(module: nn.Module) -> str:
    """Sixteen hexadecimal digits of a hash of tensor names, shapes, types and the plain settings of layers."""
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
    """Digests that must not change when a training is resumed: of images in memory, and of the user's code.

    ``things`` are objects and classes; code outside transpike has a digest if its source is available.
    """
    found = {}
    if isinstance(images, Inputs):
        images = packed([value.double() for value in images.values.values()])
    if isinstance(images, Tensor):
        data = images.detach().cpu().contiguous()
        found["images"] = hashlib.sha256(data.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()[:16]
    if digest := code_of(*things).digest:
        found["code"] = digest[:16]
    return found
