"""The recipe for networks of full strength (benchmarks/strong_networks.py): its parts, and that it resumes."""

import argparse
import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import transpike as ts
from transpike.data import Dataset, Split

PATH = Path(__file__).resolve().parents[2] / "benchmarks/strong_networks.py"


@pytest.fixture(scope="module")
def strong():
    specification = importlib.util.spec_from_file_location("strong_networks", PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules["strong_networks"] = module  # dataclasses look for their module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["strong_networks"]


def _images(count: int) -> torch.Tensor:
    """Smooth images in bytes: neighbouring pixels and channels are alike."""
    small = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (nn.functional.interpolate(small, 32, mode="bilinear") * 255).to(torch.uint8)


def test_whitened_patches_have_unit_variance_in_every_direction_that_is_no_noise(strong):
    stem = nn.Conv2d(3, 24, 2)
    images = 30 * torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    images[:, 1] = images[:, 0] + 0.1 * images[:, 1]  # channels are alike
    strong.whiten(stem, images)
    out = stem(images).permute(1, 0, 2, 3).flatten(1)[:12]
    assert torch.allclose(torch.cov(out), torch.eye(12), atol=0.02)
    assert torch.equal(stem.weight[:12], -stem.weight[12:]) and not stem.weight.requires_grad
    strong.whiten(stem, 1e-4 * images / 30)  # all of it is noise
    assert float(stem(1e-4 * images / 30).detach().std()) < 0.01


def test_filters_begin_as_identities(strong):
    net = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.Conv2d(6, 6, 3, padding=1, groups=6))
    depthwise = net[1].weight.clone()
    strong.begin(net)
    x = torch.rand(2, 4, 5, 5)
    assert torch.equal(net[0](x)[:, :4], x) and torch.equal(net[1].weight, depthwise)


def test_a_view_is_a_crop_that_may_reach_over_the_border_and_be_mirrored(strong):
    images = _images(40)
    flip = torch.arange(40) % 2 == 0
    seen = strong.view(images, 24, flip, torch.Generator().manual_seed(0))
    padded = nn.functional.pad(images.float(), (2, 2, 2, 2), mode="reflect").to(torch.uint8)
    windows = padded.unfold(2, 24, 1).unfold(3, 24, 1)
    for n in range(40):
        given = seen[n].flip(2) if flip[n] else seen[n]
        same = (windows[n] == given[:, None, None]).flatten(3).all(3).all(0)
        assert int(same.sum()) >= 1, n
    assert len({seen[n].sum().item() for n in range(40)}) > 30


def test_the_rate_rises_to_its_peak_and_falls_to_nothing(strong):
    assert strong.factor(0, 0.2) == pytest.approx(0.2) and strong.factor(0.2, 0.2) == pytest.approx(1)
    assert strong.factor(1, 0.2) == 0 and strong.factor(0.6, 0.2) == pytest.approx(0.5)


@pytest.fixture
def made(tmp_path) -> tuple[Dataset, argparse.Namespace]:
    labels = torch.arange(40) % 10
    split = Split(_images(40), labels)
    data = Dataset("made", split, split.subset(torch.arange(20)), tuple(map(str, range(10))), ts.Preprocessing())
    return data, argparse.Namespace(folder=tmp_path, limit=None)


def test_a_run_that_is_killed_ends_with_the_same_weights_and_a_finished_one_is_not_repeated(
    strong, made, tmp_path, monkeypatch, capsys
):
    data, arguments = made
    plan = replace(strong.PLANS["resnet20"], epochs=3, batch=20, teacher=None, taught=0.0, precision="float32")
    strong.train("resnet20", plan, data, arguments)
    whole = load_file(tmp_path / "resnet20.safetensors")
    found = json.loads((tmp_path / "resnet20.json").read_text())
    assert found["test_images"] == 20 and 0 <= found["low"] <= found["accuracy"] <= found["high"] <= 1
    assert len(found["sha256"]) == 64 and found["bytes"] == (tmp_path / "resnet20.safetensors").stat().st_size
    assert all(value.dtype in (torch.float16, torch.int64) for value in whole.values())
    module, _ = ts.models.build("zoo:resnet20-16-32-64", weights=tmp_path / "resnet20.safetensors")
    assert next(module.parameters()).dtype == torch.float32
    strong.train("resnet20", plan, data, arguments)
    assert "resnet20 is finished" in capsys.readouterr().out
    arguments.folder = tmp_path / "again"
    arguments.folder.mkdir()
    saved = strong.Checkpoint.save

    def killed(self, network, steps, history):
        saved(self, network, steps, history)
        if len(history) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(strong.Checkpoint, "save", killed)
        strong.train("resnet20", plan, data, arguments)
    strong.train("resnet20", plan, data, arguments)
    again = load_file(arguments.folder / "resnet20.safetensors")
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    assert len((arguments.folder / "resnet20.jsonl").read_text().splitlines()) == 3
    with pytest.raises(SystemExit, match="is of another plan"):
        strong.train("resnet20", replace(plan, rate=0.3), data, arguments)


def test_the_plans_are_of_networks_of_the_zoo_and_their_teachers_come_first(strong):
    names = list(strong.PLANS)
    for name, plan in strong.PLANS.items():
        assert plan.network in ts.models.models and 50_000 % plan.batch == 0
        assert plan.teacher is None or names.index(plan.teacher) < names.index(name)
        assert plan.sizes[0][0] == 0 and plan.sizes[-1][1] == 32
