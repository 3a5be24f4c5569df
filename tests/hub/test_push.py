"""Uploads: one verified network with its card and its certificate, or nothing."""

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import pytest
import torch

import transpike as ts
from commands import run
from hub_server import Hub
from transpike.errors import FileError, GateFailed, MissingExtra, SettingError
from transpike.workflow.verify import LayerCheck, Verification

constants = pytest.importorskip(
    "huggingface_hub.constants", reason="needs huggingface_hub: pip install 'transpike[hub]'"
)
yaml = pytest.importorskip("yaml")


@pytest.fixture(scope="module")
def cost(network: ts.SNN) -> object:
    return ts.cost(network, ts.data.load("digits").test.batches(32, limit=64))


def front(card: str) -> dict:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("---\n")[1])


def test_the_method_of_a_network_is_the_function(hub: Hub, network, images) -> None:
    by_method = network.push_to_hub("user/net", images[:4], license="mit", dry_run=True)
    by_function = ts.push_to_hub(network, "user/net", images[:4], license="mit", dry_run=True)
    assert by_method.files == by_function.files and by_method.url is None
    with pytest.raises(SettingError, match="unverified=True"):
        network.push_to_hub("user/net")


def test_a_network_goes_to_the_hub_and_comes_back(hub: Hub, network, images, cost) -> None:
    pushed = ts.push_to_hub(network, "user/net", images[:4], report=cost, license="apache-2.0")
    files = hub.repositories["user/net"].files()
    assert {*files} == {".gitattributes", "network.transpike", "README.md", "verification.json"}
    assert len(hub.repositories["user/net"].commits) == 2  # that of the hub, and one with everything
    assert str(pushed.address) == f"hf://user/net@{hub.repositories['user/net'].branches['main']}"
    for address in (str(pushed.address), "hf://user/net"):
        assert torch.equal(ts.load(address)(images), network(images))
    seen = json.loads(files["verification.json"])
    assert seen["sha256"] == hashlib.sha256(files["network.transpike"]).hexdigest()
    assert seen["samples"] == 4 and seen["exact"] and not seen["layers_that_differ"]
    assert pushed.card == files["README.md"].decode() and pushed.to_json()["files"].keys() == pushed.files.keys()


def test_the_card_holds_the_numbers(network, images, cost) -> None:
    card = ts.push_to_hub(network, "user/net", images[:4], report=cost, license="mit", dry_run=True).card
    about = front(card)
    assert about["library_name"] == "transpike" and about["license"] == "mit"
    assert {"spiking-neural-network", "ecc"} <= {*about["tags"]}
    rows = {line.split("|")[1].strip(): line for line in card.splitlines() if line.startswith("|")}
    report = cost.report
    for answer in (report.recommended, report.final):
        assert f"SNN, T={answer.timesteps}" in rows[""]
        assert f"{answer.accuracy:.2%} ({answer.low:.2%} to {answer.high:.2%})" in rows["Accuracy"]
        assert f"{answer.synaptic_operations:,.0f}" in rows["Synaptic operations per sample"]
    assert f"{report.ann_accuracy:.2%}" in rows["Accuracy"] and "on 64 samples" in card
    assert cost.verdict in card and "layers equal, for every neuron" in card
    assert 'ts.load("hf://user/net")' in card and "x: (batch, 1, 8, 8)" in card


def test_a_card_of_a_regression_has_its_metrics(images) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    x = images.float() / 255
    snn = ts.convert(model, ts.recipes.ECC(8), x)
    found = ts.evaluate(snn, (x, model(x).detach()), task=ts.tasks.Regression())
    card = ts.push_to_hub(snn, "user/net", x[:4], report=found, dry_run=True).card
    first = next(line for line in card.splitlines() if line.startswith("| MSE"))
    assert f"{found.final.metrics['MSE'].value:.4g}" in first and "1,000 resamplings" in card


def test_names_of_others_stay_text(network, images) -> None:
    named = dataclasses.replace(
        network, remarks=("</code>\n# <script>alert(1)</script> | `x` ![a](http://b)",),
        provenance={**network.provenance, "data": "a|b\n---\nlicense: gpl"},
    )  # fmt: skip
    card = ts.push_to_hub(named, "user/net", images[:4], dry_run=True).card
    assert front(card).keys() == {"library_name", "tags"}
    outside = "\n".join(line for line in card.splitlines() if not line.startswith("    "))
    assert "<script" not in outside.replace("\\<script", "") and "![a]" not in outside


def test_what_was_not_verified_stays_here(hub: Hub, network, images, monkeypatch) -> None:
    with pytest.raises(
        SettingError, match=r"after a comparison of its engines: give inputs as samples=…, or unverified"
    ):
        ts.push_to_hub(network, "user/net")
    wrong = Verification(4, 8, ("dense",), True, "", (LayerCheck("relu", 10.0, {"dense": 1}),), {"dense": 0.0})
    monkeypatch.setattr("transpike.workflow.push.run.verify", lambda *_: wrong)
    with pytest.raises(GateFailed, match="engines differ in relu"):
        ts.push_to_hub(network, "user/net", images[:4])
    assert not hub.requests


def test_an_unverified_upload_says_so_and_removes_an_old_certificate(hub: Hub, network, images) -> None:
    ts.push_to_hub(network, "user/net", images[:4])
    pushed = ts.push_to_hub(network, "user/net", unverified=True)
    files = hub.repositories["user/net"].files()
    assert "verification.json" not in files and "**Not verified**" in files["README.md"].decode()
    assert pushed.verification is None and "not verified" in str(pushed)


def test_a_branch_leaves_the_main_one_as_it_is(hub: Hub, network, images) -> None:
    hub.add("user/net", {".gitattributes": b""})
    pushed = ts.push_to_hub(network, "hf://user/net@dev", images[:4])
    assert "network.transpike" not in hub.repositories["user/net"].files()
    assert torch.equal(ts.load("hf://user/net@dev")(images), ts.load(str(pushed.address))(images))


@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # inside of huggingface_hub
def test_large_files_go_their_own_way(hub: Hub, network, images) -> None:
    hub.large = {"network.transpike"}
    ts.push_to_hub(network, "user/net", images[:4])
    assert len(hub.objects) == 1 and torch.equal(ts.load("hf://user/net")(images), network(images))


def test_repositories_of_something_else_and_public_ones_are_left_alone(hub: Hub, network, images) -> None:
    hub.add("user/bert", {"README.md": b"# BERT", "model.safetensors": b""})
    with pytest.raises(SettingError, match=r"user/bert has a README.md and no network.transpike"):
        ts.push_to_hub(network, "user/bert", images[:4])
    hub.add("user/public", {".gitattributes": b""})
    with pytest.raises(SettingError, match="user/public exists and is public, and it was to be private"):
        ts.push_to_hub(network, "user/public", images[:4], private=True)
    assert all(len(one.commits) == 1 for one in hub.repositories.values())
    ts.push_to_hub(network, "user/secret", images[:4], private=True)
    assert hub.repositories["user/secret"].private


def test_tokens_without_the_right_are_told(hub: Hub, network, images, monkeypatch) -> None:
    for token, says in (
        ("hf_read", r"\(HTTP 403\): check that the token is valid and has the right to write there"),
        (None, r"\(HTTP 401\): log in \(hf auth login\), or put a token into HF_TOKEN"),
    ):
        monkeypatch.delenv("HF_TOKEN", raising=False)
        with pytest.raises(FileError, match=f"refuses access to hf://user/net {says}") as refusal:
            ts.push_to_hub(network, "user/net", images[:4], token=token)
        assert "hf_read" not in str(refusal.value)
    assert not hub.repositories


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"license": "MIT License"}, "license must be an identifier of the hub"),
        ({"report": "97 %"}, "report must be the result of evaluate or cost, not str"),
        ({"revision": None, "repository": "net"}, "is not a repository: write user/name"),
    ],
)
def test_settings_that_make_no_sense(network, images, settings, says) -> None:
    with pytest.raises(SettingError, match=says):
        ts.push_to_hub(network, settings.pop("repository", "user/net"), images[:4], dry_run=True, **settings)


def test_a_report_of_another_network_is_refused(network, images, cost) -> None:
    other = dataclasses.replace(network, provenance={**network.provenance, "source_sha256": "0" * 64})
    with pytest.raises(SettingError, match="the report is of another network"):
        ts.push_to_hub(other, "user/net", images[:4], report=cost, dry_run=True)


def test_without_the_library_only_a_dry_run_works(network, images, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'transpike[hub]'")):
        ts.push_to_hub(network, "user/net", images[:4])
    assert ts.push_to_hub(network, "user/net", images[:4], dry_run=True).url is None


def test_the_command_uploads_and_shows_what_it_would_upload(hub: Hub, file: Path) -> None:
    words = ("push", file, "user/net", "--limit", 32, "--license", "mit")
    card = run(*words, "--dry-run").output
    assert "| Accuracy |" in card and "## Energy" in card and not hub.requests
    told = json.loads(run(*words, "--json").output)
    assert told["verification"]["samples"] == 4 and ts.load(told["address"]).timesteps == 8
    assert "Not measured" in run("push", file, "user/net", "--no-measure", "--unverified", "--dry-run").output
    assert "write user/name" in run("push", file, "net", code=2).output
    assert "pushed" not in run("push", file, "user/net", "--samples", 0, code=2).output


def test_an_address_is_no_place_to_save(network) -> None:
    with pytest.raises(SettingError, match="push_to_hub"):
        ts.save(network, "hf://user/net")


def test_verify_in_python(network, images) -> None:
    found = ts.verify(network, images[:4])
    assert found.agrees and found.samples == 4 and found.timesteps == 8 and "layers equal" in str(found)
    found.check()
    with pytest.raises(SettingError, match="timesteps must be an integer of at least 1"):
        ts.verify(network, images[:4], 0)
