"""A native library that is missing, broken, of another version or fed nonsense: said in one line, never a crash."""

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import transpike as ts
from networks import small_cnn
from transpike.engines import event_status
from transpike.engines.event import run as event_engine
from transpike.engines.native import library as _native
from transpike.errors import SettingError
from waiting import HANGS

LIBRARY, WHY = event_status()
# Without a C compiler the library is not built, and there is nothing to test.
needs_library = pytest.mark.skipif(LIBRARY is None, reason=f"the native library is {WHY}")

PROGRAM = """
import torch, transpike as ts
from networks import small_cnn
from transpike.engines import event_status
print(event_status()[1])
case = small_cnn()
snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=8), case.calibration)
auto = ts.simulate(snn, case.x)
assert torch.equal(auto.logits, ts.simulate(snn, case.x, engine="reference").logits)
print(sorted(set(auto.kernels.values())))
try:
    ts.simulate(snn, case.x, engine="event")
except ts.errors.SettingError as error:
    print("refused:", error)
"""


def say_with(library: str) -> str:
    """What a fresh process says that is given this library."""
    here = Path(__file__).resolve().parents[1]
    environment = {"PATH": "", "TRANSPIKE_NATIVE": library, "PYTHONPATH": f"{here}:{here.parent / 'src'}"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False, timeout=HANGS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_the_library_the_fused_engine_serves(tmp_path):
    for library in ("off", str(tmp_path / "missing.so")):
        said = say_with(library)
        assert "the dense engine is used instead" in said
        assert "dense: the native library is" in said
        assert "refused: the event engine's native library is" in said


def test_a_file_that_is_no_library_is_said_to_be_none(tmp_path):
    (tmp_path / "broken.so").write_bytes(b"\x7fELF" + b"\0" * 100)
    assert "cannot be loaded" in say_with(str(tmp_path / "broken.so"))


@needs_library
def test_a_truncated_library_is_refused(tmp_path):
    whole = Path(_native.path()).read_bytes()
    (tmp_path / "half.so").write_bytes(whole[: len(whole) // 2])
    assert "cannot be loaded" in say_with(str(tmp_path / "half.so"))


def test_another_library_is_refused():
    import _ctypes

    said = say_with(_ctypes.__file__) if Path(_ctypes.__file__).suffix == ".so" else "cannot be loaded"
    assert "cannot be loaded" in said


@needs_library
@pytest.mark.parametrize("name", ["ABI", "Layer"])
def test_a_library_of_another_version_is_refused(monkeypatch, name):
    other = (
        _native.ABI + 1 if name == "ABI" else type("Layer", (ctypes.Structure,), {"_fields_": [("x", ctypes.c_int64)]})
    )
    monkeypatch.setattr(_native, name, other)
    library, why = _native.load.__wrapped__()
    assert library is None
    assert "another version than the Python files" in why


@needs_library
def test_the_event_engine_refuses_other_devices():
    case = small_cnn()
    snn = ts.convert(case.graph, ts.recipes.ECC(timesteps=8), case.calibration)
    with pytest.raises(SettingError, match="runs on the CPU, not on meta; use engine='dense'"):
        event_engine.Event().start(snn.program, case.x.to("meta"), torch.arange(5))


@needs_library
@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"steps": 33},
        {"channels": 17},
        {"source_count": 65},
        {"source_count": -1},
        {"range_check_every": 0},
        {"batch": 2**40, "height": 2**40},
        {"threads": 2**40},
        {"width": -1},
        {"batch": 0},
    ],
    ids=str,
)
def test_the_library_refuses_layers_that_it_cannot_run(change):
    wanted = {
        "batch": 1,
        "height": 1,
        "width": 1,
        "channels": 16,
        "steps": 8,
        "range_check_every": 8,
        "threads": 1,
        "blocks": 0,
    }
    layer = _native.Layer(**(wanted | change))
    assert LIBRARY.tp_scratch_bytes(ctypes.byref(layer)) == -1
    assert LIBRARY.tp_run(ctypes.byref(layer), None) == -1


SOURCE = {
    "plane_count": 1, "height": 4, "width": 4, "channels": 16, "groups": 1, "kernel_y": 3, "kernel_x": 3,
    "stride_y": 1, "stride_x": 1, "padding_y": 1, "padding_x": 1, "dilation_y": 1, "dilation_x": 1,
}  # fmt: skip


@needs_library
@pytest.mark.parametrize(
    "change",
    [
        {"kind": 7},
        {"plane_count": 0},
        {"groups": 0},
        {"groups": 2},
        {"channels": 20},
        {"kernel_x": 0},
        {"stride_y": 0},
        {"dilation_x": 0},
        {"padding_x": -1},
        {"height": 0},
        {"width": 2**20},
        {"width": 2**62},
        {"kernel_y": 2**40},
        {"plane_count": 2**40},
        {"padding_y": 2**62},
        {"kind": 1, "plane_count": 2},
        {"kind": 1, "kernel_y": 17},
        {"kind": 2, "channels": 32},
        {"kind": 2, "kernel_y": 30, "kernel_x": 30},
    ],
    ids=str,
)
def test_the_library_refuses_sources_that_it_cannot_read(change):
    source = _native.Source(**(SOURCE | change))
    layer = _native.Layer(
        sources=ctypes.addressof(source), source_count=1, batch=1, height=4, width=4, channels=16, steps=8, range_check_every=8,
        threads=1,
    )  # fmt: skip
    assert LIBRARY.tp_scratch_bytes(ctypes.byref(layer)) == -1
    assert LIBRARY.tp_run(ctypes.byref(layer), None) == -1
