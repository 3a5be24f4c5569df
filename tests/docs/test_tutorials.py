"""The tutorials run, and the notebooks that readers see are those of their sources."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'transpike[dev]'")

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "examples/tutorials").glob("*.py"))
LARGEST = 300_000
"""Bytes of a notebook with its pictures."""
LAWS = {
    "own_cnn": [
        "compiler is None or (proof.verified and proof.spikes > 0 and found.returncode == 0)",
        "torch.equal(ts.load('fashion.transpike')(images), snn(images))",
        "{row.timesteps for row in comparison.measured} == {*times} and not comparison.refused",
        "Path('fashion.html').stat().st_size > 10_000",
    ],
    "event_camera": [
        "torch.equal(answers, snn(frames[:1], return_all=True)[:, 0])",
        "all(report.exact for report in reports.values())",
        "float(camera[0]) > 0 and not camera[BINS // 2 :].any() and float(neurons.sum()) > 0",
    ],
    "ecg": [
        "compiler is None or proof.verified",
        "costs['flash'] > 0 and costs['ram'] > 0",
        "report.final.timesteps == 8 and report.exact and cost.judged",
    ],
    "vision_transformer": [
        "report.fidelity[-1].relative_error < 0.2 * report.fidelity[0].relative_error",
        "silent_after < steps and float(sent[phase - 1]) == float(sent[2 * phase - 1]) == float(sent[-1]) == 0",
        "float(sent[phase]) > 0 and float(sent[2 * phase]) > 0",
    ],
    "detector": [
        "report.fidelity[-1].relative_error < 0.2 * report.fidelity[0].relative_error",
        "hybrid.is_hybrid and sides.analogue_macs > 0 and sides.synaptic_operations > 0",
        "{row.kind for row in found.rows} == {'analogue', 'cut', 'spiking'}",
    ],
    "plug_in": [
        "'a neuron that does not spike is not reset' in message",
        "all(report.exact for report in reports.values())",
        "reports[str(wide)].final.spikes < reports[str(ts.recipes.ECC(timesteps))].final.spikes",
    ],
}
"""Of each tutorial what holds of its variables at its end, whatever the training ended in."""


@pytest.fixture(scope="module")
def tutorials() -> ModuleType:
    specification = importlib.util.spec_from_file_location("tutorials", ROOT / "benchmarks/tutorials.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def run(tutorials: ModuleType, name: str, folder: Path) -> None:
    made = tutorials.notebook(name)
    made.cells.append(tutorials.nbformat.v4.new_code_cell("\n".join(f"assert {law}" for law in LAWS[name])))
    tutorials.execute(made, folder)


@pytest.mark.parametrize("name", [path.stem for path in SOURCES])
def test_a_tutorial_runs_in_small_sizes_without_a_download_and_without_a_warning(
    tutorials: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRANSPIKE_TUTORIAL_QUICK", "1")
    monkeypatch.delenv("TRANSPIKE_DATA", raising=False)
    run(tutorials, name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.stem for path in SOURCES])
def test_a_tutorial_runs_as_it_is_read(
    tutorials: ModuleType, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data_directory: Path
) -> None:
    monkeypatch.delenv("TRANSPIKE_TUTORIAL_QUICK", raising=False)
    monkeypatch.setenv("TRANSPIKE_DATA", str(data_directory))
    run(tutorials, name, tmp_path)


def test_a_cell_that_warns_is_refused(tutorials: ModuleType, tmp_path: Path) -> None:
    made = tutorials.nbformat.v4.new_notebook()
    made.cells.append(tutorials.nbformat.v4.new_code_cell("import warnings; warnings.warn('mind the gap')"))
    with pytest.raises(RuntimeError, match="mind the gap"):
        tutorials.execute(made, tmp_path)


def test_outputs_are_kept_where_only_texts_have_changed(tutorials: ModuleType) -> None:
    new, old = (tutorials.notebook("plug_in") for _ in range(2))
    code = [number for number, cell in enumerate(old.cells) if cell.cell_type == "code"]
    old.cells[0].source, old.cells[code[0]].execution_count = "another text", 7
    tutorials.take_outputs(new, old)
    assert new.cells[code[0]].execution_count == 7 and new.cells[0].source != "another text"
    old.cells[code[1]].source += "\nx = 1"
    with pytest.raises(ValueError, match="code has changed"):
        tutorials.take_outputs(new, old)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_the_notebook_is_that_of_its_source_with_outputs(tutorials: ModuleType, path: Path) -> None:
    file = tutorials.NOTEBOOKS / f"{path.stem}.ipynb"
    content = file.read_text(encoding="utf-8")
    stored, hint = json.loads(content), f"run benchmarks/tutorials.py {path.stem}"
    shown = [(cell["cell_type"], "".join(cell["source"])) for cell in stored["cells"]]
    assert shown == tutorials.cells(path.read_text(encoding="utf-8")), hint
    code = [cell for cell in stored["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)], hint
    outputs = [output for cell in code for output in cell["outputs"]]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 1
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert not re.search(r"[\"\s](/home|/root|/tmp|/work|/Users)/", content) and len(content) < LARGEST
    assert "is not used" not in json.dumps(outputs), f"{hint} with the data"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_links_of_a_tutorial_lead_somewhere_and_it_says_what_readers_ask(tutorials: ModuleType, path: Path) -> None:
    texts = [content for kind, content in tutorials.cells(path.read_text(encoding="utf-8")) if kind == "markdown"]
    whole = "\n".join(texts)
    for target in re.findall(r"\]\(([^)#]+)", whole):
        assert target.startswith("http") or (tutorials.NOTEBOOKS / target).exists(), target
    assert whole.startswith("# ") and "**Goal.**" in texts[0] and "**At the end you have**" in texts[0]
    assert "## What can go wrong" in whole and "## Where to go on" in whole


def test_every_tutorial_is_on_the_page_of_all(tutorials: ModuleType) -> None:
    page = (tutorials.NOTEBOOKS / "index.md").read_text(encoding="utf-8")
    assert {*LAWS} == {path.stem for path in SOURCES} == {*re.findall(r"\((\w+)\.ipynb\)", page)}


def test_cells_of_a_source_are_found(tutorials: ModuleType) -> None:
    source = "# %% [markdown]\n# # Title\n#\n# text\n\n# %%\nx = 1\n\n\n# %%\ny = 2  # %% no cell\n"
    assert tutorials.cells(source) == [
        ("markdown", "# Title\n\ntext"),
        ("code", "x = 1"),
        ("code", "y = 2  # %% no cell"),
    ]
    with pytest.raises(ValueError, match="first line"):
        tutorials.cells("import os\n# %%\n")
