"""Plans: a job, the faults that happen in it, and what is checked when it is done."""

import random
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from tests.faults import journal
from tests.faults.catalog import AT_BUFFERS, AT_VERSIONS, CATALOG, HUNG, Fault
from tests.faults.journal import JobRecords
from tests.faults.learners import NAMES
from tests.faults.orders import Orders
from tests.faults.reference import SEED, References
from tests.faults.resident import Resident

ROUNDS = 4
"""Of each job; there is a fault in each."""

_JOB = """\
[job]
name = "{name}"
seed = {seed}
[model]
init = "first-client"
[rounds]
max = {rounds}
{rules}
[evaluate]
every = 1
[train]
memory = {memory}
"""


@dataclass(frozen=True)
class Hit:
    """A fault that is aimed at a client's part in a round."""

    fault: Fault
    round: int
    client: str


@dataclass(frozen=True)
class Plan:
    """A job and its faults."""

    name: str
    hits: tuple[Hit, ...]
    rules: str = f"clients = {len(NAMES)}"
    """More of the job's [rounds]."""
    open: bool = False
    """Whether it is for the coordinator to say who is in a version."""
    buffered: bool = False
    """Whether its rounds are asynchronous."""

    def __str__(self) -> str:
        return "; ".join(f"round {hit.round}, {hit.client}: {hit.fault}" for hit in self.hits) or "no fault"


@dataclass
class Result:
    """What became of a plan."""

    plan: Plan
    injected: Counter[str] = field(default_factory=Counter)
    """Faults that happened, by kind."""
    missed: list[Fault] = field(default_factory=list)
    """Faults that did not: their points were not reached."""
    lost: list[str] = field(default_factory=list)
    """Updates that were acknowledged and are in no version."""
    repeated: list[str] = field(default_factory=list)
    """Updates that were accepted twice, and trainings that were done again without need."""
    different: list[str] = field(default_factory=list)
    """Versions that are not those of the reference."""

    @property
    def good(self) -> bool:
        return not (self.missed or self.lost or self.repeated or self.different)

    def __str__(self) -> str:
        found: dict[str, Sequence[object]]
        found = {"missed": self.missed, "lost": self.lost, "repeated": self.repeated, "different": self.different}
        return f"{self.plan}\n" + "\n".join(
            f"  {key}: {', '.join(map(str, all_))}" for key, all_ in found.items() if all_
        )


def drawn(count: int, seed: int) -> list[Fault]:
    """So many faults, such that each comes once before any comes again."""
    rng, found = random.Random(seed), list[Fault]()
    while len(found) < count:
        found += rng.sample(CATALOG, min(len(CATALOG), count - len(found)))
    return found


def sample(count: int, seed: int) -> list[Fault]:
    """So few faults that not all of them come, but one of each kind."""
    rng, kinds = random.Random(seed), defaultdict[str, list[Fault]](list)
    for fault in CATALOG:
        kinds[fault.kind].append(fault)
    found = [rng.choice(faults) for faults in kinds.values()]
    return rng.sample(found + rng.sample(CATALOG, count - len(found)), count)


def plans(faults: Sequence[Fault], seed: int) -> Iterator[Plan]:
    """Plans with these faults, one in each round; the seed says whom they hit."""
    rng = random.Random(seed)
    for number, start in enumerate(range(0, len(faults), ROUNDS)):
        hits = (Hit(fault, round_, rng.choice(NAMES)) for round_, fault in enumerate(faults[start : start + ROUNDS], 1))
        yield Plan(f"plan{number}", tuple(hits))


def changing() -> Iterator[Plan]:
    """Plans in which it depends on more than the faults whose updates a version has."""
    first_count = "clients = 3\nmin_clients = 4\nover_select = 1.3"
    for number, fault in enumerate(AT_VERSIONS):
        hits = tuple(Hit(fault, round_, "a") for round_ in range(1, ROUNDS + 1))
        yield Plan(f"first{number}", hits, rules=first_count, open=True)
    for number, fault in enumerate(AT_VERSIONS):
        hits = (Hit(HUNG, 2, "b"), Hit(fault, 2, "a"), Hit(HUNG, 3, "c"))
        yield Plan(f"deadline{number}", hits, rules=f'clients = {len(NAMES)}\ndeadline = "2s"', open=True)


def asynchronous() -> Iterator[Plan]:
    """Plans of asynchronous rounds: what the coordinator is at when it dies, for each version that it makes."""
    for number, fault in enumerate(AT_BUFFERS):
        hits = tuple(Hit(fault, round_, "a") for round_ in range(1, ROUNDS + 1))
        yield Plan(f"buffered{number}", hits, rules=f"clients = {len(NAMES)}\nbuffer = 3", open=True, buffered=True)


def carry_out(plan: Plan, federation: Resident, references: References) -> Result:
    """Runs the plan's job while its faults happen, and checks what came of it."""
    job, result = f"{plan.name}-1", Result(plan)
    given = [_give(hit, job, federation) for hit in plan.hits]
    memory = 0.0 if plan.buffered else 0.5
    federation.run(_JOB.format(name=plan.name, seed=SEED, rounds=ROUNDS, rules=plan.rules, memory=memory))
    for hit, (orders, name) in zip(plan.hits, given, strict=True):
        if orders.withdraw(name):
            result.missed.append(hit.fault)
        else:
            result.injected[hit.fault.kind] += 1
    records = journal.read(federation.journal, job)
    result.lost += lost(records, federation.acknowledged(job))
    result.repeated += repeated(records, plan, federation.trainings(job))
    result.different += _different(records, plan, references)
    return result


def _give(hit: Hit, job: str, federation: Resident) -> tuple[Orders, str]:
    orders = federation.orders(hit.fault.target(hit.client))
    return orders, orders.give(hit.fault.order(job, hit.round, hit.client))


def lost(records: JobRecords, acknowledged: Collection[str]) -> list[str]:
    """What clients were told is accepted, or the journal has as accepted, and is in no version."""
    return sorted({*acknowledged, *records.accepted} - set(records.folded))


def repeated(records: JobRecords, plan: Plan, trainings: Counter[tuple[int, str]]) -> list[str]:
    """What was accepted or folded twice, and trainings that were begun again although nothing was missing."""
    twice = [each for found in (records.accepted, records.folded) for each, n in Counter(found).items() if n > 1]
    needed = Counter((hit.round, hit.client) for hit in plan.hits if hit.fault.retrains or hit.fault.drops)
    asked = records.asked if plan.buffered else Counter(dict.fromkeys(trainings, 1))
    again = [f"training of {part}" for part, done in trainings.items() if done > asked[part] + needed[part]]
    return sorted(twice + again)


def _different(records: JobRecords, plan: Plan, references: References) -> list[str]:
    made = [version for version in records.versions if version.number]
    if plan.buffered:
        expected = references.buffered(plan.name, made)
    else:
        expected = references.digests([version.clients for version in made])
    wrong = [
        f"version {each.number}"
        for each, digest in zip(records.versions, expected, strict=True)
        if each.digest != digest
    ]
    gone = {(hit.round, hit.client) for hit in plan.hits if hit.fault.drops}
    absent = {(each.number, name) for each in made for name in NAMES if name not in each.clients}
    missing = set() if plan.open else absent - gone
    rounds = [] if records.closed == tuple(range(1, ROUNDS + 1)) else [f"rounds {records.closed}"]
    return wrong + [f"{name} is not in version {number}" for number, name in sorted(missing)] + rounds
