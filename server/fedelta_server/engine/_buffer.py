"""The state of asynchronous rounds (FedBuff, Nguyen et al. 2022), changed by applying records and in no other way.

A version is made of every `size` updates that are accepted, in the order in which they are, whichever versions they
started from. So while an update is accepted it is known which version it will be in, and how stale it is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedelta_server.engine._phases import Phase
from fedelta_server.engine.records import ParticipationEnded, VersionMade
from fedelta_server.engine.words import Outcome

_NO_DROP = (Outcome.DECLINED, Outcome.RELEASED, Outcome.CANCELLED)
"""How parts end without an update that say nothing of whether the client could give one."""


@dataclass(frozen=True)
class Held:
    """An accepted update that is in no version yet."""

    record: ParticipationEnded
    population: int
    """From how many clients its own was drawn."""


@dataclass
class Buffer:
    """Who works for an asynchronous job, and the updates that are in no version yet."""

    size: int
    """So many updates make a version."""
    open: dict[str, Phase] = field(default_factory=dict)
    """By client: its training, a phase of its own, because nobody waits for anybody. Nobody has two."""
    held: list[Held] = field(default_factory=list)
    """The accepted updates that are in no version yet, in the order in which they were accepted."""
    others: list[ParticipationEnded] = field(default_factory=list)
    """The parts that ended without an update since the newest version was made."""
    asked: dict[str, int] = field(default_factory=dict)
    """By client: how often it was asked to start from the newest version."""
    left_out: set[str] = field(default_factory=set)
    """Those who gave no update when they were asked: they are not asked again before the next version or attempt."""
    drops: int = 0
    """How many parts in a row ended without an update, up to now."""
    folding: bool = False  # volatile
    opened_at: float = 0.0  # volatile
    """When the newest version was made, or the first client was asked."""
    bytes_up: int = 0  # volatile
    bytes_down: int = 0  # volatile

    @property
    def full(self) -> bool:
        """Whether there are enough updates for a version."""
        return len(self.held) >= self.size

    @property
    def next(self) -> Sequence[Held]:
        """The updates that the next version is made of, as far as they are there."""
        return self.held[: self.size]

    @property
    def ahead(self) -> int:
        """How many versions are made before the one that an update is in which is accepted now."""
        return len(self.held) // self.size

    @property
    def draws(self) -> int:
        """How often clients were asked to start from the newest version."""
        return sum(self.asked.values())

    def missing(self, versions: int) -> int:
        """How many updates are yet to be accepted for so many versions."""
        return versions * self.size - len(self.held)

    def short(self, clients: int | None) -> bool:
        """Whether further ones may be asked, where so many clients are to be at work; None: as many as there are.

        Not while a version is made: what they started from would be old in a moment. Nor after more drop-outs in a row
        than there are to be clients at work: that is not chance, and must not cost everybody's time.
        """
        return not self.folding and (clients is None or (len(self.open) < clients and self.drops <= clients))

    def attempt(self, client: str) -> int:
        """What tells a client's next assignment from those it had from the same version."""
        return self.asked.get(client, 0) + 1

    def sources(self, client: str = "") -> list[tuple[int, int]]:
        """The rounds and attempts of what is open and of what is held: of all clients, or of one."""
        found = [(name, each.round, each.attempt) for name, phase in self.open.items() for each in phase.assignments]
        found += [source_of(each.record) for each in self.held]
        return [(round_, attempt) for name, round_, attempt in found if client in ("", name)]

    # What records change.

    def begin(self, client: str, attempt: int, phase: Phase) -> None:
        """A client was asked."""
        self.open[client] = phase
        self.asked[client] = attempt

    def end(self, record: ParticipationEnded) -> None:
        """The part of a client is over."""
        part = record.participation
        phase = self.open.pop(part.client)
        if part.outcome is Outcome.ACCEPTED:
            self.held.append(Held(record, phase.population))
            self.drops = 0
            return
        self.others.append(record)
        if part.outcome not in _NO_DROP:
            self.left_out.add(part.client)
            self.drops += 1

    def made(self, record: VersionMade) -> None:
        """A version was made of some of the updates."""
        taken = {(name, *source) for name, source in zip(record.clients, record.sources, strict=True)}
        self.held = [each for each in self.held if source_of(each.record) not in taken]
        self.asked.clear()
        self.try_anew()

    def try_anew(self) -> None:
        """Everybody may be asked again."""
        self.left_out.clear()
        self.drops = 0

    def clear(self) -> None:
        """The job has ended. How often clients were asked stays known: it may be extended."""
        self.folding = False
        self.open.clear()
        self.held.clear()
        self.others.clear()
        self.try_anew()


def source_of(record: ParticipationEnded) -> tuple[str, int, int]:
    """The client, the round and the attempt of the assignment that ended."""
    return record.participation.client, record.round, record.attempt
