"""Files of weights that must be refused, with words that help."""

import contextlib
import copy
import os
import pickle
import random
import re
import shlex
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from transpike import data
from transpike.errors import CheckpointError, SettingError
from transpike.models import build, load_weights
from transpike.workflow.train import Training, save_weights, train


@pytest.fixture
def module():
    torch.manual_seed(0)
    return build("small-cnn")[0]


def _tensors(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


class _Evil:
    def __reduce__(self):
        return os.mkdir, (self.path,)


def run_printed_line(error):
    """Run the command that a message shows; a shell splits it into the same words."""
    (line,) = [line.strip() for line in str(error.value).splitlines() if line.strip().startswith("python -c ")]
    program, option, code = shlex.split(line)
    assert (program, option) == ("python", "-c")
    exec(code, {})


def test_a_pickle_is_never_opened(module, tmp_path):
    evil = _Evil()
    evil.path = str(tmp_path / "was-run")
    plain, inside = tmp_path / "net.pth", tmp_path / "net.safetensors"  # a wrong name does not help
    plain.write_bytes(pickle.dumps(evil))
    torch.save({"state_dict": {"conv1.weight": torch.ones(1)}, "evil": evil}, inside)
    old = tmp_path / "old.pth"
    torch.save(evil, old, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_weights(module, plain)
    with pytest.raises(CheckpointError, match=r"does not fit SmallCNN"):
        load_weights(module, inside)
    with pytest.raises(CheckpointError, match="no named tensors"):
        load_weights(module, old)
    assert not (tmp_path / "was-run").exists()


def test_what_a_file_names_is_not_imported(module, tmp_path):
    """A class whose module cannot be imported does not matter: only tensors are read."""

    class Args:
        pass

    Args.__module__, Args.__qualname__ = "os_of_nowhere", "Args"
    holder = types.ModuleType("os_of_nowhere")
    holder.Args = Args
    sys.modules["os_of_nowhere"] = holder
    try:
        torch.save({"args": Args(), "net": module.state_dict(), "best": np.float64(3)}, tmp_path / "net.pth")
    finally:
        del sys.modules["os_of_nowhere"]
    other = build("small-cnn")[0]
    assert load_weights(other, tmp_path / "net.pth")["remark"] == "net.pth: the weights under 'net'"
    assert torch.equal(other.conv1.weight, module.conv1.weight)


def _same(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("new", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize(
    ("wrap", "remark"),
    [
        (lambda net: net.state_dict(), None),
        (lambda net: {"state_dict": net.state_dict(), "epoch": 3}, "the weights under 'state_dict'"),
        (lambda net: {"model": net.state_dict(), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}}, "'model'"),
        (lambda net: {"model_state_dict": net.state_dict()}, "the weights under 'model_state_dict'"),
        (
            lambda net: {"a": {"state_dict": nn.DataParallel(net).state_dict()}},
            "'a.state_dict', names without the prefix",
        ),
        (lambda net: torch.optim.swa_utils.AveragedModel(net).state_dict(), "without the prefix 'module.'"),
        (lambda net: net, None),
        (lambda net: {"net": nn.DataParallel(net)}, "the weights under 'net', names without the prefix 'module.'"),
        (lambda net: {"model": net.state_dict(), "ema": copy.deepcopy(net.state_dict())}, "the weights under 'model'"),
        (lambda net: {"params": dict(net.half().state_dict())}, "the weights under 'params'"),
    ],
    ids=["plain", "state_dict", "model", "model_state_dict", "nested", "averaged", "whole", "wrapped", "equal", "half"],
)
def test_files_of_torch_save_are_read(module, tmp_path, wrap, remark, new):
    torch.save(wrap(copy.deepcopy(module)), tmp_path / "net.pth", _use_new_zipfile_serialization=new)
    other = build("small-cnn")[0]
    found = load_weights(other, tmp_path / "net.pth")
    assert ("remark" in found) == (remark is not None)
    assert remark is None or remark in found["remark"]
    if "params" not in str(remark):
        assert _same(module, other)
    else:
        assert torch.equal(other.conv1.weight, module.conv1.weight.half().float())


PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "model._orig_mod.", "a.b.c."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes_that_all_names_share_are_removed(module, tmp_path, prefix):
    save_file({prefix + name: value for name, value in _tensors(module).items()}, tmp_path / "net.safetensors")
    other = build("small-cnn")[0]
    assert load_weights(other, tmp_path / "net.safetensors")["remark"].endswith(f"without the prefix {prefix!r}")
    assert _same(module, other)


def test_what_was_renamed_is_said(module, tmp_path):
    """``build`` returns no remark, so it warns."""
    save_file({"module." + name: value for name, value in _tensors(module).items()}, tmp_path / "net.safetensors")
    with pytest.warns(UserWarning, match=r"net\.safetensors: names without the prefix 'module\.'"):
        build("small-cnn", weights=tmp_path / "net.safetensors")


def test_wrappers_within_names_and_wrapped_networks(module, tmp_path):
    inner = {name.replace("conv1.", "conv1.module."): value for name, value in _tensors(module).items()}
    save_file(inner, tmp_path / "net.safetensors")
    other = build("small-cnn")[0]
    remark = load_weights(other, tmp_path / "net.safetensors")["remark"]
    assert "'conv1.module.weight' read as 'conv1.weight'" in remark
    assert _same(module, other)
    save_file(_tensors(module), tmp_path / "plain.safetensors")
    for wrapped in (nn.DataParallel(build("small-cnn")[0]), nn.ModuleDict({"backbone": build("small-cnn")[0]})):
        load_weights(wrapped, tmp_path / "plain.safetensors")
        assert _same(module, next(iter(wrapped.children())))


def test_a_name_of_the_network_is_not_taken_for_a_wrapper(tmp_path):
    """A network may itself have a part called ``module`` or ``model``."""
    net = nn.ModuleDict({"module": nn.Linear(2, 2), "model": nn.Linear(2, 2)})
    save_file(_tensors(net), tmp_path / "net.safetensors")
    other = copy.deepcopy(net)
    nn.init.zeros_(other["module"].weight)
    assert load_weights(other, tmp_path / "net.safetensors") == {}
    assert _same(net, other)


def test_of_several_sets_that_fit_one_must_be_chosen(module, tmp_path):
    ema = {name: value + 1 for name, value in _tensors(module).items()}
    torch.save({"model": _tensors(module), "model_ema": ema}, tmp_path / "net.pth")
    other = build("small-cnn")[0]
    with pytest.raises(CheckpointError, match=r"'model', 'model_ema'; select one, as in .*net\.pth#model$"):
        load_weights(other, tmp_path / "net.pth")
    load_weights(other, f"{tmp_path / 'net.pth'}#model_ema")
    assert torch.equal(other.conv1.weight, module.conv1.weight + 1)
    with pytest.raises(CheckpointError, match="no weights under 'ema': 'model', 'model_ema'"):
        load_weights(other, f"{tmp_path / 'net.pth'}#ema")


def _script(module, path):
    torch.jit.trace(module, torch.zeros(1, 1, 8, 8)).save(path)


def _pickle(module, path):
    Path(path).write_bytes(pickle.dumps(module.state_dict()))


@pytest.mark.parametrize("write", [_script, _pickle])
@pytest.mark.parametrize("name", ["net.pt", "it's $HOME.pt"])
def test_the_line_that_converts_runs_on_what_it_is_printed_for(module, tmp_path, write, name):
    path = str(tmp_path / name)
    write(module, path)
    with pytest.raises(CheckpointError, match="If you trust its origin") as error:
        load_weights(module, path)
    run_printed_line(error)
    other = build("small-cnn")[0]
    load_weights(other, path.removesuffix(".pt") + "-weights.pth")
    assert _same(module, other)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: {"model." + k: v for k, v in t.items()} | {"loss.weight": torch.ones(3)}, "begin with 'model.' fit"),
        (lambda t: t | {"aux.weight": torch.ones(3), "aux.bias": torch.ones(3)}, "others are not used"),
        (lambda t: {k.replace("linear", "fc").replace("conv1", "stem"): v for k, v in t.items()}, "names are replaced"),
    ],
    ids=["prefix of a part", "too many", "other names"],
)
def test_a_renaming_is_suggested_by_a_line_that_runs(module, tmp_path, monkeypatch, change, says):
    monkeypatch.chdir(tmp_path)
    torch.save({"net": change(_tensors(module))}, "net.pth")
    with pytest.raises(CheckpointError, match=says) as error:
        load_weights(module, "net.pth")
    run_printed_line(error)
    other = build("small-cnn")[0]
    load_weights(other, "net-renamed.safetensors")
    assert _same(module, other)


def test_long_lists_are_shortened(module, tmp_path):
    save_file({"x": torch.ones(1)}, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_weights(module, tmp_path / "net.safetensors")
    assert "more like this" in str(error.value)
    assert len(str(error.value).splitlines()) < 12


def test_a_network_without_sizes_is_told_so(tmp_path):
    save_file({"0.weight": torch.ones(2, 2)}, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match="run one batch through it"):
        load_weights(nn.Sequential(nn.LazyLinear(2)), tmp_path / "net.safetensors")


def _rewritten(path, change):
    """Replace the pickle in a file of torch.save, with the right checksums."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, change(name, content))


@pytest.mark.parametrize("kind", ["zip", "pickle in the zip", "before torch 1.6"])
def test_damaged_files_of_torch_save(module, tmp_path, kind):
    path, generator = tmp_path / "net.pth", random.Random(0)

    def damaged(content):
        changed = bytearray(content)
        for _ in range(generator.randint(1, 6)):
            changed[generator.randrange(min(len(changed), 3000))] = generator.choice(
                b".(RbQrjBKM0123tqhNs}])el2u\x80\xff"
            )
        return bytes(changed[: generator.choice([len(changed), generator.randrange(len(changed))])])

    torch.save({"model": module}, path, _use_new_zipfile_serialization=kind != "before torch 1.6")
    whole = path.read_bytes()
    for _ in range(100):
        path.write_bytes(whole if kind == "pickle in the zip" else damaged(whole))
        if kind == "pickle in the zip":
            _rewritten(path, lambda name, content: damaged(content) if name.endswith("data.pkl") else content)
        with contextlib.suppress(CheckpointError):  # anything else is a failure
            load_weights(module, path)


def test_a_checkpoint_that_contains_itself(module, tmp_path):
    loop = {str(number): None for number in range(30)}
    loop.update(dict.fromkeys(loop, loop), weights=module.state_dict())
    torch.save(loop, tmp_path / "net.pth")
    assert load_weights(module, tmp_path / "net.pth")["remark"] == "net.pth: the weights under 'weights'"
    whole = copy.deepcopy(module)
    whole.add_module("again", whole)
    torch.save(whole, tmp_path / "whole.pth")
    assert load_weights(module, tmp_path / "whole.pth") == {}


def test_a_tensor_outside_its_storage_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"weight": torch.ones(3)}, path)
    _rewritten(path, lambda name, content: content[:8] if name.endswith("data/0") else content)
    with pytest.raises(CheckpointError, match="in a storage of 8 bytes"):
        load_weights(nn.Linear(3, 1, bias=False), path)


@pytest.mark.parametrize("start", [0x80, 0x50])
def test_a_safetensors_file_that_begins_like_a_pickle_is_read(module, tmp_path, start):
    path = tmp_path / "net.safetensors"
    for padding in range(512):
        save_weights(module, path, {"padding": "x" * padding})
        if path.read_bytes()[0] == start:
            break
    assert path.read_bytes()[0] == start
    load_weights(module, path)


def test_every_misfit_is_listed_and_nothing_is_changed(module, tmp_path):
    tensors = _tensors(module)
    del tensors["conv1.weight"], tensors["bn3.bias"]
    tensors["head.weight"] = torch.zeros(2)
    tensors["linear.bias"] = torch.zeros(11)
    tensors["linear.weight"] = torch.zeros(10, 32, dtype=torch.int8)
    tensors["bn1.weight"] += 1
    save_file(tensors, tmp_path / "net.safetensors")
    before = _tensors(module)
    with pytest.raises(CheckpointError) as error:
        load_weights(module, tmp_path / "net.safetensors")
    message = str(error.value)
    assert "missing in the file: conv1.weight [16, 1, 3, 3]" in message
    assert "missing in the file: bn3.bias [32]" in message
    assert "not in the network: head.weight [2]" in message
    assert "linear.bias is [11] in the file, [10] in the network" in message
    assert "linear.weight is torch.int8" in message
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_finite(module, tmp_path, value):
    tensors = _tensors(module)
    tensors["bn2.running_var"][3] = value
    save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match=r"bn2\.running_var contains NaN"):
        load_weights(module, tmp_path / "net.safetensors")


@pytest.mark.parametrize("keep", [0, 3, 7, 8, 100, 1000, -1])
def test_truncated(module, tmp_path, keep):
    path = tmp_path / "net.safetensors"
    save_weights(module, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_weights(module, path)


def test_damaged_header_and_missing_file(module, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"\xff" * 8 + b"{}")
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_weights(module, path)
    with pytest.raises(CheckpointError, match="no weights at"):
        load_weights(module, tmp_path / "nothing.safetensors")
    with pytest.raises(CheckpointError, match="no weights at"):
        load_weights(module, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(module, tmp_path, dtype):
    tensors = {n: t.to(dtype) if t.is_floating_point() else t for n, t in module.state_dict().items()}
    save_file(tensors, tmp_path / "net.safetensors")
    load_weights(module, tmp_path / "net.safetensors")
    assert module.conv1.weight.dtype == torch.float32
    assert torch.equal(module.conv1.weight, tensors["conv1.weight"].float())


def test_the_count_of_batches_may_be_missing(module, tmp_path):
    tensors = {n: t for n, t in _tensors(module).items() if "num_batches_tracked" not in n}
    save_file(tensors, tmp_path / "net.safetensors")
    assert load_weights(module, tmp_path / "net.safetensors") == {}


@pytest.fixture
def digits():
    full = data.load("digits")
    part = torch.arange(200)
    return data.Dataset("few digits", full.train.subset(part), full.test, full.classes, full.preprocessing)


def test_a_training_checkpoint_is_not_taken_for_weights(module, digits, tmp_path):
    train(module, digits, Training(epochs=2), checkpoint=tmp_path / "run.safetensors")
    with pytest.raises(CheckpointError, match=r"training checkpoint \(after epoch 2"):
        load_weights(module, tmp_path / "run.safetensors")


def test_training_does_not_go_on_from_something_else(module, digits, tmp_path):
    path = tmp_path / "run.safetensors"
    save_weights(module, path)
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        train(module, digits, Training(epochs=1), checkpoint=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="Delete it to restart"):
        train(module, digits, Training(epochs=1), checkpoint=path)
    result = train(module, digits, Training(epochs=1), checkpoint=path, resume=False)
    assert len(result.history) == 1


def test_a_truncated_training_checkpoint_is_refused(module, digits, tmp_path):
    path = tmp_path / "run.safetensors"
    train(module, digits, Training(epochs=1), checkpoint=path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match="damaged"):
        train(module, digits, Training(epochs=1), checkpoint=path)


def test_a_training_checkpoint_of_other_types_is_refused(module, digits, tmp_path):
    path = tmp_path / "run.safetensors"
    train(module, digits, Training(epochs=1), checkpoint=path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = next(name for name in tensors if name.startswith("optimiser."))
    tensors[name] = tensors[name].to(torch.float8_e5m2)
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=f"damaged: {re.escape(name)} is torch.float8_e5m2. Delete it"):
        train(module, digits, Training(epochs=1), checkpoint=path)


def test_checkpoint_and_weights_are_two_files(module, digits, tmp_path):
    with pytest.raises(SettingError, match="same file"):
        train(module, digits, Training(epochs=1), checkpoint=tmp_path / "a", weights=tmp_path / "a")


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_types_that_weights_do_not_have_are_refused(module, tmp_path, kind):
    tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    name = next(iter(tensors))
    tensors[name] = torch.zeros(tensors[name].shape, dtype=kind)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(
        CheckpointError, match=rf"{re.escape(name)} is torch\.\w+, but weights must be floating-point numbers"
    ):
        load_weights(module, tmp_path / "w.safetensors")


def test_one_set_of_weights_under_two_keys_is_found_under_both(module, tmp_path):
    weights = module.state_dict()
    torch.save({"model": weights, "model_ema": weights}, tmp_path / "w.pth")
    for name in ("w.pth", "w.pth#model", "w.pth#model_ema"):
        other = copy.deepcopy(module)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        load_weights(other, tmp_path / name)
        assert all(torch.equal(value, weights[key]) for key, value in other.state_dict().items())
