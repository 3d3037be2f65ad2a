"""What a job's closed rounds and evaluations told: what selectors and stop rules decide by.

Changed by records and in no other way, so that decisions are the same after a restart.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fedelta.config import EvaluateConfig
from fedelta.parts import Candidate, History, RoundFacts
from fedelta_server.engine.metrics import deciding
from fedelta_server.engine.records import EvaluationClosed, Participation, RoundClosed
from fedelta_server.engine.words import Outcome, PhaseKind

_LOSS = "loss"


@dataclass
class ClientPast:
    """What a client's parts in a job told."""

    examples: int = 0
    seconds: float | None = None
    loss: float | None = None
    """Of its latest training."""
    last_round: int = 0
    rounds: int = 0
    losses: dict[int, float] = field(default_factory=dict)
    """Of the versions that it evaluated last, oldest first."""


@dataclass
class Past:
    """What the closed rounds and evaluations of a job told.

    A version's first evaluation counts. When a further one comes in depends on when an operator asks for it.
    """

    lag: int
    """The job's `evaluate.lag`."""
    rounds: list[RoundFacts] = field(default_factory=list)
    evaluations: dict[int, dict[str, float]] = field(default_factory=dict)
    """The metrics of the evaluated versions, by number."""
    clients: dict[str, ClientPast] = field(default_factory=dict)

    @property
    def reach(self) -> int:
        """Decisions rest on the evaluations of versions up to this one."""
        return (self.rounds[-1].number if self.rounds else 0) - self.lag

    # What records change.

    def round_closed(self, record: RoundClosed) -> None:
        """A round is complete."""
        self.rounds.append(
            RoundFacts(
                number=record.number,
                seconds=record.seconds,
                bytes_up=record.bytes_up,
                bytes_down=record.bytes_down,
                update_norm=record.norm,
                train_metrics=record.train_metrics,
            )
        )
        for part in _accepted(record.clients, PhaseKind.TRAIN):
            self._trained(part, record.number)
        if record.metrics:  # of a journal of before there was `EvaluationClosed`
            self._evaluated(record.number, record.metrics, record.clients)

    def evaluated(self, record: EvaluationClosed) -> None:
        """An evaluation is complete."""
        self._evaluated(record.version, record.measured, record.clients)

    def _trained(self, part: Participation, number: int) -> None:
        client = self.clients.setdefault(part.client, ClientPast())
        client.examples, client.seconds = part.examples, part.seconds
        client.loss = part.facts.get(_LOSS, part.metrics.get(_LOSS, client.loss))
        client.last_round = number
        client.rounds += 1

    def _evaluated(self, version: int, metrics: Mapping[str, float], parts: Iterable[Participation]) -> None:
        if version in self.evaluations:
            return
        self.evaluations[version] = dict(metrics)
        for part in _accepted(parts, PhaseKind.EVALUATE):
            if _LOSS in part.metrics:
                self._keep_loss(part.client, version, part.metrics[_LOSS])

    def _keep_loss(self, name: str, version: int, loss: float) -> None:
        # Versions come out of order. At most `lag` of those that are kept are beyond what decisions rest on.
        client = self.clients.setdefault(name, ClientPast())
        newest = sorted({**client.losses, version: loss}.items())[-self.lag - 1 :]
        client.losses = dict(newest)

    # What decisions rest on.

    def candidate(self, name: str, labels: Mapping[str, str]) -> Candidate:
        """A client, for selectors."""
        found = self.clients.get(name)
        if found is None:
            return Candidate(name=name, labels=labels)
        counting = [loss for version, loss in found.losses.items() if version <= self.reach]
        return Candidate(
            name=name,
            labels=labels,
            examples=found.examples,
            loss=counting[-1] if counting else found.loss,
            seconds=found.seconds,
            last_round=found.last_round,
            rounds=found.rounds,
        )

    def history(self, evaluate: EvaluateConfig) -> History:
        """What stop rules look at. There is a closed round."""
        counting = {version: self.evaluations[version] for version in sorted(self.evaluations) if version <= self.reach}
        metric, goal = deciding(evaluate, counting)
        return History(rounds=self.rounds, evaluations=counting, metric=metric, goal=goal)


def _accepted(parts: Iterable[Participation], phase: PhaseKind) -> Iterable[Participation]:
    return (part for part in parts if part.phase is phase and part.outcome is Outcome.ACCEPTED)
