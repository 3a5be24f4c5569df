"""A hub in this process, and a network to upload."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import transpike as ts
from hub_server import Hub
from stored import stored

constants = pytest.importorskip(
    "huggingface_hub.constants", reason="needs huggingface_hub: pip install 'transpike[hub]'"
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_write")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    getattr(sys.modules["huggingface_hub"], "close_session", lambda: None)()  # older ones have none
    server.close()


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    return ts.data.load("digits").test.batch(torch.arange(64))[0]


@pytest.fixture(scope="session")
def network() -> ts.SNN:
    digits = ts.data.load("digits")
    return ts.convert(
        stored("two-layers"), ts.recipes.ECC(timesteps=8), digits.train.batches(100, limit=200),
        preprocessing=digits.preprocessing,
    )  # fmt: skip


@pytest.fixture(scope="session")
def file(network: ts.SNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ts.save(network, tmp_path_factory.mktemp("hub") / "net.transpike")
