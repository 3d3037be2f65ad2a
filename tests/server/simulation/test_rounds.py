"""What a simulated job comes to: models, failures, what learners keep, and time."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedelta.errors import ConfigError
from fedelta.tensors import UPDATE_METADATA, update_schema
from fedelta_server.aggregate import read_schema
from fedelta_server.engine import records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from fedelta_server.simulation import Constant, HalfNormal, History, Occasion, Scaled, simulate
from tests.server.simulation.learners import Counting, Noisy, Toward

TWO = {"a": 1.0, "b": 3.0}


def job(
    *, init: str = "first-client", train: Mapping[str, Any] | None = None, every: int = 0, **rounds: Any
) -> dict[str, Any]:
    return {
        "job": {"name": "toward", "seed": 7},
        "model": {"init": init},
        "rounds": {"max": 2, **rounds},
        "train": train or {},
        "evaluate": {"every": every},
    }


def final(history: History) -> list[float]:
    assert history.model is not None
    values: list[float] = load_file(history.model)["value"].tolist()
    return values


def outcomes(history: History, round_: int) -> dict[str, tuple[Outcome, str]]:
    closed = history.rounds[round_ - 1]
    return {part.client: (part.outcome, part.reason) for part in closed.clients}


def ends(history: History) -> list[float]:
    """When each round was closed."""
    return [closed.at for closed in history.rounds]


def test_a_job_averages_what_its_clients_make(tmp_path: Path) -> None:
    history = simulate(job(), Toward, data=TWO, out=tmp_path / "model.safetensors")
    assert (history.state, history.clients) == (JobState.FINISHED, ("a", "b"))
    # From 0 half of the way to 2, the mean of the targets, twice.
    assert final(history) == [1.5, 1.5, 1.5]
    assert [made.number for made in history.versions] == [0, 1, 2]
    assert history.rounds[0].train_metrics == {"target": 2.0}


def test_versions_are_evaluated(tmp_path: Path) -> None:
    history = simulate(job(every=1), Toward, data=TWO, out=tmp_path / "model.safetensors")
    assert [(seen.version, dict(seen.metrics)) for seen in history.evaluations] == [
        (1, {"value": 1.0}),
        (2, {"value": 1.5}),
    ]
    assert history.curve("value") == [(0.0, 1.0), (0.0, 1.5)]
    assert history.time_to("value", 1.2) == 0.0
    assert history.time_to("value", 9.0) is None


def test_a_model_file_is_what_a_job_starts_from(tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_file({"value": np.full(3, 10.0)}, start)
    history = simulate(job(init=str(start)), Toward, data=TWO, out=tmp_path / "model.safetensors")
    assert final(history) == [4.0, 4.0, 4.0]


def test_another_jobs_version_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"job:old-1@3.*fedelta model export"):
        simulate(job(init="job:old-1@3"), Toward, data=TWO)


def test_labels_say_who_takes_part() -> None:
    spec = job() | {"job": {"name": "toward", "seed": 7, "labels": ["site=north"]}}
    history = simulate(spec, Toward, data=TWO, labels={"b": {"site": "north"}})
    assert [[part.client for part in closed.clients] for closed in history.rounds] == [["b"], ["b"]]
    with pytest.raises(ConfigError, match="there is no client 'c'; they are a to b"):
        simulate(spec, Toward, data=TWO, labels={"c": {"site": "north"}})
    with pytest.raises(ConfigError, match="wait for ever"):
        simulate(spec, Toward, data=TWO)


def test_a_model_file_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="no-such-file"):
        simulate(job(init="no-such-file"), Toward, data=TWO)


def test_a_job_that_lacks_clients_is_refused_and_says_so() -> None:
    with pytest.raises(ConfigError, match=r"wait for ever.*5"):
        simulate(job(min_clients=5), Toward, data=TWO)


@pytest.mark.parametrize(
    ("act", "reason"), [("stumble", "ValueError: the scanner is off"), ("diverge", "'value' holds NaN or infinity")]
)
def test_a_learner_that_fails_is_left_out(tmp_path: Path, act: str, reason: str) -> None:
    history = simulate(job(train={"acts": {"b/1": act}}), Toward, data=TWO, out=tmp_path / "model.safetensors")
    assert outcomes(history, 1)["a"] == (Outcome.ACCEPTED, "")
    outcome, said = outcomes(history, 1)["b"]
    assert outcome is Outcome.FAILED
    assert reason in said
    # Half of the way to 1, a's number, and then half of the way to 2.
    assert final(history) == [1.25, 1.25, 1.25]


def test_a_job_whose_rounds_fail_pauses_with_the_reason() -> None:
    acts = {f"{name}/1": "stumble" for name in TWO}
    history = simulate(job(train={"acts": acts}, attempts=2), Toward, data=TWO)
    assert history.state is JobState.PAUSED
    assert "the scanner is off" in history.reason
    assert len(history.failures) == 2


def test_what_a_learner_keeps_counts_when_its_update_does(tmp_path: Path) -> None:
    """Twice a is faster, so that the update of b is not wanted: what b keeps of it is dropped."""
    slow = {1: {"a": 1.0, "b": 2.0}, 2: {"a": 1.0, "b": 2.0}, 3: {"a": 2.0, "b": 1.0}}
    history = simulate(
        job(max=3, clients=1, over_select=2.0),
        Counting,
        data=TWO,
        delays=lambda occasion: slow.get(occasion.round, {}).get(occasion.client, 0.0),
        out=tmp_path / "model.safetensors",
    )
    assert [
        [name for name, (outcome, _) in outcomes(history, number).items() if outcome is Outcome.ACCEPTED]
        for number in (1, 2, 3)
    ] == [["a"], ["a"], ["b"]]
    # a gives 1 and then 2; b begins afresh and gives 1.
    assert final(history) == [4.0, 4.0, 4.0]


def test_what_a_learner_keeps_is_dropped_with_the_round(tmp_path: Path) -> None:
    """The first attempt fails because b does: what a gave there does not count, and neither does what it kept."""
    history = simulate(
        job(max=1, min_updates=2, train={"acts": {"b/1": "stumble_once"}}),
        Counting,
        data=TWO,
        out=tmp_path / "model.safetensors",
    )
    assert history.rounds[0].attempts == 2
    assert final(history) == [1.0, 1.0, 1.0]


def test_time_passes_as_delays_say() -> None:
    history = simulate(job(), Toward, data=TWO, delays=Scaled(Constant(2.0), {"b": 5.0}))
    assert ends(history) == [10.0, 20.0]
    assert [made.at for made in history.versions] == [0.0, 10.0, 20.0]
    assert history.seconds == 20.0
    assert {part.client: part.seconds for part in history.rounds[0].clients} == {"a": 2.0, "b": 10.0}


def test_over_selection_does_not_wait_for_the_last() -> None:
    history = simulate(job(clients=1, over_select=2.0), Toward, data=TWO, delays=Scaled(Constant(2.0), {"b": 5.0}))
    assert ends(history) == [2.0, 4.0]
    assert outcomes(history, 1)["b"][0] is Outcome.RELEASED


def test_asynchronous_rounds_wait_for_nobody(tmp_path: Path) -> None:
    """A version of each update, which counts 1 / sqrt(1 + staleness) (FedBuff, Nguyen et al. 2022)."""
    history = simulate(
        job(max=4, clients=2, buffer=1),
        Toward,
        data=TWO,
        delays=Scaled(Constant(2.0), {"b": 2.5}),
        out=tmp_path / "model.safetensors",
    )
    assert ends(history) == [2.0, 4.0, 5.0, 6.0]
    parts = [part for closed in history.rounds for part in closed.clients if part.outcome is Outcome.ACCEPTED]
    assert [(part.client, part.staleness) for part in parts] == [("a", 0), ("a", 0), ("b", 2), ("a", 1)]
    # a goes half of the way to 1 from 0, 0.5 and 0.75; b half of the way to 3 from 0.
    assert final(history)[0] == pytest.approx(0.5 + 0.25 + 1.5 / np.sqrt(3) + 0.125 / np.sqrt(2), rel=1e-12)


def test_the_deadline_ends_a_round() -> None:
    """b takes longer than its lease, too: as a client that works it is heard of in time."""
    history = simulate(job(deadline=100, lease=10), Toward, data=TWO, delays=Scaled(Constant(40.0), {"b": 3.0}))
    assert ends(history) == [100.0, 200.0]
    assert outcomes(history, 1) == {"a": (Outcome.ACCEPTED, ""), "b": (Outcome.LATE, "the deadline passed")}


def test_a_training_longer_than_its_lease_is_not_lost() -> None:
    history = simulate(job(deadline=1000, lease=10), Toward, data=TWO, delays=Constant(500.0))
    assert ends(history) == [500.0, 1000.0]


def test_half_normal_delays_are_those_of_the_distribution() -> None:
    """The mean of |N(0, s)| is s sqrt(2 / pi), and its mean square s^2."""
    drawn = np.array([HalfNormal(3.0)(occasion(seed)) for seed in range(4000)])
    assert drawn.min() > 0
    assert drawn.mean() == pytest.approx(3 * np.sqrt(2 / np.pi), rel=0.05)
    assert np.mean(drawn**2) == pytest.approx(9, rel=0.1)


def occasion(seed: int) -> Occasion:
    return Occasion(client="a", index=0, round=1, phase=PhaseKind.TRAIN, seed=seed)


@pytest.mark.parametrize("changed", [{"workers": 2}, {"resident": 1}], ids=lambda changed: next(iter(changed)))
@pytest.mark.parametrize("rounds", [{"max": 3, "over_select": 1.5}, {"max": 6, "buffer": 2}], ids=["sync", "async"])
def test_the_history_depends_on_nothing_but_the_job(changed: dict[str, Any], rounds: dict[str, Any]) -> None:
    data = {f"site-{index}": float(index) for index in range(6)}
    spec = job(clients=3, every=1, **rounds)
    known = simulate(spec, Noisy, data=data, delays=HalfNormal(1.0))
    assert simulate(spec, Noisy, data=data, delays=HalfNormal(1.0), **changed) == known


def test_another_seed_gives_another_history() -> None:
    one, other = (simulate(job() | {"job": {"name": "toward", "seed": seed}}, Noisy, data=TWO) for seed in (1, 2))
    assert one.digest != other.digest


def test_learners_are_made_when_their_turn_comes() -> None:
    Toward.setups.clear()
    simulate(job(max=1, clients=2), Toward, data=[float(index) for index in range(1000)])
    # One makes the initial model, and it may be one of the two that train.
    assert 2 <= len(Toward.setups) <= 3


def test_held_out_data_is_evaluated_apart() -> None:
    history = simulate(job(every=1, max=1), Toward, data=TWO, evaluator_data=8.0)
    assert history.clients == ("a", "b")
    assert {part.client for part in history.rounds[0].clients} == {"a", "b"}
    assert [dict(seen.central) for seen in history.evaluations] == [{"value": 1.0}]
    assert history.curve("central/value") == [(0.0, 1.0)]


def test_the_bytes_are_those_that_would_travel(tmp_path: Path) -> None:
    """A version that a client has is not fetched again: the next round begins with what is evaluated."""
    out, evaluations = tmp_path / "model.safetensors", []

    def watch(_at: float, record: records.Record) -> None:
        if isinstance(record, records.EvaluationClosed):
            evaluations.append(record.bytes_down)

    history = simulate(job(max=3, every=1), Toward, data=TWO, out=out, watch=watch)
    length = out.stat().st_size
    assert [closed.bytes_down for closed in history.rounds] == [2 * length] * 3
    assert evaluations == [0, 0, 2 * length]
    update = update_schema(read_schema(out))
    update_length = len(update.header(UPDATE_METADATA)) + update.data_bytes
    assert [closed.bytes_up for closed in history.rounds] == [2 * update_length] * 3


def test_files_do_not_pile_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    files = []

    def watch(_at: float, record: records.Record) -> None:
        if isinstance(record, records.RoundClosed):
            files.append(sum(1 for path in tmp_path.rglob("*.safetensors")))

    simulate(job(max=20, every=1), Counting, data=TWO, watch=watch)
    assert files[-1] == files[5]
    assert list(tmp_path.iterdir()) == []


def test_every_record_is_heard_of() -> None:
    heard: list[tuple[float, records.Record]] = []
    simulate(job(), Toward, data=TWO, delays=Constant(1.5), watch=lambda *told: heard.append(told))
    closed = [(at, record.number) for at, record in heard if isinstance(record, records.RoundClosed)]
    assert closed == [(1.5, 1), (3.0, 2)]
