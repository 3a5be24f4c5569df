"""The native library against plain loops in C, with this processor's instruction sets and with NEON on an emulated ARM."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from transpike.engines.native import instructions
from transpike.engines.native import library as _native

HERE = Path(__file__).parent
NATIVE = HERE.parents[1] / "native"
OPTIONS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unknown-pragmas"]
OPTIONS += ["-Wno-unused-parameter", "-ffp-contract=off"]
ARM = {"gcc": "aarch64-linux-gnu-gcc", "objdump": "aarch64-linux-gnu-objdump", "qemu": "qemu-aarch64"}
MISSING = [tool for tool in ARM.values() if shutil.which(tool) is None]
LAYERS = "25"


def said_by(*command: object, **settings: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env={**os.environ, **settings}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.skipif(_native.load()[0] is None, reason="there is no native library")
def test_every_instruction_set_of_this_processor_computes_what_plain_loops_do(tmp_path):
    library = Path(str(_native.path())).resolve()
    program = tmp_path / "kernels"
    said_by("gcc", *OPTIONS, "-O1", f"-I{NATIVE}", HERE / "kernels.c", "-o", program, library, "-lm")
    said = said_by(program, LAYERS, LD_LIBRARY_PATH=str(library.parent)).splitlines()
    right = [line.split(":")[0] for line in said if line.endswith(f"{LAYERS} layers are right")]
    assert right == list(instructions.available(_native.load()[0]))


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")
def test_neon_computes_what_plain_loops_do(tmp_path):
    objects = []
    for file in (*sorted(NATIVE.glob("*.c")), HERE / "kernels.c"):
        objects.append(tmp_path / f"{file.stem}.o")
        said_by(ARM["gcc"], *OPTIONS, "-O3", f"-I{NATIVE}", "-c", file, "-o", objects[-1])
    said_by(ARM["gcc"], "-static", *objects, "-lm", "-o", tmp_path / "kernels")
    said = said_by(ARM["qemu"], tmp_path / "kernels", LAYERS)
    assert f"NEON: {LAYERS} layers are right" in said
    assert "AVX2: not compiled" in said
    code = said_by(ARM["objdump"], "-d", "--no-show-raw-insn", tmp_path / "kernel.o")
    for instruction in ("fadd", "fcmge", "sshr", "add"):  # on four lanes at once
        assert any(instruction in line and ".4s" in line for line in code.splitlines()), instruction
    assert "fmla" not in code  # it rounds once where the other sets round twice
