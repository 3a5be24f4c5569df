"""Tables: the same values on a terminal of any width, in CSV, Markdown and LaTeX, whatever the names hold."""

import csv
import io
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

import transpike as ts
from stored import stored
from transpike.cli import main
from transpike.errors import SettingError
from transpike.recipes import BSNN, ECC
from transpike.report._exports import csv_text, latex, markdown
from transpike.report._lines import broken, draw, lines
from transpike.report._table import Column, Table

LONG = "layer4_2_bottleneck_conv3_shortcut_relu"


def table(names: tuple[str, ...] = (LONG, LONG + "_1", "fc"), count: int = 8) -> Table:
    columns = (Column("layer", name=True), *(Column(f"number {i}", "%", "{:,.2f}".format) for i in range(count)))
    rows = tuple((name, *(1000.25 * i + 7 * n for i in range(count))) for n, name in enumerate(names))
    return Table("layers", "Layers", columns, rows, ("n = 60 samples", "seed 0"), strong=frozenset({1}))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_a_narrow_terminal_cuts_neither_names_nor_numbers(width: int) -> None:
    shown = table()
    found = [line for line, _ in lines(shown, width)]
    assert max(map(cell_len, found)) <= width
    parts = "\n".join(found).split("\n\n")
    assert len(parts) == {40: 4, 60: 2, 80: 2, 120: 1}[width]
    numbers = re.findall(r"[\d,]+\.\d\d", "\n".join(found))
    assert sorted(numbers) == sorted(text for row in shown.texts() for text in row[1:])
    for part in parts:  # every part has the names whole, over several lines
        together = "".join(line.split("  ")[0].strip() for line in part.splitlines() if not line.startswith("─"))
        assert together.count(LONG) == 2 and f"{LONG}_1fc" in together


def test_output_that_is_no_terminal_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    console = Console(file=io.StringIO())
    draw(table(), console)
    text = console.file.getvalue()
    assert LONG + "_1" in text and len(text.split("\n\n")) == 2 and "\x1b" not in text


def test_rows_of_a_group_stand_below_its_name() -> None:
    columns = (Column("recipe", name=True), Column("T"), *(Column(f"n{i}") for i in range(9)))
    rows = tuple((name, t, *range(100000, 100009)) for name in ("ecc(a=1, b=2)", "bsnn()") for t in (4, 8))
    found = [line for line, _ in lines(Table("c", "C", columns, rows, keys=2, grouped=True), 40)]
    parts = "\n".join(found).split("\n\n")
    assert len(parts) > 1 and max(map(len, found)) <= 40
    for part in parts:
        assert [line.split()[0] for line in part.splitlines()] == ["T", "─", "ecc(a=1,", "4", "8", "bsnn()", "4", "8"]


@given(st.text(min_size=1, max_size=60).filter(str.isprintable), st.integers(4, 40))
@settings(max_examples=300, deadline=None)
def test_a_broken_name_is_the_name(text: str, width: int) -> None:
    found = broken(text, width)
    assert all(cell_len(line) <= width for line in found)
    assert "".join(found).replace(" ", "") == text.replace(" ", "")


def test_control_characters_of_names_do_not_reach_the_terminal() -> None:
    columns = (Column("layer", name=True), Column("n"))
    for line, _ in lines(Table("t", "T", columns, (("a\x1b[31m\nb\x07", 1),))):
        assert line.isprintable()


def read(text: str) -> list[list[str]]:
    return [row for row in csv.reader(io.StringIO(text.replace("\r\n", "\n"))) if row and not row[0].startswith("# ")]


NASTY = (
    "=1+1",
    "+cmd",
    "-x",
    "@sum",
    'say "a, b"',
    "a|b",
    "50 % & $5_#{x}~^\\",
    "[x]",
    "* a",
    "θ ≤ ½ µ",
    "a\nb\tc\x1b[31m",
    "<b>",
    "--flag",
)


def test_csv_holds_every_digit_units_and_no_formula() -> None:
    found = read(csv_text([table(NASTY, 2)]))
    assert found[0] == ["layer", "number 0 (%)", "number 1 (%)"]
    assert [[float(cell) for cell in row[1:]] for row in found[1:]] == [list(row[1:]) for row in table(NASTY, 2).rows]
    names = [row[0] for row in found[1:]]
    assert names[:5] == ["'=1+1", "'+cmd", "'-x", "'@sum", 'say "a, b"'] and names[10] == "a b c [31m"
    negative = Table("t", "T", (Column("a"), Column("b", name=True)), ((-0.1, "x"), (None, "y")))
    assert read(csv_text([negative]))[1:] == [["-0.1", "x"], ["", "y"]]


def test_several_tables_of_csv_are_apart_and_say_n_and_seed() -> None:
    text = csv_text([table(), table()])
    assert text.count("# n = 60 samples\r\n# seed 0\r\n") == 2 and text.count("\r\n\r\n") == 1


def test_markdown_has_as_many_cells_as_columns_whatever_the_names_hold() -> None:
    text = markdown([table(NASTY, 2)])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(NASTY)
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert text.startswith("**Layers** (n = 60 samples; seed 0)\n") and rows[1] == "| :--- | ---: | ---: |"
    assert r"a\|b" in text and r"\<b\>" in text and "**" in rows[3] and "\x1b" not in text


def bare(text: str) -> str:
    """LaTeX without the escapes that make special characters plain."""
    return re.sub(r"\\[&%$#_{}]|\$[^$\n]*\$", "", text)


def test_latex_is_a_tabular_with_booktabs_and_plain_characters() -> None:
    text = latex([table(NASTY, 2)])
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = [line.strip() for line in body.strip().splitlines()]
    assert len(rows) == len(NASTY) and r"\begin{tabular}{lrr}" in text and "booktabs" in text.splitlines()[0]
    for row in rows:
        assert row.endswith(r"\\") and bare(row).count("&") == 2
        assert not re.search(r"[%$#_~^|<>\"`]", bare(row)), row
        assert row[0] not in "[*"  # after the end of a row it would be an argument
        assert bare(row).count("{") == bare(row).count("}")
    assert r"\caption{Layers; n = 60 samples; seed 0.}" in text and r"\label{tab:layers}" in text
    assert r"\textbackslash{}" in body and r"$\theta$" in body and "-{}-flag" in body
    minus = latex([Table("t", "T", (Column("a", show="{:+.1f}".format),), ((-1.5,), (2.0,)))])
    assert "$-$1.5" in minus and "+2.0" in minus


@pytest.fixture(scope="module")
def results() -> list:
    data = ts.data.load("digits")
    model = stored("small-cnn")
    images = data.train.batch(torch.arange(200))[0]
    snn = ts.convert(model, ECC(12), images, preprocessing=data.preprocessing)
    test = data.test.batches(64, limit=60)
    fitted = ts.fit_exit(snn, data.test.batches(64, indices=list(range(60, 360))), drop=5.0)
    comparison = ts.compare(
        model, [ECC(8), BSNN(8)], images, ts.ComparisonSettings(timesteps=(4, 8), energy=(ts.energy.table["lemaire"](),)),
        data=test, preprocessing=data.preprocessing,
    )  # fmt: skip
    return [
        ts.evaluate(fitted, test), ts.cost(snn, test, activation_bits=(2,)), ts.explain(snn, test, samples=60),
        ts.record(snn, test, samples=2), comparison, ts.chip_fit(snn, "speck"),
    ]  # fmt: skip


def test_every_result_has_its_tables_with_n_and_seed_in_every_format(results: list, tmp_path: Path) -> None:
    names = [one.name for one in ts.report.tables(results)]
    assert names == [
        "accuracy", "layers", "exit", "energy", "points", "errors", "changes", "spikes", "comparison", "energy", "fit",
    ]  # fmt: skip
    for one in ts.report.tables(results)[:-1]:
        assert any(note.startswith("n = ") for note in one.notes)
    for number in (0, 1, 3, 8, 9):  # an evaluation, a cost and a comparison know their seed
        assert number == 3 or number == 8 or "seed 0" in ts.report.tables(results)[number].notes
    for ending in (".csv", ".md", ".tex"):
        text = ts.report.save_tables(results, tmp_path / f"all{ending}").read_text(encoding="utf-8")
        assert "relu" in text and "bsnn" in text and "seed 0" in text
    with pytest.raises(SettingError, match=r"tables are saved as \.csv, \.md, \.tex, not '\.xls'"):
        ts.report.save_tables(results, tmp_path / "all.xls")


def test_csv_holds_the_numbers_of_the_result(results: list, tmp_path: Path) -> None:
    report, comparison = results[0], results[4]
    found = read(ts.report.save(report, tmp_path / "r.csv").read_text(encoding="utf-8"))
    head, rows = found[0], found[1 : 1 + len(report.curve)]
    assert [int(row[head.index("T")]) for row in rows] == [a.timesteps for a in report.curve]
    assert [float(row[head.index("accuracy (%)")]) for row in rows] == [100 * a.accuracy for a in report.curve]
    assert [float(row[head.index("SynOps (million)")]) for row in rows] == [
        a.synaptic_operations / 1e6 for a in report.curve
    ]
    found = read(ts.report.save(comparison, tmp_path / "c.csv").read_text(encoding="utf-8"))
    assert [row[0] for row in found[1:5]] == [row.recipe for row in comparison.rows]
    assert [float(row[3]) for row in found[1:5]] == [100 * row.accuracy for row in comparison.rows]


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_results_on_a_terminal_keep_their_names(results: list, width: int) -> None:
    for one in ts.report.tables(results):
        for line, _ in lines(one, width):
            assert cell_len(line) <= width, line
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    ts.report.show(results[0], console)
    shown = console.file.getvalue()
    for row in results[0].layers:
        assert re.search(rf"^{row.name} ", shown, re.MULTILINE), row.name


def test_the_commands_write_tables(tmp_path: Path) -> None:
    net = tmp_path / "net.transpike"
    snn = ts.convert(stored("small-cnn"), ECC(4), ts.data.load("digits").train.batch(torch.arange(64))[0])
    ts.save(snn, net)
    words = ["evaluate", str(net), "--limit", "20"]
    for ending in ("csv", "md", "tex"):
        words += ["--report", str(tmp_path / f"r.{ending}")]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert r"\toprule" in (tmp_path / "r.tex").read_text(encoding="utf-8")
    assert "| ---: |" in (tmp_path / "r.md").read_text(encoding="utf-8")
    found = CliRunner().invoke(main, ["inspect", str(net), "--fit", "speck", "--report", str(tmp_path / "fit.csv")])
    assert found.exit_code == 4 and "place,limit,network,chip,change,source" in (tmp_path / "fit.csv").read_text(
        "utf-8"
    )
    refused = CliRunner().invoke(main, ["inspect", str(net), "--report", str(tmp_path / "fit.csv")])
    assert refused.exit_code == 2 and "add --fit" in refused.output
