"""The kinds of files that are mutated, and what a user does with each: load it, describe it, run it."""

import functools
import gzip
import importlib.util
import io
import json
import pickle
import struct
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import mutations
import numpy as np
import safetensors.torch
import torch
from campaign import Subject
from click.testing import CliRunner
from torch import Tensor, nn

import event_files
import transpike as ts
from shards import tar
from transpike import chips, data, energy, models
from transpike.cli import _prepared, main
from transpike.core import registry
from transpike.core.activity import Activity
from transpike.core.digest import content_digest
from transpike.data import _pickles, deap
from transpike.data.mitbih import DS1, DS2
from transpike.errors import CheckpointError, FileError
from transpike.files import VERSION
from transpike.training import checkpoint
from transpike.workflow.compare.executors import Local
from transpike.workflow.compare.inputs import _opened, inputs_path, open_inputs, sha256, write_inputs
from transpike.workflow.compare.store import MARK
from transpike.workflow.resumable import run as resumable
from transpike.workflow.resumable.file import KINDS

GOLDEN = Path(__file__).parents[1] / "golden/format1"
NETWORKS = ("ecc", "few-steps", "bsnn", "cos", "ecc-exit", "h-mt", "rueckauer-liu", "srp", "yoso")
Mutate = Callable[[bytes, Random], bytes]


def single(name: str, family: str, place: str, content: Callable[[], bytes], mutate: Mutate, read: Any) -> Subject:
    """A subject with one file at ``place``, and no others."""

    def prepare(folder: Path) -> Callable[[Random], bytes]:
        return _mutating(folder / place, content(), mutate)

    return Subject(name, family, prepare, lambda folder: read(folder / place))


def several(
    name: str, family: str, write: Callable[[Path], Path], mutate: Mutate, read: Callable[[Path], Any]
) -> Subject:
    """A subject with a folder of files: ``write(folder)`` returns the one that is mutated."""

    def prepare(folder: Path) -> Callable[[Random], bytes]:
        path = write(folder)
        return _mutating(path, path.read_bytes(), mutate)

    return Subject(name, family, prepare, read)


def _mutating(path: Path, content: bytes, mutate: Mutate) -> Callable[[Random], bytes]:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

    def change(random: Random) -> bytes:
        mutated = mutate(content, random)
        path.write_bytes(mutated)
        return mutated

    return change


# networks ------------------------------------------------------------------------------------------------------------


@functools.cache
def _inputs() -> dict[str, Tensor]:
    return safetensors.torch.load_file(GOLDEN / "inputs.safetensors")


@functools.cache
def _network(name: str, version: int) -> bytes:
    """A converted network of the golden files, as a file of version 1 or of the newest."""
    path = GOLDEN / f"{name}.transpike"
    if version == 1:
        return path.read_bytes()
    snn = ts.load(path)
    snn.provenance.update(
        {"seed": 3, "calibration_samples": 20, "data": "digits", "model": "zoo:small-cnn",
         "data_options": {"bins": 4, "span": 1000, "frames": "two-channel"}}
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        return ts.save(snn, Path(folder) / "net.transpike").read_bytes()


def _names() -> tuple[str, ...]:
    return tuple(sorted(e.key for one in registry.families.values() if one.in_files for e in one.entries.values()))


def network_of(content: bytes, random: Random) -> bytes:
    """Edits of bytes, header, or of content and tensors after a checksum that fits again."""
    kind = random.randrange(10)
    if kind == 0:
        return mutations.bytes_of(content, random)
    header, _body = mutations.split(content)
    if kind == 1:
        return mutations.header_of(content, random)
    metadata, tensors = header["__metadata__"], safetensors.torch.load(content)
    text = metadata["content"]
    if kind < 4:
        tensors = mutations.tensors_of(tensors, random)
    else:
        text = json.dumps(mutations.edited(json.loads(text), random, _names() if kind > 7 else ()))
    if kind == 9:
        tensors = mutations.tensors_of(tensors, random)
    if random.random() < 0.01:
        deep = random.choice((300, 3000, 100_000))
        text = text.replace('"remarks": ', '"remarks": ' + "[" * deep + "]" * deep + ', "x": ', 1)
    version = metadata["transpike"] if random.random() < 0.95 else random.choice(("1", "2", "3", "", "9" * 5000, "١"))
    try:
        digest = content_digest(text, tensors)
    except (TypeError, RuntimeError, UnicodeEncodeError):  # a type that numpy does not have, a surrogate
        digest = "0" * 64
    try:
        return safetensors.torch.save(tensors, {"transpike": version, "content": text, "sha256": digest})
    except UnicodeEncodeError:
        return mutations.bytes_of(content, random)


def use_network(path: Path, x: Tensor) -> str:
    """What ``transpike inspect``, ``simulate``, ``evaluate`` and ``report`` do with a file."""
    snn = ts.load(path)
    text = f"{snn}\n{snn!r}\n{json.dumps(snn.provenance)}\n{snn.total_steps()}\n{snn.exactness}"
    wanted = snn.graph.input.shape
    x = x if x.shape[1:] == wanted else torch.rand(2, *wanted)
    ts.save(snn, path.with_suffix(".again"))
    steps = snn.timesteps if snn.timesteps <= 64 else None
    if steps is None:
        return text
    trace = ts.simulate(snn, x, timesteps=steps)
    x = x[:2]
    report = ts.evaluate(snn, [(x, torch.zeros(len(x), dtype=torch.int64))], timesteps=steps)
    data.recording_options(snn.provenance.get("data_options", {}))
    return f"{text}\n{trace.logits.shape}\n{report}\n{json.dumps(report.to_json())}"


def network(name: str, version: int) -> Subject:
    return single(
        f"transpike {name} {version}", "transpike", "net.transpike", lambda: _network(name, version), network_of,
        lambda path: use_network(path, _inputs()[name]),
    )  # fmt: skip


# data ----------------------------------------------------------------------------------------------------------------


def npz(**arrays: Any) -> bytes:
    packed = io.BytesIO()
    np.savez(packed, **arrays)
    return packed.getvalue()


@functools.cache
def _pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)


def _picture(kind: str, seed: int = 0, side: int = 8) -> bytes:
    from PIL import Image

    packed = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)).save(packed, kind)
    return packed.getvalue()


def _jpegs() -> bytes:
    files = [_picture("JPEG", seed) for seed in range(4)]
    offsets = np.cumsum([0] + [len(file) for file in files])
    return npz(test_jpeg=np.frombuffer(b"".join(files), np.uint8), test_offsets=offsets, test_labels=np.arange(4))


def _events() -> bytes:
    at, on = _pixels(20) % 8, _pixels(20) % 2
    return npz(
        train_t=np.arange(20, dtype=np.int32), train_x=at, train_y=at[::-1].copy(), train_p=on,
        train_offsets=np.array([0, 10, 20]), train_labels=np.array([0, 1]), sensor_size=np.array([8, 8]),
        class_names=np.array(["a", "b"]),
    )  # fmt: skip


def _heartbeats() -> bytes:
    beat = np.tile(np.concatenate([np.zeros(280), 200 * np.hanning(20), np.zeros(60)]), 6).astype(np.int16)
    record = {"signal": np.stack([beat, beat]), "leads": np.array(["MLII", "V1"])}
    record |= {"ann_sample": np.arange(290, 2160, 360), "ann_symbol": np.array(list("NNVNAN"))}
    names = (*DS1, *DS2)
    return npz(fs=np.array(360), records=np.array(names), **{f"{n}_{k}": v for n in names for k, v in record.items()})


def _pickle(protocol: int) -> bytes:
    return pickle.dumps({"data": np.zeros((2, 3, 4), np.float32), "labels": np.ones((2, 4))}, protocol)


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(struct.pack(">I", size) for size in array.shape)
    return struct.pack(">HBB", 0, 8, array.ndim) + sizes + array.astype(np.uint8).tobytes()


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for place, content in files.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_bytes(content)


def _mnist(folder: Path, mutated: str, packed: bool) -> Path:
    images, labels = idx(_pixels(6, 8, 8)), idx(np.arange(6))
    files = {"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels}
    files |= {"t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels}
    end = ".gz" if packed else ""
    _write(
        folder, {name + end: gzip.compress(content, mtime=0) if packed else content for name, content in files.items()}
    )
    return folder / (mutated + end)


def _rows(count: int) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(1)
    return (
        np.arange(count) * 100,
        random.integers(0, 34, count),
        random.integers(0, 34, count),
        random.integers(0, 2, count),
    )


def _nmnist(folder: Path) -> Path:
    for place in ("Train/1/b.bin", "Test/0/c.bin"):
        event_files.write_bin(folder / place, *_rows(40))
    return event_files.write_bin(folder / "Train/0/a.bin", *_rows(40))


def _dvs(folder: Path) -> Path:
    event_files.write_aedat2(folder / "cat/b.aedat", *_rows(40))
    return event_files.write_aedat2(folder / "airplane/a.aedat", *_rows(40))


def _gestures(folder: Path, mutated: str) -> Path:
    event_files.write_aedat3(folder / "u.aedat", *_rows(40))
    listing = {"trials_to_train.txt": b"u.aedat\n", "trials_to_test.txt": b"u.aedat\n"}
    _write(folder, listing | {"u_labels.csv": b"class,startTime_usec,endTime_usec\n1,0,2000\n2,2000,4000\n"})
    return folder / mutated


def _pictures(folder: Path, kind: str) -> Path:
    end = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp", "PPM": "ppm"}[kind]
    _write(folder, {"train/b/y.png": _picture("PNG", 1), "val/a/z.png": _picture("PNG", 2)})
    _write(folder, {f"train/a/x.{end}": _picture(kind)})
    return folder / f"train/a/x.{end}"


def _shard(folder: Path) -> Path:
    picture, other = _picture("PNG", 1), _picture("JPEG", 2)
    long = "n" * 150
    return tar(folder / "train.tar", {
        "0.png": picture, "0.cls": b"0", f"{long}/1.jpg": other, f"{long}/1.json": b'{"label": 1}', "2.cls": b"1",
        "2.png": picture,
    })  # fmt: skip


def _shard_index(folder: Path) -> Path:
    data.load(f"webdataset:{_shard(folder)}", index=folder / "transpike-index.npz", size=8)
    return folder / "transpike-index.npz"


def _annotations(folder: Path) -> Path:
    _write(folder, {"train/a/x.png": _picture("PNG"), "val/images/z.png": _picture("PNG", 2)})
    _write(folder, {"val/val_annotations.txt": b"z.png\ta\t0\t0\t1\t1\n"})
    return folder / "val/val_annotations.txt"


def _eye() -> bytes:
    return npz(
        signals=np.random.default_rng(0).normal(size=(400, 3)), labels=(np.arange(400) // 50 % 2).astype(np.int64)
    )


def use_data(dataset: data.Dataset) -> str:
    """What every command does first: describe the data, take a batch of each split, normalise it."""
    text = f"{dataset.name} {dataset.note} {dataset.classes} {dataset.image_shape} {dataset.frames} {dataset.preprocessing}"
    for split in (dataset.train, dataset.test, dataset.validation):
        if split is not None and len(split):
            for images, labels in split.accumulated().batches(4, limit=8):
                text += f" {dataset.preprocessing(images).shape} {labels.tolist()}"
            images, _ = split.batch([0, len(split) - 1])
            text += f" {images.float().sum()}"
    return text


def use_deap(folder: Path) -> str:
    """A subject's file; a real one has 8,064 samples, which would only take longer."""
    with mock.patch.object(deap, "SAMPLES", 16):
        return str(deap.subject(folder / "s01.dat")[1])


def from_folder(name: str, **options: Any) -> Callable[[Path], str]:
    return lambda folder: use_data(data.load(name.format(folder=folder), folder, **options))


def from_file(name: str, **options: Any) -> Callable[[Path], str]:
    return lambda path: use_data(data.load(name.format(path=path), path.parent, **options))


def _data() -> list[Subject]:
    images = _pixels(6, 8, 8)
    whole = {"train_images": images, "train_labels": np.arange(6), "test_images": images, "test_labels": np.arange(6)}
    archive, raw, text = mutations.archive_of, mutations.bytes_of, mutations.text_of
    named = npz(**whole, class_names=np.array(list("abcdef")))
    real = npz(test_images=images.astype(np.float32), test_labels=np.arange(6))
    return [
        single("npz images", "data", "a.npz", lambda: named, archive, from_file("npz:{path}")),
        single("npz real images", "data", "a.npz", lambda: real, archive, from_file("npz:{path}")),
        single("npz jpeg", "data", "j.npz", _jpegs, archive, from_file("npz:{path}")),
        single("npz events", "data", "e.npz", _events, archive, from_file("npz:{path}", bins=4)),
        single("eye state", "data", "eeg_eye_state.npz", _eye, archive, from_file("eeg-eye-state", window=16, gap=0)),
        single("heartbeats", "data", "mitbih_arrhythmia.npz", _heartbeats, archive,
               from_file("mitbih", baseline=False)),
        *(single(f"pickle {n}", "data", "p.dat", functools.partial(_pickle, n), raw,
                 lambda path: str(_pickles.read(path))) for n in (0, 2, 5)),
        several("deap", "data", _deap, raw, use_deap),
        several("idx images", "data", lambda f: _mnist(f, "train-images-idx3-ubyte", False), raw, from_folder("mnist")),
        several("idx labels", "data", lambda f: _mnist(f, "t10k-labels-idx1-ubyte", False), raw, from_folder("mnist")),
        several("idx packed", "data", lambda f: _mnist(f, "train-labels-idx1-ubyte", True), mutations.packed_of, from_folder("mnist")),
        several("n-mnist", "data", _nmnist, raw, from_folder("events:{folder}", bins=4)),
        several("aedat 2", "data", _dvs, raw, from_folder("events:{folder}", bins=4)),
        *(several(f"gestures {name}", "data", lambda f, name=name: _gestures(f, name), how,
                  from_folder("events:{folder}", bins=4, frames="signed"))
          for name, how in (("u.aedat", raw), ("u_labels.csv", text), ("trials_to_train.txt", text))),
        *(several(f"picture {kind}", "data", lambda f, kind=kind: _pictures(f, kind), mutations.png_of if kind == "PNG" else raw,
                  from_folder("imagefolder:{folder}", size=8)) for kind in ("JPEG", "PNG", "BMP", "WEBP", "PPM")),
        several("shard", "data", _shard, mutations.tar_of, from_folder("webdataset:{folder}", size=8)),
        several("shard index", "data", _shard_index, archive, from_folder("webdataset:{folder}", size=8)),
        several("annotations", "data", _annotations, text, from_folder("imagefolder:{folder}", size=8)),
    ]  # fmt: skip


def _deap(folder: Path) -> Path:
    path = folder / "s01.dat"
    shape = (deap.TRIALS, deap.CHANNELS, 16)
    path.write_bytes(pickle.dumps({"data": np.zeros(shape, np.float32), "labels": np.ones((40, 4))}, 2))
    return path


# weights and checkpoints ---------------------------------------------------------------------------------------------


def _weights() -> bytes:
    torch.manual_seed(0)
    module = models.build("zoo:small-cnn", in_channels=1)[0]
    note = _prepared.Preparation(_prepared.activation_named("qcfs"))
    metadata = {"format": "transpike weights", "preprocessing": json.dumps({"mean": [0.3], "std": [0.2]})}
    metadata |= {"prepare": note.note(), "training": json.dumps({"epochs": 3})}
    tensors = {key: value.clone() for key, value in note.apply(module).state_dict().items()}
    return safetensors.torch.save(tensors, metadata)


def use_weights(path: Path) -> str:
    """What ``transpike inspect --weights`` prints: the network with these weights, prepared as they say."""
    words = ["inspect", "--model", "zoo:small-cnn", "--weights", str(path)]
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code:
        raise CheckpointError(result.output)
    return result.output


def _torch_file() -> bytes:
    torch.manual_seed(0)
    packed = io.BytesIO()
    torch.save({"state_dict": models.build("zoo:small-cnn", in_channels=1)[0].state_dict(), "epoch": 3}, packed)
    return packed.getvalue()


def _trainer() -> tuple[nn.Module, torch.optim.Optimizer, dict[str, nn.Parameter], dict[str, Any]]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    parameters = dict(module.named_parameters())
    optimiser = torch.optim.Adam(parameters.values(), lr=0.1)
    settings = {"epochs": 3, "learning_rate": 0.1, "preprocessing": None, "spec": "", "seed": 0}
    return module, optimiser, parameters, settings


def _checkpoint() -> bytes:
    module, optimiser, parameters, settings = _trainer()
    module(torch.rand(5, 4)).sum().backward()
    optimiser.step()
    rows = [checkpoint.Row(i + 1, 0.1, 1.0, 0.5, 1.1, 0.4, 3.0) for i in range(2)]
    state = checkpoint.State(rows, 1, module.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        checkpoint.save(path, settings, module, optimiser, parameters, state)
        return path.read_bytes()


def use_checkpoint(path: Path) -> str:
    """What a training does that is resumed: load the state, train one more step, load the best weights."""
    module, optimiser, parameters, settings = _trainer()
    state = checkpoint.load(path, settings, module, optimiser, parameters)
    module(torch.rand(5, 4)).sum().backward()
    optimiser.step()
    module.load_state_dict(state.best)
    return f"{state.history} {state.best_epoch} {state.scaler}"


# compare store -------------------------------------------------------------------------------------------------------


def _comparison(folder: Path) -> ts.Comparison:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    x, y = torch.rand(12, 4), torch.arange(12) % 3
    settings = ts.ComparisonSettings(timesteps=(2, 4), exits=(ts.exits.Exit("gap", 50.0),))
    return ts.compare(
        model, [ts.recipes.ECC()], x, settings, data=[(x, y)], store=folder / "store", exit_data=[(x, y)]
    )  # fmt: skip


def _results(folder: Path) -> Path:
    _comparison(folder)
    return next((folder / "store").glob("ecc-*.json"))


def _mark(folder: Path) -> Path:
    _comparison(folder)
    return folder / "store" / MARK


def results_of(content: bytes, random: Random) -> bytes:
    """Edits of bytes, or of results after a checksum that fits again."""
    if random.random() < 0.2:
        return mutations.bytes_of(content, random)
    found = json.loads(content)
    found.pop("sha256")
    key = found.pop("key")
    body = mutations.edited(found, random)
    if random.random() < 0.1:
        body = mutations.edited({"key": key, **found}, random)
    elif isinstance(body, dict):
        body = {"key": key, **body}
    text = json.dumps(body, sort_keys=True)
    if random.random() < 0.02:
        return b'{"sha256": ' + random.choice((b"[" * 100_000, b"9" * 5000, b'"' + b"x" * 10_000_000))
    signed = {"sha256": sha256(text.encode("utf-8", "surrogatepass")), **body} if isinstance(body, dict) else body
    return json.dumps(signed).encode("utf-8", "surrogatepass")


def _refuse(self: Local, work: Any, units: Sequence[Any], inputs: Path, told: Any) -> Any:
    raise FileError("the results are damaged, and would be measured again")


def use_results(folder: Path) -> str:
    """Show a comparison with a store, as an interrupted one that is called again."""
    with mock.patch.object(Local, "run", _refuse):  # damaged results are measured again
        found = _comparison(folder)
    text = json.dumps(found.to_json()) + str(found.front()) + str(found.ann)
    for row in found.measured:
        found.snn(row)
    return text + str(found)


@functools.cache
def _evaluation() -> bytes:
    """The file of an evaluation after one of two batches."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        use_evaluation(path, lambda done, total: path.with_suffix(".kept").write_bytes(path.read_bytes()))
        return path.with_suffix(".kept").read_bytes()


def evaluation_of(content: bytes, random: Random) -> bytes:
    """Edits of bytes, header, or of content and tensors behind a checksum that fits again."""
    kind = random.randrange(10)
    if kind < 2:
        return (mutations.bytes_of, mutations.header_of)[kind](content, random)
    metadata, tensors = mutations.split(content)[0]["__metadata__"], safetensors.torch.load(content)
    if kind < 5:
        tensors = mutations.tensors_of(tensors, random)
    else:
        metadata["content"] = json.dumps(mutations.edited(json.loads(metadata["content"]), random, tuple(KINDS)))
    try:
        metadata["sha256"] = content_digest(metadata["content"], tensors)
        return safetensors.torch.save(tensors, metadata)
    except (TypeError, RuntimeError, UnicodeEncodeError):  # a type that numpy does not have, a surrogate
        return mutations.bytes_of(content, random)


def use_evaluation(path: Path, progress: Any = None) -> str:
    """What ``transpike evaluate --checkpoint`` does."""
    x = _inputs()["ecc"][:4]
    batches = [(x[:2], torch.zeros(2, dtype=torch.int64)), (x[2:], torch.ones(2, dtype=torch.int64))]
    with mock.patch.object(resumable, "SHARE", 10**9), ts.resumable(path):
        report = ts.evaluate(_small(), batches, progress=progress)
    return f"{report} {json.dumps(report.to_json())}"


def _stored_part(folder: Path) -> Path:
    head = _stored_inputs(folder)
    return next(path for path in sorted(folder.glob("inputs-*")) if path != head)


def _stored_inputs(folder: Path) -> Path:
    torch.manual_seed(0)
    graph = ts.capture(nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).eval(), torch.rand(3, 4))
    x, y = torch.rand(4, 4), torch.arange(4) % 3
    digest = write_inputs(folder, graph, [x], [(x, y)], [(x, y)])
    inputs_path(folder, digest).rename(folder / "inputs.safetensors")
    return folder / "inputs.safetensors"


def use_inputs(folder: Path) -> str:
    _opened.cache_clear()  # it is called with the same path, and another file
    source, calibration, tests, fitting = open_inputs(folder / "inputs.safetensors")
    return f"{source} {[x.shape for x in calibration]} {[x.shape for x, _ in tests]} {[x.shape for x, _ in fitting]}"


# chips and constants -------------------------------------------------------------------------------------------------


def _chip(name: str) -> bytes:
    return Path(chips.chips[name]).read_bytes()


@functools.cache
def _small() -> ts.SNN:
    return ts.load(GOLDEN / "ecc.transpike")


def use_chip(path: Path) -> str:
    """What ``transpike inspect --fit`` does."""
    found = ts.chip_fit(_small(), str(path))
    return f"{found} {json.dumps(found.to_json())}"


CONSTANTS = """model = "operations"
[constants]
add = {value = 0.05, unit = "pJ", source = "a measurement"}
multiply = {value = 0.2, unit = "pJ", source = "a measurement"}
"""


def use_constants(path: Path) -> str:
    """What ``transpike energy --energy FILE.toml`` does."""
    model = energy.load(path)
    rows = model.rows(_activity())
    return f"{model!r} {model} {rows} {json.dumps([row.joule for row in rows])} {model.joule(_activity())}"


@functools.cache
def _activity() -> Activity:
    return ts.simulate(_small(), _inputs()["ecc"]).activity


def _constants() -> list[Subject]:
    import dataclasses

    from transpike.results.quantity import Quantity

    found = []
    for name, kind in energy.table.items():
        lines = [f'model = "{name}"', "[constants]"]
        settings = []
        for one in dataclasses.fields(kind):
            if isinstance(one.default, Quantity):
                value = f'{{value = {one.default.value}, unit = "{one.default.unit}", source = "measured"}}'
                lines.append(f"{one.name} = {value}")
            elif isinstance(one.default, (bool, int, float)):
                settings.append(f"{one.name} = {str(one.default).lower()}")
        text = "\n".join([*lines, "[settings]", *settings]) + "\n"
        found.append(
            single(f"constants {name}", "constants", "c.toml", lambda text=text: text.encode(), mutations.text_of,
                   use_constants)
        )  # fmt: skip
    return found


def _torch_files() -> list[Subject]:
    """Weights in files of ``torch.save``."""
    mutate = mutations.members_of
    return [single("weights of torch", "checkpoint", "w.pth", _torch_file, mutate, use_weights)]


def _onnx_files() -> list[Subject]:
    """Networks of Keras and TensorFlow, where the package onnx is installed."""
    if importlib.util.find_spec("onnx") is None:
        return []
    import onnx_files

    return [
        single(
            f"onnx {name}",
            "onnx",
            "net.onnx",
            lambda name=name: onnx_files.content(name),
            onnx_files.mutated,
            onnx_files.use,
        )
        for name in onnx_files.FILES
    ]


@functools.cache
def subjects() -> tuple[Subject, ...]:
    """All subjects."""
    networks = [network(name, version) for name in NETWORKS for version in (VERSION, 1)]
    return (
        *networks,
        *_data(),
        single("weights", "checkpoint", "w.safetensors", _weights, mutations.weights_of, use_weights),
        *_torch_files(),
        single("training", "checkpoint", "c.safetensors", _checkpoint, mutations.weights_of, use_checkpoint),
        single("evaluation", "checkpoint", "run.safetensors", _evaluation, evaluation_of, use_evaluation),
        several("results", "store", _results, results_of, use_results),
        several("mark", "store", _mark, mutations.bytes_of, lambda folder: str(_comparison(folder))),
        several("inputs", "store", _stored_inputs, mutations.weights_of, use_inputs),
        several("inputs part", "store", _stored_part, mutations.weights_of, use_inputs),
        *(
            single(f"chip {n}", "chip", "x.toml", lambda n=n: _chip(n), mutations.text_of, use_chip)
            for n in chips.NAMES
        ),
        *_constants(),
        *_onnx_files(),
    )


def families() -> dict[str, list[Subject]]:
    """Family → its subjects."""
    found: dict[str, list[Subject]] = {}
    for subject in subjects():
        found.setdefault(subject.family, []).append(subject)
    return found
