"""Every format gives every spike of every network that it holds."""

from pathlib import Path

import pytest

import transpike as ts
from exported import coarse, digits, plant
from transpike.core.naming import is_ours
from transpike.errors import GateFailed, UnsupportedModel
from transpike.exporters import members
from transpike.exporters.exporter import Exporter
from transpike.testing import check_exporter
from transpike.testing.exporters import CASES
from transpike.testing.faults import FAULTS
from transpike.workflow.export import refuse
from whole_networks import NETWORKS, differences, network

EVERYTHING = {"golden", "onnx"}
"""Formats that refuse none of the networks of ``whole_networks``."""
CASES_OF = {"nir": {"average"}}
"""Format → the networks of ``check_exporter`` that it holds, if not all."""
REFUSED_FAULTS = {("nir", "reset")}
"""Faults that give a network which the format refuses: the profile of a NIR file is that of one reset."""
NO_MAXIMA = {"nir"}
"""Formats that refuse maximum pooling."""


def runs(exporter: Exporter) -> Exporter:
    """``exporter``; skips the test if what it needs is not installed."""
    if missing := exporter.missing():
        pytest.skip(missing)
    return exporter


@pytest.mark.parametrize("kind", members, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_of_every_network_comes_back(kind: type[Exporter], name: str, tmp_path: Path) -> None:
    exporter, one = kind(), network(name)
    try:
        refuse(exporter, one.whole)
    except UnsupportedModel:
        assert kind.name not in EVERYTHING
        return
    path = tmp_path / f"net{exporter.suffix}"
    runs(exporter).write(one.whole, path, one.samples, one.expected)
    assert differences(one.expected, exporter.run(path, one.samples)) == 0


@pytest.mark.parametrize("kind", members, ids=lambda kind: kind.name)
def test_the_laws_of_exporters(kind: type[Exporter]) -> None:
    check_exporter(runs(kind()), CASES_OF.get(kind.name, set(CASES)))


@pytest.mark.parametrize("kind", members, ids=lambda kind: kind.name)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_what_is_written_fails_the_export(
    kind: type[Exporter], fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    exporter = runs(kind())
    if kind.name in NO_MAXIMA and fault == "pooling window":
        pytest.skip(f"{kind.name} refuses maximum pooling")
    snn, path = coarse(average=kind.name in NO_MAXIMA), tmp_path / f"net{exporter.suffix}"
    plant(monkeypatch, kind, fault)
    with pytest.raises(UnsupportedModel if (kind.name, fault) in REFUSED_FAULTS else GateFailed):
        ts.export(snn, path, kind.name, samples=digits(4))
    assert not list(tmp_path.iterdir())


def test_members_are_ours_and_their_endings_lead_to_one() -> None:
    assert all(is_ours(kind.__module__) for kind in members)
    endings = [kind.suffix for kind in members if kind.suffix]
    assert len(endings) == len(set(endings))
