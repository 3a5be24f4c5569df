"""Several processes fine-tune one network, as torchrun starts them: to the bits of one process."""

import json
import math
import os
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import distributed

import transpike as ts
from stored import stored
from transpike.errors import DataError, LostProcess, SettingError
from transpike.training import ranks
from transpike.training.source.loop import Loop
from transpike.training.spiking.losses import Loss
from transpike.workflow.finetune.parts import gradients, shares
from two_processes import finished, needs_gloo, pair
from waiting import HANGS

SETTINGS = {
    # 63 samples to train on: batches of 25, 25 and 13, with parts of different size
    "plain": {"epochs": 2, "learning_rate": 1e-3, "batch_size": 25, "augment": "crop"},
    "normalised": {"epochs": 1, "learning_rate": 1e-2, "batch_size": 31, "normalise": True, "optimiser": "sgd"},
    "layers": {"layerwise": "local-tandem", "train": ("weights",), "batch_size": 40},
    # two parts of each process, whose sum depends on their order
    "four parts": {"epochs": 1, "batch_size": 32, "batch_parts": 4, "learning_rate": 1e-3},
    # the last batch has one sample: one of two processes has nothing to do
    "rest": {"epochs": 1, "batch_size": 62, "loss": "distil", "train": ("thresholds", "leaks")},
}


class BrokenInSecond(Loss):
    """A loss that is not finite in the second process."""

    def __call__(self, currents, answer, labels, teacher):
        return currents.square().mean() * (math.nan if os.environ.get("RANK") == "1" else 1.0)


def samples() -> ts.data.Split:
    return ts.data.load("digits").train.subset(torch.arange(70))


def network() -> ts.SNN:
    return ts.convert(stored("three-neuron-layers"), ts.recipes.ECC(timesteps=3), samples().batches(35))


def bits(snn: ts.SNN, folder: Path, name: str) -> str:
    file = folder / f"{name}.transpike"
    ts.save(snn, file)
    return file.read_bytes().hex()


def tuned(folder: Path, name: str, own: str, **more: object) -> ts.SNN:
    return ts.finetune(network(), samples(), **{**SETTINGS[name], **more})


def work(folder: Path) -> None:
    """What each of two processes does."""
    news, own = [], ranks.join("cpu").rank
    files = {name: bits(tuned(folder, name, str(own)), folder, f"{name}-{own}") for name in SETTINGS}
    plain = {**SETTINGS["plain"], "checkpoint": folder / "shared.safetensors"}
    ts.finetune(network(), samples(), **plain, progress=news.append)
    refused = []
    for change in ({"loss": BrokenInSecond()}, {"learning_rate": 1e-3 * (1 + own)}, {"batch_parts": 3}):
        try:
            ts.finetune(network(), samples(), **{**plain, "checkpoint": None, **change})
            refused.append("nothing")
        except (DataError, SettingError) as error:
            refused.append(str(error))
    facts = {"files": files, "news": len(news), "refused": refused}
    (folder / f"facts-{own}.json").write_text(json.dumps(facts))


def lose(folder: Path) -> None:
    """The second process ends in the second epoch, when the first one has written its checkpoint."""
    group = ranks.join("cpu")
    chosen = {**SETTINGS["plain"], "epochs": 3, "checkpoint": folder / "lost.safetensors"}
    if group.rank:
        from transpike.workflow.finetune.loop import Tuning

        whole = Tuning.epoch

        def ends(self, number, progress):
            if number == 2:
                os._exit(9)
            return whole(self, number, progress)

        Tuning.epoch = ends
    try:
        ts.finetune(network(), samples(), **chosen)
    except LostProcess as error:
        print(f"LostProcess: {error}", file=sys.stderr)
        os._exit(error.exit_code)


def lose_training(folder: Path) -> None:
    """The same of ``train``."""
    group = ranks.join("cpu")
    whole = Loop.epoch

    def ends(self, number):
        if group.rank and number == 2:
            os._exit(9)
        return whole(self, number)

    Loop.epoch = ends
    try:
        ts.train(
            stored("two-layers"), samples(), ts.Training(epochs=2, batch_size=40), checkpoint=folder / "trained.st"
        )
    except LostProcess as error:
        print(f"LostProcess: {error}", file=sys.stderr)
        os._exit(error.exit_code)


def silent(folder: Path) -> None:
    """The second process says nothing until the first one has given up."""
    group = ranks.join("cpu")
    group.wait()
    if group.rank:
        sys.stdin.read()
        os._exit(0)
    distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=1))  # as TRANSPIKE_PATIENCE=1 from the start
    try:
        group.gather("here")
    except LostProcess as error:
        print(f"LostProcess: {error}", file=sys.stderr)
    os._exit(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_gloo()
    folder = tmp_path_factory.mktemp("processes")
    finished([folder / f"facts-{rank}.json" for rank in (0, 1)], __file__, str(folder), "work")
    return folder


def facts(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"facts-{rank}.json").read_text())


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_find_the_bits_of_one_with_as_many_parts(folder, name):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = bits(tuned(folder, name, "alone", **({"batch_parts": 2} | SETTINGS[name])), folder, f"{name}-alone")
    torch.set_num_threads(before)
    assert facts(folder, 0)["files"][name] == facts(folder, 1)["files"][name] == alone


def test_parts_train_like_the_whole_batch():
    whole, parts = (
        tuned(Path(), "plain", "", batch_parts=count, learning_rate=1e-4, optimiser="sgd", momentum=0.0)
        for count in (1, 3)
    )
    before = network().graph.parameters()
    for name, value in whole.graph.parameters().items():
        # one step moves a weight by 1e-4 times its gradient, whose float32 sums differ by some 2⁻²⁴ of their terms
        moved = float((value - before[name]).abs().max())
        assert float((parts.graph.parameters()[name] - value).abs().max()) <= 1e-3 * moved + 1e-7, name
    assert any(not torch.equal(value, before[name]) for name, value in whole.graph.parameters().items())


def test_gradients_of_parts_are_added_in_their_order():
    weight = torch.nn.Parameter(torch.ones(3))
    spare = torch.nn.Parameter(torch.ones(2))
    values = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    running = torch.zeros(1)
    seen = []

    def run(start, end):
        seen.append(float(running))
        running.add_(1 + start)
        return (values[start:end] @ weight).mean(), start

    bounds = shares(7, 3)
    assert bounds == [(0, 3), (3, 5), (5, 7)] and shares(2, 3) == [(0, 1), (1, 2)] and shares(5, 1) == [(0, 5)]
    loss, found = gradients([weight, spare], [running], ranks.Ranks(0, 1, torch.device("cpu")), bounds, run)
    each = [values[a:b].mean(0) * ((b - a) / 7) for a, b in bounds]
    assert torch.allclose(weight.grad, each[0] + each[1] + each[2], rtol=0, atol=1e-7) and spare.grad is None
    assert found == [0, 3, 5] and loss == pytest.approx(float(values.mean(0).sum()), abs=1e-6)
    assert seen == [0, 0, 0]  # every part begins with the same statistics
    assert float(running) == pytest.approx((3 * 1 + 2 * 4 + 2 * 6) / 7)


def test_only_the_first_process_reports_and_both_refuse_the_same(folder):
    assert facts(folder, 0)["news"] == 2 * (3 + 1) and facts(folder, 1)["news"] == 0
    assert facts(folder, 0)["refused"] == facts(folder, 1)["refused"]
    broken, settings, parts = facts(folder, 0)["refused"]
    assert "the loss is nan in epoch 1, step 1 of 3" in broken
    assert "learning_rate is 0.001 in process 0, but 0.002 in process 1 of 2" in settings
    assert parts == "nothing"  # more parts than processes


def test_a_checkpoint_is_continued_by_any_number_of_processes_with_as_many_parts(folder):
    chosen = {**SETTINGS["plain"], "checkpoint": folder / "shared.safetensors"}
    with pytest.raises(SettingError, match="batch_parts was 2, now None"):
        ts.finetune(network(), samples(), **chosen)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    again = bits(ts.finetune(network(), samples(), **chosen, batch_parts=2), folder, "continued")
    torch.set_num_threads(before)
    assert again == facts(folder, 0)["files"]["plain"]


def test_a_process_that_ends_is_an_error_in_the_others_and_the_run_resumes(folder):
    started = pair(__file__, str(folder), "lose")
    errors = [one.communicate(timeout=HANGS)[1] for one in started]
    assert started[1].returncode == 9 and started[0].returncode == LostProcess.exit_code, errors[0][-3000:]
    assert "LostProcess: process 0 of 2 cannot continue, because another process ended" in errors[0]
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    chosen = {**SETTINGS["plain"], "epochs": 3, "batch_parts": 2}
    news: list = []
    resumed = ts.finetune(network(), samples(), **chosen, checkpoint=folder / "lost.safetensors", progress=news.append)
    whole = ts.finetune(network(), samples(), **chosen)
    torch.set_num_threads(before)
    assert len(news) == 2 * (3 + 1)  # the first epoch was done
    assert bits(resumed, folder, "resumed") == bits(whole, folder, "whole")


def test_a_process_that_ends_in_a_training_is_an_error_in_the_others(folder):
    first, second = pair(__file__, str(folder), "lose_training")
    error = first.communicate(timeout=HANGS)[1]
    second.communicate(timeout=HANGS)
    assert first.returncode == LostProcess.exit_code and "LostProcess: process 0 of 2 cannot" in error, error[-3000:]
    assert (folder / "trained.st").exists()  # the first epoch


def test_a_process_that_is_silent_is_an_error_in_time(folder):
    first, second = pair(__file__, str(folder), "silent")
    error = first.communicate(timeout=HANGS)[1]
    assert "LostProcess: process 0 of 2 cannot continue" in error and "TRANSPIKE_PATIENCE" in error, error[-3000:]
    second.communicate("", timeout=HANGS)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"work": work, "lose": lose, "lose_training": lose_training, "silent": silent}[sys.argv[2]](Path(sys.argv[1]))
    if sys.argv[2] == "work":
        torch.distributed.barrier()  # so that neither leaves while the other still speaks
