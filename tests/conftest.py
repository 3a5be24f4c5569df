"""Where the tests find data and networks that are not part of the repository, and how property tests run."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
# a failing network prints in one line, so no minutes go into shrinking it
hypothesis.settings.register_profile(
    "laws",
    deadline=None,
    derandomize=True,
    max_examples=25,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
hypothesis.settings.load_profile("laws")
ROOT = Path(__file__).resolve().parents[1]


def _folder(variable: str, name: str) -> Path:
    path = Path(os.environ.get(variable) or ROOT.parent / "shared" / name)
    if not path.is_dir():
        pytest.skip(f"no {name} directory: set {variable}")
    return path


@pytest.fixture(scope="session")
def data_directory() -> Path:
    return _folder("TRANSPIKE_DATA", "data")


@pytest.fixture(scope="session")
def models_directory() -> Path:
    return _folder("TRANSPIKE_MODELS", "models")
