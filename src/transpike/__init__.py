"""Turn trained PyTorch networks into spiking neural networks, and know what you gained."""

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
)
from transpike.capture import capture
from transpike.compare import Comparison as Comparison
from transpike.compare import compare
from transpike.convert import convert
from transpike.core.graph import Graph
from transpike.core.preprocessing import Preprocessing
from transpike.core.registry import register
from transpike.core.trace import Trace as Trace
from transpike.cost import cost
from transpike.early_exit import answer_early as answer_early
from transpike.early_exit import fit_exit as fit_exit
from transpike.errors import TranspikeError
from transpike.evaluate import Report as Report
from transpike.evaluate import evaluate
from transpike.explain import explain
from transpike.files import load, save
from transpike.finetune import finetune
from transpike.fit import fit
from transpike.prepare import prepare
from transpike.processor import run_processor
from transpike.record import record as record
from transpike.simulate import simulate
from transpike.snn import SNN
from transpike.train import train

__version__ = "0.1.0"
__all__ = [
    "SNN",
    "Graph",
    "Preprocessing",
    "TranspikeError",
    "activations",
    "capture",
    "compare",
    "convert",
    "cost",
    "data",
    "encoders",
    "energy",
    "evaluate",
    "explain",
    "finetune",
    "fit",
    "load",
    "models",
    "neurons",
    "ops",
    "prepare",
    "readouts",
    "recipes",
    "register",
    "report",
    "run_processor",
    "save",
    "schedules",
    "simulate",
    "steps",
    "train",
]
