"""Names and remarks from files that nobody has read, and streams that cannot write every character."""

import dataclasses
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

import transpike as ts
from stored import stored
from transpike.cli import main
from transpike.core.graph import Graph
from transpike.errors import DataError, MissingExtra, one_line, printable
from transpike.results.terminal import Printable, printable_streams, shown
from waiting import HANGS

ATTACK = "\x1b[2J\x1b]0;owned\x07\r\x08\x9b31m\u202egnp\x7f"
VISIBLE = r"\x1b[2J\x1b]0;owned\x07\r\x08\x9b31m\u202egnp\x7f"
SEEN = r"\x1b]0;owned"  # click removes sequences of colours and movements where it writes to a pipe
MARKED = "[red]a[/nonsense] <b>&amp; $\\frac$ "
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")


def renamed(snn: ts.SNN, text: str) -> ts.SNN:
    """The network with ``text`` in the names of its layers, in its remarks and in its provenance."""

    def name(old: str) -> str:
        return f"{text}{old}"

    def graph(old: Graph) -> Graph:
        return Graph(tuple(
            dataclasses.replace(node, name=name(node.name), inputs=tuple(map(name, node.inputs))) for node in old
        ))  # fmt: skip

    return dataclasses.replace(
        snn, graph=graph(snn.graph), source=graph(snn.source), remarks=(f"a remark{text}",),
        ranges={name(key): value for key, value in snn.ranges.items()},
        rates={name(key): value for key, value in snn.rates.items()},
        provenance={**snn.provenance, "model": f"model{text}", "data": f"data{text}"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def digits() -> ts.data.Dataset:
    return ts.data.load("digits")


@pytest.fixture(scope="module")
def network(digits) -> ts.SNN:
    return ts.convert(stored("two-layers"), ts.recipes.ECC(timesteps=4), digits.train.images[:64])


@pytest.fixture(scope="module")
def attacking(network) -> ts.SNN:
    return renamed(network, ATTACK + MARKED)


@pytest.fixture(scope="module")
def file(attacking, tmp_path_factory) -> Path:
    return ts.save(attacking, tmp_path_factory.mktemp("net") / "net.transpike")


def test_control_characters_are_shown_as_escapes():
    assert printable(ATTACK) == VISIBLE and printable("a\tb\nθ 🙂 é") == "a\tb\nθ 🙂 é"
    assert one_line("a\tb\n\x1b") == r"a\tb\n\x1b"
    assert printable("file\udcff") == r"file\udcff"  # a file name that is no UTF-8
    assert str(DataError(f"bad {ATTACK}")) == f"bad {VISIBLE}" and str(MissingExtra("\x1b")) == r"\x1b"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "θ 3 × 2 … ½ κ ⌊x⌋ 🙂 ² 5 µJ −1"),
        ("cp1252", r"theta 3 × 2 … ½ kappa \u230ax\u230b \U0001f642 ² 5 µJ -1"),
        ("ascii", r"theta 3 x 2 ... \xbd kappa \u230ax\u230b \U0001f642 ^2 5 uJ -1"),
    ],
)
def test_what_an_encoding_lacks_is_written_in_a_simpler_form(encoding, expected):
    text = "θ 3 × 2 … ½ κ ⌊x⌋ 🙂 ² 5 µJ −1"
    assert shown(text, encoding) == expected and shown(text, None) == text
    inner = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    stream = Printable(inner)
    assert stream.write(text) == len(text)
    stream.writelines(["\x1b", "!"])
    stream.flush()
    assert inner.buffer.getvalue().decode(encoding) == expected + r"\x1b!"


def test_streams_are_what_they_were_afterwards():
    before = sys.stdout, sys.stderr
    with pytest.raises(ZeroDivisionError), printable_streams():
        assert isinstance(sys.stdout, Printable) and sys.stdout.stream is before[0]
        raise ZeroDivisionError
    assert (sys.stdout, sys.stderr) == before


def test_a_network_prints_the_names_of_its_layers_in_one_line_each(network):
    found = renamed(network, ATTACK + "\nANN 99 %")
    assert not CONTROL.search(str(found)) and VISIBLE + r"\nANN 99 %" in str(found)
    assert len(str(found).splitlines()) == len(str(network).splitlines()) - len(network.remarks) + 1
    assert not CONTROL.search(str(found.graph))


def results(snn: ts.SNN, digits: ts.data.Dataset) -> dict[str, object]:
    images = digits.test.batches(16, limit=32)
    return {
        "evaluation": ts.evaluate(snn, images),
        "cost": ts.cost(snn, images),
        "explanation": ts.explain(snn, images, samples=16),
        "record": ts.record(snn, images, samples=1),
    }


@pytest.fixture(scope="module")
def found(attacking, digits) -> dict[str, object]:
    return results(attacking, digits)


@pytest.mark.parametrize("kind", ["evaluation", "cost", "explanation", "record"])
def test_reports_show_names_and_not_what_they_would_do(found, kind, tmp_path):
    text = ts.report.text(found[kind])
    assert not CONTROL.search(text)
    console = Console(file=io.StringIO(), width=400, color_system=None, force_terminal=False)
    ts.report.show(found[kind], console)
    written = console.file.getvalue()
    assert not CONTROL.search(written) and (SEEN in written or VISIBLE not in text)
    if kind in ("evaluation", "cost", "explanation"):  # whose tables name layers or remarks
        assert kind == "cost" or MARKED in written  # brackets are no styles
    console.print("[bold]as before[/bold]")
    assert console.file.getvalue().endswith("as before\n")
    for ending in (".txt", ".html"):
        content = ts.report.save(found[kind], tmp_path / f"a{ending}").read_text(encoding="utf-8")
        assert not CONTROL.search(content), ending
    assert MARKED[5:] not in content and ("&lt;b&gt;&amp;amp; $" in content or kind == "cost")


def test_a_name_cannot_break_a_picture(found, tmp_path):
    for kind in ("evaluation", "cost", "explanation"):
        path = ts.report.save(found[kind], tmp_path / f"{kind}.svg")
        assert path.read_bytes() == ts.report.save(found[kind], tmp_path / "again.svg").read_bytes()
        assert not CONTROL.search(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("words", [["inspect"], ["evaluate", "--limit", "16"], ["verify"], ["energy", "--limit", "16"]])
def test_commands_show_names_and_not_what_they_would_do(file, words):
    done = CliRunner().invoke(main, [words[0], str(file), *words[1:]])
    assert done.exit_code == 0, done.output
    assert not CONTROL.search(done.stdout + done.stderr)
    assert SEEN in done.stdout or words[0] == "energy"


@pytest.mark.parametrize(
    "words", [["evaluate", ATTACK], ["inspect", "--model", ATTACK], [ATTACK], ["convert", "--" + ATTACK]]
)
def test_errors_show_names_and_not_what_they_would_do(words):
    done = CliRunner().invoke(main, words)
    assert done.exit_code and r"\x1b" in done.stderr and not CONTROL.search(done.stderr)


HELP = """
import sys
from transpike.cli import main
for name, command in [("", None), *main.commands.items()]:
    try:
        main([name, "--help"] if name else ["--help"], standalone_mode=True)
    except SystemExit as error:
        assert not error.code, name
main(["inspect", sys.argv[1]], standalone_mode=False)
main(["evaluate", sys.argv[1], "--limit", "8"], standalone_mode=False)
main(["energy", sys.argv[1], "--limit", "8"], standalone_mode=False)
main(["explain", sys.argv[1], "--samples", "8", "--no-renew", "--no-changes"], standalone_mode=False)
import transpike as ts
snn = ts.load(sys.argv[1])
ts.report.show(ts.evaluate(snn, ts.data.load("digits").test.batches(8, limit=8)))
"""


@pytest.mark.parametrize(
    "variables",
    [{"PYTHONIOENCODING": "cp1252"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
    ids=["cp1252", "C"],
)
def test_help_and_reports_can_be_read_through_every_pipe(network, variables, tmp_path):
    path = ts.save(network, tmp_path / "net.transpike")
    environment = {**os.environ, "PYTHONPATH": str(Path(ts.__file__).parents[1]), **variables}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HELP, str(path)], capture_output=True, env=environment, timeout=HANGS
    )
    encoding = variables.get("PYTHONIOENCODING", "ascii")
    assert done.returncode == 0, done.stderr.decode(encoding)
    assert "theta" in done.stdout.decode(encoding)  # which fails for bytes that are no text in this encoding


SAVES = """
import sys
import torch
import transpike as ts
images = ts.data.load("digits").train.images[:64]
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
snn = ts.convert(model.eval(), ts.recipes.ECC(timesteps=4), images)
labels = ts.data.load("digits").train.labels[:64]
ts.save(snn, sys.argv[1] + "/net.transpike", metrics={"b": 1, "a": {"d": 2, "c": 3}})
ts.save(ts.finetune(snn, (images, labels), epochs=1), sys.argv[1] + "/tuned.transpike")
ts.train(model, ts.data.load("digits"), ts.Training(epochs=1), weights=sys.argv[1] + "/weights.safetensors")
"""


def test_one_network_is_saved_in_the_same_bytes(tmp_path):
    content = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        environment = {**os.environ, "PYTHONPATH": str(Path(ts.__file__).parents[1]), "PYTHONHASHSEED": seed}
        environment["OMP_NUM_THREADS"] = "1"
        subprocess.run([sys.executable, "-c", SAVES, str(folder)], check=True, env=environment, timeout=HANGS)
        content.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert content[0].keys() == {"net.transpike", "tuned.transpike", "weights.safetensors"}
    assert content[0] == content[1]
    assert torch.equal(*(ts.load(tmp_path / seed / "net.transpike")(torch.ones(1, 1, 8, 8)) for seed in "12"))
