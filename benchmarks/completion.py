"""src/transpike/cli/completion.json: the options of every command, for completion without importing them.

python benchmarks/completion.py
"""

import json

from transpike.cli import COMMANDS, main
from transpike.cli._completion import FILE, described
from transpike.core import registry


def content() -> str:
    """The text of the file, without plug-ins: they differ from one installation to the next."""
    registry._plugins = ()
    found = {}
    for name in COMMANDS:
        command = main.get_command(None, name)
        assert command is not None
        found[name] = described(command)
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.write_text(content(), encoding="utf-8")
