"""Several processes train one network: as torchrun starts them, on CPUs."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from transpike import data
from transpike.data import Dataset
from transpike.errors import DataError, SettingError
from transpike.training import ranks, settings
from transpike.training.source import loop
from transpike.workflow.train import Training, save_weights, train
from two_processes import finished, needs_gloo

SETTINGS = {
    "epochs": 2,
    "batch_size": 45,
    "learning_rate": 0.05,
    "label_smoothing": 0.1,
    "augment": "crop",
    "cutout": 2,
}


class Penalised(nn.ReLU):
    stage = "quantise"

    def __init__(self) -> None:
        super().__init__()
        self.thresh = nn.Parameter(torch.full((1,), 6.0))

    def forward(self, x):
        self.penalty = 0.1 * x.square().mean() if self.training else None
        return x.relu() if self.stage == "relu" else torch.minimum(x.relu(), self.thresh)


def plain() -> nn.Module:
    """Nothing in it sees more than one image, or draws."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Penalised(), nn.Linear(32, 10))


def usual() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), Penalised(), nn.Dropout(), nn.Flatten(), nn.Linear(144, 10)
    )


def digits(count: int = 400) -> Dataset:
    full = data.load("digits")
    return Dataset("digits", full.train.subset(torch.arange(count)), full.test, full.classes, full.preprocessing)


STAGED = {**SETTINGS, "epochs": 4, "stages": {"quantise": 2}, "optimiser": "adam", "learning_rate": 3e-3}


class KilledError(Exception):
    pass


def work(folder: Path) -> None:
    """What each of the processes does; what it finds goes into files with its number."""
    own = ranks.join("cpu").rank
    news = []
    module = plain()
    # 360 images to train on, the last batch of 45 and every second share smaller by one
    found = train(module, digits(), Training(**SETTINGS), progress=news.append, checkpoint=folder / "plain.safetensors")
    save_weights(module, folder / f"plain-{own}.safetensors")
    assert all(p.grad is not None for p in module.parameters())

    whole = usual()
    train(whole, digits(), Training(**STAGED))
    save_weights(whole, folder / f"whole-{own}.safetensors")
    broken, epoch = usual(), loop.Loop.epoch

    def killed(self: loop.Loop, number: int) -> tuple[float, float, float, float]:
        if number == 4:
            raise KilledError
        return epoch(self, number)

    loop.Loop.epoch = killed
    try:
        train(broken, digits(), Training(**STAGED), checkpoint=folder / "broken.safetensors")
        raise AssertionError
    except KilledError:
        loop.Loop.epoch = epoch
    broken = usual()
    train(broken, digits(), Training(**STAGED), checkpoint=folder / "broken.safetensors")
    same = all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), broken.state_dict().values(), strict=True)
    )

    refused = []
    for change in ({"batch_size": 1}, {"sync_batchnorm": True}, {"learning_rate": 1e30}):
        try:
            train(usual(), digits(), Training(**{**SETTINGS, **change}))
        except (SettingError, DataError) as error:
            refused.append(str(error))
    facts = {"history": found.to_json()["history"], "test": found.test_accuracy, "news": len(news), "same": same}
    (folder / f"facts-{own}.json").write_text(json.dumps({**facts, "refused": refused}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs_gloo()
    folder = tmp_path_factory.mktemp("processes")
    finished([folder / f"facts-{rank}.json" for rank in (0, 1)], __file__, str(folder))
    return folder


def facts(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"facts-{rank}.json").read_text())


def test_all_processes_end_in_the_same_weights_and_numbers(folder):
    for name in ("plain", "whole"):
        first, second = (load_file(folder / f"{name}-{rank}.safetensors") for rank in (0, 1))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    one, two = facts(folder, 0), facts(folder, 1)
    without_time = [[{**row, "seconds": 0} for row in found["history"]] for found in (one, two)]
    assert without_time[0] == without_time[1] and one["test"] == two["test"]


def test_two_processes_train_like_one(folder):
    module, found = plain(), load_file(folder / "plain-0.safetensors")
    before = plain().state_dict()
    alone = train(module, digits(), Training(**SETTINGS))
    for name, tensor in module.state_dict().items():
        # sums of float32 in another order: far below what training has moved
        assert torch.allclose(found[name], tensor, rtol=0, atol=2e-6), name
        assert float((tensor - before[name]).abs().max()) > 1e-3
    keys = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "learning_rate", "penalty")
    for row, expected in zip(facts(folder, 0)["history"], alone.to_json()["history"], strict=True):
        # means of losses of about 2.3, added up in float32 over up to 18 parts: 18 · 2⁻²³ · 2.3 = 5e-6
        assert [row[key] for key in keys] == pytest.approx([expected[key] for key in keys], abs=1e-5)
    assert facts(folder, 0)["test"] == alone.test_accuracy


def test_only_the_first_process_writes_and_reports(folder):
    assert facts(folder, 0)["news"] == 2 * (8 + 1) and facts(folder, 1)["news"] == 0
    lines = (folder / "plain.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    assert load_file(folder / "plain.weights.safetensors").keys() == plain().state_dict().keys()


def test_all_processes_resume_to_the_same_bits(folder):
    assert facts(folder, 0)["same"] and facts(folder, 1)["same"]


def test_a_checkpoint_of_two_processes_is_not_gone_on_from_by_one(folder):
    with pytest.raises(SettingError, match="processes was 2, now 1"):
        train(plain(), digits(), Training(**SETTINGS), checkpoint=folder / "plain.safetensors")


def test_every_process_refuses_the_same(folder):
    assert facts(folder, 0)["refused"] == facts(folder, 1)["refused"]
    batch, normalisation, rate = facts(folder, 0)["refused"]
    assert "batch_size must be at least 2" in batch and "needs GPUs" in normalisation and "diverged" in rate


def test_shares_are_whole_and_differ_by_one():
    for size in (2, 3, 7, 45):
        for count in (1, 2, 3):
            if size >= count:
                parts = [ranks.Ranks(rank, count, torch.device("cpu")).share(size) for rank in range(count)]
                assert [a for a, _ in parts] == [0] + [b for _, b in parts[:-1]] and parts[-1][1] == size
                assert {b - a for a, b in parts} <= {size // count, size // count + 1}


def test_no_process_gets_a_single_image_of_a_last_batch():
    sizes = {(count, size, n): [len(b) for b in loop.batches(torch.arange(count), size, n)] for count, size, n in (
        (10, 4, 1), (9, 4, 1), (9, 1, 1), (1, 4, 1), (10, 4, 2), (11, 4, 2), (11, 8, 2), (12, 8, 2), (9, 2, 2), (3, 8, 3))}  # fmt: skip
    assert list(sizes.values()) == [[4, 4, 2], [4, 4], [1] * 9, [1], [4, 4], [4, 4], [8], [8, 4], [2] * 4, [3]]
    with pytest.raises(DataError, match="too few for 3 processes"):
        loop.batches(torch.arange(2), 8, 3)


def test_batch_normalisations_come_back_as_they_were():
    module = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    kinds, tensors = [type(part) for part in module.modules()], dict(module.named_parameters())
    group = ranks.Ranks(0, 2, torch.device("cuda"))
    with ranks.synchronised(module, group, True):
        assert isinstance(module[1][0], nn.SyncBatchNorm)
        module[1][0].running_mean += 1
    assert [type(part) for part in module.modules()] == kinds
    assert all(p is tensors[name] for name, p in module.named_parameters())
    assert float(module[1][0].running_mean[0]) == 1


def test_a_group_that_does_not_come_together_is_an_error_with_a_way_out(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(SettingError, match="unset WORLD_SIZE"):
        train(plain(), digits(), Training(**SETTINGS))
    with pytest.raises(SettingError, match="no GPU for process"):
        monkeypatch.setenv("LOCAL_RANK", str(torch.cuda.device_count()))
        ranks.join("cuda")
    with pytest.raises(SettingError, match="use device 'cuda'"):
        ranks.join("cuda:0")


def test_bounds_know_of_processes():
    with pytest.raises(SettingError, match="batch_size must be at least 4, one image per process"):
        settings.check_images(Training(batch_size=3), "digits", 100, 4)


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(Path(sys.argv[1]))
    torch.distributed.barrier()  # so that neither leaves while the other still speaks
