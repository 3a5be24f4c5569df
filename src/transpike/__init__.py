"""Convert trained PyTorch networks into spiking neural networks, and measure accuracy, latency and energy."""

import importlib
from typing import TYPE_CHECKING, Any

from transpike.core.renamed import explain_old_names

if TYPE_CHECKING:  # imported when they are first used, so that a command line answers --help without importing torch
    from transpike import (
        activations,
        chips,
        data,
        encoders,
        energy,
        exits,
        exporters,
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
    from transpike.core.version import __version__ as __version__
    from transpike.errors import TranspikeError
    from transpike.files import load, save
    from transpike.lowering.trace import Trace
    from transpike.snn import SNN
    from transpike.training.settings import Training
    from transpike.training.spiking.finetuning import FineTuning
    from transpike.workflow.break_even.run import break_even
    from transpike.workflow.capture import capture
    from transpike.workflow.chip_fit.run import chip_fit
    from transpike.workflow.compare.comparison import Comparison
    from transpike.workflow.compare.run import compare
    from transpike.workflow.compare.settings import ComparisonSettings
    from transpike.workflow.convert import convert
    from transpike.workflow.cost.run import cost
    from transpike.workflow.cuts.result import Cuts
    from transpike.workflow.cuts.run import cuts
    from transpike.workflow.distributed import distributed_samples
    from transpike.workflow.early_exit import answer_early, fit_exit
    from transpike.workflow.evaluate.measurement import Measurement
    from transpike.workflow.evaluate.report import Report
    from transpike.workflow.evaluate.run import evaluate
    from transpike.workflow.explain.run import explain
    from transpike.workflow.export import Export, export
    from transpike.workflow.finetune.run import finetune
    from transpike.workflow.generate import Generated, generate
    from transpike.workflow.lightning_callback import lightning_callback
    from transpike.workflow.prepare import prepare
    from transpike.workflow.processor import run_processor
    from transpike.workflow.push.run import push_to_hub
    from transpike.workflow.record import record
    from transpike.workflow.reproduce.run import reproduce
    from transpike.workflow.resumable.run import resumable
    from transpike.workflow.simulate import simulate
    from transpike.workflow.train import train
    from transpike.workflow.verify import verify

__all__ = [
    "SNN",
    "Comparison",
    "ComparisonSettings",
    "Cuts",
    "Export",
    "FineTuning",
    "Generated",
    "Graph",
    "Measurement",
    "Preprocessing",
    "Report",
    "Trace",
    "Training",
    "TranspikeError",
    "activations",
    "answer_early",
    "break_even",
    "capture",
    "chip_fit",
    "chips",
    "compare",
    "convert",
    "cost",
    "cuts",
    "data",
    "distributed_samples",
    "encoders",
    "energy",
    "evaluate",
    "exits",
    "explain",
    "export",
    "exporters",
    "finetune",
    "fit_exit",
    "generate",
    "lightning_callback",
    "load",
    "models",
    "neurons",
    "ops",
    "passes",
    "prepare",
    "push_to_hub",
    "readouts",
    "recipes",
    "record",
    "register",
    "report",
    "reproduce",
    "resumable",
    "run_processor",
    "save",
    "schedules",
    "simulate",
    "tasks",
    "train",
    "training",
    "verify",
]

_HOMES: dict[str, str] = {
    "__version__": "core.version",
    "Comparison": "workflow.compare.comparison",
    "ComparisonSettings": "workflow.compare.settings",
    "Cuts": "workflow.cuts.result",
    "Export": "workflow.export",
    "FineTuning": "training.spiking.finetuning",
    "Generated": "workflow.generate",
    "Graph": "core.graph",
    "Measurement": "workflow.evaluate.measurement",
    "Preprocessing": "core.preprocessing",
    "Report": "workflow.evaluate.report",
    "SNN": "snn",
    "Trace": "lowering.trace",
    "Training": "training.settings",
    "TranspikeError": "errors",
    "answer_early": "workflow.early_exit",
    "break_even": "workflow.break_even.run",
    "capture": "workflow.capture",
    "chip_fit": "workflow.chip_fit.run",
    "compare": "workflow.compare.run",
    "convert": "workflow.convert",
    "cost": "workflow.cost.run",
    "cuts": "workflow.cuts.run",
    "evaluate": "workflow.evaluate.run",
    "distributed_samples": "workflow.distributed",
    "explain": "workflow.explain.run",
    "export": "workflow.export",
    "finetune": "workflow.finetune.run",
    "fit_exit": "workflow.early_exit",
    "generate": "workflow.generate",
    "lightning_callback": "workflow.lightning_callback",
    "load": "files",
    "prepare": "workflow.prepare",
    "push_to_hub": "workflow.push.run",
    "record": "workflow.record",
    "register": "core.registry",
    "reproduce": "workflow.reproduce.run",
    "resumable": "workflow.resumable.run",
    "run_processor": "workflow.processor",
    "save": "files",
    "simulate": "workflow.simulate",
    "train": "workflow.train",
    "verify": "workflow.verify",
}
"""Public name → the module that has it; the other public names are folders."""
_FOLDERS = {*__all__} - {*_HOMES}
_INNER = {"codes", "core", "engines", "errors", "files", "hub", "lowering", "results", "snn", "weights", "workflow"}
"""Modules that are not public, but reachable as attributes."""
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
    if name in _HOMES:
        found = getattr(importlib.import_module(f"transpike.{_HOMES[name]}"), name)
        globals()[name] = found
        return found
    if name in _FOLDERS | _INNER:
        return importlib.import_module(f"transpike.{name}")
    raise AttributeError(f"module 'transpike' has no attribute {name!r}", name=name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


explain_old_names()
