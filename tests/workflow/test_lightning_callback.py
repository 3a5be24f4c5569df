"""A callback of Lightning: what it logs, and that it leaves the training as it is."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import transpike as ts
from transpike.errors import MissingExtra, SettingError, UnsupportedModel

DIGITS = ts.data.load("digits")
X, Y = DIGITS.train.images[:300].float() / 255, DIGITS.train.labels[:300]


class Trainer:
    """What the callback reads of a trainer."""

    is_global_zero, world_size, max_epochs = True, 1, 3

    def __init__(self, epoch: int = 0) -> None:
        self.current_epoch = epoch


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package, reduced to its base class."""
    module = ModuleType("lightning.pytorch")
    module.Callback = type("Callback", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning.pytorch", module)
    return module


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))
        self.logged: list[dict[str, float]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def log_dict(self, values: dict[str, float], **_: Any) -> None:
        self.logged.append(values)


def test_it_logs_accuracy_and_spikes_of_every_second_epoch_and_the_last(lightning: ModuleType) -> None:
    calibration = DataLoader(TensorDataset(X[:100]), batch_size=50, shuffle=True)  # draws random numbers
    callback = ts.lightning_callback("ecc", calibration, (X, Y), every=2, timesteps=8, limit=64)
    assert isinstance(callback, lightning.Callback)
    module = Module().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(3)
    callback.on_fit_start(Trainer(), module)
    for epoch in range(3):
        callback.on_train_epoch_end(Trainer(epoch), module)
    assert torch.equal(torch.rand(4), torch.rand(4, generator=torch.Generator().manual_seed(3)))
    assert module.training and all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert len(module.logged) == 2 and callback.report.samples == 64
    final = callback.report.final
    assert module.logged[-1] == {
        "snn/accuracy": final.accuracy, "snn/ann_accuracy": callback.report.ann_accuracy, "snn/accuracy_change": -callback.report.drop + 0.0, "snn/spikes": final.spikes,
        "snn/spike_rate": final.spike_rate, "snn/synaptic_operations": final.synaptic_operations,
    }  # fmt: skip
    assert final.spikes > 0 and callback.snn.timesteps == callback.snn.recipe.timesteps


def test_a_part_of_the_module_and_another_task(lightning: ModuleType) -> None:
    for network in ("net", lambda module: module.net):
        module = Module()
        callback = ts.lightning_callback(
            "ecc", X[:100], (X, torch.zeros(len(X), 10)), network=network, timesteps=4, limit=32,
            task=ts.tasks.Regression(), prefix="val_",
        )  # fmt: skip
        callback.on_train_epoch_end(Trainer(), module)
        assert module.logged[0]["val_mse"] == callback.report.final.metrics["MSE"].value
    with pytest.raises(SettingError, match="Module has no submodule 'nett'"):
        ts.lightning_callback("ecc", X, (X, Y), network="nett").on_fit_start(Trainer(), Module())


def test_what_cannot_be_converted_is_told_before_the_first_epoch(lightning: ModuleType) -> None:
    class Branching(Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x) if x.sum() > 0 else x

    with pytest.raises(UnsupportedModel):
        ts.lightning_callback("ecc", X[:100], (X, Y)).on_fit_start(Trainer(), Branching())


def test_iterators_wrong_numbers_and_a_missing_package_are_refused(lightning: ModuleType, monkeypatch) -> None:
    with pytest.raises(SettingError, match="calibration is an iterator, which is empty after one epoch"):
        ts.lightning_callback("ecc", iter([X]), (X, Y))
    with pytest.raises(SettingError, match="every must be an integer of at least 1"):
        ts.lightning_callback("ecc", X, (X, Y), every=0)
    for name in ("lightning.pytorch", "pytorch_lightning"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match="'transpike\\[lightning\\]'"):
        ts.lightning_callback("ecc", X, (X, Y))


@pytest.mark.filterwarnings("ignore")  # of Lightning
def test_lightning_itself_trains_the_same_weights_with_it(tmp_path: Path) -> None:
    package = pytest.importorskip(
        "lightning.pytorch", reason="needs Lightning: pip install 'transpike[lightning]'", exc_type=ImportError
    )
    weights, callbacks = [], []

    class Digits(package.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 10))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def training_step(self, batch: Any, _: int) -> torch.Tensor:
            return nn.functional.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    for has in (False, True):
        module, found = Digits(), ts.lightning_callback("ecc", X[:100], (X, Y), timesteps=8, limit=64)
        callbacks = [found, package.callbacks.ModelCheckpoint(tmp_path, monitor="snn/accuracy", mode="max")]
        logger = package.loggers.CSVLogger(tmp_path, version=str(has))
        trainer = package.Trainer(
            max_epochs=2, accelerator="cpu", devices=1, callbacks=callbacks if has else [], logger=logger,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=has, log_every_n_steps=1,
        )  # fmt: skip
        torch.manual_seed(1)
        trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=50, shuffle=True))
        weights.append(module.net[1].weight.detach().clone())
    assert torch.equal(*weights)
    assert callbacks[1].best_model_score == pytest.approx(max(callbacks[1].best_k_models.values()))
    assert "snn/synaptic_operations" in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0]
