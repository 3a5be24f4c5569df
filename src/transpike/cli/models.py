"""transpike models."""

import dataclasses
from typing import Any

import click

from transpike.cli import _base
from transpike.errors import SettingError
from transpike.models import Measured, Model, Packaged, Pretrained, models, pretrained, trained


@click.command("models")
@click.argument("name", required=False)
@click.option("--pretrained", "only_trained", is_flag=True, help="Only networks that come with trained weights.")
@_base.json_option
def command(name: str | None, only_trained: bool, as_json: bool) -> None:
    """List the networks of the zoo, one line each, or show what was measured of a trained one."""
    if name is not None:
        if only_trained:
            raise SettingError(f"--pretrained selects networks, and {name} is one already: omit one")
        one = trained(name)
        if as_json:
            _base.print_json(described(one))
        else:
            click.echo(shown(one))
        return
    ready = pretrained()
    found = [model for key, model in models.items() if key in ready or not only_trained]
    if as_json:
        _base.print_json(
            [
                {"name": model.name, "input_shape": list(model.input_shape), "classes": model.num_classes}
                | ({"pretrained": described(ready[model.name])} if model.name in ready else {})
                for model in found
            ]
        )
        return
    for model in found:
        click.echo(line(model, ready.get(model.name)))
    click.echo(
        f"{len(found)} of {len(models)} networks: --model zoo:NAME, of a trained one with --weights pretrained; its "
        "converted form is the FILE zoo:NAME.",
        err=True,
    )


def line(model: Model, ready: Pretrained | None) -> str:
    """One network of the list."""
    shape = "x".join(map(str, model.input_shape)) or "any"
    text = f"{model.name:20} {shape:10}"
    if ready is None:
        return f"{text} not trained"
    steps = ready.conversion["total_steps"]
    return f"{text} {ready.data}: ANN {accuracy(ready.ann)}, SNN {accuracy(ready.snn)} in {steps} steps"


def accuracy(found: Measured) -> str:
    """As a percentage."""
    return f"{found.accuracy:.1%}"


def described(one: Pretrained) -> dict[str, Any]:
    """Everything that the catalogue says, as plain data."""
    fields = {field.name: getattr(one, field.name) for field in dataclasses.fields(one)}
    found: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, Measured):
            low, high = value.interval
            found[key] = {**dataclasses.asdict(value), "accuracy": value.accuracy, "low": low, "high": high}
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            found[key] = dataclasses.asdict(value)
        else:
            found[key] = dict(value) if key in ("data_options", "training", "conversion") else value
    return found


def shown(one: Pretrained) -> str:
    """Origin, numbers and use of one network."""
    made = one.conversion
    options = "".join(f", {key}={value!r}" for key, value in one.data_options.items())
    rows = [
        ("network", f"zoo:{one.name}, input {'x'.join(map(str, one.input_shape))}, {one.parameters:,} parameters"),
        ("data", f"{one.data}{options} ({one.data_licence})"),
        ("origin", one.source),
        ("licence", one.licence),
        ("test set", one.test_set),
        ("ANN", measured(one.ann)),
        ("SNN", f"{measured(one.snn)}, {made['recipe']}, T={made['timesteps']}, {made['total_steps']} total steps"),
        ("operations", f"{made['synaptic_operations']:,.0f} synaptic operations; ANN {made['ann_macs']:,} MACs"),
        ("energy", made["verdict"]),
        ("weights", file_of(one.weights)),
        (
            "converted",
            file_of(one.converted) if one.converted else "not in the package, because it is large: convert it",
        ),
    ]
    return "\n".join(f"{key:11} {text}" for key, text in rows)


def file_of(found: Packaged) -> str:
    """Name, size and hash."""
    return f"{found.file}, {found.bytes:,} bytes, SHA-256 {found.sha256}"


def measured(found: Measured) -> str:
    """Accuracy with n and interval."""
    low, high = found.interval
    return f"{found.accuracy:.2%} ({low:.2%} to {high:.2%}) of {found.samples:,} samples"
