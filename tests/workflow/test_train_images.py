"""Augmentation from torchvision, and holes: the same for the same seed, whoever draws."""

import sys

import pytest
import torch
from torch import Tensor, nn

from transpike import data
from transpike.core.preprocessing import Preprocessing
from transpike.data import Dataset, Split
from transpike.errors import DataError, MissingExtra, SettingError
from transpike.training.source import augmentation, policies
from transpike.workflow.train import Training, train

MODES = ("crop-flip", *policies.POLICIES)


def _images(count: int = 8, channels: int = 3, kind: torch.dtype = torch.uint8) -> Tensor:
    pixels = torch.randint(0, 256, (count, channels, 16, 20), generator=torch.Generator().manual_seed(0))
    return pixels.to(torch.uint8) if kind == torch.uint8 else (pixels / 255).to(kind)


def _pictures(channels: int = 3, images: Tensor | None = None) -> Dataset:
    images = _images(64, channels) if images is None else images
    split = Split(images, torch.arange(len(images)) % 4)
    return Dataset("pictures", split, split.subset(range(8)), tuple("abcd"), Preprocessing((0.5,), (0.25,)))


def _augment(mode: str, images: Tensor, seed: int = 0, place: tuple[int, int] | None = None) -> Tensor:
    if mode in policies.POLICIES:
        pytest.importorskip("torchvision", reason="needs torchvision: pip install 'transpike[vision]'")
    return augmentation.augment(images, mode, torch.Generator().manual_seed(seed), place=place)


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", policies.POLICIES)
def test_a_policy_changes_every_image_in_its_own_way(mode, channels, kind):
    images = _images(24, channels, kind)
    same = images[:1].expand(24, -1, -1, -1)
    found = _augment(mode, images)
    assert (found.dtype, found.shape) == (kind, images.shape)
    assert float(found.min()) >= 0 and float(found.max()) <= (255 if kind == torch.uint8 else 1)
    assert len({image.numpy().tobytes() for image in _augment(mode, same)}) > 12
    assert torch.equal(found, _augment(mode, images)) and not torch.equal(found, _augment(mode, images, 1))


@pytest.mark.parametrize("mode", MODES)
def test_parts_of_a_batch_are_augmented_as_in_the_whole(mode):
    images = _images(9)
    whole = _augment(mode, images)
    parts = [_augment(mode, images[a:b], place=(a, 9)) for a, b in ((0, 4), (4, 9))]
    assert torch.equal(torch.cat(parts), whole)


def test_the_global_generator_is_left_as_it_was():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    _augment("auto-augment", _images())
    assert torch.equal(torch.rand(2), expected)


def test_what_a_rotation_uncovers_is_grey():
    pytest.importorskip("torchvision", reason="needs torchvision: pip install 'transpike[vision]'")
    grey = torch.full((64, 3, 16, 16), policies.GREY, dtype=torch.uint8)
    found = policies.apply(grey, "trivial-augment", torch.arange(64)).flatten(1)  # one operation each
    assert torch.equal(found.amin(1), found.amax(1)) and len(found.unique()) > 3


def test_cutout_is_one_square_anywhere_cut_off_by_the_border():
    images = torch.ones(400, 2, 12, 16)
    holes = 1 - augmentation.cutout(images, 6, torch.Generator().manual_seed(0))
    assert torch.equal(holes[:, 0], holes[:, 1])
    rows, columns = holes[:, 0].amax(2).sum(1), holes[:, 0].amax(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), rows * columns)  # a rectangle
    assert {*rows.tolist()} == {*columns.tolist()} == {3.0, 4.0, 5.0, 6.0}
    assert bool((holes[:, 0].sum(0) > 0).all())  # everywhere
    parts = [
        augmentation.cutout(images[a:b], 6, torch.Generator().manual_seed(0), (a, 400)) for a, b in ((0, 9), (9, 400))
    ]
    assert torch.equal(torch.cat(parts), 1 - holes)
    assert augmentation.cutout(images, 0, torch.Generator()) is images


def test_the_hole_has_the_mean_colour(monkeypatch):
    """So it is cut after preprocessing, where the mean is 0."""
    seen = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3 * 16 * 20, 4)

        def forward(self, x):
            if self.training:
                seen.append(x)
            return self.linear(x.flatten(1))

    train(Net(), _pictures(), Training(epochs=1, augment="none", cutout=8, batch_size=16, learning_rate=0.01))
    shares = torch.cat([(x == 0).all(1).float().mean((1, 2)) for x in seen])
    assert shares.max() == 64 / 320 and shares.min() >= 16 / 320


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("mode", MODES)
def test_a_run_with_augmentation_resumes_to_the_same_bits(tmp_path, mode):
    if mode in policies.POLICIES:
        pytest.importorskip("torchvision", reason="needs torchvision: pip install 'transpike[vision]'")

    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(3 * 16 * 20, 4))

    def kill(news):
        if getattr(news, "step", 0) == 2 and news.epoch == 2:
            raise _KilledError

    settings = {"epochs": 3, "augment": mode, "cutout": 6, "batch_size": 16, "learning_rate": 0.01}
    whole, broken, path = net(), net(), tmp_path / "run.safetensors"
    train(whole, _pictures(), Training(**settings))
    with pytest.raises(_KilledError):
        train(broken, _pictures(), Training(**settings), checkpoint=path, progress=kill)
    broken = net()
    train(broken, _pictures(), Training(**settings), checkpoint=path)
    assert torch.equal(whole[2].weight, broken[2].weight)


def test_images_that_a_policy_is_not_for():
    pytest.importorskip("torchvision", reason="needs torchvision: pip install 'transpike[vision]'")
    module = nn.Sequential(nn.Flatten(), nn.Linear(960, 4))
    for images, says in (
        (_images(channels=2), "1 or 3 channels.*not 2x16x20"),
        (_images()[..., :15], "at least 16 pixels.*not 3x16x15"),
    ):
        with pytest.raises(SettingError, match=says):
            train(module, _pictures(images=images), Training(epochs=1, augment="rand-augment"))
    with pytest.raises(DataError, match=r"within 0..1, not -1 to 1"):
        train(
            module,
            _pictures(images=_images(kind=torch.float32).mul(2).sub(1)),
            Training(epochs=1, augment="rand-augment"),
        )


def test_recordings_are_no_pictures():
    frames = torch.zeros(8, 2, 2, 16, 16)
    split = Split(frames, torch.arange(8) % 4)
    recordings = Dataset("recordings", split, split, tuple("abcd"), Preprocessing())
    for setting in ({"augment": "auto-augment"}, {"cutout": 4}):
        with pytest.raises(SettingError, match="recordings are not images"):
            train(nn.Sequential(nn.Flatten(), nn.Linear(512, 4)), recordings, Training(epochs=1, **setting))


def test_a_missing_torchvision_is_told_before_the_training(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms", None)
    with pytest.raises(MissingExtra, match=r"transpike\[vision\]"):
        train(nn.Sequential(nn.Flatten(), nn.Linear(960, 4)), _pictures(), Training(epochs=1, augment="auto-augment"))


def test_the_digits_are_too_small_for_policies_but_not_for_holes():
    digits = data.load("digits")
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert train(module, digits, Training(epochs=1, cutout=2)).settings["cutout"] == 2
    with pytest.raises(SettingError, match="use 'crop-flip' or 'none'"):
        train(module, digits, Training(epochs=1, augment="trivial-augment"))
