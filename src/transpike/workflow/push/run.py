"""Upload a network with its numbers and its certificate."""

import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transpike.errors import SettingError
from transpike.files import load, save
from transpike.hub.address import NETWORK, Address, repository_of
from transpike.hub.client import CARD, library, upload
from transpike.snn import SNN, takes_snn
from transpike.workflow.cost.result import Cost
from transpike.workflow.evaluate.measurement import Measurement
from transpike.workflow.evaluate.report import Report
from transpike.workflow.push.card import CERTIFICATE, Result, card, certificate
from transpike.workflow.verify import Verification, verify

LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")


@dataclass(frozen=True)
class Pushed:
    """What was uploaded: ``address`` with the commit, the page ``url`` of the commit, and the files by name.

    ``url`` is None of a dry run, which uploads nothing.
    """

    address: Address
    url: str | None
    files: dict[str, bytes]
    verification: Verification | None

    @property
    def card(self) -> str:
        """The text of the model card."""
        return self.files[CARD].decode()

    def to_json(self) -> dict[str, Any]:
        """Numbers and text only."""
        return {
            "address": str(self.address),
            "url": self.url,
            "files": {name: len(data) for name, data in self.files.items()},
            "verification": None if self.verification is None else self.verification.to_json(),
        }

    def __str__(self) -> str:
        sizes = ", ".join(f"{name} ({len(data):,} bytes)" for name, data in self.files.items())
        checked = "not verified" if self.verification is None else str(self.verification)
        done = "uploaded" if self.url else "dry run, nothing uploaded:"
        return f"{done} {self.address}: {sizes}\n{checked}" + (f"\n{self.url}" if self.url else "")


@takes_snn
def push_to_hub(
    snn: SNN,
    repository: str,
    samples: Any = None,
    *,
    report: Result | None = None,
    license: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    timesteps: int | None = None,
    unverified: bool = False,
    dry_run: bool = False,
) -> Pushed:
    """Upload ``snn`` to the Hugging Face Hub as one commit: network, model card, and the certificate of ``verify``.

    ``repository``: "user/name", which is created if it is missing; ``revision``: a branch, by default main. The network
    is written as a file and read again, and every engine then runs it on ``samples``, inputs (batch, *shape) as in a
    call (``verify``; four are enough; ``timesteps``: at most 32 by default). Only a network whose engines agree is
    uploaded, and without samples only with ``unverified=True``; the card says so. ``report``: a Report, Measurement or
    Cost, whose numbers the card shows; a Cost adds the energy verdict. ``license``: its identifier on the hub, like
    "apache-2.0".
    ``private``: None leaves an existing repository as it is. ``token``: by default ``HF_TOKEN`` or that of
    ``hf auth login``; it needs the right to write. ``dry_run`` makes all files and uploads nothing.

    ``transpike.load(str(pushed.address))`` reads it again. Nothing is uploaded if an error is raised: SettingError,
    GateFailed (engines differ), FileError (the hub refuses, or does not answer), MissingExtra (``transpike[hub]``).
    """
    address = repository_of(repository, revision)
    if license is not None and not LICENSE.fullmatch(license):
        raise SettingError(f"license must be an identifier of the hub, like apache-2.0 or cc-by-4.0, not {license!r}")
    if report is not None and not isinstance(report, Report | Measurement | Cost):
        raise SettingError(f"report must be the result of evaluate or cost, not {type(report).__name__}")
    if samples is None and not unverified:
        raise SettingError(
            "a network is uploaded after a comparison of its engines: give inputs as samples=…, or unverified=True"
        )
    measured = report.report if isinstance(report, Cost) else report
    if measured is not None:
        _check_of(measured, snn)
    if not dry_run:
        library()  # before the work
    with tempfile.TemporaryDirectory() as folder:
        path = save(snn, Path(folder) / NETWORK)
        data, read = path.read_bytes(), load(path)
    verification = None if samples is None else verify(read, samples, timesteps)
    if verification is not None:
        verification.check()
    sha256 = hashlib.sha256(data).hexdigest()
    files = {NETWORK: data, CARD: card(read, address, verification, report, license, sha256).encode()}
    if verification is not None:
        files[CERTIFICATE] = certificate(verification, sha256).encode()
    if dry_run:
        return Pushed(address, None, files, verification)
    message = f"Spiking network by {snn.recipe.name}, T={snn.timesteps}"
    found = upload(address, files, message, stale=(CERTIFICATE,), private=private, token=token)
    return Pushed(Address(address.repository, found.commit), found.url, files, verification)


def _check_of(report: Report | Measurement, snn: SNN) -> None:
    """Raises SettingError for the result of another network, as far as its recipe and its source say so."""
    source = "source_sha256"
    if report.recipe != str(snn.recipe) or report.provenance.get(source) != snn.provenance.get(source):
        raise SettingError(
            f"the report is of another network: its recipe is {report.recipe}, this one's is {snn.recipe}; evaluate "
            "the network that is uploaded"
        )
