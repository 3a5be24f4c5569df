"""Commands of the command line, run in this process."""

from click.testing import CliRunner, Result

from transpike.cli import main


def run(*words: object, code: int = 0) -> Result:
    """What a command prints; fails with it if the exit code is another than ``code``."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result
