"""What became of an update: folded, not folded, or not decided yet."""

from fedelta_server.engine import Engine, events
from tests.server.engine.harness import Harness, session, toml

NO_EVALUATION = "[evaluate]\nevery = 0"


def fate(h: Harness, name: str, assignment_id: str) -> bool | None:
    """The same before and after a restart of the coordinator."""
    found = h.engine.book.fate(name, assignment_id)
    assert Engine(h.outline()).book.fate(name, assignment_id) is found
    return found


def test_an_update_is_undecided_until_it_is_folded() -> None:
    h = Harness()
    h.submit(toml(rounds="max = 2\nclients = 2"))
    h.join("ada", "bob")
    work = h.work("ada")
    assert work is not None
    assert fate(h, "ada", work.id) is None
    h.update("ada")
    assert fate(h, "ada", work.id) is None
    h.update("bob")
    assert fate(h, "ada", work.id) is None
    h.fold()
    assert fate(h, "ada", work.id) is True, "the next round is open"
    assert fate(h, "bob", work.id) is False, "it is not bob's"


def test_a_fate_is_remembered_for_a_client_that_was_away() -> None:
    h = Harness()
    h.join("ada", "bob")
    h.submit(toml(rounds="max = 3\nclients = 2\nmin_clients = 1", rest=NO_EVALUATION))
    h.update("ada")
    bob = h.update("bob")
    h.send(events.ClientLeft(at=h.now, session=session("bob")))
    h.fold()
    for _ in range(2):
        ada = h.update("ada")
        h.fold()
    assert h.closed()[-1].number == 3
    assert fate(h, "bob", bob.id) is True
    assert fate(h, "ada", ada.id) is True


def test_an_update_of_a_failed_attempt_is_not_folded() -> None:
    h = Harness()
    h.submit(toml(rounds="max = 1\nclients = 2\nmin_updates = 2", rest=NO_EVALUATION))
    h.join("ada", "bob")
    first = h.update("ada")
    assert fate(h, "ada", first.id) is None
    h.fail("bob")
    assert fate(h, "ada", first.id) is False
    second = h.update("ada")
    h.update("bob")
    h.fold()
    assert (second.round, second.attempt) == (first.round, first.attempt + 1)
    assert fate(h, "ada", first.id) is False
    assert fate(h, "ada", second.id) is True


def test_a_round_that_is_folded_without_a_client_does_not_count_for_it() -> None:
    h = Harness()
    h.submit(toml(rounds='max = 2\nclients = 2\ndeadline = "30s"', rest=NO_EVALUATION))
    h.join("ada", "bob")
    late = h.take("bob")
    h.update("ada")
    h.pass_time(31)
    assert fate(h, "bob", late.id) is None
    assert [each.client for each in h.fold().updates] == ["ada"]
    assert fate(h, "bob", late.id) is False


def test_a_stopped_job_folds_nothing_more() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 3\nclients = 2", rest=NO_EVALUATION))
    h.join("ada", "bob")
    folded = h.update("ada")
    h.update("bob")
    h.fold()
    dropped = h.update("ada")
    h.send(events.StopRequested(at=h.now, job=job))
    assert fate(h, "ada", folded.id) is True
    assert fate(h, "ada", dropped.id) is False


def test_a_fold_that_failed_leaves_its_updates_undecided() -> None:
    h = Harness()
    job = h.submit(toml(rounds="max = 1", rest=NO_EVALUATION))
    h.join("ada")
    update = h.update("ada")
    fold = h.folds.pop()
    h.send(events.FoldFailed(at=h.now, job=job, round=1, attempt=fold.attempt, reason="disk full"))
    assert fate(h, "ada", update.id) is None
    h.send(events.ResumeRequested(at=h.now, job=job))
    h.fold()
    assert fate(h, "ada", update.id) is True


def test_names_full_of_dots_are_kept_apart() -> None:
    h = Harness()
    h.submit(toml(rounds="max = 1\nclients = 2", rest=NO_EVALUATION))
    h.join("b", "a.train.b")
    update = h.update("a.train.b")
    h.update("b")
    h.fold()
    assert fate(h, "a.train.b", update.id) is True
    assert fate(h, "b", update.id) is False


def test_what_nobody_knows_was_not_folded() -> None:
    h = Harness()
    h.submit(toml())
    for unknown in ("", "digits-1.1.1.train.ada", "a"):
        assert fate(h, "ada", unknown) is False
