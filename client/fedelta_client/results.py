"""What a client has finished and the coordinator may not have yet: it is kept, and sent again instead of made again.

The update's file is overwritten in place and not synced, which would cost as much as sending it. So a note beside it
says what it is. The note is written when the file is complete and removed before the file is touched again: whoever
finds both after a crash has the whole update. After a power loss the file may lack what was never written; its digest
tells.
"""

from pathlib import Path

import msgspec
from blake3 import blake3

from fedelta._files import replaced
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say

Result = say.Trained | say.Initialized | say.Evaluated


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """A note: the answer to a piece of work."""

    work: str
    """Digest of what was asked for."""
    result: Result


class Results:
    """The one result that is kept. The methods raise `OSError` or `StorageError` where the disk refuses."""

    def __init__(self, update: Path, note: Path) -> None:
        self.update = update
        """Where the trainer writes an update or an initial model, over what is there."""
        self._note = note

    def keep(self, assignment: pb.Assignment, result: Result) -> None:
        """From now on the result is found for this assignment, also by another process."""
        with replaced(self._note, overwrite=True) as part:
            part.write_bytes(msgspec.json.encode(Finished(work=_work(assignment), result=result)))

    def find(self, assignment: pb.Assignment) -> Result | None:
        """The result of the assignment, if it is whole. None: it is to be made."""
        finished = self._read()
        if finished is None or finished.work != _work(assignment) or not self._whole(finished.result):
            return None
        return finished.result

    def clear(self) -> None:
        """Nothing is kept any more: the file may be overwritten."""
        self._note.unlink(missing_ok=True)

    def _read(self) -> Finished | None:
        try:
            return msgspec.json.decode(self._note.read_bytes(), type=Finished)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def _whole(self, result: Result) -> bool:
        if isinstance(result, say.Evaluated):
            return True
        file = result.file
        try:
            return self.update.stat().st_size == file.length and _digest(self.update) == file.digest
        except FileNotFoundError:
            return False


def _work(assignment: pb.Assignment) -> str:
    """Digest of all that decides what the result is. The id is not enough: a coordinator begun anew repeats it."""
    asked = pb.Assignment(
        id=assignment.id,
        kind=assignment.kind,
        job_id=assignment.job_id,
        learner=assignment.learner,
        round=assignment.round,
        model=assignment.model if assignment.HasField("model") else None,
        config_json=assignment.config_json,
        seed=assignment.seed,
        model_arguments_json=assignment.model_arguments_json,
        plan_json=assignment.plan_json,
        shared=assignment.shared if assignment.HasField("shared") else None,
    )
    return blake3(asked.SerializeToString(deterministic=True)).hexdigest()


def _digest(path: Path) -> str:
    return blake3().update_mmap(path).hexdigest()
