"""The C network on a Cortex-M in QEMU, with the script of the documentation."""

import shutil
import subprocess
from pathlib import Path

import pytest
from drawn_slots import DRAWN as FIRST_SPIKES
from drawn_wholes import DRAWN as STREAMING

from transpike.exporters import C

SCRIPT = Path(__file__).resolve().parents[2] / "examples/cortex_m/run.sh"
DRAWN = {**STREAMING, **{f"first spikes of {name}": make for name, make in FIRST_SPIKES.items()}}
NEEDED = ("arm-none-eabi-gcc", "qemu-system-arm")
missing = [name for name in NEEDED if shutil.which(name) is None]
pytestmark = pytest.mark.skipif(bool(missing), reason=f"needs {' and '.join(missing)}")


def run(folder: Path, *target: str) -> subprocess.CompletedProcess:
    return subprocess.run([SCRIPT, folder, *target], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("target", [("cortex-m0plus",), ("cortex-m3",), ("cortex-m4", "mps2-an386")])
def test_every_spike_is_equal(kind: str, target: tuple[str, ...], tmp_path: Path) -> None:
    whole, samples, expected = DRAWN[kind](3)
    C().write(whole, tmp_path, samples, expected)
    done = run(tmp_path, *target)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of" in done.stdout and "0 totals and potentials of 0 layers differ" in done.stdout


def test_a_fault_is_found(tmp_path: Path) -> None:
    whole, samples, expected = STREAMING["pixels"](3)
    C().write(whole, tmp_path, samples, expected)
    source = tmp_path / "net.c"
    source.write_text(source.read_text().replace("if (u >= ", "if (u > "))
    done = run(tmp_path)
    assert done.returncode == 4 and "first difference: sample " in done.stdout
