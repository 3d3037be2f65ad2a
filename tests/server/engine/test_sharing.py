"""Fair sharing of clients between jobs."""

import random
from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from fedelta_server.engine import events, records
from fedelta_server.engine.words import JobState, PhaseKind
from tests.server.engine.harness import Harness, session, toml

FOUR = ("ada", "bob", "cyd", "dee")


class Federation(Harness):
    """Clients that do whatever they are given, in a random order."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.hurried = False

    def check_rebuilt(self) -> None:
        if not self.hurried:  # it takes longer the longer the journal is
            super().check_rebuilt()

    def compete(self, clients: int, *, share: float = 1, every: int = 0, max: int = 100_000, more: str = "") -> str:
        """Submits a job whose rounds need so many clients."""
        return self.submit(
            toml(
                job=f"share = {share}",
                rounds=f"max = {max}\nclients = {clients}\nmin_updates = {clients}\n{more}",
                rest=f"[evaluate]\nevery = {every}",
            )
        )

    def run(self, steps: int, names: tuple[str, ...] = FOUR) -> Counter[str]:
        """So many times somebody ends what they are doing. Returns how many clients each job's rounds had."""
        begin = len(self.journal)
        self.hurried = True
        for _ in range(steps):
            self._end_something(names)
        self.hurried = False
        self.check_rebuilt()
        opened = (each for each in self.journal[begin:] if isinstance(each, records.PhaseOpened))
        turns: Counter[str] = Counter()
        for each in opened:
            turns[each.job] += len(each.clients)
        return turns

    def _end_something(self, names: tuple[str, ...]) -> None:
        busy = [name for name in names if self.work(name) is not None]
        chosen = self.random.randrange(len(busy) + len(self.folds))
        if chosen >= len(busy):
            self.folds.insert(0, self.folds.pop(chosen - len(busy)))
            self.fold()
        else:
            self.finish(busy[chosen])

    def finish(self, name: str) -> None:
        """A client does what it was given."""
        work = self.work(name)
        assert work is not None
        if work.phase is PhaseKind.EVALUATE:
            self.evaluate(name, accuracy=0.5)
        else:
            self.update(name)

    def serves(self, name: str) -> list[str]:
        """The jobs whose assignments a client has, in its order."""
        return [each.job for each in self.engine.book.queues.get(name, {}).values()]


@pytest.mark.parametrize("every", [0, 1])
def test_turns_are_given_by_share(every: int) -> None:
    h = Federation()
    one, two = h.compete(4, every=every), h.compete(4, share=2, every=every)
    h.join(*FOUR)
    turns = h.run(600)
    assert turns[two] == pytest.approx(2 * turns[one], rel=0.05)


def test_a_round_counts_by_its_clients() -> None:
    h = Federation()
    jobs = [h.compete(clients) for clients in (2, 3, 4)]
    h.join(*FOUR)
    turns = h.run(600)
    assert max(turns.values()) < 1.1 * min(turns[job] for job in jobs)


def test_a_job_that_needs_everybody_gets_its_turn_among_jobs_that_do_not() -> None:
    h = Federation()
    a, b, c = h.compete(2), h.compete(4), h.compete(2)
    h.join(*FOUR)
    turns = h.run(300)
    assert min(turns[job] for job in (a, b, c)) > 0.9 * max(turns.values())


def test_it_opens_its_round_before_one_that_has_had_more_gets_ahead_and_queues_at_the_busy() -> None:
    h = Federation()
    a = h.compete(2)
    h.join(*FOUR)
    c = h.compete(2)
    b = h.compete(4)
    of_a = [each.client for each in h.job(a).open_assignments()]
    of_c = [each.client for each in h.job(c).open_assignments()]
    for name in of_a:
        h.update(name)
    assert h.job(b).round is None, "nobody gets ahead of it: it waits for idle clients"
    h.fold()
    assert [h.serves(name) for name in of_a] == [[b], [b]], "a could have had them"
    assert [h.serves(name) for name in of_c] == [[c, b], [c, b]]
    assert h.job(a).round is None
    for name in of_a:
        h.update(name)
    assert h.job(a).round is not None, "no client is kept idle for b"
    for name in of_c:
        h.update(name)
    for name in of_c:
        assert h.update(name).job == b
    assert b in {fold.job for fold in h.folds}


def claimed() -> tuple[Federation, str, list[str], list[str]]:
    """A job of four has its round, with two idle clients and two that are busy for another; the latter take an hour."""
    h = Federation()
    slow = h.compete(2, more='lease = "10000s"\ndeadline = "3600s"')
    h.join(*FOUR)
    busy = [each.client for each in h.job(slow).open_assignments()]
    job = h.compete(4, more='lease = "10000s"\ndeadline = "100s"')
    h.compete(1)
    assert h.job(job).round is not None
    for name in busy:
        assert h.take(name).job == slow
    return h, job, busy, [name for name in FOUR if name not in busy]


def test_the_time_of_such_a_round_begins_when_the_last_of_its_clients_can() -> None:
    h, job, busy, idle = claimed()
    for name in idle:
        h.take(name)
    h.pass_time(3000)
    for name in busy:
        h.update(name)
        assert h.take(name).job == job
    h.pass_time(99)
    assert len(list(h.job(job).open_assignments())) == 4
    h.pass_time(2)
    assert h.job(job).failed_attempts == 1


def test_it_begins_also_where_they_never_can() -> None:
    h, job, busy, idle = claimed()
    for name in idle:
        h.take(name)
    for name in busy:
        h.send(events.ClientLeft(at=h.now, session=session(name)))
    assert len(list(h.job(job).open_assignments())) == 2
    h.pass_time(101)
    assert h.job(job).failed_attempts == 1


def test_it_begins_anew_after_a_restart() -> None:
    h, job, busy, idle = claimed()
    h.restart()
    h.join(*FOUR)
    for name in [*busy, *idle]:
        h.take(name)
    h.pass_time(3000)
    for name in busy:
        h.update(name)
    assert len(list(h.job(job).open_assignments())) == 4


def test_it_claims_the_clients_with_the_least_to_do() -> None:
    h = Federation()
    h.join("ada", "bob", "cyd")
    first = h.compete(2)
    second = h.compete(2)
    h.compete(1)
    busy = {name: h.serves(name) for name in ("ada", "bob", "cyd")}
    assert sorted(map(len, busy.values())) == [1, 1, 2], "the second job has the idle client and one of the busy ones"
    assert sum(first in serves for serves in busy.values()) == 2
    assert sum(second in serves for serves in busy.values()) == 2
    assert h.job("digits-3").round is None


def test_what_happens_between_other_clients_is_none_of_its_business() -> None:
    h = Federation()
    h.join("ada", "bob", "cyd", site="north")
    h.join("dee", site="south")
    h.submit(toml(rounds="max = 5\nclients = 1", job='labels = ["site=north"]'))
    waits = h.submit(toml(rounds="max = 5\nclients = 3", job='labels = ["site=north"]'))
    south = h.submit(toml(rounds="max = 5\nclients = 1", job='labels = ["site=south"]'))
    assert h.serves("dee") == [south]
    assert h.job(waits).round is None
    h.submit(toml(rounds="max = 5\nclients = 1"))
    assert h.job(waits).round is not None


def test_a_new_job_cannot_claim_the_past() -> None:
    h = Federation()
    old = h.compete(4)
    h.join(*FOUR)
    h.run(300)
    new = h.compete(4)
    turns = h.run(100)
    assert turns[new] == pytest.approx(turns[old], abs=8)


def test_neither_can_a_job_that_was_paused_or_finished_for_a_while() -> None:
    h = Federation()
    old, paused, finished = h.compete(4), h.compete(4), h.compete(4, max=1)
    h.join(*FOUR)
    h.send(events.PauseRequested(at=h.now, job=paused))
    h.run(300)
    assert h.job(finished).state is JobState.FINISHED
    h.send(events.ResumeRequested(at=h.now, job=paused))
    h.send(events.ExtendRequested(at=h.now, job=finished, rounds_max=1000))
    turns = h.run(150)
    for job in (paused, finished):
        assert turns[job] == pytest.approx(turns[old], abs=8)


def test_neither_can_one_whose_clients_were_away() -> None:
    h = Federation()
    away = h.compete(4)
    old = h.compete(3)
    h.join("ada", "bob", "cyd")
    h.run(300, ("ada", "bob", "cyd"))
    assert h.job(away).round is None
    h.join("dee")
    turns = h.run(150)
    assert turns[away] == pytest.approx(turns[old], rel=0.2)


def test_neither_can_one_that_was_held_up_by_a_slow_client() -> None:
    h = Federation()
    slow = h.compete(4)
    h.join(*FOUR)
    for name in ("ada", "bob", "cyd"):
        h.update(name)
    other = h.compete(3)
    h.run(300, ("ada", "bob", "cyd"))
    assert h.job(slow).rounds_done == 0
    h.update("dee")
    turns = h.run(150)
    assert turns[slow] == pytest.approx(turns[other], rel=0.2)


def test_a_restart_forgets_nobodys_turns() -> None:
    h = Federation()
    h.join(*FOUR)
    one, two = h.compete(4), h.compete(4, share=3)
    h.run(100)
    before = {job: h.job(job).turns for job in (one, two)}
    h.restart()
    assert {job: h.job(job).turns for job in (one, two)} == before
    h.join(*FOUR)
    turns = h.run(400)
    assert turns[two] == pytest.approx(3 * turns[one], rel=0.1)


def two_jobs(max: int = 10) -> tuple[Federation, str, str]:
    """One job folds and has had less than the other, which waits."""
    h = Federation()
    h.join("ada")
    greater, less = h.compete(1), h.compete(1, share=10, max=max)
    for job in (greater, less):
        assert h.serves("ada") == [job]
        h.update("ada")
        h.folds.sort(key=lambda fold: fold.job == less)
        if job is greater:
            h.fold()
    return h, greater, less


def test_the_clients_of_a_job_that_folds_are_not_given_to_one_that_has_had_more() -> None:
    h, greater, less = two_jobs()
    assert h.serves("ada") == []
    assert h.job(greater).round is None
    h.fold()
    assert h.serves("ada") == [less]


def test_they_are_when_it_folds_for_the_last_time() -> None:
    h, greater, less = two_jobs(max=1)
    assert h.job(less).state is JobState.RUNNING
    assert h.serves("ada") == [greater]


@pytest.mark.parametrize("how", ["the fold fails", "it is paused", "it is stopped"])
def test_they_are_when_it_does_not_go_on(how: str) -> None:
    h, greater, less = two_jobs()
    fold = h.folds[0]
    event: events.Event = events.FoldFailed(at=h.now, job=less, round=1, attempt=fold.attempt, reason="disk full")
    if how == "it is paused":
        event = events.PauseRequested(at=h.now, job=less)
    elif how == "it is stopped":
        event = events.StopRequested(at=h.now, job=less)
    h.send(event)
    assert h.serves("ada") == [greater]


def test_more_idle_clients_than_it_will_want_are_free_for_others() -> None:
    h = Federation()
    greater, less = h.compete(3), h.compete(1, share=100)
    h.join("ada", "bob", "cyd")
    while not (h.folds and h.folds[0].job == less):
        h.run(1, ("ada", "bob", "cyd"))
    h.join("dee")
    assert h.job(greater).round is not None


def test_after_a_restart_an_assignment_still_waits_for_the_one_before_it() -> None:
    h = Federation()
    h.join("ada")
    first, second = h.compete(1, every=1, max=1), h.compete(1)
    h.update("ada")
    h.fold()
    assert h.serves("ada") == [second, first]
    h.restart()
    h.join("ada")
    for _ in range(10):
        h.pass_time(50)
        work = h.take("ada")
        assert work.job == second
        h.send(events.AssignmentRenewed(at=h.now, session=session("ada"), assignment=work.id))
    h.update("ada")
    h.evaluate("ada", accuracy=1.0)
    assert h.job(first).state is JobState.FINISHED


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4), st.sampled_from([0.5, 1.0, 2.0]), st.booleans()),
        min_size=2,
        max_size=5,
    ),
    st.integers(0, 1000),
)
def test_nobody_starves(jobs: list[tuple[int, float, bool]], seed: int) -> None:
    """Whatever clients, shares and evaluations: everybody gets a good part of what is due, and goes on."""
    h = Federation(seed)
    ids = [h.compete(clients, share=share, every=int(every)) for clients, share, every in jobs]
    h.join(*FOUR)
    h.run(150)
    turns = h.run(150)
    shares = sum(share for _, share, _ in jobs)
    for job, (clients, share, every) in zip(ids, jobs, strict=True):
        due = sum(turns.values()) * share / shares
        a_round = clients + every * len(FOUR)
        # At most one round at a time: a job of few clients cannot use all of a great share.
        assert turns[job] >= min(due / 3, 30 * clients / len(jobs)) - a_round
