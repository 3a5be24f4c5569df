"""``--task`` of every command, and data sets that know their task."""

import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import transpike as ts
from transpike.cli import main
from transpike.errors import DataError

N = 48
IMAGES = torch.randint(0, 256, (N, 6, 6, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
FACTORY = """
import torch
from torch import nn

def build():
    random = torch.Generator().manual_seed(5)
    module = nn.Sequential(nn.Conv2d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1))
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=random) / 2
    return module.eval()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network for masks, its file, and archives with masks that know their task, and without it."""
    place = tmp_path_factory.mktemp("tasks")
    (place / "mask_network.py").write_text(FACTORY)
    sys.path.insert(0, str(place))
    import mask_network

    module = mask_network.build()
    arrays = {"train_images": IMAGES[:32].numpy(), "test_images": IMAGES[32:].numpy()}
    masks = module(inputs(arrays["train_images"], IMAGES)).argmax(1)
    masks[:, 0] = 255
    arrays |= {"train_labels": masks[:32].numpy(), "test_labels": masks[32:].numpy()}
    np.savez(place / "masks.npz", **arrays, task=np.array("pixel-classification:ignore_index=255"))
    np.savez(place / "unknown.npz", **arrays)
    data = ts.data.load(f"npz:{place / 'masks.npz'}")
    snn = ts.convert(module, ts.recipes.ECC(4), data.train.images, preprocessing=data.preprocessing)
    ts.save(snn, place / "net.transpike")
    yield place
    sys.path.remove(str(place))


def inputs(train: np.ndarray, images: Tensor) -> Tensor:
    """As the data set's own preprocessing makes them."""
    x, known = images.permute(0, 3, 1, 2).double() / 255, torch.from_numpy(train).permute(0, 3, 1, 2).double() / 255
    mean, std = known.mean((0, 2, 3)), known.std((0, 2, 3), correction=0)
    return ((x - mean[:, None, None]) / std[:, None, None]).float()


def run(*words: object, code: int = 0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def test_a_data_set_knows_its_task(folder) -> None:
    data = ts.data.load(f"npz:{folder / 'masks.npz'}")
    assert data.task == ts.tasks.PixelClassification(ignore_index=255) and data.test.labels.shape == (16, 6, 6)
    snn = ts.load(folder / "net.transpike")
    expected = ts.evaluate(snn, data.test.batches(32), task=data.task).final.metrics["mean IoU"].value
    own = ("--data", f"npz:{folder / 'masks.npz'}", "--json")
    found = json.loads(run("evaluate", folder / "net.transpike", *own).stdout)
    assert found["snn"]["curve"][-1]["metrics"]["mean IoU"]["value"] == expected and expected > 0.3
    other = json.loads(run("evaluate", folder / "net.transpike", *own, "--task", "fidelity").stdout)
    assert other["task"] == "fidelity"  # the flag counts before the data set
    with pytest.raises(DataError, match="targets are not class indices; name their task"):
        ts.data.Dataset("x", data.train, data.test, (), data.preprocessing)
    with pytest.raises(DataError, match=r"pixel-classification.* needs logits"):
        ts.train(nn.Sequential(nn.Flatten(), nn.Linear(72, 3)), data, ts.Training(epochs=1))


COMMANDS = {
    "evaluate": (("net.transpike",), "metrics"),
    "energy": (("net.transpike",), "metric"),
    "explain": (("net.transpike", "--samples", "8"), "metric"),
    "train": (("--model", "py:mask_network:build", "--epochs", "1", "--output", "weights.safetensors"), "metric"),
    "finetune": (("net.transpike", "--epochs", "1", "--output", "tuned.transpike"), "grid"),
    "compare": (("--model", "py:mask_network:build", "--recipes", "ecc,few-steps", "--timesteps", "2,4", "--calibration-samples", "32"), "metrics"),
}  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_asks_the_task(folder, command: str, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    words, key = COMMANDS[command]
    words = (command, *words, "--data", "npz:masks.npz", "--json")
    found = json.loads(run(*words).stdout)
    assert key in found
    assert found == {**json.loads(run(*words, "--task", "segmentation:ignore=255").stdout), **seconds(found)}
    text = run(*words[:-1], "--task", "segmentation:ignore=255").output
    assert "mean IoU" in text


def seconds(found: dict) -> dict:
    """Times of runs, which differ."""
    return {key: found[key] for key in ("rows", "history", "settings") if key in found}


def test_a_comparison_picks_in_the_metric_and_reports(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    words = ("compare", *COMMANDS["compare"][0], "--data", "npz:masks.npz")
    picked = run(*words, "--pick", "drop<=100 max=mean-iou", "--output", "best.transpike")
    assert "selected" in picked.output and ts.load("best.transpike").timesteps in (2, 4)
    assert "no row satisfies" in run(*words, "--pick", "mean-iou>=100 min=steps", code=4).output
    assert "mean-iou<=… or >=…" in run(*words, "--pick", "accuracy>=90 min=steps", code=2).output
    refused = run(*words, "--exit", "gap:5", code=2).output
    assert "neither correct nor wrong" in refused
    run("report", "net.transpike", "--data", "npz:masks.npz", "--explain-samples", "8", "--output", "all.html",
        "--compare", "few-steps", "--compare-timesteps", "4")  # fmt: skip
    page = (folder / "all.html").read_text()
    assert "mean IoU" in page and "accuracy change" not in page


def test_what_does_not_fit_has_a_named_error(folder, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    own = ("--data", "npz:masks.npz")
    assert "neither correct nor wrong" in run("exit", "net.transpike", *own, "--output", "e.transpike", code=2).output
    assert "labels" in run("evaluate", "net.transpike", "--data", "npz:unknown.npz", code=5).output
    wrong = run("evaluate", "net.transpike", *own, "--task", "segmentation", code=5).output
    assert "255" in wrong and "ignore_index" in wrong
    assert "did you mean 'regression'?" in run("evaluate", "net.transpike", *own, "--task", "regresion", code=2).output
    assert (
        "regression needs one real number"
        in run("energy", "net.transpike", *own, "--task", "regression", code=5).output
    )
    assert "takes a function" in run("explain", "net.transpike", *own, "--task", "detection", code=2).output
    gate = ("evaluate", "net.transpike", *own, "--max-drop")
    run(*gate, "100")
    assert "mean IoU at T=4 is" in run(*gate, "-100", code=4).output
    for text, words in (
        ("nothing", "there is no task named"),
        ("top-k:k=x", "its task is 'top-k:k=x'"),
        ("top-k:q=1", "q"),
    ):
        with np.load("unknown.npz") as known:
            np.savez("wrong.npz", **known, task=np.array(text))
        assert words in run("evaluate", "net.transpike", "--data", "npz:wrong.npz", code=5).output
