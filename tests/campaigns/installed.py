"""A stranger's path: a wheel in a new environment, outside of the source tree, without a compiler; with a stop-watch.

``python tests/campaigns/installed.py dist/transpike-*.whl``, or ``make wheel-check`` (which builds the wheel first). Checks
the version, that the package and the compiled engine come from the wheel, ``transpike doctor`` and ``transpike demo``.
``--own`` goes on as a new user would, ``make stranger``: examples/own_cnn.py, a report, C code, and its compilation, the
only step that sees a compiler. Ends with 1 at the first step that fails. ``--log`` keeps the times as JSON.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COMPILERS = ("cc", "gcc", "clang", "c++", "cmake")
PLACE = "import transpike, transpike.engines as e; print(transpike.__file__); print(e.event_status()[1])"


@dataclass
class Walk:
    """The steps so far: name → seconds, of the clock and of the processor."""

    folder: Path
    path: str
    """The PATH of the steps: the new environment alone."""
    steps: list[dict] = field(default_factory=list)

    def step(self, name: str, *command: str | Path, path: str = "") -> str:
        """Run a command in the folder; give what it printed. Exits with 1 if it fails."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "TRANSPIKE"))}
        environment["PATH"] = path or self.path
        start, used = time.monotonic(), _processor_seconds()
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
        )
        seconds, processor = time.monotonic() - start, _processor_seconds() - used
        self.steps.append({"step": name, "seconds": round(seconds, 1), "processor_seconds": round(processor, 1)})
        print(f"{seconds:7.1f} s ({processor:6.1f} s of the processor)  {name}", flush=True)
        if done.returncode:
            print(f"failed with {done.returncode}: {' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}")
            raise SystemExit(1)
        return done.stdout

    def expect(self, told: bool, text: str) -> None:
        """Exit with 1 and ``text`` if this is not so."""
        if not told:
            print(f"failed: {text}")
            raise SystemExit(1)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def install(walk: Walk, wheel: Path, torch: str) -> None:
    """A new environment with torch and the wheel. pip may not build anything."""
    walk.step("new environment", sys.executable, "-m", "venv", walk.folder / "venv")
    pip = (
        walk.folder / "venv/bin/python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--only-binary",
        ":all:",
    )
    walk.step(f"pip install {torch}", *pip, torch)
    walk.step(f"pip install {wheel.name}[report,images]", *pip, f"{wheel.resolve()}[report,images]")
    found = [name for name in COMPILERS if shutil.which(name, path=walk.path)]
    walk.expect(not found, f"these steps should see no compiler, but there is {', '.join(found)}")


def check(walk: Walk, wheel: Path) -> None:
    """What every installed wheel must do."""
    version = wheel.name.split("-")[1]
    told = walk.step("transpike --version", "transpike", "--version")
    walk.expect(version in told, f"transpike --version is {told!r}, the wheel's version {version}")
    place, status = walk.step("import transpike", "python", "-c", PLACE).strip().splitlines()
    walk.expect(Path(place).is_relative_to(walk.folder), f"transpike comes from {place}")
    doctor = walk.step("transpike doctor", "transpike", "doctor")
    walk.expect("instruction sets:" in doctor, f"the event engine is not compiled: {status}")
    walk.step("transpike demo", "transpike", "demo", "--output-dir", "demo")
    walk.expect((walk.folder / "demo/digits.transpike").is_file(), "the demo wrote no network")


def own(walk: Walk) -> None:
    """A network of the user's own, up to a compiled program."""
    shutil.copy(ROOT / "examples/own_cnn.py", walk.folder)
    walk.step("train, convert, evaluate own CNN", "python", "own_cnn.py", "10", "own.transpike")
    walk.step("transpike report", "transpike", "report", "own.transpike", "--data", "digits", "--output", "report.html")
    export = ("export", "own.transpike", "--to", "c", "--data", "digits", "--samples", "50", "--output", "firmware")
    walk.step("transpike export --to c", "transpike", *export)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        print("no C compiler on this machine: the exported program is not compiled")
        return
    flags = ("-std=c99", "-O2", "-DNET_WATCH", "firmware/net.c", "firmware/test.c", "-o", "watch")
    walk.step("compile the C code", compiler, *flags, path=os.environ["PATH"])
    print(walk.step("run its test vectors", walk.folder / "watch").strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--torch", default="torch", help="requirement of torch, like torch==2.13.0")
    parser.add_argument("--own", action="store_true", help="also a network of the user's own, to compiled C")
    parser.add_argument("--log", type=Path, help="JSON file for the times")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="transpike-installed-") as name:
        folder = Path(name).resolve()
        walk = Walk(folder, str(folder / "venv/bin"))
        start = time.monotonic()
        install(walk, arguments.wheel, arguments.torch)
        check(walk, arguments.wheel)
        if arguments.own:
            own(walk)
        total = time.monotonic() - start
    print(f"{total:7.1f} s in all")
    if arguments.log:
        machine = {"python": platform.python_version(), "system": platform.platform(), "cores": os.cpu_count()}
        told = {"wheel": arguments.wheel.name, "machine": machine, "load": os.getloadavg(), "steps": walk.steps}
        arguments.log.parent.mkdir(parents=True, exist_ok=True)
        arguments.log.write_text(json.dumps({**told, "seconds": round(total, 1)}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
