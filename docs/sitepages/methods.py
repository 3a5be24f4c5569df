"""A page for each recipe: definition, settings, measurements, when to use it, what it refuses."""

import dataclasses
import inspect
import re
import typing
from typing import Any

import torch
from torch import nn

import transpike as ts
from sitepages import measurements
from sitepages.docstrings import markdown
from sitepages.measurements import Row, cell, plain, table
from sitepages.staging import Site
from transpike.cli._recipe_help import default_of, title_of
from transpike.cli._recipes import flags_of
from transpike.cli.recipes import Properties, properties
from transpike.core.constraints import choices_of
from transpike.core.recipe import Recipe
from transpike.errors import TranspikeError

PLACE = re.compile(r" \(\S+\.py:\d+\)")
"""A source line in a message, here of a network that is made for the page."""


def add(site: Site, *, probing: bool = True) -> list[str]:
    """The pages of all recipes; returns their places. ``probing``: see what they refuse, which takes most of the time."""
    rows = measurements.rows()
    for kind in ts.recipes.members:
        site.add(place_of(kind), page(kind, rows, probing=probing))
    return [place_of(kind) for kind in ts.recipes.members]


def place_of(kind: type[Recipe]) -> str:
    return f"methods/{kind.name}.md"


def page(kind: type[Recipe], rows: list[Row], *, probing: bool) -> str:
    found = properties(kind)
    parts = [
        f"# `{kind.name}`\n\n{title_of(kind)}.",
        table(["property", "value"], _summary(found)),
        f"## When to use it\n\n{when(kind, found, rows)}",
        f"## Definition\n\n{markdown(inspect.getdoc(kind) or '')}",
        f"## Use\n\n{use(kind)}",
        f"## Settings\n\n{settings(kind)}",
        f"## Measured\n\n{measured(kind, rows)}",
        f"## What it refuses\n\n{refusals(kind)}" if probing else "",
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _summary(found: Properties) -> list[list[str]]:
    return [
        ["source", found.source],
        ["network", "any trained network" if found.training_free else "trained for it"],
        ["spikes", "levels by layer" if found.spikes is None else str(found.spikes)],
        ["schedule", found.schedule],
        ["T", "one network for every T" if found.every_timestep else "converted for one T"],
    ]


def when(kind: type[Recipe], found: Properties, rows: list[Row]) -> str:
    """What decides for or against the recipe, from its properties and from the measurements."""
    lines = [
        "The network is trained with ReLU as usual; nothing is trained again."
        if found.training_free
        else "The network has to be trained for this conversion, with source activations "
        "([training for conversion](../training.md)).",
        _of_spikes(found),
        {
            "streaming": "Neurons fire while their input arrives: the answer is ready after T steps.",
            "layer-synchronous": "Each layer waits for the one before it: the answer is ready after (layers + 1) · T steps, so "
            "use it where accuracy per spike counts more than latency.",
            "phase-cycles": "Layers work in cycles of a few steps, each one cycle after the layer before it, which adds "
            "latency in proportion to the depth.",
            "time-slots": "The time of a spike is its value: few spikes, and a window of T slots for each layer.",
            "differences": "Neurons send changes only: on a constant input the network falls silent when it has settled.",
        }[found.schedule],
        "One conversion gives the answers of every number of steps up to T."
        if found.every_timestep
        else "Convert again for another number of steps: thresholds or corrections are chosen for one T.",
        *_ranked(kind, rows),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _of_spikes(found: Properties) -> str:
    if found.spikes is None:
        return "Each layer has its own number of spikes per step, chosen by calibration."
    if found.spikes.kind == "binary":
        return "Binary spikes: every event-driven simulator and chip has them."
    signs = ", positive and negative" if found.spikes.signed else ""
    return f"Spikes are {found.spikes}{signs}: check that the target has them ([chips](../export.md))."


def _ranked(kind: type[Recipe], rows: list[Row]) -> list[str]:
    """Its place among recipes of the same kind of spikes on the network that most were measured on."""
    lines = []
    for steps in (8, 32):
        peers = [
            row for row in rows
            if row.network == measurements.COMPARED and row.total_steps == steps and row.binary and row.training_free and not row.is_part
        ]  # fmt: skip
        best = {name: max(r.accuracy for r in peers if r.name == name) for name in {row.name for row in peers}}
        if kind.name in best:
            place = 1 + sum(accuracy > best[kind.name] for accuracy in best.values())
            lines.append(
                f"At {steps} total steps it is number {place} of {len(best)} training-free recipes with binary spikes, with "
                f"{100 * best[kind.name]:.2f} % (measured below)."
            )
    return lines


def has_steps(kind: type[Recipe]) -> bool:
    """False for a recipe of continuous time, whose number of steps is 1."""
    return kind is not ts.recipes.ExactMapping


def use(kind: type[Recipe]) -> str:
    arguments = "timesteps=8" if has_steps(kind) else ""
    flag = " --timesteps 8" if has_steps(kind) else ""
    python = f"snn = ts.convert(model, ts.recipes.{kind.__name__}({arguments}), images)"
    shell = f"transpike convert --recipe {kind.name}{flag} --weights net.safetensors --output net.transpike"
    return f"```python\n{python}\n```\n\n```bash\n{shell}\n```"


def settings(kind: type[Recipe]) -> str:
    """Every field: its type or choices, its default, its help text. Fields with a flag name it."""
    flags = flags_of(kind)
    hints = typing.get_type_hints(kind)
    body = []
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        if not field.init:
            continue
        choices = choices_of(field, hints[field.name])
        allowed = ", ".join(f"`{one}`" for one in choices) or f"`{_type(hints[field.name])}`"
        flag = f"`--{field.name.replace('_', '-')}`" if field.name in flags else ""
        text = plain(field.metadata.get("help", ""))
        body.append([f"`{field.name}`", allowed.replace("|", "\\|"), _default(kind, field), flag, text])
    return table(["setting", "values", "default", "flag", "meaning"], body)


def _default(kind: type[Recipe], field: dataclasses.Field) -> str:
    if field.default is dataclasses.MISSING:
        return "needed"
    text = default_of(kind, field.name) or repr(field.default)
    return f"`{cell(text)}`"


def _type(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("transpike.", "").replace("typing.", "")


def measured(kind: type[Recipe], rows: list[Row]) -> str:
    found = [row for row in rows if row.name == kind.name]
    if not found:
        return (
            "Not measured on the network that the recipes are compared on. The numbers of its paper, where it has any that "
            "could be measured, are under [claims](../claims.md)."
        )
    body = [
        [f"`{row.recipe}`", row.network, ", ".join(row.alphabets), row.schedule, f"{row.samples:,}", str(row.timesteps),
         str(row.total_steps), *row.cells()]
        for row in found
    ]  # fmt: skip
    head = ["recipe", "network", "spikes", "schedule", "images", "T", "total steps", "accuracy in %", "change in points",
            "operations in M"]  # fmt: skip
    return (
        "CIFAR-10 (JPEG copy), the first test images. The change is against the source network on the same images, with its "
        "paired 95 % interval; operations are synaptic operations per image in millions. Compare rows of one network with "
        f"each other. Made by `benchmarks/methods.py` and `benchmarks/learned.py`.\n\n{table(head, body, 4)}"
    )


class _Residual(nn.Module):
    """A block with a shortcut: two branches meet in a sum."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.activation, self.second = nn.Linear(8, 8), activation, nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.second(self.activation(self.first(x)))


class _Gate(nn.Module):
    """A product of two branches, as in squeeze-and-excitation."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.activation = nn.Linear(8, 8), activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.activation(self.first(x))


def probes(recipe: Recipe) -> dict[str, nn.Module]:
    """Small networks, each with one part that a recipe may refuse; the other parts are those that the recipe is made for."""

    def activation() -> nn.Module:
        if isinstance(recipe, ts.recipes.CAT):
            return ts.activations.TimeToFirstSpike(recipe.timesteps, recipe.tau, 1.0)
        trained_in_time = isinstance(recipe, ts.recipes.S4NN)  # its weights come with ReLUs in the neurons' places
        levels = recipe.timesteps if isinstance(recipe, ts.recipes.PASCAL) else 4
        free = recipe.training_free or trained_in_time
        return nn.ReLU() if free else ts.activations.QuantisedClip(levels, 1.0)

    def network(*middle: nn.Module, bias: bool = False, first: nn.Module | None = None) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8, bias=bias), first or activation(), *middle, nn.Linear(8, 3, bias=bias)
        )  # fmt: skip

    def image(*middle: nn.Module) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, bias=False), *middle, nn.Flatten(), nn.LazyLinear(3, bias=False)
        )

    return {
        "a plain ReLU": network(first=nn.ReLU()),
        "biases": network(bias=True),
        "batch normalisation": image(nn.BatchNorm2d(4), activation()),
        "maximum pooling": image(activation(), nn.MaxPool2d(2)),
        "average pooling": image(activation(), nn.AvgPool2d(2)),
        "a shortcut that is added": network(_Residual(activation())),
        "LeakyReLU": network(first=nn.LeakyReLU(0.1)),
        "GELU": network(first=nn.GELU()),
        "layer normalisation": network(nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8), activation()),
        "a product of two branches": network(_Gate(activation())),
    }


def refusals(kind: type[Recipe]) -> str:
    """What small networks with one part each are answered; the messages are those of this version."""
    accepted, refused = [], []
    recipe = kind(timesteps=8) if has_steps(kind) else kind()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        networks = probes(recipe)
        x = torch.rand(16, 1, 4, 4)
        for model in networks.values():
            model(x)  # which gives its last layer a size
    for name, model in networks.items():
        try:
            ts.convert(model.eval(), recipe, x)
        except TranspikeError as error:
            refused.append([name, plain(PLACE.sub("", str(error)))])
        else:
            accepted.append(name)
    lines = [
        "Small networks, each with one part in question, were converted when this page was built. Settings may change the "
        "answer; the message says so.",
        f"Converted: {', '.join(accepted) or 'none of them'}.",
    ]
    if refused:
        lines.append(table(["refused", "message"], refused))
    else:
        lines.append("None was refused. Invalid settings are refused with the reason, whatever the network is.")
    return "\n\n".join(lines)
