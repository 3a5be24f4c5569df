"""Downloads and uploads through ``huggingface_hub``, with errors that name the place and the remedy."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from transpike.core.version import __version__
from transpike.errors import FileError, MissingExtra, SettingError, TranspikeError
from transpike.hub.address import NETWORK, Address

CARD = "README.md"


@dataclass(frozen=True)
class Uploaded:
    """A commit on the hub: its page and its number."""

    url: str
    commit: str


def library() -> ModuleType:
    """``huggingface_hub``. Raises MissingExtra without it."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtra(
            f"networks on the Hugging Face Hub need huggingface_hub: pip install 'transpike[hub]' ({error})"
        ) from error
    return huggingface_hub


def download(address: Address) -> Path:
    """The file in the local cache, downloaded if it is not there; an interrupted download resumes.

    Where the hub cannot be reached, a version that was downloaded before is used. ``HF_ENDPOINT``, ``HF_HOME`` and
    ``HF_TOKEN`` are read as by ``huggingface_hub``. Nothing but this file is downloaded.

    Raises FileError for a repository, revision or file that is not there or not accessible, and for a hub that cannot
    be reached; MissingExtra without ``huggingface_hub``.
    """
    hub = library()
    with _explained(address):
        return Path(
            hub.hf_hub_download(
                address.repository, address.file, revision=address.revision, endpoint=_endpoint(),
                library_name="transpike", library_version=__version__,
            )
        )  # fmt: skip


def upload(
    address: Address,
    files: Mapping[str, bytes],
    message: str,
    *,
    stale: Iterable[str] = (),
    private: bool | None = None,
    token: str | None = None,
) -> Uploaded:
    """Write ``files`` in one commit, so that all of them appear or none; a missing repository or branch is created.

    The files ``stale`` of an earlier upload are removed, unless they are among ``files``.

    Raises SettingError for a repository with another content, and for a public one where ``private`` was asked for;
    FileError where the hub refuses or cannot be reached; MissingExtra.
    """
    hub = library()
    with _explained(address, token, uploads=True):
        api = hub.HfApi(endpoint=_endpoint(), token=token, library_name="transpike", library_version=__version__)
        api.create_repo(address.repository, private=private, exist_ok=True)
        if address.revision is not None:
            api.create_branch(address.repository, branch=address.revision, exist_ok=True)
        found = api.model_info(address.repository, revision=address.revision)
        there = {one.rfilename for one in found.siblings or ()}
        if private and not found.private:
            raise SettingError(
                f"{address} exists and is public, and it was to be private: change its visibility on the hub, or give "
                "another name"
            )
        if CARD in there and NETWORK not in there:
            raise SettingError(
                f"{address} has a {CARD} and no {NETWORK}, so it holds something else, whose card would be replaced: "
                "give another name"
            )
        operations = [hub.CommitOperationAdd(name, data) for name, data in files.items()]
        operations += [hub.CommitOperationDelete(name) for name in there.intersection(stale) - files.keys()]
        commit = api.create_commit(address.repository, operations, commit_message=message, revision=address.revision)
    return Uploaded(str(commit.commit_url), str(commit.oid))


def _endpoint() -> str | None:
    """The setting in the environment, also if it was set after huggingface_hub was imported."""
    return (os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None


@contextlib.contextmanager
def _explained(address: Address, token: str | None = None, uploads: bool = False) -> Iterator[None]:
    """Errors of the library as errors of transpike."""
    try:
        yield
    except TranspikeError:
        raise
    except Exception as error:  # the library, its HTTP client and the disk have different ones
        from huggingface_hub.errors import HFValidationError

        if isinstance(error, HFValidationError):
            raise SettingError(f"{address} has no name of a repository: {_short(error)}") from error
        raise FileError(_message(error, address, token, uploads)) from error


def _message(error: Exception, address: Address, token: str | None, uploads: bool) -> str:
    from huggingface_hub import constants, get_token
    from huggingface_hub import errors as kinds

    if isinstance(error.__cause__, kinds.HfHubHTTPError) and isinstance(error, kinds.LocalEntryNotFoundError):
        error = error.__cause__  # the hub has answered, with an error, and the cache has nothing either
    where = _endpoint() or constants.ENDPOINT
    status = getattr(getattr(error, "response", None), "status_code", None)
    has_token = bool(token or get_token())
    rights = (
        "check that the token is valid and has the right to " + ("write there" if uploads else "read it")
        if has_token
        else "log in (hf auth login), or put a token into HF_TOKEN"
    )
    if isinstance(error, kinds.GatedRepoError):
        return f"{address} is gated: accept its terms on {where}/{address.repository}; {rights}"
    if isinstance(error, kinds.RepositoryNotFoundError):
        return f"{where} has no repository {address.repository}, or it is private: check the name; {rights}"
    if isinstance(error, kinds.RevisionNotFoundError):
        return f"{address.repository} on {where} has no revision {address.revision!r}: give a branch, a tag or a commit"
    if isinstance(error, kinds.LocalEntryNotFoundError | kinds.OfflineModeIsEnabled):
        return (
            f"{address} is not in the cache, and {where} does not answer or offline mode is on: check the connection, "
            f"HF_ENDPOINT and HF_HUB_OFFLINE ({_short(error)})"
        )
    if isinstance(error, kinds.EntryNotFoundError):
        return f"{address.repository} on {where} has no file {address.file}{_others(address)}"
    if status in (401, 403):
        return f"{where} refuses access to {address} (HTTP {status}): {rights}"
    what = "uploaded" if uploads else "downloaded"
    why = f"{type(error).__name__}: {_short(error)}"
    return f"{address} cannot be {what} ({why}): check the connection to {where}, and the disk"


def _others(address: Address) -> str:
    """The networks that the repository has instead, and how to name one."""
    try:
        names = library().HfApi(endpoint=_endpoint()).list_repo_files(address.repository, revision=address.revision)
    except Exception:  # it only adds to a message
        return ""
    found = sorted(name for name in names if name.endswith(".transpike"))
    if not found:
        return ", and no other .transpike file: it holds no network of transpike"
    return f": it has {', '.join(str(Address(address.repository, address.revision, name)) for name in found[:5])}"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
