"""The session's id is kept in the spool: a client that is started after one was killed takes over its session at once.

Otherwise it would have to wait until the coordinator takes the dead one for gone. A process that holds the spool's lock
knows that whoever held it before is dead. The lock vouches only for processes of this machine since it was booted, so a
copy of the spool elsewhere is another client, which the coordinator keeps apart from this one.
"""

import contextlib
import secrets
from pathlib import Path

import msgspec

from fedelta._files import replaced

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    id: str
    name: str
    coordinator: str
    boot: str


class SessionFile:
    """The file with the id of the session that this spool's client has, or had when it was killed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self, name: str, coordinator: str) -> str:
        """The id under which the client of this name is to register at the coordinator (HOST:PORT).

        Only for who holds the spool's lock. Raises `StorageError` where the disk refuses.
        """
        kept = self._read()
        fresh = _Kept(id=secrets.token_hex(16), name=name, coordinator=coordinator, boot=_boot())
        if kept is not None and kept.boot and kept == msgspec.structs.replace(fresh, id=kept.id):
            return kept.id
        with replaced(self._path, overwrite=True) as part:
            part.touch(mode=0o600)
            part.write_bytes(msgspec.json.encode(fresh))
        return fresh.id

    def close(self) -> None:
        """The session has ended in order."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> _Kept | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None


def _boot() -> str:
    """Names the time since this machine was booted. Empty where the system does not say."""
    with contextlib.suppress(OSError):
        return _BOOT.read_text().strip()
    return ""
