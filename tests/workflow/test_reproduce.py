"""Reproductions of papers: their plans fit the scripts, runs are resumed, numbers stand next to the published ones."""

import ast
import json
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import transpike as ts
from transpike.cli import main
from transpike.cli import reproduce as command
from transpike.errors import DataError, FileError, MissingExtra, SettingError
from transpike.results.statistics import wilson
from transpike.workflow.reproduce import calibration, run
from transpike.workflow.reproduce.plans import Paper, needs, plans, source_folder
from transpike.workflow.reproduce.result import compared

ROOT = Path(__file__).resolve().parents[2]
PLANS = plans()
PLACES = {"{data}", "{stages}", "{resnet20}", "{vgg7}"}
STAGES = [(paper, stage) for paper in PLANS.papers.values() for stage in paper.stages]


def _claims(folder: Path) -> set[str]:
    return set(re.findall(r'^id = "(.+)"$', (folder / "claims.toml").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(("paper", "stage"), STAGES, ids=lambda one: one.name)
def test_a_stage_is_a_script_that_takes_its_options(paper, stage):
    folder = PLANS.folder / paper.folder
    script = (folder / stage.words[0]).read_text(encoding="utf-8")
    if "import" in script and "options(parser)" in script:  # those that its scripts share
        script += (folder / "training.py").read_text(encoding="utf-8")
    options = set(re.findall(r'"(--[a-z-]+)"', script))
    assert {word for word in stage.words if word.startswith("--")} <= options
    assert set(re.findall(r"\{.*?\}", " ".join(stage.words))) <= PLACES
    assert stage.minutes > 0


@pytest.mark.parametrize("folder", ["trained", "ttfs"])
def test_networks_that_are_trained_are_those_that_are_measured_and_that_the_scripts_have(folder):
    text = (PLANS.folder / folder / "training.py").read_text(encoding="utf-8")
    known = {part.value for part in ast.walk(ast.parse(text)) if isinstance(part, ast.Constant)}
    trained: dict[str, set[str]] = {"training.py": set(), "run.py": set()}
    for paper, stage in STAGES:
        if paper.folder == folder:
            trained[stage.words[0]].add(stage.words[1])
    ready = set(re.findall(r'"([\w-]+)": Plan\(\w+, None, 0, ', text))  # comes with trained weights
    assert trained["training.py"] and (folder == "ttfs" or trained["run.py"] - ready == trained["training.py"])
    for name in trained["training.py"]:
        parts = {name, name.rpartition("-")[0], re.sub(r"\d$", "", name)}
        assert parts & known, name


def test_every_reproduction_has_a_plan_and_every_claim_a_paper():
    folders = {path.parent.name for path in PLANS.folder.glob("*/run.py")}
    assert {paper.folder for paper in PLANS.papers.values()} == folders
    for folder in folders:
        mine = [paper for paper in PLANS.papers.values() if paper.folder == folder]
        shown = [c.id for p in mine for c in compared(p, PLANS.folder / folder, PLANS.folder / "papers.toml").claims]
        assert sorted(shown) == sorted(_claims(PLANS.folder / folder))  # each once
    names = [name for paper in PLANS.papers.values() for name in (paper.name, *paper.names)]
    assert len(set(names)) == len(names) and "all" not in names


def test_the_stored_numbers_stand_next_to_the_published_ones():
    for paper in PLANS.papers.values():
        found = run.published(paper, PLANS)
        assert found.claims and sum(found.counts().values()) == len(found.claims)
        for claim in found.claims:
            assert (claim.measured is None) == (claim.status == "not measured"), claim.id
            assert claim.low is None or claim.low <= claim.measured <= claim.high
        assert all(claim.id in str(found) and claim.bound in found.markdown() for claim in found.claims)
        assert not paper.register or found.unmeasured > 0, paper.name


def test_an_unknown_paper_gets_the_closest_name():
    with pytest.raises(SettingError, match=r"no reproduction 'ecg2'.*did you mean 'ecg'"):
        PLANS.named("ecg2")
    assert PLANS.named("ttfs").name == "cat"


FIRST = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent
seen = here / "stages" / "calls.txt"
seen.write_text((seen.read_text() if seen.exists() else "") + " ".join(sys.argv[1:]) + "\\n")
if "measure" in sys.argv:
    if not (here / "stages" / "repaired").exists():
        print("the third thing is broken")
        sys.exit(3)
    row = {"id": "good", "published": 90.0, "measured": 93.0, "unit": "%", "tolerance": 1.0, "status": "holds", "samples": 200}
    mean = {**row, "id": "mean", "samples": {"train": 5, "test": 50}, "by_seed": [93.0]}
    (here / "result.json").write_text(json.dumps({"rows": [row, mean]}))
"""
PLAN = """
calibration_seconds = 0.5
[weights.net]
file = "net.safetensors"
what = "a network"
train = "train --output {file} --data-dir {data}"
minutes = 3
[papers.made]
title = "Made, 2026"
differs = "everything"
register = "Made"
[[papers.made.stages]]
name = "prepare"
each = ["one", "two"]
command = "other.py {each} --to {stages}"
minutes = 1
[[papers.made.stages]]
name = "measure"
command = "run.py measure"
minutes = 2
[papers.needy]
title = "Needy"
folder = "made"
differs = "nothing"
data = ["mnist"]
files = { "table.npz" = "It is on the moon" }
modules = { no_such_module = "moon" }
weights = ["net"]
[[papers.needy.stages]]
name = "measure"
command = "run.py measure --weights {net}"
minutes = 2
"""
CLAIMS = "".join(
    f'[[claim]]\nid = "{name}"\ntable = "table 1"\nclaim = "it is {name}"\nvalue = 90.0\nunit = "%"\n'
    for name in ("good", "mean", "other")
)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """The plans of a folder with a reproduction that takes no time; nothing is calibrated."""
    folder = tmp_path / "source"
    (folder / "made").mkdir(parents=True)
    for name in ("run.py", "other.py"):
        (folder / "made" / name).write_text(
            "import sys\nimport pathlib\nsys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))\nfrom shared import NAME\n"
            + FIRST
        )
    (folder / "shared.py").write_text("NAME = 1\n")
    (folder / "made" / "claims.toml").write_text(CLAIMS)
    (folder / "papers.toml").write_text('[[claim]]\npaper = "Made again"\n[[claim]]\npaper = "Other"\n')
    (folder / "plans.toml").write_text(PLAN)
    monkeypatch.setattr(run, "plans", lambda: plans(folder))
    monkeypatch.setattr(command, "plans", lambda: plans(folder))
    for place in (run, command):
        monkeypatch.setattr(place, "calibration_seconds", lambda: 1.0)
    return folder


def _calls(folder: Path) -> list[str]:
    return (folder / "made/stages/calls.txt").read_text().splitlines()


def test_a_run_that_fails_is_resumed_behind_its_last_finished_stage(made, tmp_path):
    out, lines, stages = tmp_path / "out", [], []
    with pytest.raises(FileError, match="'measure' ended with exit code 3: the third thing is broken"):
        ts.reproduce("made", out, begins=lambda stage, *n: stages.append((stage.name, *n)), line=lines.append)
    assert stages == [("prepare one", 1, 3), ("prepare two", 2, 3), ("measure", 3, 3)]
    assert lines == ["the third thing is broken"] and lines[0] in (out / "made/log.txt").read_text()
    kept = out / "made/stages"
    assert _calls(out) == [f"one --to {kept}", f"two --to {kept}", "measure"]
    assert not list(out.glob("made/report-*"))
    (kept / "repaired").touch()
    plan = run.planned(plans(made).named("made"), out)
    assert [stage.done for stage in plan.stages] == [True, True, False]
    assert plan.scale == 2.0 and plan.minutes == 4.0  # two minutes, on a machine of half the speed
    result = ts.reproduce("made", out)
    assert _calls(out)[3:] == ["measure"]
    good, mean, other = result.claims
    assert (good.low, good.high) == tuple(100 * bound for bound in wilson(186, 200)) and good.samples == 200
    assert mean.samples == 50 and mean.low is None  # a mean over seeds is no share of these samples
    assert other.status == "not measured" and other.measured is None and other.published == 90.0
    assert result.unmeasured == 1 and result.cpu_seconds > 0
    stored = json.loads((out / "made/report-made.json").read_text())
    assert stored["claims"][0]["measured"] == 93.0 and "93 (n = 200; " in (out / "made/report-made.md").read_text()
    ts.reproduce("made", out)
    assert len(_calls(out)) == 4  # everything is done
    assert run.planned(plans(made).named("made"), out).minutes == 0
    ts.reproduce("made", out, restart=True)
    assert len(_calls(out)) == 7


def test_other_scripts_are_measured_again_and_a_lost_result_too(made, tmp_path):
    out = tmp_path / "out"
    (out / "made/stages").mkdir(parents=True)
    (out / "made/stages/repaired").touch()
    ts.reproduce("made", out)
    (out / "made/result.json").unlink()
    ts.reproduce("made", out)
    assert _calls(out)[3:] == ["measure"]
    (made / "made/other.py").write_text(FIRST + "\n# another version\n")
    ts.reproduce("made", out)
    assert len(_calls(out)) == 7 and "another version" in (out / "made/other.py").read_text()


def test_rows_that_state_their_interval_sense_and_kind_are_shown_as_they_are(made, tmp_path):
    folder = tmp_path / "made"
    folder.mkdir()
    text = CLAIMS.replace('unit = "%"\n', 'unit = "points"\ndiffers = "a copy"\nreconstructed = "the clip"\n', 1)
    (folder / "claims.toml").write_text(text)
    row = {"id": "good", "published": 3.0, "tolerance": 0.5, "unit": "points", "sense": "at most", "measured": 2.0, "n": 10_000,
           "of": "test images", "low": 1.5, "high": 2.5, "kind": "ours", "status": "explained", "reason": "few epochs"}  # fmt: skip
    (folder / "result.json").write_text(json.dumps({"rows": [row]}))
    good = compared(plans(made).named("made"), folder, made / "papers.toml").claims[0]
    assert good.bound == "≤ 3.5 points" and good.ours == "2 (n = 10,000 test images; 1.5 to 2.5)"
    assert good.differs == "reconstructed: the clip; a copy; few epochs" and good.kind == "ours"


def test_in_its_own_folder_nothing_is_copied(made):
    (made / "made/stages").mkdir()
    (made / "made/stages/repaired").touch()
    before = (made / "made/run.py").stat().st_ino
    ts.reproduce("made", made)
    assert (made / "made/run.py").stat().st_ino == before and (made / "made/result.json").exists()


def test_a_damaged_state_is_refused_with_the_way_out(made, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made/progress.json").write_text('{"stages": [1]}')
    with pytest.raises(FileError, match=r"progress.json is damaged .*--restart"):
        ts.reproduce("made", tmp_path)
    (tmp_path / "made/progress.json").unlink()
    (tmp_path / "made/result.json").write_text("[]")
    (tmp_path / "made/stages").mkdir()
    with pytest.raises(FileError, match=r"result.json is not the result of a reproduction"):
        compared(plans(made).named("made"), tmp_path / "made", made / "papers.toml")


def test_what_is_missing_is_named_with_the_way_out_before_anything_is_written(made, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    paper, out, empty = plans(made).named("needy"), tmp_path / "out", tmp_path / "empty"
    found = needs(paper, empty, None, tmp_path / "stages")
    kinds = [type(error) for error in found.missing]
    assert kinds == [DataError, DataError, MissingExtra]
    assert f"MNIST is not in {empty}" in str(found.missing[0]) and "--data-dir" in str(found.missing[0])
    assert "It is on the moon" in str(found.missing[1]) and "pip install 'transpike[moon]'" in str(found.missing[2])
    with pytest.raises(DataError, match="MNIST is not in"):
        ts.reproduce("needy", out, data_dir=empty)
    assert not out.exists()


def test_weights_that_are_not_there_are_trained_first(made, tmp_path):
    paper = plans(made).named("needy")
    (tmp_path / "net.safetensors").write_bytes(b"weights")
    given = run.planned(paper, tmp_path / "out", models_dir=tmp_path, scale=1.0)
    assert [stage.name for stage in given.stages] == ["measure"] and given.minutes == 2
    assert given.stages[0].command[-1] == str(tmp_path / "net.safetensors")
    made_here = run.planned(paper, tmp_path / "out", data_dir=tmp_path / "my data", scale=1.0)
    train, measure = made_here.stages
    kept = tmp_path / "out/made/stages/net.safetensors"
    assert train.command[1:] == (
        "-m",
        "transpike",
        "train",
        "--output",
        str(kept),
        "--data-dir",
        str(tmp_path / "my data"),
    )
    assert measure.command[-1] == str(kept) and made_here.minutes == 5
    assert any("trained first" in note for note in made_here.needs.notes)


def test_other_weights_are_measured_again(made, tmp_path):
    paper = plans(made).named("needy")
    keys = set()
    for content in (b"weights", b"others"):
        (tmp_path / "net.safetensors").write_bytes(content)
        keys.add(run.planned(paper, tmp_path / "out", models_dir=tmp_path, scale=1.0).stages[0].key)
    assert len(keys) == 2


def _cli(*words: object) -> object:
    return CliRunner().invoke(main, ["reproduce", *map(str, words)])


def test_the_command_lists_shows_and_runs(made, tmp_path, monkeypatch):
    monkeypatch.setenv("TRANSPIKE_DATA", str(tmp_path / "nothing"))
    monkeypatch.delenv("TRANSPIKE_MODELS", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    listed = _cli("--list")
    assert listed.exit_code == 0 and "data missing" in listed.stdout
    assert re.search(r"^made +8\.0 min\? +ready", listed.stdout, re.MULTILINE)
    shown = json.loads(_cli("made", "--dry-run", "--json", "--output-dir", tmp_path / "out").stdout)
    assert shown[0]["cpu_minutes"] == 8.0 and shown[0]["stored"]["claims"][0]["status"] == "not measured"
    assert not (tmp_path / "out").exists()
    (tmp_path / "out/made/stages").mkdir(parents=True)
    (tmp_path / "out/made/stages/repaired").touch()
    done = _cli("all", "--output-dir", tmp_path / "out")
    assert done.exit_code == 5 and "it is good" in done.stdout  # made has run, needy has not
    assert "needy cannot run: MNIST is not in" in done.stderr and "It is on the moon" in done.stderr
    refused = _cli("needy", "--dry-run", "--output-dir", tmp_path / "out")
    assert refused.exit_code == 5 and "missing: " in refused.stdout
    assert _cli().exit_code == 2 and _cli("made", "--list").exit_code == 2


def test_the_calibration_is_of_one_thread_and_restores_the_number(monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(calibration, "RUNS", 1)
    assert calibration.calibration_seconds() > 0 and torch.get_num_threads() == threads


def test_a_real_paper_runs_from_its_own_folder(tmp_path):
    result = ts.reproduce("energy", tmp_path, scale=1.0)
    assert result.counts() == run.published(PLANS.named("energy"), PLANS).counts()
    assert (tmp_path / "energy/tables.md").exists() and (source_folder() / "energy/run.py").exists()


def test_an_installation_without_the_scripts_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("transpike.workflow.reproduce.plans.FILE", "no-such-plans.toml")
    with pytest.raises(FileError, match="this installation has no reproductions"):
        source_folder()


def test_a_paper_is_a_plain_record():
    assert isinstance(PLANS.named("ecc"), Paper) and PLANS.calibration_seconds > 0
