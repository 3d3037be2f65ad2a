"""What a client is told of an assignment that is no longer open."""

from fedelta_server.engine._book import Book


def ending(book: Book, assignment_id: str) -> str:
    """What became of an assignment, as exactly as is still known."""
    ended = book.endings.get(assignment_id)
    if ended is None:
        return _from_its_job(book, assignment_id) or "unknown to the coordinator"
    part = ended.participation
    return f"{part.outcome} ({part.reason})" if part.reason else str(part.outcome)


def _from_its_job(book: Book, assignment_id: str) -> str:
    """What follows from the id alone, where so many assignments ended since that this one is forgotten."""
    for job in book.jobs.values():
        job_id, _, rest = assignment_id.partition(f"{job.id}.")
        number = rest.partition(".")[0]
        if not job_id and number.isdecimal() and int(number) <= job.rounds_done:
            return f"round {int(number)} of job {job.id!r} is closed"
    return ""
