"""What all commands have in common: help, names, errors, exit codes, configuration, quiet and verbose."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import transpike as ts
from commands import run
from stored import stored
from transpike.cli import COMMANDS, main
from transpike.cli._recipes import flags_of
from transpike.core import renamed
from transpike.workflow.train import save_weights


@pytest.fixture(scope="module")
def network(trained: Path) -> Path:
    path = trained.with_name("net.transpike")
    run("convert", "--weights", trained, "--timesteps", 8, "--output", path)
    return path


# help, version, completion


def python(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )


LIGHT = """
import sys
from transpike.cli import main
sys.argv = ["transpike", *sys.argv[1:]]
try:
    main(prog_name="transpike")
except SystemExit as end:
    code = end.code
print(code, sorted({name.partition(".")[0] for name in sys.modules} & {"torch", "numpy", "safetensors", "jinja2"}))
"""


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], [], ["nonsense"], ["--nonsense"]])
def test_help_and_version_import_no_torch(words: list[str]) -> None:
    answer = python("-c", LIGHT, *words)
    assert answer.stdout.splitlines()[-1] in ("0 []", "2 []"), answer.stdout + answer.stderr


@pytest.mark.parametrize("shell", ["bash_source", "zsh_source", "fish_source", "bash_complete"])
def test_completion_imports_no_torch(shell: str) -> None:
    answer = python("-c", LIGHT, _TRANSPIKE_COMPLETE=shell, COMP_WORDS="transpike eva", COMP_CWORD="1")
    assert answer.stdout.splitlines()[-1] == "0 []", answer.stdout + answer.stderr
    assert ("plain,evaluate" if shell == "bash_complete" else "transpike") in answer.stdout


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("transpike convert --cal", "plain,--calibration-samples"),
        ("transpike convert --recipe few", "plain,few-steps"),
        ("transpike inspect --report ", "file,"),
        ("transpike evaluate --no-exact", ""),
        ("transpike convert --no-exact", "plain,--no-exact-grid"),
        ("transpike evaluate --json --eng", "plain,--engine"),
        ("transpike -", "plain,--help"),
    ],
)
def test_options_and_words_are_completed_without_torch(words: str, found: str) -> None:
    count = len(words.split(" ")) - 1
    answer = python("-c", LIGHT, _TRANSPIKE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(count))
    assert answer.stdout.splitlines()[-1] == "0 []" and found in answer.stdout, answer.stdout + answer.stderr


def test_completion_knows_the_options_that_there_are() -> None:
    root = Path(__file__).resolve().parents[2]
    code = "import sys; sys.path.insert(0, sys.argv[1]); import completion; print(completion.content(), end='')"
    answer = python("-c", code, str(root / "benchmarks"), PYTHONIOENCODING="utf-8")
    assert answer.returncode == 0, answer.stderr
    written = (root / "src/transpike/cli/completion.json").read_text(encoding="utf-8")
    assert answer.stdout == written, "run benchmarks/completion.py"


def test_import_alone_imports_no_torch_and_every_public_name_is_there() -> None:
    code = "import sys, transpike; assert 'torch' not in sys.modules; from transpike import *; print(sorted(dir()))"
    answer = python("-c", code)
    assert set(ts.__all__) <= set(re.findall(r"'(\w+)'", answer.stdout)), answer.stderr


def test_no_folder_asks_the_registry_while_it_is_imported() -> None:
    """A look-up imports all folders, so one of a folder that is being imported would be a circle."""
    code = (
        "import transpike; from transpike.core import registry\nfor name in transpike.__all__: getattr(transpike, name)\n"
        "print(registry._plugins)"
    )
    assert python("-c", code).stdout.strip() == "None"


@pytest.mark.parametrize(
    "module", ["recipes", "files", "workflow.convert", "workflow.compare.run", "report", "testing"]
)
def test_a_folder_can_be_imported_first(module: str) -> None:
    code = (
        f"import transpike.{module}; from transpike.core.registry import families, file_class; import transpike as ts\n"
    )
    answer = python("-c", code + "assert file_class('ECC') is ts.recipes.ECC; print(len(families['chip'].table) >= 0)")
    assert answer.stdout.strip() == "True", answer.stderr


def test_without_words_the_help_is_shown() -> None:
    assert run().stdout == run("--help").stdout


def test_python_m_transpike() -> None:
    answer = python("-m", "transpike", "--help")
    assert answer.returncode == 0 and answer.stdout.startswith("Usage: transpike ")


def test_every_command_is_listed_and_loads() -> None:
    files = {path.stem.rstrip("_") for path in Path(main.get_command.__code__.co_filename).parent.glob("[a-z]*.py")}
    assert {name.replace("-", "_") for name in COMMANDS} == files
    listed = run("--help").output
    for name, text in COMMANDS.items():
        command = main.get_command(None, name)
        assert command is not None and command.name == name and f"{name} " in listed and text in listed
        assert {"config", "quiet", "verbose"} <= {param.name for param in command.params}


# help of a recipe


def test_the_help_of_convert_is_short_and_loses_no_flag() -> None:
    text = run("convert", "--help").output
    command = main.get_command(None, "convert")
    assert command is not None
    flags = {flag for param in command.params for flag in param.opts if flag.startswith("--")}
    assert len(flags) > 60 and flags <= set(re.findall(r"--[a-z][a-z-]*", text))
    assert len(text.splitlines()) < 100 and "--recipe NAME --help" in text


@pytest.mark.parametrize("words", [["--recipe", "bsnn", "--help"], ["--help", "--recipe=bsnn"]])
def test_the_help_of_a_recipe_shows_its_settings_only(words: list[str]) -> None:
    text = run("convert", *words).output
    own = {f"--{name.replace('_', '-')}" for name in flags_of(ts.recipes.BSNN)}
    others = {f"--{name.replace('_', '-')}" for kind in ts.recipes.members for name in flags_of(kind)} - own
    shown = set(re.findall(r"(?<=\n  )--[a-z][a-z-]*", text))
    assert own <= shown and not shown & others and {"--output", "--weights", "--json"} <= shown
    assert "[default: 8]" in text  # BSNN's time steps, not those of the default recipe


def test_recipes_are_listed_one_line_each() -> None:
    lines = run("recipes").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(ts.recipes.table)
    ecc = next(line for line in lines if line.startswith("ecc "))
    assert "Wu et al. 2022" in ecc and "binary" in ecc and "streaming" in ecc


def test_spikes_and_sources_of_recipes_are_those_of_the_page_of_methods() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/methods.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")]
    table = {row[0].strip("`"): row for row in rows if len(row) == 12}
    found = {one["name"]: one for one in json.loads(run("recipes", "--json").stdout)}
    lines = {line.split()[0]: line for line in run("recipes").stdout.splitlines()}
    for kind in ts.recipes.members:
        row, one = table[kind.name], found[kind.name]
        assert one["source"] == row[1] and one["training_free"] == (row[2] == "no")
        assert row[10].startswith(one["schedule"] + ":")
        assert one["spikes"] is None or f"{row[7]}, {one['schedule']}" in lines[kind.name]
    assert [name for name, one in found.items() if one["spikes"] is None] == ["adafire"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--spikes", "phase"], {"bsnn"}),
        (["--spikes", "ternary", "--training-free"], {"snm"}),
        (["--schedule", "differences"], {"dcgs", "sigma-delta", "burst-digits", "spikezip"}),
        (["--source", "stanojevic"], {"exact-mapping"}),
        (["--since", 2026], {"h-mt"}),
        (["--signed", "--spikes", "bits"], {"dcgs", "ecmt", "sigma-delta", "burst-digits", "spikezip"}),
        (["--one-timestep", "--source", "Datta"], {"datta-beerel"}),
    ],
)
def test_recipes_are_selected_by_property(words: list[object], names: set[str]) -> None:
    assert {one["name"] for one in json.loads(run("recipes", *words, "--json").stdout)} == names


def test_a_recipe_is_shown_with_its_source_and_defaults() -> None:
    text = run("recipes", "ecc").output
    assert "Front. Neurosci. 2022" in text and re.search(r"--timesteps\s+Time steps\.\s+\[default: 64\]", text)
    content = json.loads(run("recipes", "ecc", "--json").stdout)
    assert {"flag": "--timesteps", "default": "64", "help": "Time steps."} in content["settings"]
    assert "did you mean 'ecc'?" in run("recipes", "eccc", code=2).output
    assert "omit one" in run("recipes", "ecc", "--training-free", code=2).output


# errors


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["evaluat"], "error: no such command: 'evaluat' (did you mean 'evaluate'?) (see transpike --help)"),
        (["evaluate", "--timestep", "3"], "no such option: --timestep (did you mean '--timesteps'?)"),
        (["convert", "--recipe", "eccc"], "did you mean 'ecc'?"),
        (["convert", "--rungs", "3"], "--rungs has been renamed to --threshold-count"),
        (["convert", "--rehearsal", "3"], "--rehearsal has been renamed to --pre-simulation-steps"),
        (["evaluate", "x", "--engine", "fused"], "'fused' has been renamed to 'dense'"),
        (["evaluate", "x", "--engine", "evnet"], "did you mean 'event'?"),
        (["--quack"], "error: no such option: --quack (see transpike --help)"),
        (["convert", "-z"], "error: no such option: -z (see transpike convert --help)"),
        (["evaluate"], "Missing argument 'FILE' (see transpike evaluate --help)"),
    ],
)
def test_usage_errors_are_one_line_with_the_closest_name(words: list[str], text: str) -> None:
    result = CliRunner().invoke(main, words, prog_name="transpike")
    assert result.exit_code == 2 and result.stdout == ""
    assert text in result.stderr and result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1


def test_every_old_setting_is_explained_as_a_flag() -> None:
    assert {old.replace("_", "-") for old in renamed.SETTINGS} <= set(renamed.FLAGS)
    for old, new in renamed.FLAGS.items():
        assert f"--{old} has been renamed to --{new}" in run("convert", f"--{old}", 1, code=2).output


@pytest.fixture
def damaged(network: Path, tmp_path: Path) -> Path:
    path = tmp_path / "damaged.transpike"
    path.write_bytes(network.read_bytes()[:-100])
    return path


def cases(network: Path, damaged: Path, folder: Path) -> dict[str, tuple[int, str, list[object]]]:
    """Exit code, type and words of a mistake of every kind."""
    weights = folder / "other.safetensors"
    save_weights(stored("two-layers"), weights)
    (folder / "only_silu.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.SiLU())\n"
    )
    out = folder / "out.transpike"
    return {
        "no option": (2, "UsageError", ["evaluate", network, "--nonsense"]),
        "no command": (2, "UsageError", ["nonsense"]),
        "setting": (2, "SettingError", ["convert", "--beta", 2, "--output", out]),
        "name of data": (2, "SettingError", ["evaluate", network, "--data", "cifra10"]),
        "operator": (3, "UnsupportedOperator", ["convert", "--model", "py:only_silu:make", "--output", out]),
        "gate": (4, "GateFailed", ["evaluate", network, "--limit", 5, "--max-drop", -101]),
        "no file": (5, "FileError", ["evaluate", folder / "nowhere.transpike"]),
        "damaged file": (5, "FileError", ["verify", damaged]),
        "folder": (5, "FileError", ["inspect", folder]),
        "weights": (5, "CheckpointError", ["inspect", "--weights", weights]),
        "data": (5, "DataError", ["evaluate", network, "--data", "mnist", "--data-dir", folder]),
        "no folder": (5, "FileError", ["convert", "--output", folder / "none" / "x.transpike"]),
    }


KINDS = [
    "no option", "no command", "setting", "name of data", "operator", "gate", "no file", "damaged file", "folder", "weights",
    "data", "no folder",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_errors_exit_with_their_code_in_text_and_in_json(
    kind: str, network: Path, damaged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    found = cases(network, damaged, tmp_path)
    assert list(found) == KINDS
    code, name, words = found[kind]
    text = run(*words, code=code).stderr
    told = [line for line in text.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    result = run(*words, "--json", code=code)
    error = json.loads(result.stderr.splitlines()[-1])["error"]
    assert error["type"] == name and error["exit_code"] == code
    assert error["message"].splitlines()[0] == told[0].removeprefix("error: ")
    assert not result.stdout or (kind == "gate" and json.loads(result.stdout)["samples"] == 5)


def test_verbose_shows_where_an_error_comes_from(tmp_path: Path) -> None:
    words = ("evaluate", tmp_path / "nowhere.transpike")
    assert "Traceback" not in run(*words, code=5).stderr
    assert "Traceback" in run(*words, "--verbose", code=5).stderr


def test_an_interruption_is_one_line_and_130(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*values: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ts, "evaluate", interrupted)
    assert run("evaluate", network, code=130).stderr.split() == ["interrupted"]
    error = json.loads(run("evaluate", network, "--json", code=130).stderr.splitlines()[-1])["error"]
    assert error == {"type": "Interrupted", "message": "interrupted", "exit_code": 130}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_an_interrupted_process_exits_with_130() -> None:
    code = (
        "import signal\nfrom transpike.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored in processes in the background
        "from transpike.cli import doctor\n"
        "doctor.command.callback = lambda: signal.raise_signal(signal.SIGINT)\nmain(['doctor'])"
    )
    answer = python("-c", code)
    assert answer.returncode == 128 + signal.SIGINT and answer.stderr.split() == ["interrupted"] and not answer.stdout


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGPIPE")
@pytest.mark.parametrize("words", ["--help", "recipes", "convert --help", "doctor", "evaluate FILE --limit 5"])
def test_a_closed_pipe_is_quiet(words: str, network: Path) -> None:
    command = [sys.executable, "-m", "transpike", *words.replace("FILE", str(network)).split()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141 and not re.search("Traceback|Broken|ignored", errors)


# quiet and verbose


def test_quiet_prints_nothing_but_what_json_asks_for(network: Path, tmp_path: Path) -> None:
    words = ("convert", "--timesteps", 4, "--output", tmp_path / "n.transpike", "--calibration-samples", 50)
    assert "untrained" in run(*words).stderr and run(*words).stdout
    quiet = run(*words, "--quiet")
    assert quiet.output == ""
    result = run("evaluate", network, "--limit", 5, "--json", "-q")
    assert json.loads(result.stdout)["samples"] == 5 and result.stderr == ""
    assert run("evaluate", network, "--limit", 5, "-q", "--max-drop", -101, code=4).stderr.startswith("error: ")
    assert "contradict" in run("doctor", "-q", "-v", code=2).stderr


def test_verbose_says_versions_and_durations(network: Path) -> None:
    text = run("evaluate", network, "--limit", 5, "-v").stderr
    assert f"# transpike {ts.__version__}, torch " in text and re.search(r"^evaluating: \d+\.\d s$", text, re.MULTILINE)
    assert text.splitlines()[1].startswith("transpike evaluate ")


# configuration


def config(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_win_over_the_file_and_the_file_over_defaults(trained: Path, tmp_path: Path) -> None:
    made = tmp_path / "n.transpike"
    file = config(
        tmp_path,
        f'weights = "{trained.as_posix()}"\ntimesteps = 5\npercentile = 99\nexact-grid = false\ncalibration_samples = 60\n'
        f'[convert]\noutput = "{made.as_posix()}"\nbeta = 0.25\n[evaluate]\nlimit = 3\n',
    )
    run("convert", "--config", file, "--timesteps", 7)
    recipe = ts.load(made).recipe
    assert (recipe.timesteps, recipe.percentile, recipe.beta) == (7, 99.0, 0.25) and not ts.load(made).exact_grid
    assert ts.load(made).provenance["calibration_samples"] == 60


def test_lists_switches_arguments_and_json_come_from_the_file(network: Path, tmp_path: Path) -> None:
    file = config(
        tmp_path,
        f'file = "{network.as_posix()}"\nlimit = 4\njson = true\nreport = ["{(tmp_path / "a.json").as_posix()}", '
        f'"{(tmp_path / "b.txt").as_posix()}"]\n',
    )
    assert json.loads(run("evaluate", "--config", file).stdout)["samples"] == 4
    assert (tmp_path / "a.json").exists() and (tmp_path / "b.txt").exists()
    error = run("evaluate", "--config", file, "--max-drop", -101, code=4).stderr
    assert json.loads(error.splitlines()[-1])["error"]["type"] == "GateFailed"
    file = config(tmp_path, 'recipes = ["ecc", "few-steps"]\ntimesteps = [4, 8]\nlimit = 5\n')
    text = run("compare", "--config", file, "--store", tmp_path / "store", "--json", "--calibration-samples", 50).stdout
    assert [row["timesteps"] for row in json.loads(text)["rows"]] == [4, 8, 4, 8]


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("timestep = 3", 2, "'timestep' is not an option of transpike evaluate (did you mean 'timesteps'?)"),
        ("rungs = 3", 2, "it has been renamed to 'threshold-count'"),
        ("[evalute]\nlimit = 3", 2, "table [evalute] is not a command of transpike (did you mean 'evaluate'?)"),
        ("config = 'x.toml'", 2, "'config' is not an option"),
        ("help = true", 2, "'help' is not an option"),
        ("limit = true", 2, "limit takes a value, not true"),
        ("json = 1", 2, "json takes true or false, not 1"),
        ("limit = 'many'", 2, "Invalid value for '--limit'"),
        ("limit = 0", 2, "Invalid value for '--limit'"),
        ("limit = 1979-05-27", 2, "limit takes text, a number or a list of them"),
        ("report = []", 2, "report takes text, a number or a list of them"),
        ("report = [true]", 2, "report takes text, a number or a list of them"),
        ("engine = 'fused'", 2, "'fused' has been renamed to 'dense'"),
        ("limit = ", 5, "is not valid TOML"),
        ("limit = " + "9" * 5000, 5, "is not valid TOML"),
        ("limit = " + "[" * 3000, 5, "is nested too deeply"),
        ("# " + "x" * 2**20, 5, "too many for a configuration"),
    ],
)  # fmt: skip
def test_mistakes_in_the_file_are_explained(text: str, code: int, says: str, network: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        main, ["evaluate", str(network), "--config", str(config(tmp_path, text))], prog_name="transpike"
    )
    assert result.exit_code == code and says in result.stderr and result.stdout == "", result.stderr


def test_a_file_that_is_not_there_or_no_text_is_an_error(network: Path, tmp_path: Path) -> None:
    assert "cannot be read" in run("evaluate", network, "--config", tmp_path / "no.toml", code=5).stderr
    (tmp_path / "binary.toml").write_bytes(b"\xff\x00")
    assert "is not valid TOML" in run("evaluate", network, "--config", tmp_path / "binary.toml", code=5).stderr


def test_a_file_can_set_every_option() -> None:
    for name in COMMANDS:
        command = main.get_command(None, name)
        assert command is not None
        for param in command.params:
            if isinstance(param, click.Option) and param.name not in ("config", "help"):
                assert any(flag.startswith("--") for flag in param.opts), (name, param)


def test_the_example_of_the_page_is_valid(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/interface.md").read_text(encoding="utf-8")
    block = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert block is not None
    file = config(tmp_path, block[1])
    for name in ("convert", "compare"):
        result = run(
            name,
            "--config",
            file,
            "--data-dir",
            tmp_path,
            "--output",
            tmp_path / "n",
            code=5 if name == "convert" else 2,
        )
        assert "cifar10" in result.stderr or "--pick" in result.stderr, result.stderr
    for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE):
        assert int(code) in (0, 1, 2, 3, 4, 5, 130, 141)
