"""The address of a network on a hub: ``hf://user/name[@revision][/FILE.transpike]``."""

import re
from dataclasses import dataclass
from pathlib import Path

from transpike.errors import SettingError

NETWORK = "network.transpike"
"""The file that an address means which names none."""
FORM = "hf://user/name[@revision][/FILE.transpike]"
_PART = r"[A-Za-z0-9_][\w.-]*"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}", re.ASCII)
# refs/pr/3 is a revision of the hub with slashes in it; those of other branches end the revision
_ADDRESS = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>refs/(?:pr|convert)/[\w.-]+|[^/@\s]+))?(?:/(?P<file>[^@]+))?",
    re.ASCII,
)
_SCHEME = re.compile(r"hf:/+")


@dataclass(frozen=True)
class Address:
    """A file of a repository; ``revision``: a branch, a tag or a commit, None for the main branch."""

    repository: str
    revision: str | None = None
    file: str = NETWORK

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        return f"hf://{self.repository}{revision}" + ("" if self.file == NETWORK else f"/{self.file}")


def address_of(place: str | Path) -> Address | None:
    """The address that ``place`` is; None for the path of a file. Raises SettingError for one that is written wrongly.

    A ``Path`` has lost one of the two slashes.
    """
    text = place.as_posix() if isinstance(place, Path) else str(place)
    scheme = _SCHEME.match(text)
    if scheme is None:
        return None
    found = _ADDRESS.fullmatch(text[scheme.end() :])
    if found is None:
        raise SettingError(f"{text} is not an address of a network: write {FORM}")
    file = found["file"] or NETWORK
    if not file.endswith(".transpike") or ".." in file.split("/") or "\\" in file:
        raise SettingError(f"{text}: {file!r} is no .transpike file of a repository: write {FORM}")
    return Address(found["repository"], found["revision"], file)


def repository_of(text: str, revision: str | None = None) -> Address:
    """Where a network is uploaded: "user/name", also as an address with a branch. Raises SettingError for others."""
    if _REPOSITORY.fullmatch(text):
        return Address(text, revision)
    found = address_of(text)
    if found is None or found.file != NETWORK:
        raise SettingError(f"{text!r} is not a repository: write user/name")
    if revision is not None and found.revision not in (None, revision):
        raise SettingError(f"{text} has the revision {found.revision}, and revision={revision!r} is another one")
    return Address(found.repository, found.revision or revision)
