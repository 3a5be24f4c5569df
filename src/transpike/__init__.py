"""Turn trained PyTorch networks into spiking neural networks, and know what you gained."""

import sys
from typing import Any

from transpike import (
    activations,
    chips,
    data,
    encoders,
    energy,
    exits,
    models,
    neurons,
    ops,
    passes,
    readouts,
    recipes,
    report,
    schedules,
    tasks,
    training,
)
from transpike.core.graph import Graph
from transpike.core.preprocessing import Preprocessing
from transpike.core.registry import register
from transpike.core.renamed import explain_old_names
from transpike.errors import TranspikeError
from transpike.files import load, save
from transpike.lowering.trace import Trace
from transpike.snn import SNN
from transpike.training.settings import Training
from transpike.training.spiking.finetuning import FineTuning
from transpike.workflow.capture import capture
from transpike.workflow.chip_fit import chip_fit
from transpike.workflow.compare.run import Comparison, ComparisonSettings, compare
from transpike.workflow.convert import convert
from transpike.workflow.cost.run import cost
from transpike.workflow.early_exit import answer_early, fit_exit
from transpike.workflow.evaluate.run import Report, evaluate
from transpike.workflow.explain.run import explain
from transpike.workflow.finetune.run import finetune
from transpike.workflow.prepare import prepare
from transpike.workflow.processor import run_processor
from transpike.workflow.record import record
from transpike.workflow.simulate import simulate
from transpike.workflow.train import train

__version__ = "0.1.0"
__all__ = [
    "SNN",
    "Comparison",
    "ComparisonSettings",
    "FineTuning",
    "Graph",
    "Preprocessing",
    "Report",
    "Trace",
    "Training",
    "TranspikeError",
    "activations",
    "answer_early",
    "capture",
    "chip_fit",
    "chips",
    "compare",
    "convert",
    "cost",
    "data",
    "encoders",
    "energy",
    "evaluate",
    "exits",
    "explain",
    "finetune",
    "fit_exit",
    "load",
    "models",
    "neurons",
    "ops",
    "passes",
    "prepare",
    "readouts",
    "recipes",
    "record",
    "register",
    "report",
    "run_processor",
    "save",
    "schedules",
    "simulate",
    "tasks",
    "train",
    "training",
]

_MOVED: dict[str, str] = {
    "Exit": "exits.Exit",
    "connectivity": "training.connectivity",
    "fit": "chip_fit",
    "steps": "passes",
    "targets": "chips",
}
"""Names that are looked for here, or once were here → where they are; an AttributeError names that place."""


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        raise AttributeError(f"transpike has no {name!r}: it is transpike.{_MOVED[name]} now", name=name)
    raise AttributeError(f"module 'transpike' has no attribute {name!r}", name=name)


explain_old_names(sys.modules[__name__])
