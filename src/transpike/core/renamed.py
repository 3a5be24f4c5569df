"""Names of older versions: using one raises an error with the current name."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType
from typing import Any, Self

from transpike.core.spelling import NamedSettings
from transpike.errors import SettingError

MODULES: dict[str, str] = {
    "capture": "workflow.capture",
    "cascade": "workflow.cascade",
    "compare": "workflow.compare.run",
    "convert": "workflow.convert",
    "core.batches": "data.batches",
    "core.carrier": "core.tensor_fields",
    "core.closed_form": "codes.first_spike",
    "core.display": "results.notebook",
    "core.grid": "lowering.exact_grid",
    "core.interval": "results.statistics",
    "core.lowered": "lowering.lowered",
    "core.module": "core.graph",
    "core.quantity": "results.quantity",
    "core.scale": "ops.scale",
    "core.scaling": "lowering.scaling",
    "core.sequence": "lowering.layerwise",
    "core.span": "lowering.bounds",
    "core.step": "core.pass_",
    "core.time_code": "codes.time_code",
    "core.trace": "lowering.trace",
    "cost": "workflow.cost.run",
    "early_exit": "workflow.early_exit",
    "engines.fused": "engines.dense.engine",
    "evaluate": "workflow.evaluate.run",
    "explain": "workflow.explain.run",
    "finetune": "workflow.finetune.run",
    "fit": "workflow.chip_fit.run",
    "neurons.ladder": "neurons.multi_threshold",
    "ops.kept": "ops.analogue",
    "prepare": "workflow.prepare",
    "processor": "workflow.processor",
    "readouts.after_rehearsal": "readouts.after_pre_simulation",
    "recipes.ladders": "recipes.multi_thresholds",
    "record": "workflow.record",
    "simulate": "workflow.simulate",
    "steps": "passes",
    "targets": "chips",
    "train": "workflow.train",
    "training.augmentation": "training.source.augmentation",
    "training.board": "training.loggers",
    "training.connectivity": "training.source.connectivity",
    "training.finetuning": "training.spiking.finetuning",
    "training.gain": "training.spiking.gain",
    "training.grad_r": "training.source.grad_r",
    "training.layer_stages": "training.spiking.layer_stages",
    "training.layerwise": "training.spiking.layerwise",
    "training.learners": "training.source.learners",
    "training.loop": "training.source.loop",
    "training.losses": "training.spiking.losses",
    "training.normalisation": "training.spiking.normalisation",
    "training.optimisers": "training.source.optimisers",
    "training.packing": "training.spiking.packing",
    "training.penalties": "training.source.penalties",
    "training.policies": "training.source.policies",
    "training.precision": "training.source.precision",
    "training.scan": "training.spiking.scan",
    "training.stages": "training.source.stages",
    "training.surrogates": "training.spiking.surrogates",
    "training.tandem": "training.spiking.tandem",
    "training.unrolled": "training.spiking.unrolled",
}
"""Old module → its current place, both without ``transpike.``."""
NAMES: dict[str, dict[str, str]] = {
    "chips": {"Target": "Chip", "read_target": "read_chip"},
    "engines": {"Fused": "Dense"},
    "neurons": {
        "DifferentialLadder": "DifferentialMultiThreshold",
        "Latch": "Integrator",
        "Prospect": "PendingInput",
        "ThresholdLadder": "MultiThreshold",
    },
    "ops": {"Kept": "AnalogueOp"},
    "passes": {"UseLadders": "UseMultiThresholds"},
    "readouts": {"AfterRehearsal": "AfterPreSimulation"},
}
"""Folder → old name → new name."""
SETTINGS: dict[str, str] = {
    "hold": "wait_steps",
    "rehearsal": "pre_simulation_steps",
    "rungs": "threshold_count",
    "worth": "spike_scale",
}
"""Old setting → new setting, for every class that has it."""
ENGINES: dict[str, str] = {"fused": "dense"}
FLAGS: dict[str, str] = {
    **{old.replace("_", "-"): new.replace("_", "-") for old, new in SETTINGS.items()},
    "amplitude": "spike-scale",
    "steps": "timesteps",
    "tensorboard": "log",
    "time-steps": "timesteps",
}
"""Old flag, or one that users look for → the flag, both without dashes in front."""
MEMBERS: dict[str, dict[str, str]] = {
    "Cell": {"amplitude": "output_scale", "continuous": "sends_reals", "listen": "integrate", "relays": "is_delay"},
    "Op": {"continuous": "without_quantisation", "relay": "propagate_levels"},
    "Recipe": {"kappa": "threshold_scale", "steps": "passes"},
}
"""Contract → old method or attribute of its subclasses → new one: under the old name nothing would ask for it."""


class CurrentSettings(NamedSettings):
    """Refuses settings and overridden members under their old names, with a SettingError that states the new one."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        contracts = [one for one in cls.__mro__ if one.__module__.startswith("transpike.core.")]
        for old, new in [pair for one in contracts for pair in MEMBERS.get(one.__name__, {}).items()]:
            if any(old in vars(one) for one in cls.__mro__ if one is not object):  # mixins too
                raise SettingError(
                    f"{cls.__module__}.{cls.__name__} defines {old!r}, which has been renamed to {new!r}"
                )

    def __new__(cls, *values: Any, **settings: Any) -> Self:
        for old, new in SETTINGS.items():
            if old in settings and new in getattr(cls, "__dataclass_fields__", {}):
                raise SettingError(
                    f"{cls.__name__}: the setting {old!r} has been renamed to {new!r}: {new}={settings[old]!r}"
                )
        return super().__new__(cls, *values, **settings)


class _OldModules(MetaPathFinder):
    """The last finder in ``sys.meta_path``: it gets the modules that no other finder has found."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        package, _, name = fullname.partition(".")
        folder, _, member = name.rpartition(".")
        if package != "transpike":
            return
        # without the error's ``name``, which would make ``from transpike import NAME`` drop the message
        if name in MODULES:
            raise ModuleNotFoundError(f"{fullname} is now transpike.{MODULES[name]}")
        if member in NAMES.get(folder, {}):
            raise ModuleNotFoundError(f"{fullname} is now transpike.{folder}.{NAMES[folder][member]}")


def explain_old_names() -> None:
    """Make the import of an old module raise an error with its current place."""
    if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
        sys.meta_path.append(_OldModules())


def old_names(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a folder: an old name raises an error with the current one."""
    names = NAMES[module.removeprefix("transpike.")]

    def missing(name: str) -> Any:
        if name in names:
            raise AttributeError(f"{module}.{name} is now {module}.{names[name]}", name=name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}", name=name)

    return missing
