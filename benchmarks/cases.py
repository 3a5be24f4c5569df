"""The networks and recipes of the benchmarks of speed, and which vector instructions they may use."""

import argparse
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import int8
import kernels
import torch
from peers import network
from torch import Tensor, nn

import transpike as ts
from transpike import recipes
from transpike.core.recipe import Recipe
from transpike.engines.native import library as _native

NETWORKS = ("resnet20-16-32-64", "vgg16-average")
ANN = "ANN, channels_last"
ECC = "ecc"
RECIPES: dict[str, Callable[..., Recipe]] = {
    ECC: recipes.ECC,
    "few-steps": recipes.FewSteps,
    "few-steps(neuron='signed')": partial(recipes.FewSteps, neuron="signed"),
    "few-steps(neuron='burst')": partial(recipes.FewSteps, neuron="burst"),
    "sigma-delta": recipes.table["sigma-delta"],
}
"""Name in the results → what makes the recipe of T steps."""
TORCH = {
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "baseline": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
}
"""Instruction set → what torch reads before it is imported, so that the ANN and the peers use no better one."""
CHOSEN = "TRANSPIKE_ISA"


def restrict(isa: str | None) -> str:
    """Use these vector instructions at most, in torch too, for which the program is started anew; None: the best.

    Returns the name of those in use. Raises SystemExit where this machine or the native library has no such.
    """
    wanted = os.environ.get(CHOSEN) if isa is None else isa
    if wanted and any(os.environ.get(k) != v for k, v in (TORCH.get(wanted, {}) | {CHOSEN: wanted}).items()):
        environment = os.environ | TORCH.get(wanted, {}) | {CHOSEN: wanted}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    library, why = _native.load()
    if library is None:
        if wanted:
            raise SystemExit(f"--isa needs the native library, which is {why}")
        return torch.backends.cpu.get_cpu_capability()
    if wanted and not library.tp_force(wanted.encode()):
        raise SystemExit(
            f"this machine or the native library has no {wanted}; it has {library.tp_instructions().decode()}"
        )
    return library.tp_instructions().decode()


@dataclass(frozen=True)
class Case:
    """A network in evaluation mode, its copy for SpikingJelly's converter, and the calibration data."""

    name: str
    model: nn.Module
    peer_copy: nn.Module
    weights: str
    preprocessing: ts.Preprocessing
    dataset: ts.data.Dataset
    calibration: Iterable
    accuracies: dict[str, float] = field(default_factory=dict)

    @cached_property
    def ann(self) -> nn.Module:
        return self.model.to(memory_format=torch.channels_last)

    @cached_property
    def peer_batches(self) -> list[Tensor]:
        return [self.preprocessing(x) for x, _ in self.calibration]

    @cached_property
    def onnx(self) -> dict[str, int8.Session]:
        return int8.sessions(self.model, self.peer_batches)

    def convert(self, timesteps: int, recipe: str = ECC) -> ts.SNN:
        made = RECIPES[recipe](timesteps=timesteps)
        return ts.convert(self.model, made, self.calibration, preprocessing=self.preprocessing)

    def images(self, count: int) -> Tensor:
        return self.dataset.test.batch(torch.arange(count))[0]

    def accuracy(self, name: str, answer: Callable[[Tensor], Tensor], images: int) -> float | None:
        """That of a function of prepared images, found once for each name; None for seeded weights."""
        if self.weights != "trained" or not images:
            return None
        if name not in self.accuracies:
            data = self.dataset.test.batches(32, limit=images)
            self.accuracies[name] = int8.accuracy(answer, self.preprocessing, data)
        return self.accuracies[name]


def case(name: str, arguments: argparse.Namespace, dataset: ts.data.Dataset) -> Case:
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(arguments.seed))
    calibration = dataset.train.batches(250, indices=order[: arguments.calibration_samples])
    if name == NETWORKS[0]:
        zoo, peer_copy, preprocessing = network(arguments.weights)
        return Case(name, zoo, peer_copy, "trained", preprocessing, dataset, calibration)
    torch.manual_seed(arguments.seed)
    vgg_weights: Path | None = arguments.vgg_weights
    model, spec = ts.models.build(f"zoo:{name}", weights=vgg_weights)
    if vgg_weights is None:
        batches = dataset.train.batches(128, indices=order[:512])
        kernels.calibrate(model, [spec.preprocessing(x) for x, _ in batches])
    weights = "seeded" if vgg_weights is None else "trained"
    return Case(name, model.eval(), model, weights, spec.preprocessing, dataset, calibration)
