"""Convert trained PyTorch networks into spiking neural networks, and measure accuracy, latency and energy."""

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
from transpike.core.version import __version__ as __version__
from transpike.errors import TranspikeError
from transpike.files import load, save
from transpike.lowering.trace import Trace
from transpike.snn import SNN
from transpike.training.settings import Training
from transpike.training.spiking.finetuning import FineTuning
from transpike.workflow.capture import capture
from transpike.workflow.chip_fit.run import chip_fit
from transpike.workflow.compare.run import Comparison, ComparisonSettings, compare
from transpike.workflow.convert import convert
from transpike.workflow.cost.run import cost
from transpike.workflow.early_exit import answer_early, fit_exit
from transpike.workflow.evaluate.report import Report
from transpike.workflow.evaluate.run import evaluate
from transpike.workflow.explain.run import explain
from transpike.workflow.finetune.run import finetune
from transpike.workflow.prepare import prepare
from transpike.workflow.processor import run_processor
from transpike.workflow.record import record
from transpike.workflow.simulate import simulate
from transpike.workflow.train import train

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
"""Old names, and names that users look for here → their current place, which an AttributeError names."""


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        raise AttributeError(f"transpike has no {name!r}: it is transpike.{_MOVED[name]} now", name=name)
    raise AttributeError(f"module 'transpike' has no attribute {name!r}", name=name)


explain_old_names(sys.modules[__name__])
