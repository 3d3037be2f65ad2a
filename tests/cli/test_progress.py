"""What is known of a job that is followed, event by event."""

from fedelta.admin import JobExtended, JobState, Outcome, Phase, PhaseExtended, RoundFailed, VersionMade
from fedelta.cli._progress import Progress, away, with_clients
from tests.cli.following import at, client, closed, ended, evaluated, opened, state, told

AB = ("a", "b")


def test_a_phase_is_open_until_its_round_is_closed() -> None:
    known = told((0, state(JobState.RUNNING)), (0, opened(1, AB)), (1, ended(1, "a")))
    assert known.open is not None
    assert (known.open.round, known.open.since, set(known.open.ended)) == (1, at(0), {"a"})
    assert not known.open.complete
    known = told((1, ended(1, "b", Outcome.LOST)), progress=known)
    assert known.open is not None
    assert known.open.complete
    known = told((3, closed(1)), progress=known)
    assert (known.open, known.rounds_done, known.metrics) == (None, 1, {"loss": 0.25})


def test_in_asynchronous_rounds_clients_are_asked_one_by_one_and_train_on() -> None:
    known = told((0, state(JobState.RUNNING)), (0, opened(1, ("a", "b", "c"))), (1, ended(1, "a")))
    known = told((1, opened(1, ("a",), attempt=2)), (2, ended(1, "b")), (2, opened(1, ("d",))), progress=known)
    assert known.open is not None
    assert (known.open.clients, set(known.open.ended), known.open.since) == (("a", "b", "c", "d"), {"b"}, at(0))
    known = told((3, closed(1)), progress=known)
    assert known.open is not None
    assert (known.open.round, known.open.clients, known.open.since) == (2, ("a", "c", "d"), at(3))
    # A part of the round before ends in this one.
    known = told((4, ended(1, "c")), progress=known)
    assert known.open is not None
    assert (set(known.open.ended), known.open.complete) == ({"c"}, False)


def test_an_evaluation_is_open_beside_the_rounds_that_follow_it() -> None:
    known = told((0, state(JobState.RUNNING)), (0, opened(1, AB)), (1, closed(1)))
    known = told((1, opened(1, AB, phase=Phase.EVALUATE)), (1, opened(2, AB)), progress=known)
    known = told((2, ended(2, "a")), (2, ended(1, "b", phase=Phase.EVALUATE)), progress=known)
    assert known.open is not None
    assert known.shown is known.open
    assert (known.open.round, set(known.open.ended)) == (2, {"a"})
    assert {version: set(phase.ended) for version, phase in known.evaluations.items()} == {1: {"b"}}
    known = told((3, ended(2, "b")), (3, closed(2)), (3, opened(2, AB, phase=Phase.EVALUATE)), progress=known)
    assert known.shown is not None
    assert (known.shown.phase, known.shown.round, set(known.evaluations)) == (Phase.EVALUATE, 1, {1, 2})
    known = told((4, evaluated(1, accuracy=0.5)), progress=known)
    assert (known.evaluated, known.metrics, set(known.evaluations)) == (1, {"accuracy": 0.5}, {2})


def test_of_evaluations_that_close_out_of_order_the_newest_version_counts() -> None:
    known = told((0, evaluated(2, accuracy=0.75, central={"accuracy": 0.7})), (1, evaluated(1, accuracy=0.5)))
    assert (known.evaluated, known.metrics, known.central) == (2, {"accuracy": 0.75}, {"accuracy": 0.7})
    known = told((2, evaluated(3)), (2, closed(4)), progress=known)
    assert (known.evaluated, known.metrics) == (2, {"accuracy": 0.75})


def test_before_evaluations_overlapped_a_round_had_its_own() -> None:
    known = told((0, opened(1, AB)), (1, closed(1, {"accuracy": 0.5})), (2, closed(2)))
    assert (known.evaluated, known.metrics) == (1, {"accuracy": 0.5})


def test_clients_that_take_the_place_of_others_are_counted() -> None:
    known = told((0, opened(1, AB)), (1, PhaseExtended(round=1, attempt=1, phase=Phase.TRAIN, clients=("aa",))))
    assert known.open is not None
    assert known.open.clients == ("a", "aa", "b")


def test_what_ends_without_a_round_closes_the_phase_too() -> None:
    opening = (0, opened(1, AB))
    assert told(opening, (1, RoundFailed(round=1, attempt=1, reason="none came"))).open is None
    assert (
        told((0, opened(0, ("a",), phase=Phase.INITIALIZE)), (1, VersionMade(version=0, digest="", length=1))).open
        is None
    )
    assert told(opening, (1, state(JobState.STOPPED))).open is None
    assert not told((0, opened(1, AB, phase=Phase.EVALUATE)), (1, state(JobState.STOPPED))).evaluations
    # The others of a paused job's open round may finish, and a version is made before its round is closed.
    assert told(opening, (1, state(JobState.PAUSED))).open is not None
    assert told(opening, (1, VersionMade(version=1, digest="", length=1))).open is not None


def test_traffic_adds_up() -> None:
    known = told((0, opened(1, AB)), (1, closed(1)), (2, closed(2)), (2, evaluated(1)))
    assert (known.bytes_up, known.bytes_down) == (2000, 6500)


def test_time_left_follows_from_the_rounds_of_late() -> None:
    known = told((0, state(JobState.RUNNING)), (10, opened(1, AB)))
    assert known.seconds_left(at(11)) is None
    # 10 s, 2 s and 3 s: the median is not misled by a restart of the coordinator.
    known = told((20, closed(1)), (22, closed(2)), (25, closed(3)), progress=known)
    assert known.round_seconds() == 3
    assert known.seconds_left(at(25)) == 17 * 3
    assert known.seconds_left(at(26)) == 17 * 3 - 1
    assert known.seconds_left(at(99)) == 16 * 3
    # After the last round it waits for evaluations, which may take any time.
    assert told((99, closed(20)), progress=known).seconds_left(at(99)) is None


def test_a_pause_is_no_part_of_a_round() -> None:
    known = told((0, state(JobState.RUNNING)), (0, opened(1, AB)), (2, closed(1)), (2, opened(2, AB)))
    known = told((3, state(JobState.PAUSED)), (4, closed(2)), (1000, state(JobState.RUNNING)), progress=known)
    assert known.seconds_left(at(1000)) is None
    known = told((1000, opened(3, AB)), (1002, closed(3)), progress=known)
    assert known.round_seconds() == 2


def test_an_extended_job_goes_on() -> None:
    known = told((0, state(JobState.FINISHED)), (9, JobExtended(rounds_max=30)), (9, state(JobState.RUNNING)))
    assert (known.rounds_max, known.state) == (30, JobState.RUNNING)


def test_those_who_declined_this_job_are_known() -> None:
    known = with_clients(told(), [client("a", digits_1="at night only"), client("b", other_1="no")])
    assert known.declined() == {"a": "at night only"}


def test_the_coordinator_is_away_from_the_first_time_it_does_not_answer() -> None:
    known = away(away(Progress(job="digits-1"), at(1)), at(5))
    assert known.away_since == at(1)
    assert with_clients(known, []).away_since is None
