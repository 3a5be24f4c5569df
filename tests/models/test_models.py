"""The zoo, and networks from elsewhere."""

import importlib
import io
import itertools
import pkgutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from transpike import data, models
from transpike.core.preprocessing import Preprocessing
from transpike.errors import CheckpointError, MissingExtra, SettingError

ZOO = sorted(models.models)
CLASSIFIERS = [name for name in ZOO if name not in ("fastestdet", "nanogpt")]


def test_every_module_of_the_folder_is_in_the_table():
    files = {m.name for m in pkgutil.iter_modules(models.__path__) if not m.name.startswith("_")}
    members = {
        spec.name
        for file in files
        for spec in vars(importlib.import_module(f"transpike.models.{file}")).values()
        if isinstance(spec, models.Model)
    }
    assert members == set(models.models)
    assert all(name == spec.name for name, spec in models.models.items())


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_networks_have_the_asked_outputs_and_are_sensitive_to_their_input(name):
    torch.manual_seed(0)
    module, spec = models.build(f"zoo:{name}", num_classes=7)
    images = torch.rand(3, *spec.input_shape)
    logits = module(spec.preprocessing(images))
    assert logits.shape == (3, 7)
    assert spec.num_classes == 7
    assert not module.training
    assert torch.isfinite(logits).all()
    assert logits.std(0).min() > 0


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_other_channels_get_fitting_preprocessing(name):
    module, spec = models.build(name, in_channels=2)
    assert spec.input_shape[0] == 2
    assert module(spec.preprocessing(torch.rand(1, *spec.input_shape))).shape == (1, spec.num_classes)


def test_a_detector_answers_at_every_cell():
    module, spec = models.build("zoo:fastestdet", num_classes=3, input_shape=(1, 64, 96))
    answer = module(torch.rand(2, *spec.input_shape))
    assert answer.shape == (2, 5 + 3, 4, 6)
    assert bool((answer[:, 0] >= 0).all()) and torch.allclose(answer[:, 5:].sum(1), torch.ones(2, 4, 6))


def test_a_decoder_answers_at_every_character_by_what_came_before():
    module, spec = models.build("zoo:nanogpt", num_classes=7, in_channels=12)
    ids = torch.randint(0, 7, (2, 12), generator=torch.Generator().manual_seed(0))
    answer = module(ids)
    assert spec.input_shape == (12,) and answer.shape == (2, 12, 7)
    assert torch.equal(module.head.weight, module.tokens.weight), "one table for both ends"
    other = ids.clone()
    other[:, 5:] = (other[:, 5:] + 1) % 7
    assert torch.allclose(module(other)[:, :5], answer[:, :5], atol=1e-6)
    assert bool((module(other)[:, 5:] - answer[:, 5:]).abs().amax(-1).min() > 1e-3)


@pytest.mark.parametrize("name", ZOO)
def test_networks_can_be_exported(name):
    module, spec = models.build(name)
    images = torch.rand(2, *spec.input_shape)
    images = (images * spec.num_classes).long() if name == "nanogpt" else images
    exported = torch.export.export(module, (images,)).module()
    torch.testing.assert_close(exported(images), module(images))


def test_known_sizes():
    count = {name: sum(p.numel() for p in models.build(name)[0].parameters()) for name in ZOO}
    assert count["resnet20-16-32-64"] == 269_722  # 0.27 M, He et al. 2016, table 6
    assert count["vgg16"] == 14_724_042
    assert count["efficientnet-lite0"] == 4_652_008  # as the published weights
    assert count["small-cnn"] < 10_000


def test_shortcut_of_resnet_takes_every_second_pixel_and_pads_both_sides():
    module, _ = models.build("resnet20-16-32-64")
    block = module.layer2[0]
    nn.init.zeros_(block.bn2.weight)
    x = torch.rand(1, 16, 8, 8)
    y = block(x)
    assert torch.equal(y[:, 8:24], x[:, :, ::2, ::2])
    assert not y[:, :8].any() and not y[:, 24:].any()


def test_padding_of_efficientnet_lite0_is_at_the_end_where_it_is_uneven():
    """As in TensorFlow: with stride 2 on an even size, the first window begins at the first pixel."""
    conv = models.efficientnet_lite0.SameConv(1, 1, 3, 2)
    nn.init.ones_(conv.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert conv(x).flatten().tolist() == [45.0, 39.0, 66.0, 50.0]
    odd = models.efficientnet_lite0.SameConv(1, 1, 5, 1)
    assert odd(torch.zeros(1, 1, 7, 9)).shape == (1, 1, 7, 9)


def test_the_residual_block_of_small_cnn_adds():
    module, _ = models.build("small-cnn")
    nn.init.zeros_(module.bn2.weight)  # what is left is the shortcut
    seen = []
    module.pool.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    x = torch.rand(2, 1, 8, 8)
    module(x)
    assert torch.equal(seen[0], torch.relu(module.bn1(module.conv1(x))))
    assert seen[0].any()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 9, 13)])
def test_small_cnn_takes_any_size(shape):
    module, spec = models.build("small-cnn", input_shape=shape)
    assert spec.input_shape == shape
    assert module(torch.zeros(1, *shape)).shape == (1, 10)


@pytest.mark.parametrize(
    ("spec", "settings", "says"),
    [
        ("zoo:vgg61", {}, "did you mean 'vgg16'"),
        ("resnet", {}, "known: .*small-cnn"),
        ("resnet18", {}, "did you mean 'resnet20-16-32-64'.*torchvision:resnet18 and timm:resnet18"),
        ("zooo:vgg16", {}, "did you mean 'zoo'"),
        ("vgg16", {"input_shape": (3, 64, 64)}, "does not take images of shape"),
        ("vgg16", {"input_shape": (3, 32, 32), "in_channels": 1}, "contradicts"),
        ("vgg16", {"num_classes": 0}, "num_classes must be at least 1"),
        ("vgg16", {"weights": "default"}, "safetensors"),
        ("py:nowhere", {}, "package.module:factory"),
        ("py:no_such_package:build", {}, "cannot be imported"),
        ("py:torch.nn:pi", {}, "cannot be imported"),
        ("py:math:pi", {}, "not a function"),
        ("py:math:gcd", {}, "not a torch.nn.Module"),
        ("py:torch.nn:Identity2", {}, "cannot be imported"),
    ],
)
def test_what_cannot_be_built_is_said(spec, settings, says):
    with pytest.raises(SettingError, match=says):
        models.build(spec, **settings)


def test_python_factories_get_only_the_settings_they_were_given(tmp_path, monkeypatch):
    (tmp_path / "my_networks_for_test.py").write_text(
        "from torch import nn\n"
        "def plain(): return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))\n"
        "def sized(num_classes): return nn.Sequential(nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    module, spec = models.build("py:my_networks_for_test:sized", num_classes=5, input_shape=(1, 2, 2))
    assert module(torch.zeros(1, 1, 2, 2)).shape == (1, 5)
    assert (spec.num_classes, spec.input_shape, spec.preprocessing) == (5, (1, 2, 2), Preprocessing())
    assert models.build("py:my_networks_for_test:plain")[0](torch.zeros(1, 4)).shape == (1, 3)
    with pytest.raises(SettingError, match="cannot be called with"):
        models.build("py:my_networks_for_test:plain", num_classes=5)
    assert sys.path == before


def test_saved_programs(tmp_path):
    module, spec = models.build("small-cnn")
    images = torch.rand(2, *spec.input_shape)
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(module, (images,)), path)
    again, found = models.build(f"file:{path}", trust=True)
    assert found.input_shape == (1, 8, 8)
    torch.testing.assert_close(again(images), module(images))
    with pytest.raises(SettingError, match="exported program"):
        models.build(f"file:{path}", num_classes=3, trust=True)
    with pytest.raises(CheckpointError, match="no saved program"):
        models.build(f"file:{tmp_path / 'nothing.pt2'}")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"not a program saved by torch\.export\.save"):
        models.build(f"file:{path}", trust=True)


@pytest.mark.parametrize(("spec", "package"), [("torchvision:resnet18", "torchvision"), ("timm:resnet18", "timm")])
def test_missing_packages_are_named_with_the_way_to_get_them(spec, package, monkeypatch):
    for name in (package, "torchvision.models"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=rf"{package}.*pip install 'transpike\[vision\]'"):
        models.build(spec)


def _linear(classes: int, channels: int = 3) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def test_torchvision_is_asked_for_the_right_thing(monkeypatch):
    asked = []

    def get_model(name, weights, num_classes):
        asked.append((name, weights, num_classes))
        return _linear(num_classes)

    library = types.SimpleNamespace(list_models=lambda module: ["resnet18"], get_model=get_model)
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", library)
    _, spec = models.build("torchvision:resnet18")
    assert (spec.input_shape, spec.preprocessing.mean) == ((3, 224, 224), (0.485, 0.456, 0.406))
    models.build("torchvision:resnet18", weights="default")
    models.build("torchvision:resnet18", num_classes=4)
    assert asked == [("resnet18", None, 1000), ("resnet18", "DEFAULT", 1000), ("resnet18", None, 4)]
    with pytest.raises(SettingError, match="did you mean 'resnet18'"):
        models.build("torchvision:resnet81")
    with pytest.raises(SettingError, match="did you mean 'torchvision:resnet18'"):
        models.build("resnet18")
    with pytest.raises(SettingError, match="1000 classes"):
        models.build("torchvision:resnet18", weights="default", num_classes=10)


def test_timm_states_its_own_preprocessing(monkeypatch):
    def create_model(name, pretrained, num_classes, in_chans):
        module = _linear(num_classes, in_chans)
        module.pretrained_cfg = {"input_size": (3, 288, 288), "mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
        return module

    library = types.SimpleNamespace(
        is_model=lambda n: n == "tiny", list_models=lambda: ["tiny"], create_model=create_model
    )
    monkeypatch.setitem(sys.modules, "timm", library)
    module, spec = models.build("timm:tiny", num_classes=6)
    assert module(torch.zeros(1, 3, 4, 4)).shape == (1, 6)
    assert (spec.input_shape, spec.preprocessing) == ((3, 288, 288), Preprocessing((0.5, 0.5, 0.5), (0.2, 0.2, 0.2)))
    with pytest.raises(SettingError, match="timm has no model"):
        models.build("timm:huge")


@pytest.mark.parametrize("file", ["resnet20-cifar10.safetensors", "resnet20-cifar10-jpeg.safetensors"])
def test_shared_weights_fit(models_directory: Path, file: str):
    module, _ = models.build("resnet20-16-32-64", weights=models_directory / file)
    assert models.load_weights(module, models_directory / file)["architecture"] == "resnet20-cifar10"


def test_shared_weights_reach_their_accuracy(models_directory: Path, data_directory: Path):
    path = models_directory / "resnet20-cifar10-jpeg.safetensors"
    module, spec = models.build("zoo:resnet20-16-32-64", weights=path)
    test = data.load("cifar10", data_directory).test
    with torch.no_grad():
        right = sum(int((module(spec.preprocessing(x)).argmax(1) == y).sum()) for x, y in test.batches(250, limit=1000))
    assert abs(right - 884) <= 3  # 88.4 %, as the models' README states; another JPEG decoder may change a few


def test_published_weights_of_efficientnet_lite0_fit_and_classify(models_directory, data_directory):
    """Pictures 40 to 47, one of each class; the network is built as the one that these weights were trained for."""
    image = pytest.importorskip("PIL.Image")
    weights = models_directory / "efficientnet-lite0-imagenet.safetensors"
    pictures = data_directory / "imagenet_samples_1000_224.npz"
    if not (weights.exists() and pictures.exists()):
        pytest.skip("no ImageNet weights or pictures")
    module, spec = models.build("efficientnet-lite0", weights=weights)
    archive = np.load(pictures, allow_pickle=False)
    x = torch.stack([
        torch.from_numpy(np.asarray(image.open(io.BytesIO(archive["jpeg"][start:end].tobytes())).convert("RGB")).copy())
        for start, end in itertools.pairwise(archive["offsets"][40:49].tolist())
    ])  # fmt: skip
    with torch.no_grad():
        found = module(spec.preprocessing(x.permute(0, 3, 1, 2) / 255)).argmax(1)
    assert int((found == torch.from_numpy(archive["labels"][40:48])).sum()) >= 6
