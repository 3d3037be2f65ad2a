"""Payload files below the coordinator's state directory; `layout` says where each lies.

A file gets its final name only after its content is durable, and the name is durable when `keep_update`, `keep_model`,
`keep_state` or `keep_manifest` returns: whoever commits a row after that never names a file that a power failure takes
away.
"""

import itertools
import os
import threading
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from pathlib import Path

from fedelta.errors import BadRequestError, StorageError
from fedelta_server.store._fs import FileSystem
from fedelta_server.store._upload import Spares, Upload, held_bytes
from fedelta_server.store.io import opened, storage_errors
from fedelta_server.store.layout import Layout, component


class Files:
    """The payload files of one coordinator. Safe to use from several threads."""

    def __init__(self, root: Path, fs: FileSystem | None = None) -> None:
        self._fs = fs or FileSystem()
        self._layout = Layout(root)
        self._spares = Spares(self._layout.spares, self._fs)
        self._numbers = itertools.count()
        self._lock = threading.RLock()
        with storage_errors(root):
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._durable = {root}
        for directory in self._layout.directories:
            self._ensure(directory)

    def free_bytes(self) -> int:
        """How much is free on the disk for uploads."""
        return self._fs.free_bytes(self._layout.uploads)

    def has_model(self, digest: bytes) -> bool:
        """Whether the model of this digest is stored."""
        return self.model_path(digest).exists()

    def model_path(self, digest: bytes) -> Path:
        """Where the model of this digest is, or would be."""
        return self._layout.model(digest)

    def state_path(self, job: str, version: int) -> Path:
        """Where the state of a job's parts that belongs to a version is, or would be."""
        return self._layout.state(job, version)

    def manifest_path(self, job: str, version: int) -> Path:
        """Where the manifest of a version is, or would be."""
        return self._layout.manifest(job, version)

    def upload_path(self, key: str, digest: bytes) -> Path:
        """Where the bytes of an upload are spooled."""
        return self._layout.upload(key, digest)

    def update_path(self, job: str, round_: int, attempt: int, client: str) -> Path:
        """Where an admitted update is, or would be."""
        return self._layout.update(job, round_, attempt, client)

    def open_upload(self, key: str, digest: bytes, length: int, offset: int) -> Upload:
        """Opens the upload of `key` (an assignment) to go on at byte `offset`; what is held beyond it is cut off.

        What the key holds under another digest is dropped. Raises `BadRequestError` where less than `offset` bytes
        are held, and `StorageError`, before a byte is written, where the rest does not fit on the disk.
        """
        path = self.upload_path(key, digest)
        held = self.held(key, digest)
        if not 0 <= offset <= min(held, length):
            raise BadRequestError(
                f"the upload is to go on at byte {offset}, but {held} bytes of {length} are held here; "
                "ask for the upload's status and go on from there"
            )
        self._drop_parts(key, keep=path)
        self._check_free(path, length - held)
        return Upload(self._fs, path, length, offset, self._spares)

    def held(self, key: str, digest: bytes) -> int:
        """Bytes held of an upload; 0 where there is none."""
        return held_bytes(self.upload_path(key, digest))

    def drop_upload(self, key: str) -> None:
        """Removes whatever is held for the key."""
        self._drop_parts(key, keep=None)

    def sync(self, path: Path) -> None:
        """Makes a file's content durable; what keeps it later finds little left to do.

        Where that fails the file is gone: what the disk did not take once is not written by a later sync either.
        """
        try:
            self._fs.sync(path)
        except StorageError:
            self._fs.unlink(path)
            raise

    def keep_update(self, upload: Path, job: str, round_: int, attempt: int, client: str) -> Path:
        """Makes an admitted upload durable under its final name and returns that."""
        target = self.update_path(job, round_, attempt, client)
        self._keep(upload, target)
        return target

    def keep_model(self, source: Path, digest: bytes) -> Path:
        """Makes a model file durable under its digest and returns its path."""
        target = self.model_path(digest)
        self._keep(source, target)
        return target

    def keep_state(self, source: Path, job: str, version: int) -> Path:
        """Makes the state of a version durable under its name and returns its path.

        It is named by the version, not by its digest as models are: it goes when the job goes on, and another job's
        could have the same bytes.
        """
        target = self.state_path(job, version)
        self._keep(source, target)
        return target

    def keep_manifest(self, data: bytes, job: str, version: int) -> Path:
        """Writes a manifest and makes it durable under its name; returns its path."""
        source, target = self.temp(".json"), self.manifest_path(job, version)
        with opened(source, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
            self._fs.write(fd, source, data, 0)
        self._keep(source, target)
        return target

    def put_aside(self, digest: bytes) -> Path | None:
        """Takes the name from a model's file, which is `remove`d later. None: it is not there.

        It takes no time, as removing a large file does: from one moment to the next `has_model` says that it is gone.
        """
        path, aside = self.model_path(digest), self.temp(".gone")
        if not path.exists():
            return None
        self._fs.rename(path, aside)
        return aside

    def remove(self, aside: Path) -> None:
        """Removes what was put aside. Killed before, it is swept at the next start."""
        self._fs.unlink(aside)

    def end_round(self, job: str, round_: int, attempt: int, keep: int) -> None:
        """Lets go what is left of a round that has its version, but keeps the updates of the last `keep` rounds."""
        self._drop_uploads(lambda name: name.startswith(_uploads_of(job, round_, attempt)))
        for directory, number in self._layout.rounds(job):
            if number <= round_ - keep:
                self._remove_tree(directory)

    def drop_updates(self, job: str, round_: int, attempt: int) -> None:
        """Removes what is left of one attempt at a round, if there is anything: updates, and uploads that broke off.

        Later uploads may overwrite the updates.
        """
        self._remove_tree(self._layout.round(job, round_, attempt))
        self._drop_uploads(lambda name: name.startswith(_uploads_of(job, round_, attempt)))

    def drop_parts(self, job: str, parts: Collection[tuple[int, int, str]], before: int, *, updates: bool) -> None:
        """Removes what assignments (round, attempt, client) left: uploads that broke off and, if wanted, `updates`.

        Besides, the updates of all rounds `before` the given one. Later uploads may overwrite them.
        """
        keys = {f"{_uploads_of(job, round_, attempt)}train.{client}" for round_, attempt, client in parts}
        self._drop_uploads(lambda name: _key_of(name) in keys)
        if updates:
            with self._lock:
                self._spare([self.update_path(job, *part) for part in parts])
        for directory, number in self._layout.rounds(job):
            if number < before:
                self._remove_tree(directory)

    def drop_states(self, job: str, before: int) -> None:
        """Removes the states of a job that belong to versions `before` the given one."""
        for path, owner, version in self._layout.kept_states():
            if owner == job and version < before:
                self._fs.unlink(path)

    def drop_spares(self) -> None:
        """Removes what was kept to be overwritten: there is nothing to come for a while."""
        self._spares.clear()

    def sweep(self, live: Collection[tuple[str, int, int]], states: Mapping[str, Container[int]]) -> None:
        """To be called at start: removes temporary files, and what belongs to other than the `live` rounds.

        Uploads of live rounds (job, round, attempt) stay, for they can be resumed. Of `states` those of the given
        versions of each job stay.
        """
        for path, job, version in self._layout.kept_states():
            if version not in states.get(job, ()):
                self._fs.unlink(path)
        prefixes = tuple(_uploads_of(*which) for which in live)
        self._drop_uploads(lambda name: not name.startswith(prefixes))
        for path in (*self._children(self._layout.temp), *self._children(self._layout.spares)):
            self._fs.unlink(path)
        keep = {self._layout.round(*which) for which in live}
        for updates in self._children(self._layout.updates):
            for directory in self._children(updates):
                if directory not in keep:
                    self._remove_tree(directory)

    def temp(self, suffix: str) -> Path:
        """A new path for a file that `keep_model` can take over later; the file is not made."""
        return self._layout.temp / f"{next(self._numbers)}{component(suffix)}"

    def _drop_uploads(self, chosen: Callable[[str], bool]) -> None:
        for path in self._children(self._layout.uploads):
            if chosen(path.name):
                self._fs.unlink(path)

    def _drop_parts(self, key: str, keep: Path | None) -> None:
        for path in self._children(self._layout.uploads):
            if _key_of(path.name) == key and (keep is None or path.name.removesuffix(".held") != keep.name):
                self._fs.unlink(path)

    def _check_free(self, path: Path, needed: int) -> None:
        free = self.free_bytes()
        if needed > free:
            raise StorageError(f"{path}: the disk is full: {needed} bytes are needed, {free} are free")

    def _keep(self, source: Path, target: Path) -> None:
        self.sync(source)
        self._ensure(target.parent)
        self._fs.rename(source, target)
        self._fs.sync_dir(target.parent)

    def _ensure(self, directory: Path) -> None:
        """Makes a directory whose name is durable; one that is there may have been made just before a crash."""
        with self._lock:
            if directory in self._durable:
                return
            self._ensure(directory.parent)
            self._fs.make_dir(directory)
            self._fs.sync_dir(directory.parent)
            self._durable.add(directory)

    def _children(self, directory: Path) -> list[Path]:
        with storage_errors(directory):
            return sorted(directory.iterdir())

    def _remove_tree(self, directory: Path) -> None:
        with self._lock:
            if directory.exists():
                self._spare(self._children(directory))
                self._fs.remove_dir(directory)
            self._durable.discard(directory)

    def _spare(self, paths: Iterable[Path]) -> None:
        """Keeps files to be overwritten, as far as they are there."""
        for path in paths:
            if path.exists():
                self._spares.put(path)


def _key_of(upload: str) -> str:
    """The key that is in the name of an upload's file."""
    return upload.removesuffix(".held").rsplit(".", 2)[0]


def _uploads_of(job: str, round_: int, attempt: int) -> str:
    """How the uploads of a round begin: their keys are the ids of its assignments."""
    return f"{job}.{round_}.{attempt}."
