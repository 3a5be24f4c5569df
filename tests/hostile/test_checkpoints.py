"""Files of weights that must be refused, with words that help."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

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


def test_a_pickle_is_never_opened(module, tmp_path):
    evil = _Evil()
    evil.path = str(tmp_path / "was-run")
    plain = tmp_path / "net.pth"
    plain.write_bytes(pickle.dumps(evil))
    zipped = tmp_path / "net.safetensors"  # a wrong name does not help
    torch.save(module.state_dict(), zipped)
    for path in (plain, zipped):
        with pytest.raises(CheckpointError, match="is a pickle") as error:
            load_weights(module, path)
        assert "weights_only=True" in str(error.value)
        assert "save_file" in str(error.value)
    assert not (tmp_path / "was-run").exists()


def test_the_way_to_convert_works(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(module.state_dict(), "net.pth")
    with pytest.raises(CheckpointError) as error:
        load_weights(module, "net.pth")
    code = str(error.value).split("origin:\n")[1]
    exec(re.sub(r"^    ", "", code, flags=re.MULTILINE))
    other = build("small-cnn")[0]
    load_weights(other, "net.safetensors")
    assert torch.equal(other.conv1.weight, module.conv1.weight)


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
    with pytest.raises(CheckpointError, match=r"bn2\.running_var holds NaN"):
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


def test_checkpoint_and_weights_are_two_files(module, digits, tmp_path):
    with pytest.raises(SettingError, match="same file"):
        train(module, digits, Training(epochs=1), checkpoint=tmp_path / "a", weights=tmp_path / "a")
