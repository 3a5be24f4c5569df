"""The code of hub.md and integrations.md runs: against a hub in this process, and where its libraries are installed."""

import re
from pathlib import Path

import pytest
import torch

import transpike as ts
from hub_server import Hub
from stored import stored

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"(?P<marks>(?:<!--[^\n]*-->\n)*)```python\n(?P<code>.*?)```", re.DOTALL)


def blocks(page: str) -> list[tuple[str, str, int]]:
    """(library that it needs or "", code, line) of each block of Python of a page."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = []
    for block in BLOCK.finditer(text):
        need = re.search(r"<!-- needs: (\w+) -->", block["marks"])
        found.append((need[1] if need else "", block["code"], text[: block.start("code")].count("\n")))
    return found


SLOW = ("torchvision", "timm")
CASES = [
    pytest.param(*case, id=f"{case[2]} {case[0]}", marks=[pytest.mark.slow] if case[0] in SLOW else [])
    for case in blocks("integrations.md")
]


@pytest.mark.parametrize(("need", "code", "line"), CASES)
@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_a_block_of_the_page_of_integrations_runs(need: str, code: str, line: int, tmp_path: Path, monkeypatch) -> None:
    if need:
        pytest.importorskip(need, reason=f"{need} is not installed", exc_type=ImportError)
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        exec(compile("\n" * line + code, "integrations.md", "exec"), {"__name__": "page"})


def test_the_page_of_the_hub_runs(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = ts.data.load("digits")
    snn = ts.convert(
        stored("two-layers"), ts.recipes.ECC(timesteps=4), digits.train.batches(100, limit=200),
        preprocessing=digits.preprocessing,
    )  # fmt: skip
    path = ts.save(snn, tmp_path / "net.transpike")
    hub.add("user/digits", {"network.transpike": path.read_bytes()})
    names: dict[str, object] = {}
    for _, code, line in blocks("hub.md"):
        exec(compile("\n" * line + code, "hub.md", "exec"), names)
    shown = capsys.readouterr().out
    assert f"hf://user/digits@{hub.repositories['user/digits'].branches['main']}" in shown and "layers equal" in shown


def test_every_block_is_found() -> None:
    assert [need for need, _, _ in blocks("integrations.md")] == [
        "", "torchvision", "timm", "transformers", "lightning", "", "",
    ]  # fmt: skip
    assert len(blocks("hub.md")) == 3
