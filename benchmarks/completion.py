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
    parts = []
    for name in COMMANDS:
        command = main.get_command(None, name)
        assert command is not None
        options = ",\n".join(f"  {json.dumps(one, ensure_ascii=False)}" for one in described(command))
        parts.append(f' "{name}": [\n{options}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    FILE.write_text(content(), encoding="utf-8")
