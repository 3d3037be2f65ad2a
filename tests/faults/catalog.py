"""The faults there are."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.faults.orders import Order


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that happens to one process, at one point, to one client's part in one round.

    In `match` stand {job}, {round} and {client} for those that it is aimed at.
    """

    kind: str
    """As the closing table has it."""
    whom: str
    """"coordinator", "client", "trainer" or "wire"."""
    point: str
    act: str = "kill"
    match: tuple[str, ...] = ()
    skip: int = 0
    retrains: bool = False
    """Whether the update was not made yet, so that it must be trained again."""
    drops: bool = False
    """Whether the client's part in the round ends with it: the model is one without that update."""

    def order(self, job: str, round_: int, client: str) -> Order:
        """What is to be done to hit this part."""
        match = tuple(part.format(job=job, round=round_, client=client) for part in self.match)
        return Order(point=self.point, act=self.act, match=match, skip=self.skip)

    def target(self, client: str) -> str:
        """Whose orders it belongs to."""
        return {"coordinator": "coordinator", "client": client}.get(self.whom, f"{client}.{self.whom}")

    def __str__(self) -> str:
        return f"{self.kind}: {self.whom}, {self.point} {' '.join(self.match)} ({self.act})"


_UPLOAD = ("uploads/{job}.{round}.", ".train.{client}.")
_UPDATE = ("updates/{job}/{round}.", "/{client}.safetensors")
_ROUND = ("updates/{job}/{round}.",)
_PART = ("{job}.{round}.", ".train.{client}")
_WORK = ("{job}.{round}.train",)
_TRAINING = ("{job}.{round}.",)
_ACCEPTED = ('"ParticipationEnded"', '"job":"{job}"', '"round":{round},', '"client":"{client}"', '"phase":"train"')
_SETTLED = ("{job}.{round}.",)
_MADE = ('"VersionMade"', '"job":"{job}"', '"version":{round},')
_CLOSED = ('"RoundClosed"', '"job":"{job}"', '"number":{round},')
_OPENED = ('"PhaseOpened"', '"job":"{job}"', '"round":{round},', '"phase":"train"')


def _kills(
    whom: str, points: Mapping[str, tuple[str, ...]], *, retrains: bool = False, drops: bool = False
) -> list[Fault]:
    return [
        Fault(kind=f"{whom} killed", whom=whom, point=point, match=match, retrains=retrains, drops=drops)
        for point, match in points.items()
    ]


def _at_files(step: str, match: tuple[str, ...]) -> list[Fault]:
    """A kill on either side of a step with a file."""
    return [
        Fault(kind="coordinator killed", whom="coordinator", point=f"{side} {step}", match=match)
        for side in ("before", "after")
    ]


_COORDINATOR_KILLED = [
    # Taking in an update: spooled, synced, renamed, its directory synced, recorded, acknowledged.
    *_kills("coordinator", {"before push": _PART, "after push": _PART, "before write": _UPLOAD, "in write": _UPLOAD}),
    *(
        Fault(kind="coordinator killed", whom="coordinator", point="before write", match=_UPLOAD, skip=skip)
        for skip in (1, 2)
    ),
    *_kills("coordinator", {"before taking": _PART, "after taking": _PART}),
    *_at_files("sync", _UPLOAD),
    *_at_files("make_dir", _ROUND),
    *_at_files("rename", _UPDATE),
    *_at_files("sync_dir", _ROUND),
    *_kills("coordinator", {"before insert": _ACCEPTED, "before commit": _ACCEPTED}),
    # Making a version: folded, synced, renamed, its directory synced, recorded, the updates let go.
    *_kills(
        "coordinator", {"before fold": _ROUND, "before the optimizer's step": (), "after the optimizer's step": ()}
    ),
    *_kills("coordinator", {"before writing the model": (), "after fold": _ROUND}),
    *_at_files("making a version", ("{job}.{round}.",)),
    *_at_files("rename", ("models/",)),
    *_at_files("sync_dir", ("/models",)),
    *_kills("coordinator", {"before insert": _MADE, "before commit": _MADE}),
    *_at_files("remove_dir", _ROUND),
    *_kills("coordinator", {"before insert": _CLOSED, "before commit": _CLOSED}),
    *_kills("coordinator", {"before insert": _OPENED, "before commit": _OPENED}),
    # What clients hear.
    *_kills("coordinator", {"chunk down": _PART, "after NextAssignment": _PART, "before ReportEvaluation": ()}),
    *_kills("coordinator", {"after ReportEvaluation": ()}),
]

_CLIENT_KILLED = [
    *_kills("client", {"before assignment": _PART, "before fetch": _PART, "after chunk down": _PART}),
    *_kills("client", {"after fetch": _PART, "before work": _WORK}),
    # The learner is done, and nothing says so yet.
    *_kills(
        "client", {"after work": _WORK, "before pending state": _PART, "after pending state": _PART}, retrains=True
    ),
    *_kills("client", {"before keeping the result": _PART}, retrains=True),
    # From here on the update is the one in the spool.
    *_kills("client", {"after keeping the result": _PART, "before delivery": _PART, "chunk up": _PART}),
    *_kills("client", {"after delivery": _PART, "after assignment": _PART}),
    *_kills("client", {"before settling": _SETTLED, "after settling": _SETTLED}),
]

_TRAINER_KILLED = [
    *_kills("trainer", dict.fromkeys(("training begins", "in training", "training ends"), _TRAINING), drops=True),
    *_kills("trainer", {"before answer": (*_TRAINING, "Trained")}, drops=True),
    *_kills("trainer", {"after answer": (*_TRAINING, "Trained")}),
]

_DISK = [
    Fault(kind=kind, whom="coordinator", point=point, act=act, match=match)
    for kind, act in (("disk full (ENOSPC)", "enospc"), ("disk broken (EIO)", "eio"))
    for point, match in (
        ("before write", _UPLOAD),
        ("in write", _UPLOAD),
        ("before sync", _UPLOAD),
        ("before rename", _UPDATE),
        ("before sync_dir", _ROUND),
        ("before insert", _ACCEPTED),
        ("before commit", _ACCEPTED),
        ("before writing the model", ()),
        ("before rename", ("models/",)),
        ("before sync_dir", ("/models",)),
        ("before commit", _MADE),
        ("before commit", _CLOSED),
    )
]

_CHUNKS = [
    Fault(kind=kind, whom=whom, point=point, act=act, match=match)
    for kind, act in (("chunk flipped", "flip"), ("chunk truncated", "truncate"), ("chunk lost", "drop"))
    for whom, point, match in (("client", "chunk up", _PART), ("coordinator", "chunk down", _PART))
] + [
    Fault(kind=kind, whom="wire", point=f"data {way}", act=act)
    for kind, act in (("chunk flipped", "flip"), ("chunk truncated", "truncate"))
    for way in ("up", "down")
]

_DOUBLES = [
    Fault(kind="message duplicated", whom="client", point="chunk up", act="double", match=_PART),
    # A client takes a coordinator that sends too much for one that it cannot work for.
    Fault(kind="message duplicated", whom="coordinator", point="chunk down", act="double", match=_PART, drops=True),
    *(Fault(kind="message duplicated", whom="wire", point=point, act="double") for point in ("up", "down", "data up")),
    *(
        Fault(kind="message duplicated", whom="client", point="push", act=act, match=_PART)
        for act in ("twice", "at once twice")
    ),
    Fault(kind="message duplicated", whom="client", point="call", act="twice", match=("ReportEvaluation",)),
    Fault(kind="message duplicated", whom="client", point="call", act="twice", match=("NextAssignment",)),
]

_LOST_ANSWERS = [
    Fault(kind="answer lost", whom="client", point="push", act="lose the answer", match=_PART),
    *(
        Fault(kind="answer lost", whom="client", point="call", act="lose the answer", match=(call,))
        for call in ("ReportEvaluation", "NextAssignment")
    ),
]

_CONNECTIONS = [
    Fault(kind=kind, whom="wire", point=point, act=act)
    for kind, act in (("connection reset", "reset"), ("socket stalled", "stall"))
    for point in ("up", "down", "data up", "data down")
]

_CLOCKS = [
    Fault(kind="clock jumped", whom=whom, point="clock", act=act)
    for whom in ("coordinator", "client")
    for act in ("a year ahead", "a day back")
]

HUNG = Fault(kind="trainer hung", whom="trainer", point="in training", act="hang", match=_TRAINING, drops=True)
"""Until the round's deadline; a job without one would wait for an hour."""

AT_VERSIONS = (*_kills("coordinator", {"before fold": _ROUND}), *_kills("coordinator", {"before commit": _MADE}))
"""Aimed at no client's part."""

_NUMBERED = ('"ParticipationEnded"', '"job":"{job}"', '"outcome":"accepted"', '"number":{round}')

AT_BUFFERS = (
    *_kills("coordinator", {"before commit": _NUMBERED}),
    *_kills("coordinator", {"after making a version": ("{job}.{round}.",)}),
    *_kills("coordinator", {"before commit": _MADE}),
)
"""Of asynchronous rounds: when an update is accepted, and when a version is made of those that were."""

CATALOG = (
    *_COORDINATOR_KILLED,
    *_CLIENT_KILLED,
    *_TRAINER_KILLED,
    *_DISK,
    *_CHUNKS,
    *_DOUBLES,
    *_LOST_ANSWERS,
    *_CONNECTIONS,
    *_CLOCKS,
)
"""All of them."""
