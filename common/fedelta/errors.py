"""The exceptions of fedelta: one tree, and the catalogue of what each is on the wire.

Each class has a stable ``code`` (sent as trailing metadata ``fedelta-error``) and a gRPC status by
name, so that the coordinator raises a class and the client catches the same class.
"""

from typing import ClassVar


class FedeltaError(Exception):
    """Base of everything fedelta raises on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[str] = "INTERNAL"

    def __init__(self, *words: object, retry_seconds: float | None = None) -> None:
        super().__init__(*words)
        self.retry_seconds = retry_seconds
        """After about so many seconds it is worth trying again. None: that is not known, or no use."""

    @property
    def message(self) -> str:
        """What went wrong and what helps, in one or two sentences."""
        return str(self)


class ConfigError(FedeltaError):
    """A job file, flag or setting is wrong; the message names it and the remedy."""

    code = "config"
    status = "INVALID_ARGUMENT"


class NotFoundError(FedeltaError):
    """There is no such job, version or assignment."""

    code = "not-found"
    status = "NOT_FOUND"


class WrongStateError(FedeltaError):
    """The job is not in a state in which that can be done."""

    code = "wrong-state"
    status = "FAILED_PRECONDITION"


class ProtocolMismatchError(FedeltaError):
    """Client and coordinator have no protocol version in common."""

    code = "protocol-mismatch"
    status = "FAILED_PRECONDITION"


class InUseError(FedeltaError):
    """Another process holds what this one needs: a state directory, a spool, a port."""

    code = "in-use"
    status = "ALREADY_EXISTS"


class NameInUseError(InUseError):
    """Another live process holds the client name."""

    code = "name-in-use"


class UnknownSessionError(FedeltaError):
    """The session is not open: the coordinator restarted, or it lapsed. Register again."""

    code = "unknown-session"
    status = "UNAUTHENTICATED"


class AssignmentEndedError(FedeltaError):
    """The assignment is no longer open: late, cancelled, or its lease ran out."""

    code = "assignment-ended"
    status = "FAILED_PRECONDITION"


class ForeignAssignmentError(FedeltaError):
    """The assignment belongs to another client."""

    code = "foreign-assignment"
    status = "PERMISSION_DENIED"


class SupersededError(FedeltaError):
    """A newer upload of the same assignment ended this one."""

    code = "superseded"
    status = "ABORTED"


class BadRequestError(FedeltaError):
    """A request breaks the contract."""

    code = "bad-request"
    status = "INVALID_ARGUMENT"


class PayloadError(FedeltaError):
    """A tensor file is malformed or does not hold what it should."""

    code = "bad-payload"
    status = "INVALID_ARGUMENT"


class DigestMismatchError(PayloadError):
    """The bytes received are not those that were announced."""

    code = "digest-mismatch"
    status = "DATA_LOSS"


class SchemaMismatchError(PayloadError):
    """The tensors are not those of the job's model; the message names the first that differs."""

    code = "schema-mismatch"


class NotFiniteError(PayloadError):
    """A tensor holds NaN or infinity; the message names it."""

    code = "not-finite"


class WeightError(PayloadError):
    """The number of examples is zero or absurd."""

    code = "bad-weight"


class StalledError(FedeltaError):
    """A transfer made no progress for too long."""

    code = "stalled"
    status = "DEADLINE_EXCEEDED"


class BusyError(FedeltaError):
    """The coordinator has no room at the moment. Try again later."""

    code = "busy"
    status = "RESOURCE_EXHAUSTED"


class StorageError(FedeltaError):
    """A disk operation failed, for example because the disk is full."""

    code = "storage"
    status = "RESOURCE_EXHAUSTED"


class UnavailableError(FedeltaError):
    """The coordinator cannot be reached, or is shutting down."""

    code = "unavailable"
    status = "UNAVAILABLE"


class UnreachableError(UnavailableError):
    """No connection comes about; the message says where it fails, and what helps."""

    code = "unreachable"


class LearnerError(FedeltaError):
    """The learner cannot be loaded, or it raised or returned something unusable."""

    code = "learner"
    status = "INVALID_ARGUMENT"


class ModelMismatchError(LearnerError):
    """The learner's model does not fit the job's model; the message names the tensor."""

    code = "model-mismatch"


def _tree(root: type[FedeltaError]) -> dict[str, type[FedeltaError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_CODE: dict[str, type[FedeltaError]] = _tree(FedeltaError)
"""Every class by its code on the wire."""
