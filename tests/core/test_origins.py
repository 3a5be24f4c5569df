"""A training goes on only where images and code are those that it began with."""

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.errors import SettingError
from transpike.training import checkpoint


class Net(nn.Module):
    """A network of the user's, whose code may be edited between two runs."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.first(x.flatten(1))))


def edited(self: Net, x: Tensor) -> Tensor:
    return self.last(torch.tanh(self.first(x.flatten(1))))


def dataset(brightness: float = 1.0) -> ts.data.Dataset:
    images = brightness * torch.rand((32, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    split = ts.data.Split(images, torch.arange(32) % 2)
    return ts.data.Dataset("two", split, split, ("a", "b"), ts.Preprocessing())


def run(path, epochs: int = 1, brightness: float = 1.0) -> None:
    torch.manual_seed(0)
    settings = ts.Training(epochs=epochs, batch_size=16)
    ts.train(Net(), dataset(brightness), settings, checkpoint=path, threads=1)


def test_the_same_network_and_images_go_on(tmp_path):
    run(tmp_path / "a.safetensors")
    run(tmp_path / "a.safetensors")


def test_other_images_under_the_same_labels_are_refused(tmp_path):
    run(tmp_path / "a.safetensors")
    with pytest.raises(SettingError, match="images was"):
        run(tmp_path / "a.safetensors", brightness=0.5)


def test_edited_code_of_the_network_is_refused(tmp_path, monkeypatch):
    run(tmp_path / "a.safetensors")
    monkeypatch.setattr(Net, "forward", edited)
    with pytest.raises(SettingError, match="code was"):
        run(tmp_path / "a.safetensors")


def test_a_checkpoint_from_before_these_were_noted_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("transpike.workflow.train.origins", lambda *_: {})
        run(tmp_path / "a.safetensors")
    run(tmp_path / "a.safetensors", brightness=0.5)
    assert set(checkpoint.ADDED) == {"code", "images"}
