"""Networks from a hub: addresses, the cache, what cannot be had, and what is not ours."""

import pickle
import re
from pathlib import Path

import pytest
import torch

import transpike as ts
from commands import run
from hub_server import Hub
from transpike.errors import FileError, MissingExtra, SettingError
from transpike.hub.address import Address, address_of, repository_of

constants = pytest.importorskip(
    "huggingface_hub.constants", reason="needs huggingface_hub: pip install 'transpike[hub]'"
)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("hf://user/name", Address("user/name")),
        ("hf:/user/name", Address("user/name")),  # as a Path writes it
        ("hf://user/name@v1.0", Address("user/name", "v1.0")),
        ("hf://user/na.me-2@refs/pr/3", Address("user/na.me-2", "refs/pr/3")),
        ("hf://user/name/a/b.transpike", Address("user/name", None, "a/b.transpike")),
        ("hf://user/name@main/b.transpike", Address("user/name", "main", "b.transpike")),
    ],
)
def test_an_address_has_a_repository_a_revision_and_a_file(text: str, found: Address) -> None:
    assert address_of(text) == address_of(Path(text)) == found
    assert address_of(str(found)) == found


@pytest.mark.parametrize("path", ["net.transpike", "hf/user/name", "/a/hf:/b", "./hf:/user/name"])
def test_the_path_of_a_file_is_no_address(path: str) -> None:
    assert address_of(path) is None


@pytest.mark.parametrize(
    "text",
    [
        "hf://", "hf://user", "hf://user/", "hf://user/name@", "hf://us er/name", "hf://user/name/../x.transpike",
        "hf://user/name/net.pt", "hf://user/name@a/b@c.transpike", "hf://../name", "hf://user/name/a\\b.transpike",
    ],
)  # fmt: skip
def test_an_address_that_is_written_wrongly_shows_its_form(text: str) -> None:
    with pytest.raises(SettingError, match=re.escape("hf://user/name[@revision]")):
        ts.load(text)


def test_a_repository_may_be_an_address_with_a_branch() -> None:
    assert repository_of("user/name", "dev") == repository_of("hf://user/name@dev") == Address("user/name", "dev")
    for wrong in ("name", "user/name/more", "hf://user/name/a.transpike", "user/na me", ""):
        with pytest.raises(SettingError, match="is not a repository: write user/name"):
            repository_of(wrong)
    with pytest.raises(SettingError, match="another one"):
        repository_of("hf://user/name@dev", "main")


def test_a_network_is_downloaded_once_and_gives_the_same_answers(hub: Hub, network, file, images) -> None:
    hub.add("user/net", {"network.transpike": file.read_bytes(), "evil.py": b"raise SystemExit"})
    assert torch.equal(ts.load("hf://user/net")(images), network(images))
    assert torch.equal(ts.load(Path("hf://user/net"))(images), network(images))
    gets = [path for method, path, _ in hub.requests if method == "GET"]
    assert gets == ["/user/net/resolve/main/network.transpike"]  # and nothing else


def test_revisions_are_branches_and_commits(hub: Hub, file, images, network) -> None:
    repository = hub.add("user/net", {"network.transpike": file.read_bytes()})
    first = repository.branches["main"]
    repository.commit("main", {"network.transpike": b"broken"})
    repository.branches["v1"] = first
    for revision in ("v1", first):
        assert torch.equal(ts.load(f"hf://user/net@{revision}")(images), network(images))
    with pytest.raises(
        FileError, match=r"hf://user/net \(in the cache: .*is truncated, damaged or not a transpike file"
    ):
        ts.load("hf://user/net")


def test_commands_take_an_address_in_place_of_a_file(hub: Hub, file, tmp_path: Path) -> None:
    hub.add("user/net", {"network.transpike": file.read_bytes()})
    assert "IF soft reset" in run("inspect", "hf://user/net").output
    assert "hf://user/net: checksum correct" in run("verify", "hf://user/net").output
    assert "write hf://user/name" in run("verify", "hf://user", code=2).output
    tuned = tmp_path / "tuned.transpike"
    run("finetune", "hf://user/net", "--epochs", 1, "--timesteps", 2, "--output", tuned)
    assert ts.load(tuned).timesteps == 2
    assert "no repository other/net" in run("evaluate", "hf://other/net", code=5).output


def test_an_interrupted_download_resumes(hub: Hub, file, images, network, monkeypatch) -> None:
    hub.add("user/net", {"network.transpike": file.read_bytes()})
    hub.breaks = 1000
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)  # the library drops a chunk that is not complete
    assert torch.equal(ts.load("hf://user/net")(images), network(images))
    ranges = [asked for method, _, asked in hub.requests if method == "GET"]
    assert ranges == ["", "bytes=1000-"]


def test_without_a_connection_the_cache_answers(hub: Hub, file, images, network, monkeypatch) -> None:
    hub.add("user/net", {"network.transpike": file.read_bytes()})
    ts.load("hf://user/net")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(ts.load("hf://user/net")(images), network(images))
    with pytest.raises(FileError, match=r"hf://user/other is not in the cache, and http://.*HF_HUB_OFFLINE"):
        ts.load("hf://user/other")


def test_what_is_not_there_is_named_with_the_way_out(hub: Hub, file, monkeypatch) -> None:
    content = file.read_bytes()
    hub.add("user/net", {"network.transpike": content})
    hub.add("user/other", {"model.safetensors": content, "README.md": b"# mine"})
    hub.add("user/named", {"mine.transpike": content})
    hub.add("user/secret", {"network.transpike": content}, private=True)
    hub.add("user/gated", {"network.transpike": content}, gated=True)
    url = re.escape(hub.url)
    for address, says in {
        "hf://user/missing": f"{url} has no repository user/missing, or it is private: check the name",
        "hf://user/net@v9": f"user/net on {url} has no revision 'v9': give a branch, a tag or a commit",
        "hf://user/other": "has no file network.transpike, and no other .transpike file: it holds no network of transpike",
        "hf://user/named": "has no file network.transpike: it has hf://user/named/mine.transpike",
        "hf://user/gated": f"is gated: accept its terms on {url}/user/gated",
    }.items():
        with pytest.raises(FileError, match=says):
            ts.load(address)
    assert ts.load("hf://user/named/mine.transpike").timesteps == ts.load("hf://user/secret").timesteps == 8
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(FileError, match=r"or it is private: check the name; log in \(hf auth login\)"):
        ts.load("hf://user/secret/other.transpike")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(
        FileError,
        match=r"refuses access to hf://user/secret/other.transpike \(HTTP 401\): check that the token is valid",
    ):
        ts.load("hf://user/secret/other.transpike")


def test_a_file_that_is_not_ours_is_read_as_data(hub: Hub, file, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return Path.write_text, (tmp_path / "ran", "code")

    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    for number, (data, says) in enumerate(
        ((pickle.dumps(Evil()), "never unpickles"), (bytes(content), "checksum does not match"), (b"", "is truncated"))
    ):
        hub.add(f"user/bad{number}", {"network.transpike": data})
        with pytest.raises(FileError, match=f"hf://user/bad{number} .*{says}"):
            ts.load(f"hf://user/bad{number}")
    assert not (tmp_path / "ran").exists()


def test_a_server_that_fails_is_an_error_of_a_file(hub: Hub, monkeypatch) -> None:
    monkeypatch.setattr("hub_server.Handler.resolve", lambda self, *_: self.refuse(418, text="a teapot"))
    with pytest.raises(FileError, match=r"hf://user/net .*check the connection"):
        ts.load("hf://user/net")


def test_a_name_that_no_repository_can_have_is_told(hub: Hub) -> None:
    with pytest.raises(SettingError, match="hf://user/na--me has no name of a repository"):
        ts.load("hf://user/na--me")


def test_without_the_library_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "huggingface_hub", None)
    with pytest.raises(MissingExtra, match=re.escape("pip install 'transpike[hub]'")):
        ts.load("hf://user/net")
