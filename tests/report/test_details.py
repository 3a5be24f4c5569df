"""Several outputs, products of wires and functions in the tables of an evaluation; and only where there are any."""

import io
import json

import pytest
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

import seeded
import transpike as ts
from transpike import report
from transpike.recipes import StreamingSigmaDelta


class Gated(nn.Module):
    """A gate multiplies two wires, and a sigmoid is evaluated; two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g, self.o, self.aux = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)
        for parameter in self.parameters():
            parameter.data = seeded.random(*parameter.shape)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = F.silu(self.a(x)) * torch.sigmoid(self.g(x))
        return {"logits": self.o(h), "size": self.aux(h)}


@pytest.fixture(scope="module")
def found() -> ts.Measurement:
    x = seeded.random(24, 6).abs()
    return ts.evaluate(ts.convert(Gated().eval().requires_grad_(False), StreamingSigmaDelta(), x), x)


def shown(result: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    report.show(result, console)
    return console.file.getvalue()


def test_every_output_every_product_and_every_function_has_its_row(found, tmp_path):
    text, page = shown(found), tmp_path / "page.html"
    report.save(found, page)
    html = page.read_text()
    for name, close in found.outputs.items():
        row = next(line for line in text.splitlines() if line.strip().startswith(name))
        assert f"{100 * close[-1].relative_error:.2f}" in row and f"{close[-1].cosine:.4f}" in row
        assert name in html and f"{100 * close[-1].relative_error:.2f}" in html
    assert len(found.outputs) == 2 and found.outputs["size"][-1].argmax_agreement is None
    assert found.evaluations and "products" in html and "products" in text
    for name, counts in found.evaluations.items():
        after = text.partition("Evaluations of functions")[2]
        row = next(line for line in after.splitlines() if line.startswith(name))
        for number in counts.values():
            assert f"{number:,.0f}" in row
        assert name in html
    assert sum(row.product_operations for row in found.layers) > 0
    content = json.loads(json.dumps(found.to_json()))
    assert set(content["outputs"]) == {"logits", "size"} and content["evaluations"] and content["product_operations"]
    written = tmp_path / "tables.csv"
    report.save(found, written)
    assert "size" in "".join(path.read_text() for path in tmp_path.glob("*.csv"))


def test_a_network_without_them_has_no_such_tables(tmp_path):
    x = seeded.random(24, 6).abs()
    snn = ts.convert(seeded.network(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), "ecc", x)
    plain = ts.evaluate(snn, (x, torch.zeros(24, dtype=torch.int64)))
    report.save(plain, tmp_path / "page.html")
    for text in (shown(plain), (tmp_path / "page.html").read_text()):
        assert "products" not in text and "Outputs next to" not in text and "Evaluations of functions" not in text


def test_a_page_has_no_empty_columns() -> None:
    """The ANN is the reference of fidelity, so nothing changed with respect to it."""
    x = seeded.random(24, 6).abs()
    snn = ts.convert(seeded.network(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), "ecc", x)
    page = report.page(ts.evaluate(snn, x, task=ts.tasks.Fidelity()))
    assert "change of" not in page and "relative error (%)" in page
    assert "change of" in report.page(ts.evaluate(snn, (x, torch.zeros(24, 3)), task=ts.tasks.Regression()))
