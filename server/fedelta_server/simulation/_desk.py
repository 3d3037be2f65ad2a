"""The coordinator's part of a simulation: the engine, its records, and what it wants to be done with files."""

from collections.abc import Callable
from typing import TypedDict

from fedelta_server.engine import Engine, Job, effects, events, records
from fedelta_server.folding import make_version
from fedelta_server.simulation._history import Chronicle
from fedelta_server.store.files import Files

Watch = Callable[[float, records.Record], None]
"""Hears of every record, with the time on the simulation's clock."""


class _Where(TypedDict):
    at: float
    job: str
    round: int
    attempt: int


class Desk:
    """Tells the engine what happens, and does at once what it wants: nothing here takes time."""

    def __init__(self, files: Files, watch: Watch | None) -> None:
        self.engine = Engine()
        self.chronicle = Chronicle()
        self.files = files
        self.woken: dict[str, None] = {}
        """Clients that may have work, in the order in which they were told."""
        self.ended: dict[str, None] = {}
        """Clients of which an assignment ended, in that order."""
        self._watch = watch
        self._inbox: list[events.Event] = []

    @property
    def job(self) -> Job:
        """The job, once it is submitted."""
        return self.engine.book.job(self.chronicle.job)

    def tell(self, event: events.Event) -> None:
        """Lets the engine decide on an event, and on what comes of it."""
        self._inbox.append(event)
        while self._inbox:
            event = self._inbox.pop(0)
            step = self.engine.handle(event)
            for record in step.records:
                self._note(event.at, record)
            for effect in step.effects:
                self._carry_out(event.at, effect)

    def _note(self, now: float, record: records.Record) -> None:
        match record:
            case records.ParticipationEnded():
                self.ended[record.participation.client] = None
            case records.VersionMade() if record.state:
                # Whoever trains from now on gets this one.
                self.files.drop_states(record.job, record.version)
            case records.RoundClosed() | records.EvaluationClosed():
                self._inbox.append(events.PruneRequested(at=now, job=record.job, versions=self._outlived()))
        self.chronicle.take(now, record)
        if self._watch is not None:
            self._watch(now, record)

    def _outlived(self) -> tuple[int, ...]:
        """All versions but the newest. Those that something still needs stay all the same."""
        return tuple(self.job.versions.keys() - self.job.pruned)

    def _carry_out(self, now: float, effect: effects.Effect) -> None:
        match effect:
            case effects.Wake():
                self.woken.update(dict.fromkeys(effect.clients))
            case effects.Fold():
                self._inbox.append(self._folded(now, effect))
            case effects.DropUpdates():
                self.files.drop_updates(effect.job, effect.round, effect.attempt)
            case effects.DropParts():
                self.files.drop_parts(effect.job, effect.parts, effect.oldest, updates=True)
            case effects.DropModels():
                for digest in effect.digests:
                    self.files.model_path(digest).unlink(missing_ok=True)

    def _folded(self, now: float, effect: effects.Fold) -> events.Folded | events.FoldFailed:
        where = _Where(at=now, job=effect.job, round=effect.round, attempt=effect.attempt)
        try:
            made = make_version(self.files, self.job, effect)
        except Exception as error:  # as the coordinator does: the job pauses, with the reason
            return events.FoldFailed(reason=str(error) or repr(error), **where)
        return events.Folded(
            digest=made.digest,
            length=made.length,
            manifest=made.manifest,
            state=made.state,
            norm=made.norm,
            **where,
        )
