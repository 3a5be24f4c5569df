"""Run the tests as other machines would: ``python tests/matrix.py [arguments of pytest ...]``, or ``make test-matrix``.

Other vector instructions, other threads and a machine that is busy with something else add floats in another order and
take another time. No test may depend on either. Ends with 1 if the tests fail under any of the settings.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

SETTINGS = {
    "as it is": {},
    "no wide vectors": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
    # passive: four threads on two processors must not wait in loops
    "two threads": {"TRANSPIKE_TEST_THREADS": "2", "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "PASSIVE"},
    "two busy loops": {},
}


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """As many processes that do nothing but take time."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def main(arguments: list[str]) -> int:
    given = arguments or ["-m", "not slow", "-n", "2"]
    ends = {}
    for name, settings in SETTINGS.items():
        said = " ".join(f"{key}={value}" for key, value in settings.items())
        print(f"== {name} {said}", flush=True)
        with busy(2 if name == "two busy loops" else 0):
            command = [sys.executable, "-m", "pytest", "-q", *given]
            ends[name] = subprocess.run(command, env={**os.environ, **settings}, check=False).returncode
    for name, code in ends.items():
        print(f"{name}: {'passed' if not code else 'FAILED'}")
    return int(any(ends.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
