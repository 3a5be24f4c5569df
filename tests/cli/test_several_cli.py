"""Networks with several inputs and outputs from the command line: archives with named arrays, one output by its name."""

import json
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import transpike as ts
from transpike.cli import main
from transpike.errors import DataError, SettingError

N = 64
FACTORY = """
import torch
from torch import nn
import torch.nn.functional as F

class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.c, self.v = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(5, 8)
        self.logits, self.size = nn.Linear(4 * 36 + 8, 3), nn.Linear(8, 1)
        random = torch.Generator().manual_seed(5)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=random) / 2

    def forward(self, image, vector):
        b = F.relu(self.v(vector))
        h = torch.cat([F.relu(self.c(image)).flatten(1), b], 1)
        return {"logits": self.logits(h), "size": self.size(b)}

def build():
    return Both().eval()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("several")
    (place / "both_network.py").write_text(FACTORY)
    sys.path.insert(0, str(place))
    import both_network

    random = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (N, 1, 6, 6), dtype=torch.uint8, generator=random)
    vector = torch.rand((N, 5), generator=random)
    with torch.no_grad():
        answer = both_network.build()(image / 255, vector)
    arrays = {}
    for part, chosen in (("train", slice(0, 40)), ("test", slice(40, N))):
        arrays |= {f"{part}_input_image": image[chosen].numpy(), f"{part}_input_vector": vector[chosen].numpy()}
        arrays |= {f"{part}_labels_{name}": value[chosen].numpy() for name, value in
                   (("logits", answer["logits"].argmax(1)), ("size", answer["size"]))}  # fmt: skip
    np.savez(place / "both.npz", **arrays)
    np.savez(place / "logits.npz", **{k.removesuffix("_logits"): v for k, v in arrays.items() if "size" not in k})
    made = run("convert", "--model", "py:both_network:build", "--data", str(place / "both.npz"), "--recipe", "ecc",
               "--timesteps", "24", "--output", str(place / "net.transpike"))  # fmt: skip
    assert made.exit_code == 0, made.output
    yield place
    sys.path.remove(str(place))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def test_an_archive_holds_named_inputs_and_targets(folder):
    data = ts.data.load(folder / "both.npz")
    inputs, targets = data.test.batch([0, 3])
    assert list(inputs.values) == [("image",), ("vector",)] and set(targets) == {"logits", "size"}
    assert len(data.train) == 40 and len(data.train.subset([1, 2])) == 2 and data.image_shape == ()
    snn = ts.load(folder / "net.transpike")
    assert snn.graph.inputs[0].op.preprocessing == ts.Preprocessing()  # bytes are divided by 255
    report = ts.evaluate(snn, data.test, output="logits")
    assert report.samples == 24 and report.ann_accuracy == 1.0
    one = ts.data.load(folder / "logits.npz")
    assert one.classes == ("0", "1", "2") and ts.evaluate(snn, one.test, output="logits").ann_accuracy == 1.0


def test_evaluate_shows_every_output_and_judges_one(folder):
    net, data = folder / "net.transpike", folder / "both.npz"
    whole = run("evaluate", net, "--data", data)
    assert whole.exit_code == 0 and "Outputs next to those of the ANN" in whole.stdout and "argmax" in whole.stdout
    one = json.loads(run("evaluate", net, "--data", data, "--output-name", "logits", "--json").stdout)
    assert one["ann"]["accuracy"] == 1.0 and set(one["outputs"]) == {"logits", "size"}
    gate = run("evaluate", net, "--data", data, "--output-name", "size", "--task", "regression", "--max-drop", "1e-9")
    assert gate.exit_code == 4 and "MSE" in gate.output
    wrong = run("evaluate", net, "--data", data, "--output-name", "boxes")
    assert wrong.exit_code == 2 and "the outputs are 'logits', 'size'" in wrong.output
    given = run("evaluate", net, "--data", data, "--mean", "0.5")
    assert given.exit_code == 2 and "has several inputs, and --preprocessing" in given.output


def test_every_command_takes_them(folder, tmp_path):
    net, data, judged = folder / "net.transpike", folder / "both.npz", ("--output-name", "logits")
    for arguments, part in (
        (("explain", net, "--no-changes", *judged), "accuracy"),
        (("energy", net, *judged, "--model", "operations"), "operations"),
        (("verify", net), "equal, for every neuron"),
        (("finetune", net, *judged, "--epochs", 1, "--timesteps", 4, "--output", tmp_path / "tuned.transpike"), "wrote"),
        (("exit", net, *judged, "--drop", 30, "--fit-samples", 20, "--output", tmp_path / "exit.transpike"), "wrote"),
        (("compare", "--model", "py:both_network:build", "--recipes", "ecc", "--timesteps", "8,24", "--store",
          tmp_path / "store", "--judged-output", "logits", "--pick", "max=accuracy"), "selected ecc"),
        (("compare", "--model", "py:both_network:build", "--recipes", "ecc", "--timesteps", "8", "--store",
          tmp_path / "store", "--pick", "min=relative-error"), "selected ecc"),
        (("report", net, *judged, "--without", "explain", "--compare", "ecc,sigma-delta", "--compare-timesteps", "8",
          "--output", tmp_path / "page.html"), "Wrote"),
    ):  # fmt: skip
        found = run(*arguments, "--data", data)
        assert found.exit_code == 0 and part in found.stdout, (arguments, found.output, found.exception)
    assert ts.load(tmp_path / "exit.transpike").exit.output == "logits"
    page = (tmp_path / "page.html").read_text()
    assert "Outputs next to those of the ANN" in page and "sigma-delta" in page
    refused = run("train", "--model", "py:both_network:build", "--data", data, "--output", tmp_path / "w.safetensors")
    assert refused.exit_code == 5 and "train() takes networks with one input" in refused.output


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"train_labels_logits": None, "train_labels_size": None}, "add train_input_NAME for every input"),
        ({"train_labels": np.zeros(40, int)}, "or train_labels_OUTPUT for several"),
        ({"train_input_vector": np.zeros((39, 5))}, r"different numbers of samples, \[39, 40\]"),
        ({"test_input_vector": None}, "different inputs: image, vector and image"),
        ({"train_input_vector": np.array(["a"] * 40)}, "not numbers"),
    ],
)
def test_unusable_archives_are_refused(folder, tmp_path, change, reason):
    arrays = {**np.load(folder / "both.npz"), **change}
    np.savez(tmp_path / "bad.npz", **{key: value for key, value in arrays.items() if value is not None})
    with pytest.raises(DataError, match=reason):
        ts.data.load(tmp_path / "bad.npz")


def test_targets_without_a_task_are_class_numbers(folder, tmp_path):
    arrays = {key: value for key, value in np.load(folder / "logits.npz").items() if "labels" not in key}
    for labels, reason in ((np.zeros((40, 2)), "add an entry task"), (np.full(40, -1), "integers of at least 0")):
        np.savez(tmp_path / "bad.npz", **arrays, train_labels=labels, test_labels=np.zeros(24, int))
        with pytest.raises(DataError, match=reason):
            ts.data.load(tmp_path / "bad.npz")
    np.savez(
        tmp_path / "r.npz", **arrays, train_labels=np.zeros((40, 1)), test_labels=np.zeros((24, 1)), task="regression"
    )
    data = ts.data.load(tmp_path / "r.npz")
    found = ts.evaluate(ts.load(folder / "net.transpike"), data.test, output="size", task=data.task)
    assert found.metrics[0].name == "MSE"
    with pytest.raises(SettingError, match="regression judges one"):
        ts.evaluate(ts.load(folder / "net.transpike"), data.test, task=data.task)
