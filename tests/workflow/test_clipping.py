"""Clips as modules are captured and converted, and the reproduction of ECC's clipping comparison says what it measured."""

import importlib.util
import json
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

import transpike as ts
from transpike.activations import Clip

FOLDER = Path(__file__).resolve().parents[2] / "reproductions/ecc_clipping"


class Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.clamp(x, 0, 1.5)


@pytest.mark.parametrize(("clip", "ceiling"), [(nn.ReLU6(), 6.0), (nn.Hardtanh(0.0, 1.5), 1.5), (Clamp(), 1.5)])
def test_a_clip_becomes_a_threshold_that_no_rate_exceeds(clip, ceiling):
    model = nn.Sequential(nn.Linear(1, 1, bias=False), clip, nn.Linear(1, 1, bias=False))
    for layer in (model[0], model[2]):
        nn.init.ones_(layer.weight)
    recipe = ts.recipes.ECC.paper(timesteps=16, beta=0.0, schedule=ts.schedules.LayerSynchronous())
    snn = ts.convert(model, recipe, torch.linspace(0, 2 * ceiling, 33)[:, None])
    (source,) = [node.op for node in snn.source if isinstance(node.op, Clip)]
    assert source.ceiling == ceiling
    inputs = torch.tensor([[-1.0], [ceiling / 2], [ceiling], [2 * ceiling]])
    assert snn(inputs).flatten().tolist() == pytest.approx([0, ceiling / 2, ceiling, ceiling], rel=1e-6)


@pytest.fixture(scope="module")
def run() -> ModuleType:
    pytest.importorskip("matplotlib")
    specification = importlib.util.spec_from_file_location("ecc_clipping_run", FOLDER / "run.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_twins_clip_where_their_name_says_and_keep_their_parameters(run):
    torch.manual_seed(0)
    network, _ = ts.models.build("zoo:resnet20-16-32-64")
    network = run.with_modules(network)
    x = 3 * torch.randn(4, 3, 32, 32)
    found = run.percentiles(network, x)
    assert len(found) == 19 and len(set(found.values())) == 19
    with torch.no_grad():
        first = torch.relu(network.bn1(network.conv1(x)))
    assert float((first > found["relu"]).double().mean()) == pytest.approx(1e-3, rel=0.02)
    twins = {name: run.clipped(network, name, found) for name in run.NETWORKS}
    clips = {name: list(run.rectifiers(quantised_baseline).values()) for name, quantised_baseline in twins.items()}
    assert all(type(part) is nn.ReLU for part in clips["ReLU"])
    assert all(type(part) is nn.ReLU6 for part in clips["ReLU6"])
    assert {part.max_val for part in clips["ReLU-CM"]} == {sum(found.values()) / 19}
    assert [part.max_val for part in clips["ReLU-SC"]] == list(found.values())
    assert all(
        list(quantised_baseline.state_dict()) == list(network.state_dict()) for quantised_baseline in twins.values()
    )
    graph = ts.capture(twins["ReLU-SC"], x)
    assert [node.op.ceiling for node in graph if isinstance(node.op, Clip)] == list(found.values())


def part(ann: float, tre: float, without: float, clips: dict[str, float]) -> dict:
    curves = {"TRE": tre, "no TRE": without}
    times = (8, 16, 32, 64, 128, 256)
    return {
        "ann_accuracy": ann,
        "ceilings": clips,
        "histogram": {"share": [0.0] * 80, "maximum": 4.0, "percentile": 2.0},
        "curves": {
            name: [{"timesteps": t, "accuracy": value, "synaptic_operations": 1e6 * t} for t in times]
            for name, value in curves.items()
        },
    }


def test_claims_are_judged_by_the_numbers(run):
    found = {name: part(0.9, 0.8, 0.5, {} if name == "ReLU" else {"a": 1.0, "b": 2.0}) for name in run.NETWORKS}
    found["ReLU6"] = part(0.9, 0.9, 0.85, {"a": 6.0})
    rows = {row["id"]: row for row in run.judged(found, {"samples": 200})}
    assert {name: row["status"] for name, row in rows.items()} == {
        "near-zero-loss": "explained", "tre-without-clip": "holds", "tre-beats-relu6": "explained",
        "tre-beats-relu-cm": "holds", "tre-beats-relu-sc": "holds",
    }  # fmt: skip
    assert rows["near-zero-loss"]["measured"] == pytest.approx(10) and rows["near-zero-loss"]["reason"]
    assert rows["tre-beats-relu6"]["measured"] == pytest.approx(-5) and "85.00 %" in rows["tre-beats-relu6"]["reason"]
    text = run.tables(found, 200)
    assert "| ReLU-CM (reconstructed) | 1.00 to 2.00 | 90.00% |" in text
    named = [line for line in text.splitlines() if line.startswith(("| ReLU-CM", "| ReLU-SC"))]
    assert len(named) == 10 and all("(reconstructed)" in line for line in named)


def test_what_is_written_down_is_what_was_measured(run):
    if not (FOLDER / "result.json").exists():
        pytest.skip("the comparison was not run here yet: see reproductions/ecc_clipping/run.py")
    stored = json.loads((FOLDER / "result.json").read_text())
    claims = tomllib.loads((FOLDER / "claims.toml").read_text())["claim"]
    assert [row["id"] for row in stored["rows"]] == [claim["id"] for claim in claims]
    settings = {
        key: stored["rows"][0][key]
        for key in ("samples", "epochs", "seed", "versions", "data", "which")
        if key in stored["rows"][0]
    }
    assert run.judged(stored["networks"], settings) == stored["rows"]
    assert run.tables(stored["networks"], settings["samples"]) == (FOLDER / "tables.md").read_text()
