"""Where the tests find data and networks that are not part of the repository, and how property tests run."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

from browsing import browser  # noqa: F401
from transpike.core import naming, registry

# One thread, so that workers of pytest do not fight; `make test-matrix` asks for two. No result may depend on it.
THREADS = int(os.environ.get("TRANSPIKE_TEST_THREADS") or 1)
torch.set_num_threads(THREADS)
if not torch.cuda.is_available():  # Triton reads it when it is imported: kernels for GPUs run in its interpreter
    os.environ["TRITON_INTERPRET"] = "1"
# A failing network prints in one line, so no minutes go into shrinking it. No clock decides: without `deadline` an
# example may take any time, without `too_slow` drawing one may, on a machine that does ten other things.
hypothesis.settings.register_profile(
    "laws",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    max_examples=25,
    phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
)
hypothesis.settings.load_profile("laws")
ROOT = Path(__file__).resolve().parents[1]
# What else is installed, like examples/plugin, changes nothing here: its entry points count as loaded. Tests of plug-ins
# look for entry points again; other processes, like those of the command line, see what is installed.
naming.import_folders()  # as the first look-up does
registry._plugins = []


# What tests and fixtures draw without a seed of their own is the same whatever ran before, in whichever worker.
@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    torch.manual_seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    torch.manual_seed(0)


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
