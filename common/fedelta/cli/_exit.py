"""What the exit codes of all commands mean, and which error ends with which."""

import enum

from fedelta import errors


class ExitCode(enum.IntEnum):
    """How a command or a daemon ended. docs/reference/exit-codes.md holds the same table."""

    meaning: str
    """For people, one sentence."""

    def __new__(cls, code: int, meaning: str) -> "ExitCode":
        """A code with its meaning."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    DONE = 0, "Done. Of a job that was waited for: it finished. Of a daemon: a signal ended it, and it ended in order."
    FAILED = 1, "It failed. Of a job that was waited for: it failed or was stopped."
    USAGE = (
        2,
        "What was given is wrong: command line, configuration, job file, model file, or the learner. "
        "Nothing was begun.",
    )
    PAUSED = 3, "The job that was waited for paused; the reason is printed, and `fedelta job resume` goes on with it."
    UNREACHABLE = 4, "No coordinator answers, or it went away and did not come back in time."
    REFUSED = (
        5,
        "It cannot be done as things stand: no such job or version, a job in another state, versions that do not "
        "understand each other, or a name, state directory, spool or port that another process holds.",
    )
    INTERRUPTED = 130, "Ctrl-C (SIGINT) ended it. Of a daemon: a second one, which did not let it end in order."
    TERMINATED = 143, "SIGTERM ended it. Of a daemon: a second signal, which did not let it end in order."


_OF_ERROR: dict[type[errors.FedeltaError], ExitCode] = {
    errors.FedeltaError: ExitCode.FAILED,
    errors.ConfigError: ExitCode.USAGE,
    errors.LearnerError: ExitCode.USAGE,
    errors.PayloadError: ExitCode.USAGE,
    errors.DigestMismatchError: ExitCode.FAILED,
    errors.UnavailableError: ExitCode.UNREACHABLE,
    errors.StalledError: ExitCode.UNREACHABLE,
    errors.NotFoundError: ExitCode.REFUSED,
    errors.WrongStateError: ExitCode.REFUSED,
    errors.ProtocolMismatchError: ExitCode.REFUSED,
    errors.InUseError: ExitCode.REFUSED,
    errors.BadRequestError: ExitCode.REFUSED,
    errors.BusyError: ExitCode.REFUSED,
}
"""By class; a class that is not named has the code of its base."""


def code_of(error: errors.FedeltaError) -> ExitCode:
    """The exit code of a command that an error ended."""
    return next(_OF_ERROR[kind] for kind in type(error).__mro__ if kind in _OF_ERROR)
