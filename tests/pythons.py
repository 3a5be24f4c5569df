"""The tests on several versions of Python: ``python tests/pythons.py [--whole] [arguments of pytest …]``.

``make test-pythons`` runs it. Each version gets an environment .venv-pythons/VERSION, which uv makes from an interpreter
of this machine, also of pyenv, or from one that it downloads; pip installs, as for ``make test``. By default a selection
of what depends on Python runs: capture, files of format 1, the command line, every code block of the pages; ``--whole`` runs
what ``make demo`` and ``make test`` run. Ends with 1 if any version fails, after all of them.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
SHORT = (
    "tests/core", "tests/golden", "tests/docs/test_code_blocks.py", "tests/docs/test_shell_blocks.py",
    "tests/cli/test_cli.py", "tests/cli/test_version.py", "tests/workflow/test_like_module.py",
)  # fmt: skip


def arguments_of(words: list[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """The options, and what is left for pytest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=PYTHONS, metavar="VERSION")
    parser.add_argument("--torch", default="torch", help="requirement of torch, like torch==2.13.0")
    parser.add_argument("--uv", default="uv", help="the program uv")
    parser.add_argument("--whole", action="store_true", help="the demo, and all tests of make test")
    return parser.parse_known_args(words)


def main() -> int:
    arguments, tests = arguments_of()
    tests = tests or ["-n", "2", *(() if arguments.whole else SHORT)]
    ends = {version: _run(version, arguments, tests) for version in arguments.pythons}
    for version, (code, seconds) in ends.items():
        print(f"Python {version}: {'passed' if code == 0 else f'failed ({code})'}, {seconds:.0f} s")
    return int(any(code for code, _ in ends.values()))


def interpreter(version: str) -> str:
    """The newest one of pyenv, whose commands on the PATH uv cannot run; else the version, for uv to find."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [path for path in root.glob(f"versions/{version}.*/bin/python") if path.is_file()]
    return str(max(found, key=lambda path: int(path.parts[-3].rpartition(".")[2]))) if found else version


def _run(version: str, arguments: argparse.Namespace, tests: list[str]) -> tuple[int, float]:
    """Exit code of the first command that fails, else 0, and seconds."""
    folder = ROOT / ".venv-pythons" / version
    python = folder / "bin/python"
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--progress-bar", "off"]
    commands: list[list] = [
        [arguments.uv, "venv", "--quiet", "--seed", "--allow-existing", "--python", interpreter(version), folder],
        [*install, arguments.torch],
        [*install, "--editable", ".[dev]"],
        [*install, "--no-deps", "--no-build-isolation", "--editable", "examples/plugin"],
        [
            python,
            "-c",
            "import sys, torch; print('Python', sys.version.split()[0], 'torch', torch.__version__, flush=True)",
        ],
        *([[folder / "bin/transpike", "demo", "--output-dir", folder / "demo"]] if arguments.whole else []),
        [python, "-m", "pytest", "-q", "-m", "not slow", *tests],
    ]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    start = time.monotonic()
    for command in commands:
        code = subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, check=False).returncode
        if code:
            print(f"Python {version}: {' '.join(map(str, command))} failed with {code}")
            return code, time.monotonic() - start
    return 0, time.monotonic() - start


if __name__ == "__main__":
    sys.exit(main())
