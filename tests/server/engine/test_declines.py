"""Who is asked: labels that jobs want, and clients that do not take part."""

import pytest

from fedelta_server.engine import events, records
from fedelta_server.engine.words import JobState, Outcome
from tests.server.engine.harness import Harness, session, toml

NO_EVALUATION = "[evaluate]\nevery = 0"


def working(h: Harness, job: str) -> list[str]:
    return [assignment.client for assignment in h.job(job).open_assignments()]


def waits_for(h: Harness, job: str) -> str:
    return h.engine.waiting_for(h.job(job), h.now, by_name=True)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ('["gpu"]', ["ada", "bob"]),
        ('["site=north"]', ["ada", "cyd"]),
        ('["site"]', ["ada", "bob", "cyd"]),
        ('["gpu", "site=north"]', ["ada"]),
        ('["gpu=a100"]', ["bob"]),
        ("[]", ["ada", "bob", "cyd", "dee"]),
    ],
)
def test_only_clients_with_the_labels_take_part(labels: str, expected: list[str]) -> None:
    h = Harness()
    h.join("ada", gpu="", site="north")
    h.join("bob", gpu="a100", site="south")
    h.join("cyd", site="north")
    h.join("dee")
    assert working(h, h.submit(toml(job=f"labels = {labels}"))) == expected


def test_a_client_may_come_back_with_other_labels() -> None:
    h = Harness()
    job = h.submit(toml(job='labels = ["gpu"]'))
    h.join("ada")
    assert working(h, job) == []
    h.join("ada", gpu="")
    assert working(h, job) == ["ada"]


def test_what_a_job_waits_for_is_told_in_words() -> None:
    h = Harness()
    job = h.submit(toml(job='learner = "digits"\nlabels = ["gpu", "site=north"]', rounds="max = 1\nclients = 2"))
    h.join("ada", learners=("digits",), gpu="", site="north")
    h.join("bob", learners=("digits",), gpu="", site="south")
    assert waits_for(h, job) == "2 clients with gpu, site=north that offer learner 'digits'; 1 ready"
    other = h.submit(toml(rounds="max = 1\nclients = 1"))
    assert h.job(other).round is not None


def test_busy_clients_are_counted_apart() -> None:
    h = Harness()
    h.join("ada", "bob")
    h.submit(toml(rounds="max = 1\nclients = 1"))
    job = h.submit(toml(rounds="max = 1\nclients = 2"))
    assert waits_for(h, job) == "2 clients; 1 ready, 1 busy"


def test_a_client_that_declines_is_not_asked_again_until_it_registers() -> None:
    h = Harness()
    job = h.submit(toml())
    h.join("ada")
    h.decline("ada", "no jobs about X-rays")
    h.pass_time(100_000)
    h.send(events.PollStarted(at=h.now, session=session("ada")))
    assert working(h, job) == []
    assert waits_for(h, job) == "1 client; 0 ready; ada declined: no jobs about X-rays"
    assert h.engine.waiting_for(h.job(job), h.now) == "1 client; 0 ready", (
        "clients do not hear of one another's reasons"
    )
    other = h.submit(toml())
    assert working(h, other) == ["ada"], "it declined that job only"
    h.update("ada")
    h.join("ada")
    assert "ada" in working(h, job)


def test_a_client_is_asked_again_when_its_time_has_come() -> None:
    h = Harness()
    job = h.submit(toml())
    h.join("ada")
    h.decline("ada", retry_after=3600)
    h.pass_time(3599)
    assert working(h, job) == []
    h.pass_time(2)
    assert working(h, job) == ["ada"]


def test_a_client_that_declines_without_end_does_not_fill_the_journal() -> None:
    h = Harness()
    job = h.submit(toml())
    h.join("ada")
    h.decline("ada", retry_after=0)
    assert working(h, job) == []
    h.pass_time(1.5)
    assert working(h, job) == ["ada"]


def test_the_others_go_on_without_it() -> None:
    h = Harness()
    h.join("ada", "bob", "cyd")
    h.submit(toml(rounds="max = 2\nclients = 3\nmin_clients = 2"))
    h.decline("cyd")
    h.update("ada")
    h.update("bob")
    h.fold()
    assert h.work("cyd") is None, "it does not evaluate either"
    for name in ("ada", "bob"):
        h.update(name)
        h.evaluate(name)
    assert {part.client: part.outcome for part in h.closed()[0].clients}["cyd"] is Outcome.DECLINED
    assert [part.client for part in h.evaluations()[0].clients] == ["ada", "bob"]


def test_an_attempt_fails_without_counting_where_clients_only_declined() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 2\nmin_clients = 1\nmin_updates = 1\nattempts = 1"))
    h.join("ada")
    h.decline("ada")
    assert h.job(job).state is JobState.RUNNING
    (failed,) = h.of_kind(records.RoundFailed)
    assert failed.counted is False
    h.join("bob")
    h.fail("bob")
    assert h.job(job).state is JobState.PAUSED


def test_a_failure_beside_a_decline_counts() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 2\nattempts = 1"))
    h.join("ada", "bob")
    h.decline("ada")
    h.fail("bob")
    assert h.job(job).state is JobState.PAUSED


def test_another_client_makes_the_initial_model() -> None:
    h = Harness()
    h.join("ada", "bob")
    job = h.submit(toml(init="first-client", rounds="max = 1\nattempts = 1"), None)
    (first,) = working(h, job)
    h.decline(first)
    (second,) = working(h, job)
    assert second != first


def test_the_first_few_that_declined_are_named() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1\nclients = 7"))
    names = [f"site-{number}" for number in range(7)]
    h.join(*names)
    for name in names:
        h.decline(name, "no")
    assert waits_for(h, job).endswith("site-3 declined: no; site-4 declined: no; 2 more declined")


def test_a_new_process_under_the_name_is_asked() -> None:
    h = Harness()
    job = h.submit(toml(rest=NO_EVALUATION))
    h.join("ada")
    h.decline("ada")
    h.send(events.ClientLeft(at=h.now, session=session("ada")))
    h.send(events.ClientRegistered(at=h.now, name="ada", session="another-session", learners=("digits:Digits",)))
    assert working(h, job) == ["ada"]
