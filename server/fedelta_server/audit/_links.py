"""The checks of one version: what the journal, the manifest and the files say of it must be the same."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from blake3 import blake3

from fedelta.errors import StorageError
from fedelta_server.aggregate import file_digest
from fedelta_server.audit._chain import Accepted, Key, Told
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
    accepted = tuple(each.key for each in told.updates)
    if told.folded != accepted:
        found, expected = (_names(keys, told.number) for keys in (told.folded, accepted))
        yield Finding(link=link, what=differs("folded clients", found, expected))
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
        "digest of the state": (manifest.state.digest if manifest.state else "", told.state.hex()),
        "length of the state": (manifest.state.length if manifest.state else 0, told.state_length),
        "norm of the change": (manifest.norm, told.norm),
    }
    if parent is not None:
        pairs[f"digest of version {parent.number}"] = (manifest.parent.model, parent.digest.hex())
        pairs[f"digest of the manifest of version {parent.number}"] = (manifest.parent.manifest, parent.manifest.hex())
        pairs[f"digest of the state of version {parent.number}"] = (manifest.parent.state, parent.state.hex())
    yield from _differences(link, pairs)
    yield from _check_updates(manifest, told)


def _check_updates(manifest: Manifest, told: Told) -> Iterator[Finding]:
    folded = {_key(each, manifest): each for each in manifest.updates}
    accepted = {each.key: each for each in told.updates}
    for key in sorted(folded.keys() | accepted.keys()):
        link = f"manifest of version {told.number}, update of {_name(key, told.number)}"
        if key not in folded:
            yield Finding(link=link, what="the journal says that it was accepted, the manifest does not name it")
        elif key not in accepted:
            yield Finding(link=link, what="the journal does not say that it was accepted")
        else:
            yield from _check_update(link, folded[key], accepted[key])
    if folded.keys() == accepted.keys() and list(folded) != list(accepted):
        found, expected = (_names(keys, told.number) for keys in (folded, accepted))
        yield Finding(link=f"manifest of version {told.number}", what=differs("order of the updates", found, expected))


def _key(update: FoldedUpdate, manifest: Manifest) -> Key:
    """Manifests of format 1 do not name rounds: an update was always of the version's own."""
    return update.client, update.round or manifest.version, update.attempt or manifest.attempt


def _check_update(link: str, folded: FoldedUpdate, accepted: Accepted) -> Iterator[Finding]:
    pairs: dict[str, tuple[object, object]] = {
        "weight": (folded.weight, accepted.weight),
        "digest": (folded.digest, accepted.digest.hex()),
        "length": (folded.length, accepted.length),
        "facts": (folded.facts, accepted.facts),
        "staleness": (folded.staleness, accepted.staleness),
    }
    yield from _differences(link, pairs)


def _differences(link: str, pairs: Mapping[str, tuple[object, object]]) -> Iterator[Finding]:
    for name, (found, expected) in pairs.items():
        if found != expected:
            yield Finding(link=link, what=differs(name, found, expected))


def differs(name: str, found: object, expected: object) -> str:
    """A difference in words."""
    return f"{name} is {found}, the journal says {expected}"


def _name(key: Key, version: int) -> str:
    client, round_, _ = key
    return client if round_ == version else f"{client} in round {round_}"


def _names(keys: Iterable[Key], version: int) -> str:
    return ", ".join(_name(key, version) for key in keys) or "nobody"
