"""What the tests of asynchronous rounds begin with and look at."""

from fedelta_server.engine import effects, events, records
from fedelta_server.engine.words import PhaseKind
from tests.server.engine.harness import Harness, session, toml

THREE = ("ada", "bob", "cyd")
NO_EVALUATION = "[evaluate]\nevery = 0"


def buffered(rounds: str = "max = 3\nclients = 3\nbuffer = 2", *, job: str = "", rest: str = NO_EVALUATION) -> str:
    return toml(job=job, rounds=rounds, rest=rest)


def begun(rounds: str = "max = 3\nclients = 3\nbuffer = 2", *names: str) -> tuple[Harness, str]:
    """A job whose clients have begun."""
    h = Harness()
    h.join(*(names or THREE))
    return h, h.submit(buffered(rounds))


def at_work(h: Harness, job: str) -> dict[str, tuple[int, int]]:
    """The rounds and attempts of those who train, by client."""
    open_ = h.job(job).open_assignments()
    return {each.client: (each.round, each.attempt) for each in open_ if each.phase is PhaseKind.TRAIN}


def folded(fold: effects.Fold) -> list[tuple[str, int]]:
    """The clients in a fold in its order, and how stale their updates are."""
    return [(each.client, each.staleness) for each in fold.updates]


def ended(h: Harness, client: str) -> list[records.Participation]:
    found = (each.participation for each in h.of_kind(records.ParticipationEnded))
    return [part for part in found if part.client == client]


def renew(h: Harness, name: str, assignment: str) -> None:
    h.send(events.AssignmentRenewed(at=h.now, session=session(name), assignment=assignment))
