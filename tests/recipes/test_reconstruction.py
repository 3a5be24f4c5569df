"""A reconstruction follows the source network more closely, never less, without labels, and resumes to the same bits."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn

import transpike as ts
from stored import stored
from transpike.cli import main
from transpike.encoders import Poisson
from transpike.errors import CheckpointError, DataError, SettingError
from transpike.readouts import AccumulatedMembrane
from transpike.recipes import FewSteps
from transpike.schedules import LayerSynchronous
from transpike.training import Reconstruct

FEW = FewSteps(timesteps=4, samples=64)
SHORT = dataclasses.replace(FEW, reconstruct="network", iterations=60)


def distance(snn: ts.SNN, x: Tensor) -> float:
    """The squared error of the answers over the variance of the source's, on inputs that no conversion has seen."""
    target = snn.source.run(x)
    return float((snn(x) - target).square().mean() / target.var(0, unbiased=False).mean())


def layers(snn: ts.SNN, x: Tensor) -> float:
    """The mean relative squared error of the layers."""
    seen: dict[str, Tensor] = {}
    snn.source.run(x, observe=lambda node, inputs, output: seen.update({node.name: output}))
    names = [node.name for node in snn.graph.cells if node.op.unit is not None]
    trains = ts.simulate(snn, x, record=names).trains
    wrong = 0.0
    for name in names:
        sent = trains[name].float().mean(0) * snn.graph[name].op.output_scale()
        wrong += float((sent - seen[name]).square().mean() / seen[name].square().mean()) / len(names)
    return wrong


def same(a: ts.SNN, b: ts.SNN) -> bool:
    first, second = a.graph.parameters(), b.graph.parameters()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def plain(digits) -> ts.SNN:
    return digits.converted(FEW)


@pytest.fixture(scope="module")
def trained(digits) -> ts.SNN:
    return digits.converted(SHORT)


def test_answers_and_layers_follow_the_source_on_inputs_that_were_not_given(digits, plain, trained):
    assert distance(trained, digits.images) < 0.7 * distance(plain, digits.images)
    assert layers(trained, digits.images[:128]) < layers(plain, digits.images[:128])
    assert any(remark.startswith("reconstructed in 60 steps") for remark in trained.remarks)


@pytest.mark.parametrize(
    "changes",
    [
        {"neuron": "signed"},
        {"neuron": "burst", "timesteps": 2},
        {"schedule": LayerSynchronous(), "readout": AccumulatedMembrane()},
        {"encoder": Poisson(), "timesteps": 8},
        {"calibrate": "none", "granularity": "layer"},
        {"reconstruct": "layer"},
    ],
    ids=lambda changes: ", ".join(changes),
)
def test_every_neuron_schedule_and_encoder_gains(digits, changes):
    before = digits.converted(dataclasses.replace(FEW, **{k: v for k, v in changes.items() if k != "reconstruct"}))
    after = digits.converted(dataclasses.replace(SHORT, **changes))
    assert distance(after, digits.images) < 0.9 * distance(before, digits.images)


def test_all_engines_give_the_same_spikes_and_the_grid_holds(digits, trained, tmp_path):
    x = digits.images[:16]
    again = ts.load(ts.save(trained, tmp_path / "net.transpike"))
    assert again.exactness.timesteps >= 4 and again.recipe == SHORT
    trace = ts.simulate(again, x, engine="reference")
    assert trace.exact and all(
        torch.equal(trace.logits, ts.simulate(one, x, engine=engine).logits)
        for one in (trained, again)
        for engine in ("dense", "event")
    )


def test_ranges_are_those_of_the_trained_network(digits, plain, trained):
    moved = [name for name in plain.ranges if not torch.equal(plain.ranges[name], trained.ranges[name])]
    assert plain.ranges.keys() == trained.ranges.keys() and len(moved) == 5


def test_nothing_changes_where_nothing_comes_closer(digits, plain):
    wild = digits.converted(dataclasses.replace(SHORT, learning_rate=3.0, iterations=8))
    assert same(wild, plain)
    assert any("no step reduced the error" in remark for remark in wild.remarks)


def test_labels_are_not_read(digits, trained):
    x, labels = digits.calibration, torch.zeros(len(digits.calibration)).long()
    pairs = [(x[:128], labels[:128]), (x[128:], labels[128:])]
    assert same(ts.convert(digits.model, SHORT, pairs), trained)


def test_the_seed_decides(digits, trained):  # the same seed: above
    assert not same(ts.convert(digits.model, SHORT, digits.calibration, seed=1), trained)


def test_pruned_weights_stay_zero(digits):
    model = stored("residual")
    with torch.no_grad():
        model[0].weight[::2] = 0.0
        model[8].weight[:, ::3] = 0.0
    before, after = (ts.convert(model, one, digits.calibration).graph for one in (FEW, SHORT))
    for name in ("0", "8"):
        zero = before[name].op.weight == 0
        assert bool(zero.any()) and torch.equal(after[name].op.weight == 0, zero)
        assert not torch.equal(after[name].op.weight, before[name].op.weight)


def test_an_interrupted_reconstruction_ends_with_the_same_bits(digits, trained, tmp_path):
    path, heard = tmp_path / "run.safetensors", list[int]()

    def told(name: str, done: int, total: int) -> None:
        if name == "Reconstruct":
            heard.append(done)

    def stop(name: str, done: int, total: int) -> None:
        told(name, done, total)
        if len(heard) == 1 + 40:  # the beginning, and a step each
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ts.convert(digits.model, SHORT, digits.calibration, progress=stop, checkpoint=path)
    heard.clear()
    resumed = ts.convert(digits.model, SHORT, digits.calibration, progress=told, checkpoint=path)
    assert same(resumed, trained) and resumed.remarks == trained.remarks
    # the beginning, 21 steps (of 20 stages of three steps 13 were stored), the end
    assert len(heard) == 1 + 21 + 1 and heard == sorted(heard)
    other = dataclasses.replace(SHORT, learning_rate=1e-3)
    with pytest.raises(SettingError, match=r"learning_rate was 0.01, now 0.001.* delete the file to restart"):
        ts.convert(digits.model, other, digits.calibration, checkpoint=path)
    Path(path).write_bytes(b"content")
    with pytest.raises(CheckpointError, match="is not a checkpoint, or is damaged"):
        ts.convert(digits.model, SHORT, digits.calibration, checkpoint=path)


def test_what_cannot_be_reconstructed_is_refused(digits):
    with pytest.raises(DataError, match="at least 16 calibration inputs, but there are 15"):
        ts.convert(digits.model, SHORT, digits.calibration[:15])
    with pytest.raises(DataError, match="the same answer for all calibration inputs"):
        ts.convert(digits.model, SHORT, digits.calibration[:1].expand(20, -1, -1, -1))
    with pytest.raises(SettingError, match="granularity must be 'network' or 'layer', not 'block'"):
        Reconstruct("block")
    with pytest.raises(DataError, match="diverged"):
        digits.converted(dataclasses.replace(SHORT, learning_rate=1e30))


def test_the_command_line_trains_and_keeps_a_checkpoint(tmp_path):
    words = [
        "convert", "--model", "zoo:small-cnn", "--data", "digits", "--recipe", "few-steps", "--timesteps", "4",
        "--calibration-samples", "32", "--samples", "16", "--reconstruct", "network", "--iterations", "4",
        "--checkpoint", str(tmp_path / "run.safetensors"), "--output", str(tmp_path / "net.transpike"), "--json",
    ]  # fmt: skip
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert any("reconstruct" in remark for remark in json.loads(done.stdout)["remarks"])
    assert (tmp_path / "run.safetensors").exists()
    assert ts.load(tmp_path / "net.transpike").recipe.reconstruct == "network"


def test_an_explanation_does_not_train_again(digits, trained):
    found = ts.explain(trained, (digits.images[:40], digits.labels[:40]))
    assert any("its recipe trains all layers together" in remark for remark in found.remarks)
    assert [layer.name for layer in found.layers if layer.regained is not None] and not found.faults


def test_images_are_shifted_and_other_inputs_are_not():
    from transpike.training.source import augmentation

    assert augmentation.usual((3, 32, 32)) == "crop-flip" and augmentation.usual((1, 28, 28)) == "crop"
    assert augmentation.usual((3, 8, 8)) == augmentation.usual((40,)) == augmentation.usual((2, 40)) == "none"


def test_a_network_of_vectors_is_reconstructed():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    x, test = torch.rand(200, 6), torch.rand(100, 6)
    before, after = (ts.convert(model, one, x) for one in (FEW, SHORT))
    assert distance(after, test) < 0.8 * distance(before, test)
