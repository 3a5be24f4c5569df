"""What several files of tests of the command line use."""

from pathlib import Path

import pytest

from stored import stored
from transpike.workflow.train import save_weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "cnn.safetensors"
    save_weights(stored("small-cnn"), path)
    return path
