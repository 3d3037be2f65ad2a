"""Plans: parts that cannot work together are refused when a job is submitted, naming both and the remedy."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

from fedelta.config import JobSpec, parse_job
from fedelta.errors import ConfigError
from fedelta.local import Plain
from fedelta.parts import (
    Candidate,
    Draw,
    History,
    Measure,
    Measured,
    Needs,
    Rule,
    Sizing,
    Updates,
    Weighted,
    _registry,
)
from fedelta_server.engine import events
from fedelta_server.engine.words import JobState
from fedelta_server.plan import Plan, plan_of
from tests.server.engine.harness import Harness, toml


@dataclass(frozen=True, kw_only=True)
class OfFive:
    """An aggregator that judges each of five updates."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: int = 5

    def rule(self, updates: Updates, measured: Measured) -> Rule:  # noqa: ARG002
        return Weighted(factors=(1.0,) * len(updates))


@dataclass(frozen=True, kw_only=True)
class OfMood(OfFive):
    """An aggregator that asks for what nobody can tell."""

    facts: ClassVar[frozenset[str]] = frozenset({"mood"})


@dataclass(frozen=True, kw_only=True)
class Headless:
    """An aggregator of an older protocol."""

    needs: ClassVar[Needs] = Needs.EACH
    measures: ClassVar[frozenset[Measure]] = frozenset()
    facts: ClassVar[frozenset[str]] = frozenset()
    least: ClassVar[int] = 1


@dataclass(frozen=True, kw_only=True)
class Sharing(Plain):
    """A local training that shares tensors, in step."""

    shared: ClassVar[tuple[str, ...]] = ("control",)
    synchronous: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Shaky(Plain):
    """A local training whose check is wrong."""

    def check(self, job: JobSpec) -> None:
        raise ZeroDivisionError(job.job.name)


@dataclass(frozen=True, kw_only=True)
class Choosy(Plain):
    """A local training that works with one aggregator and one number of epochs."""

    requires: ClassVar[dict[str, tuple[str, ...]]] = {"aggregator": ("mean", "uniform")}

    def check(self, job: JobSpec) -> None:
        if job.train.get("epochs", 1) > 1:
            raise ConfigError("local 'choosy' takes train.epochs = 1")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """These parts are installed as well."""
    more: dict[str, dict[str, type]] = {
        "aggregator": {"of-five": OfFive, "of-mood": OfMood, "headless": Headless},
        "local": {"sharing": Sharing, "choosy": Choosy, "shaky": Shaky},
        "selector": {"wayward": Wayward},
        "stop": {"moody": Moody},
    }
    known: Any = _registry.known

    def with_more(slot: _registry.Slot) -> dict[str, EntryPoint]:
        added = more.get(slot.name, {})
        entries = {name: EntryPoint(name, f"{__name__}:{part.__name__}", slot.group) for name, part in added.items()}
        return {**known(slot), **entries}

    with_more.cache_clear = known.cache_clear  # type: ignore[attr-defined]
    monkeypatch.setattr(_registry, "known", with_more)


def job(text: str = "", rounds: str = "max = 3") -> JobSpec:
    return parse_job(toml(rounds=rounds) + text, "test")


def plan(text: str = "", rounds: str = "max = 3") -> Plan:
    return plan_of(job(text, rounds))


def test_a_job_that_names_no_part_is_fedavg() -> None:
    found = plan()
    assert [type(part).__name__ for part in (found.selector, found.local, found.aggregator, found.optimizer)] == [
        "Uniform",
        "Plain",
        "Mean",
        "Sgd",
    ]
    assert (found.stop, found.least_updates, found.ready_needed, found.reads_metrics) == ((), 1, 1, False)


OF_FIVE = '[aggregator]\nname = "of-five"\n'
SHARING = '[local]\nname = "sharing"\n'
CHOOSY = '[local]\nname = "choosy"\n'
POISSON = '[selector]\nname = "poisson"\nrate = 0.5\n'
ALL = '[selector]\nname = "all"\n'
TARGET = '[[stop]]\nname = "target"\n'

KRUM = '[aggregator]\nname = "krum"\nbyzantine = 1\n'
BULYAN = '[aggregator]\nname = "bulyan"\nbyzantine = 1\n'
SCAFFOLD = '[local]\nname = "scaffold"\n'
FEDDYN = '[local]\nname = "feddyn"\nalpha = 0.1\n'

REFUSED = [
    # Of those that come with fedelta. Krum is for 2f + 3 updates or more, Bulyan for 4f + 3 (the bounds).
    (KRUM, "clients = 4", "aggregator 'krum' needs 5 updates .* rounds.clients = 4; set it to 5 or more"),
    (BULYAN, "clients = 6", "aggregator 'bulyan' needs 7 updates .* rounds.clients = 6"),
    (SCAFFOLD + KRUM, "", "local 'scaffold' .* aggregator 'krum' judges each update by itself"),
    (SCAFFOLD, "buffer = 4", "local 'scaffold' works in synchronous rounds only, and rounds.buffer = 4"),
    (FEDDYN, "", "local 'feddyn' does not work with aggregator 'mean'"),
    (FEDDYN + '[aggregator]\nname = "uniform"', "", "local 'feddyn' does not work with server_optimizer 'sgd'"),
    (
        '[server_optimizer]\nname = "feddyn"\nalpha = 0.1',
        "",
        "server_optimizer 'feddyn' does not work with local 'plain'",
    ),
    ('[local]\nname = "fednova"', "", "local 'fednova' does not work with aggregator 'mean'; .* 'fednova'"),
    ('[local]\nname = "fedsgd"\n[train]\nepochs = 5', "", "local 'fedsgd' .* train.epochs = 5"),
    # Of any.
    (SHARING + OF_FIVE, "", "local 'sharing' .* aggregator 'of-five' .*'mean'"),
    (OF_FIVE, "clients = 4", "aggregator 'of-five' needs 5 updates .*rounds.clients = 4; set it to 5"),
    (OF_FIVE, "min_clients = 4", "rounds.min_clients = 4; set it to 5"),
    (OF_FIVE, "clients = 8\nbuffer = 4", "aggregator 'of-five' .* rounds.buffer = 4"),
    ('[aggregator]\nname = "of-mood"', "", "aggregator 'of-mood' wants to know 'mood' .* 'loss' and 'steps'"),
    (CHOOSY + OF_FIVE, "", r"'choosy' does not work with aggregator 'of-five'; say \[aggregator\] name = 'mean' or"),
    (CHOOSY + "[train]\nepochs = 2", "", "local 'choosy' takes train.epochs = 1"),
    ('[aggregator]\nname = "headless"', "", r"'headless' \(.*Headless\) is no aggregator: it has no 'rule'"),
    ('[local]\nname = "shaky"', "", "the job's parts do not work: ZeroDivisionError"),
    (SHARING, "clients = 8\nbuffer = 4", "local 'sharing' works in synchronous rounds only, .* drop rounds.buffer"),
    (POISSON, "clients = 4", "selector 'poisson' .* rounds.clients does too"),
    (POISSON, "buffer = 4", "selector 'poisson' .* rounds.buffer does too"),
    (POISSON, "min_updates = 4", "'poisson' may draw a single client, and rounds.min_updates needs 4"),
    (POISSON + OF_FIVE, "", "selector 'poisson' .* aggregator 'of-five' needs 5"),
    (ALL, "fraction = 0.5", "selector 'all' .* rounds.fraction does too"),
    ("[evaluate]\nevery = 0\n" + TARGET + "at_least = 0.9", "", "stop 'target' decides by .* evaluate.every = 0"),
    ("[server_optimizer]\nlearning = 1", "", "server_optimizer: unknown key 'learning'"),
    ("[server_optimizer]\nlr = nan", "", "server_optimizer.lr"),
    ("[server_optimizer]\nlr = -1", "", "server_optimizer.lr"),
    ('[server_optimizer]\nname = "yoga"', "", "server_optimizer.name = 'yoga' is not known; did you mean 'yogi'"),
    ('[aggregator]\nname = "xyz?"', "", "aggregator.name = 'xyz\\?' is not known; known are .*mean, .*sum"),
    ('[selector]\nname = "poison"', "", "selector.name = 'poison' is not known; did you mean 'poisson'"),
    ('[selector]\nname = "poisson"\nrat = 0.5', "", "selector: unknown key 'rat'; did you mean 'rate'"),
    ('[selector]\nname = "poisson"', "", "selector.rate is missing"),
    (POISSON.replace("0.5", "2"), "", "selector.rate: expected `float` <= 1"),
    (ALL + "rate = 2", "", "selector: unknown key 'rate'; there are none"),
    (TARGET + "at_last = 0.9", "", r"stop\[0\]: unknown key 'at_last'; did you mean 'at_least'"),
    ('[[stop]]\nname = "tagret"', "", r"stop\[0\].name = 'tagret' is not known; did you mean 'target'"),
]
"""What a job file says, what it says of rounds, and what is said to that."""


@pytest.mark.parametrize(("text", "rounds", "complaint"), REFUSED)
def test_what_cannot_work_together_is_refused_when_the_job_is_submitted(text: str, rounds: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Harness().submit(toml(rounds=f"max = 3\n{rounds}") + text)
    assert re.search(complaint, refused.value.message), refused.value.message


def test_a_round_needs_as_many_updates_as_its_aggregator() -> None:
    found = plan('[aggregator]\nname = "of-five"')
    assert (found.least_updates, found.ready_needed) == (5, 5)
    found = plan('[aggregator]\nname = "of-five"', "max = 3\nmin_updates = 7")
    assert (found.least_updates, found.ready_needed) == (7, 7)
    # A buffer is full with so many, and fewer clients may fill it, one after the other.
    found = plan('[aggregator]\nname = "of-five"', "max = 3\nclients = 2\nbuffer = 6")
    assert (found.least_updates, found.ready_needed) == (6, 2)


@dataclass(frozen=True, kw_only=True)
class Wayward:
    """A selector that draws what it is told to."""

    draws: str
    fails_from: int = 1
    """The round from which it does."""
    reads_metrics: ClassVar[bool] = False
    sizing: ClassVar[Sizing] = Sizing.ALL

    def select(self, candidates: Sequence[Candidate], draw: Draw) -> Sequence[str]:
        if draw.round < self.fails_from:
            return [each.name for each in candidates]
        return {"nobody": [], "zoe": ["zoe"], "twice": ["ada", "ada"]}[self.draws]


@dataclass(frozen=True, kw_only=True)
class Moody:
    """A stop rule that divides by zero."""

    reads_metrics: ClassVar[bool] = False

    def reason(self, history: History) -> str | None:
        return str(1 / (len(history.rounds) - 1))


WAYWARD = '[selector]\nname = "wayward"\n'


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (WAYWARD + 'draws = "nobody"', "selector 'wayward' failed: .*it drew nobody"),
        (WAYWARD + 'draws = "zoe"', "selector 'wayward' failed: .*it drew 'zoe', who was no candidate"),
        (WAYWARD + 'draws = "twice"', "selector 'wayward' failed: .*it drew a client twice"),
        (WAYWARD + 'draws = "what?"', "selector 'wayward' failed: KeyError"),
        (WAYWARD + 'draws = "zoe"\nfails_from = 2', "selector 'wayward' failed: .*'zoe'"),
        ('[[stop]]\nname = "moody"', "stop 'moody' failed: ZeroDivisionError"),
    ],
)
def test_a_part_that_fails_pauses_its_job_and_no_other(part: str, reason: str) -> None:
    h = Harness()
    h.join("ada", "bob")
    job_id = h.submit(toml(rounds="max = 3", rest="[evaluate]\nevery = 0\n" + part))
    while h.job(job_id).round is not None:
        h.update("ada")
        h.update("bob")
        h.fold()
    assert h.job(job_id).state is JobState.PAUSED
    assert re.search(reason, h.job(job_id).reason), h.job(job_id).reason
    h.restart()
    h.join("ada", "bob")
    h.send(events.ResumeRequested(at=h.now, job=job_id))
    assert h.job(job_id).state is JobState.PAUSED
    other = h.submit(toml(rounds="max = 1"))
    assert h.job(other).round is not None
