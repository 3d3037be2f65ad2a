"""One model file on its way in."""

from typing import BinaryIO

from blake3 import blake3

from fedelta.admin._types import ModelInfo
from fedelta.config import Version
from fedelta.errors import DigestMismatchError
from fedelta.v1 import admin_pb2 as pb


class Download:
    """A file that arrives in order, over as many calls as it takes."""

    def __init__(self, job_id: str, version: Version, file: BinaryIO) -> None:
        self.header: pb.DownloadModelHeader | None = None
        self._job_id = job_id
        self._version = version
        self._file = file
        self._held = 0
        self._digest = blake3()

    @property
    def complete(self) -> bool:
        """Whether as many bytes are here as were announced."""
        return self.header is not None and self._held >= self.header.length

    def request(self) -> pb.DownloadModelRequest:
        """Asks for the rest. What was once the latest or the best version stays that version."""
        version = self._version if self.header is None else self.header.version
        request = pb.DownloadModelRequest(job_id=self._job_id, offset=self._held)
        if isinstance(version, str):
            request.version_name = version
        else:
            request.version = version
        return request

    def take(self, part: memoryview | pb.DownloadModelResponse) -> None:
        """The next message of a stream. Raises `DigestMismatchError` if it does not go on where the last one ended."""
        if isinstance(part, memoryview):
            self._file.write(part)
            self._digest.update(part)
            self._held += len(part)
        elif part.HasField("header"):
            self._begin(part.header)

    def _begin(self, header: pb.DownloadModelHeader) -> None:
        if header.offset != self._held or (self.header is not None and header.digest != self.header.digest):
            raise DigestMismatchError("the coordinator went on with another file or at another place")
        self.header = header

    def ended(self) -> None:
        """The stream ended in order."""
        if not self.complete:
            raise DigestMismatchError(f"the model ended after {self._held} bytes, before its announced length")

    def checked(self) -> ModelInfo:
        """What arrived. Raises `DigestMismatchError` if it is not what was announced."""
        if self.header is None or self._digest.digest() != self.header.digest:
            raise DigestMismatchError("the model that arrived is not the one that was announced; fetch it again")
        return ModelInfo(digest=self.header.digest.hex(), length=self.header.length, version=self.header.version)
