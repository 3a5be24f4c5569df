"""Turn trained PyTorch networks into spiking neural networks, and know what you gained."""

from typing import Any

from transpike import (
    activations,
    data,
    encoders,
    energy,
    exits,
    models,
    neurons,
    ops,
    readouts,
    recipes,
    report,
    schedules,
    steps,
    tasks,
    training,
)
from transpike.capture import capture
from transpike.compare import Comparison, ComparisonSettings, compare
from transpike.convert import convert
from transpike.core.graph import Graph
from transpike.core.preprocessing import Preprocessing
from transpike.core.registry import register
from transpike.core.trace import Trace
from transpike.cost import cost
from transpike.early_exit import answer_early, fit_exit
from transpike.errors import TranspikeError
from transpike.evaluate import Report, evaluate
from transpike.explain import explain
from transpike.files import load, save
from transpike.finetune import finetune
from transpike.fit import fit
from transpike.prepare import prepare
from transpike.processor import run_processor
from transpike.record import record
from transpike.simulate import simulate
from transpike.snn import SNN
from transpike.train import train
from transpike.training.finetuning import FineTuning
from transpike.training.settings import Training

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
    "fit",
    "fit_exit",
    "load",
    "models",
    "neurons",
    "ops",
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
    "steps",
    "tasks",
    "train",
    "training",
]

_MOVED: dict[str, str] = {
    "Exit": "exits.Exit",
    "connectivity": "training.connectivity",
}
"""Names that are looked for here, or once were here → where they are; an AttributeError names that place."""


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        raise AttributeError(f"transpike has no {name!r}: it is transpike.{_MOVED[name]} now", name=name)
    raise AttributeError(f"module 'transpike' has no attribute {name!r}", name=name)
