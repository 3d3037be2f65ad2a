"""What a request is about, for the log."""

from typing import Any, TypedDict

from fedelta._names import is_name
from fedelta.errors import UnknownSessionError
from fedelta_server.engine import Engine


class Subject(TypedDict, total=False):
    """The ids that a log line names."""

    job: str
    round: int
    client: str


def subject(engine: Engine, request: Any) -> Subject:
    """The job, round and client of a request or of an upload's header, as far as it names them."""
    found = Subject()
    name = client_of(engine, getattr(request, "session_id", "")) or getattr(request, "client_name", "")
    if is_name(name):
        found["client"] = name
    assignment = engine.book.assignments.get(getattr(request, "assignment_id", ""))
    if assignment is not None:
        found["job"], found["round"] = assignment.job, assignment.round
    elif job_id := getattr(request, "job_id", ""):
        found["job"] = job_id
    return found


def client_of(engine: Engine, session: str) -> str:
    """The name of the client whose session it is; empty where it is not open."""
    try:
        return engine.clients.of_session(session).name
    except UnknownSessionError:
        return ""
