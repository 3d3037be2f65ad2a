"""The checks of one version: what the journal, the manifest and the files say of it must be the same."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from blake3 import blake3

from fedelta.errors import StorageError
from fedelta_server.aggregate import file_digest
from fedelta_server.audit._chain import Told
from fedelta_server.audit._report import Finding
from fedelta_server.manifest import FoldedUpdate, Manifest, decode
from fedelta_server.store.io import storage_errors


def check_file(link: str, path: Path, digest: bytes) -> Finding | None:
    """Checks a file against its digest. Raises `FileNotFoundError` where it is not there."""
    try:
        found = file_digest(path)
    except StorageError:
        if path.exists():
            raise
        raise FileNotFoundError(path) from None
    return None if found == digest else Finding(link=link, what=differs("digest", found.hex(), digest.hex()))


def check_records(told: Told) -> Iterator[Finding]:
    """The records of one version against each other."""
    if told.number == 0:
        return
    link = f"journal of round {told.number}"
    if told.clients != tuple(told.updates):
        yield Finding(link=link, what=differs("folded clients", _names(told.clients), _names(told.updates)))
    if told.closed not in (None, told.digest):
        yield Finding(link=link, what=differs("digest of the model", told.closed.hex(), told.digest.hex()))


def read_manifest(path: Path, told: Told) -> Manifest | Finding:
    """The manifest of a version, or why it cannot be relied on."""
    link = f"manifest of version {told.number}"
    if not path.exists():
        return Finding(link=link, what="its file is not there")
    with storage_errors(path):
        data = path.read_bytes()
    found = blake3(data).digest()
    if found != told.manifest:
        return Finding(link=link, what=differs("digest", found.hex(), told.manifest.hex()))
    try:
        return decode(data)
    except StorageError as error:
        return Finding(link=link, what=str(error))


def check_manifest(manifest: Manifest, told: Told, parent: Told | None, job: str, plan: str) -> Iterator[Finding]:
    """A manifest against the journal. Its own digest fits."""
    link = f"manifest of version {told.number}"
    pairs: dict[str, tuple[object, object]] = {
        "job": (manifest.job, job),
        "version": (manifest.version, told.number),
        "attempt": (manifest.attempt, told.attempt),
        "digest of the job file": (manifest.plan, plan),
        "digest of the model": (manifest.model.digest, told.digest.hex()),
        "length of the model": (manifest.model.length, told.length),
    }
    if parent is not None:
        pairs[f"digest of version {parent.number}"] = (manifest.parent.model, parent.digest.hex())
        pairs[f"digest of the manifest of version {parent.number}"] = (manifest.parent.manifest, parent.manifest.hex())
    for name, (found, expected) in pairs.items():
        if found != expected:
            yield Finding(link=link, what=differs(name, found, expected))
    yield from _check_updates({each.client: each for each in manifest.updates}, told)


def _check_updates(folded: Mapping[str, FoldedUpdate], told: Told) -> Iterator[Finding]:
    for client in sorted(folded.keys() | told.updates.keys()):
        link = f"manifest of version {told.number}, update of {client}"
        if client not in folded:
            yield Finding(link=link, what="the journal says that it was accepted, the manifest does not name it")
        elif client not in told.updates:
            yield Finding(link=link, what="the journal does not say that it was accepted")
        else:
            yield from _check_update(link, folded[client], told)


def _check_update(link: str, folded: FoldedUpdate, told: Told) -> Iterator[Finding]:
    update = told.updates[folded.client]
    pairs: dict[str, tuple[object, object]] = {
        "weight": (folded.weight, update.weight),
        "digest": (folded.digest, update.digest.hex()),
        "length": (folded.length, update.length),
    }
    for name, (found, expected) in pairs.items():
        if found != expected:
            yield Finding(link=link, what=differs(name, found, expected))


def differs(name: str, found: object, expected: object) -> str:
    """A difference in words."""
    return f"{name} is {found}, the journal says {expected}"


def _names(clients: Iterable[str]) -> str:
    return ", ".join(clients) or "nobody"
