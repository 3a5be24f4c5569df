"""Shared parts of the commands: options, data, models, recipes, progress."""

import contextlib
import dataclasses
import json
import os
import sys
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import nn

from transpike import data, engines, models, recipes, report, tasks
from transpike.cli import _inputs, _threads
from transpike.cli._common import timed
from transpike.cli._common import typed as typed
from transpike.cli._parts import TABLES, Part, part_named, settings_of
from transpike.cli._prepared import again
from transpike.cli._recipes import flags_of
from transpike.cli._settings import ENERGY, recipe_kind
from transpike.cli._weights import Weights
from transpike.core.preprocessing import Preprocessing
from transpike.core.recipe import Recipe
from transpike.data import Dataset, NamedSplit
from transpike.errors import CheckpointError, DataError, FileError, SettingError
from transpike.results import terminal, writing
from transpike.snn import SNN
from transpike.training.ranks import is_first
from transpike.workflow.distributed import processes

TRUST = f"{__name__}.trust"


def options(*groups: Callable) -> Callable:
    """Apply option decorators in the order written."""

    def apply(function: Callable) -> Callable:
        for group in reversed(groups):
            function = group(function)
        return function

    return apply


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Store an option of the data set for load_data."""
    if value is not None:
        context.meta.setdefault(__name__, {})[parameter.name] = value


data_options = options(
    click.option(
        "--data",
        "data_name",
        default="digits",
        show_default=True,
        metavar="NAME",
        help="digits, mnist, fashion-mnist, cifar10, cifar100, tiny-imagenet, imagenet, mitbih, deap, eeg-eye-state, "
        "npz:FILE, imagefolder:DIR, webdataset:SHARDS or SHARDS.tar, events:DIR"
        + "".join(f", {name}" for name in data.table)
        + ".",
    ),
    click.option("--data-dir", type=click.Path(path_type=Path), help="Folder of data sets (default: TRANSPIKE_DATA)."),
    click.option(
        "--bins",
        type=click.IntRange(1),
        expose_value=False,
        callback=_keep,
        help="Number of frames per event recording.",
    ),
    click.option(
        "--span",
        type=click.IntRange(1),
        expose_value=False,
        callback=_keep,
        help="Duration of the frames in microseconds (default: from the first event to the last).",
    ),
    click.option(
        "--frames",
        type=click.Choice(["two-channel", "signed"]),
        expose_value=False,
        callback=_keep,
        help="One channel per event polarity, or the sign of their difference.",
    ),
)
model_options = options(
    click.option(
        "--model",
        "model_name",
        default="zoo:small-cnn",
        is_eager=True,  # --weights asks for it
        show_default=True,
        metavar="NAME",
        help="zoo:NAME, torchvision:NAME, timm:NAME, file:NETWORK.onnx, file:PROGRAM.pt2, py:package.module:factory.",
    ),
    click.option(
        "--weights",
        type=Weights(path_type=Path),
        help="A checkpoint, .safetensors or .pth; FILE#KEY selects a dictionary in it. pretrained: those of the "
        "zoo (transpike models).",
    ),
    click.option(
        "--trust",
        is_flag=True,
        expose_value=False,
        callback=lambda context, _, value: context.meta.__setitem__(TRUST, value),
        help="Open the program of file:PROGRAM.pt2, which can run any code.",
    ),
    _inputs.of_model,
)
capture_options = options(
    click.option("--output-name", help="Output to use, for models with several."),
    click.option(
        "--on-unsupported",
        type=click.Choice(["error", "keep"]),
        default="error",
        show_default=True,
        help="Unsupported layers: stop with an error, or keep them analogue (real numbers, multiplied in every step).",
    ),
)
spiking_option = click.option(
    "--spiking",
    multiple=True,
    help="Modules that spike, like 'backbone.*' (default: all); the rest runs as ANN, once per answer. Repeatable.",
)
calibration_option = click.option(
    "--calibration-samples",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Number of random training samples for calibration.",
)
conversion_options = options(
    calibration_option,
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Random seed.",
    ),
    click.option(
        "--exact-grid/--no-exact-grid", default=True, show_default=True, help="Bit-identical spikes on every engine."
    ),
)


energy_option = click.option(
    "--energy",
    "energies",
    type=ENERGY,
    multiple=True,
    help="Energy model, for joules per sample; repeatable.",
)
task_option = click.option(
    "--task",
    type=Part("task"),
    help="Task that judges the answers (default: that of the data set, else classification).",
)
output_option = click.option(
    "--output-name", help="Output that the task judges, for networks with several (default: all outputs, by fidelity)."
)
report_option = click.option(
    "--report",
    "reports",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Report to write: .html, .json, .txt, tables (.csv, .md, .tex) or a figure (.png, .svg, .pdf); repeatable.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print only JSON on stdout.")
engine_option = click.option(
    "--engine",
    type=click.Choice(sorted(engines.table)),
    default="auto",
    show_default=True,
    help="Simulation engine.",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), envvar="TRANSPIKE_THREADS", show_envvar=True,
    help="Number of CPU threads (default: OMP_NUM_THREADS, else those of this machine or container).",
)  # fmt: skip


def task_named(text: str | None, dataset: Dataset) -> tasks.Task | None:
    """The task of --task, else that of the data set; None: classification. Classes of pixels have the data's names."""
    found = dataset.task if text is None else part_named("task", text)
    if isinstance(found, tasks.PixelClassification) and not found.names:
        return dataclasses.replace(found, names=tuple(dataset.classes))
    return found


def with_threads(threads: int | None) -> None:
    """Use this number of threads; None: PyTorch's choice, but not more than a container's quota is worth."""
    if threads is None and not os.environ.get("OMP_NUM_THREADS"):
        quota = _threads.granted()
        threads = None if quota is None else min(quota, torch.get_num_threads())
    if threads is not None:
        torch.set_num_threads(threads)


def load_data(name: str, directory: Path | None, snn: SNN | None = None) -> Dataset:
    """The data set, with the options of the command line, or those that ``snn`` was converted with."""
    before = {} if snn is None else data.recording_options(snn.provenance.get("data_options", {}))
    return data.load(name, directory, **{**before, **_given()})


def load_tested(name: str, directory: Path | None, snn: SNN | None = None) -> Dataset:
    """``load_data``; DataError for a data set without test samples."""
    dataset = load_data(name, directory, snn)
    if not len(dataset.test):
        raise DataError(f"{dataset.name} has no test images")
    return dataset


def data_options_of(dataset: Dataset) -> dict[str, Any]:
    """The options to load ``dataset`` again, for recordings."""
    return {} if dataset.frames is None else {"bins": dataset.frames, **_given()}


def _given() -> dict[str, Any]:
    return click.get_current_context().meta.get(__name__, {})


def load_model(name: str, weights: Path | None, dataset: Dataset) -> tuple[nn.Module, Any]:
    """The network for this data, prepared as for the training of its weights, and its preprocessing.

    Preprocessing is that of the flags, else of the checkpoint, else of the model. With several inputs, each has its
    own, by name: bytes are divided by 255.
    """
    own = name.startswith(("file:", "py:"))  # the number of classes of a custom network is fixed
    classes = None if own else len(dataset.classes) or None
    trust = bool(click.get_current_context().meta.get(TRUST))
    named = isinstance(dataset.train, NamedSplit)
    module, spec = models.build(
        name, num_classes=classes, input_shape=None if named else dataset.image_shape, trust=trust
    )
    if weights is not None:
        module = again(module, weights)
        if remark := models.load_weights(module, weights).get("remark"):
            click.echo(f"note: {remark}", err=True)
    if isinstance(dataset.train, NamedSplit):
        _inputs.chosen(None, dataset)  # raises for flags
        return module, {name: Preprocessing() for name in dataset.train.of_bytes} or None
    own_values = spec.preprocessing if dataset.frames is None else dataset.preprocessing
    preprocessing = _inputs.chosen(_stored_preprocessing(weights) or own_values, dataset)
    assert preprocessing is not None
    return module, preprocessing


def load_trained(name: str, weights: Path | None, dataset: Dataset) -> tuple[nn.Module, Any]:
    """``load_model``, with a warning for an untrained network."""
    if weights is None and name.startswith("zoo:"):
        ready = name.removeprefix("zoo:") in models.pretrained()
        hint = " (--weights pretrained uses those that come with it)" if ready else ""
        click.echo(f"warning: no --weights: the network is untrained{hint}", err=True)
    return load_model(name, weights, dataset)


def note_origin(snn: SNN, model_name: str, weights: Path | None, dataset: Dataset) -> None:
    """Store the origin of a network in it, to find its data again."""
    snn.provenance.update({"model": model_name, "weights": weights.name if weights else None, "data": dataset.name})
    snn.provenance["data_options"] = data_options_of(dataset)


def _stored_preprocessing(weights: Path | None) -> Preprocessing | None:
    if weights is None:
        return None
    text = models.metadata_of(weights).get("preprocessing")
    try:
        return None if text is None else Preprocessing(**{k: tuple(v) for k, v in json.loads(text).items()})
    except (ValueError, TypeError, AttributeError, RecursionError) as error:  # SettingError is a ValueError
        raise CheckpointError(
            f"{weights} contains a preprocessing that is not mean and std ({error}); pass --mean and --std"
        ) from error


def for_recordings(settings: dict[str, Any], dataset: Dataset) -> dict[str, Any]:
    """A recipe's flags, with the defaults for recordings: their encoder, one time step per frame."""
    if dataset.frames is None:
        return settings
    needed = {"encoder": dataset.encoder, "timesteps": dataset.frames}
    return {**settings, **{key: value for key, value in needed.items() if settings.get(key) is None}}


def make_recipe(name: str, settings: dict[str, Any], seed: int = 0) -> Recipe:
    """The recipe with these flags; a flag that it does not have is an error. ``seed`` is for the encoder."""
    kind = recipes.table[name]
    given = {key: value for key, value in settings.items() if value is not None}
    flags = flags_of(kind)
    for key, value in given.items():
        if isinstance(value, str) and key in flags and key not in TABLES:  # recipes may have different types for it
            given |= settings_of(name, [f"{key}={value}"], {key: flags[key][0]})
    known = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if wrong := sorted(set(given) - known):
        raise SettingError(f"{name} has no setting {', '.join('--' + key.replace('_', '-') for key in wrong)}")
    for key in set(given) & set(TABLES):
        given[key] = part_named(key, given[key], seed)
    try:
        return kind(**given)
    except TypeError as error:
        raise SettingError(f"{name} cannot be created with these settings: {error}") from error


def recipe_named(text: str, dataset: Dataset, seed: int = 0) -> Recipe:
    """The recipe of ``name:key=value;key=value``, with the names and types of the flags of ``convert``."""
    name, _, rest = text.partition(":")
    kind = recipe_kind(name)
    hints = typing.get_type_hints(kind)
    known = {f.name: hints[f.name] for f in dataclasses.fields(kind) if f.name != "timesteps"}  # type: ignore[arg-type]
    settings = settings_of(name, [part for part in rest.split(";") if part], known)
    return make_recipe(name, for_recordings(settings, dataset), seed)


def calibration(dataset: Dataset, samples: int, seed: int, batch: int = 250) -> Any:
    """Random training images by the seed, as batches."""
    if not len(dataset.train):
        raise DataError(f"{dataset.name} has no training images to calibrate on")
    order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(seed))[:samples]
    return dataset.train.batches(batch, indices=order)


@contextlib.contextmanager
def progress_bar(text: str, shown: bool = True, counted: bool = True) -> Iterator[Callable[..., None]]:
    """A bar with the time left on a terminal's stderr; called with (done, total), or (name, done, total) for stages."""
    console = Console(file=terminal.beneath(sys.stderr))
    number = MofNCompleteColumn() if counted else TaskProgressColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), number, TimeRemainingColumn())
    hidden = not (shown and processes().first and sys.stderr.isatty())
    with timed(text), Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(text, total=None)

        def update(*what: Any) -> None:
            *names, done, total = what
            if total != bar.tasks[0].total:
                bar.reset(task, total=total)
            description = terminal.shown(": ".join([text, *names]), console.encoding)
            bar.update(task, completed=done, total=total, description=description)

        yield update


def check_outputs(*paths: Path | None, reports: tuple[Path, ...] = (), **forms: bool) -> None:
    """Raise before the work where an output cannot be written; ``reports`` also by their extension (``report.check``).

    Standard output is refused, because it carries the text or the JSON of the command. The first of several processes
    checks for all.
    """

    def check() -> None:
        report.check(*reports, **forms)
        writing.check_writable(*reports, *paths)
        for path in (*reports, *paths):
            if path is not None and writing.goes_to_stdout(path):
                raise FileError(
                    f"{path} also carries the text of this command: use the name of a file or of a named pipe"
                )

    processes().in_first(check)


def checkpoint_of(output: Path, checkpoint: Path | None) -> Path:
    """--checkpoint, else next to ``output``. Raises for files that cannot be written; missing folders are created.

    Of several processes, which have not met yet, the first one looks, because it writes.
    """
    found = checkpoint or output.with_suffix(".checkpoint.safetensors")
    if not is_first():
        return found
    if checkpoint is None and output.exists() and not output.is_file():
        raise SettingError(f"{output} is not a regular file, so --checkpoint is needed too")
    writing.check_writable(output, found, make_folder=True)
    writing.check_writable(found, read_again=True)
    check_outputs(output)
    return found


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))
