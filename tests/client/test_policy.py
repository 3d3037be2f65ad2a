"""A site's policy: what is read, what is said about what cannot be, and how it judges."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedelta.config import Size, bind
from fedelta.errors import ConfigError
from fedelta_client.policy import (
    Accepted,
    Declined,
    Limits,
    Offer,
    Policy,
    Result,
    Usage,
    ValueRule,
    Window,
    load_policy,
)
from fedelta_client.policy._hours import DAYS, ClockTime

FULL = """
[jobs]
names = ["digits-*", "statistics"]
learners = ["digits:*"]
kinds = ["train", "evaluate"]

[train.epochs]
min = 1
max = 10
[train.optimizer]
one_of = ["sgd", "adam"]
[train."schedule.*"]
[model_arguments.hidden]
max = 512

[[hours]]
days = ["mon", "tue", "wed", "thu", "fri"]
start = "20:00"
end = "06:00"
[[hours]]
days = ["sat", "sun"]

[limits]
rounds_per_job = 3
min_examples = 10
max_examples = 1000
upload_bytes_per_day = "20MB"
download_bytes_per_day = 50_000_000
upload_bytes_per_second = "100kB"
spool_bytes = "1.5GB"
threads = 2
nice = 10
"""

SATURDAY = datetime(2026, 11, 21, 12, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)

OFFER = Offer(
    job_name="digits-north",
    learner="digits:Digits",
    kind="train",
    round=4,
    train={"epochs": 5, "optimizer": "sgd", "schedule": {"warmup": 3}},
    model_arguments={"hidden": [64, 32]},
    download_bytes=4_000_000,
    upload_bytes=4_000_000,
    spool_bytes=12_000_000,
)
TOO_FEW = Declined("it was made from fewer examples than limits.min_examples = 10")
KEYS = ("jobs", "names", "kinds", "train", "epochs", "min", "one_of", "hours", "days", "start", "limits", "nice")
RESULT = Result(kind="train", examples=100, upload_bytes=4_000_000)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return read(tmp_path_factory.mktemp("policy"), FULL)


def read(where: Path, text: str) -> Policy:
    path = where / "policy.toml"
    path.write_text(text)
    return load_policy(path)


def changed(**fields: Any) -> Offer:
    return replace(OFFER, **fields)


def test_an_empty_policy_takes_part_in_everything(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Policy()
    assert Policy().judge(OFFER, Usage(), SATURDAY) == Accepted()
    assert Policy().judge_result(RESULT, Usage(), SATURDAY) == Accepted()


def test_sizes_and_times_are_read_with_their_units(full: Policy) -> None:
    limits = full.limits
    assert (limits.upload_bytes_per_day, limits.download_bytes_per_day) == (20_000_000, 50_000_000)
    assert (limits.upload_bytes_per_second, limits.spool_bytes) == (100_000, 1_500_000_000)
    assert [(window.start, window.end) for window in full.hours] == [(20 * 60, 6 * 60), (0, 0)]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[job]", "unknown key 'job'; did you mean 'jobs'?"),
        ("[limits]\nround_per_job = 3", "unknown key 'limits.round_per_job'; did you mean 'limits.rounds_per_job'?"),
        ("[train.lr]\nmaximum = 3", "train: lr: unknown key 'maximum'; did you mean 'max'?"),
        ("[train]\nlr = 3", "train: lr: expected a table such as { min = 1, max = 10 }, got 3"),
        ("[train.lr]\nmin = 3\nmax = 1", "train: lr: min = 3 is more than max = 1"),
        ("train = 3", "train: expected tables by key"),
        ("[[hours]]\nstrat = '20:00'", "unknown key 'hours[0].strat'; did you mean 'hours[0].start'?"),
        ("[[hours]]\nstart = '25:00'", "hours[0].start: expected a time of day such as \"08:30\", got '25:00'"),
        ("[[hours]]\ndays = []", "hours[0].days"),
        ("[[hours]]\ndays = ['monday']", "hours[0].days[0]: expected mon or tue"),
        ("[jobs]\nkinds = ['training']", "jobs.kinds[0]: expected train or evaluate or initialize, got 'training'"),
        ("[limits]\nspool_bytes = '5 GBit'", 'limits.spool_bytes: expected a size such as 20000000, "20MB"'),
        ("[limits]\nspool_bytes = 0", "limits.spool_bytes: a size must be positive, got 0"),
        ("[limits]\nupload_bytes_per_second = 10", "limits: upload_bytes_per_second = 10 is too slow"),
        ("[limits]\nmin_examples = 5\nmax_examples = 4", "limits: min_examples = 5 is more than max_examples = 4"),
        ("[limits]\nrounds_per_job = 0", "limits.rounds_per_job"),
        ("[limits]\nnice = 20", "limits.nice"),
        ("limits = ", "not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_remedy(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)

    assert complaint in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/policy.toml: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml: cannot be read"):
        load_policy(tmp_path / "policy.toml")


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        (changed(job_name="faces"), "jobs.names does not list 'faces'"),
        (changed(job_name="Digits-north"), "jobs.names does not list 'Digits-north'"),
        (changed(learner="evil:Evil"), "jobs.learners does not list 'evil:Evil'"),
        (changed(kind="initialize"), "jobs.kinds does not list 'initialize'"),
        (changed(train={"epochs": 11}), "train.epochs = 11, where it wants at most 10"),
        (changed(train={"epochs": 0}), "train.epochs = 0, where it wants at least 1"),
        (changed(train={"epochs": True}), "train.epochs = True, where it wants at least 1"),
        (changed(train={"epochs": float("nan")}), "train.epochs = nan, where it wants at least 1"),
        (changed(train={"epochs": {}}), "train.epochs = {}, where it wants at least 1"),
        (changed(train={"optimizer": "lbfgs"}), "train.optimizer = 'lbfgs', where it wants one of 'sgd', 'adam'"),
        (changed(train={"dump": "all"}), "train.dump is not allowed"),
        (changed(train={"nested": {"dump": 1}}), "train.nested.dump is not allowed"),
        (changed(train={"nested": {}}), "train.nested is not allowed"),
        (
            changed(model_arguments={"hidden": [64, 1024]}),
            "model_arguments.hidden = [64, 1024], where it wants at most",
        ),
        (changed(model_arguments={"path": "/"}), "model_arguments.path is not allowed"),
        (changed(spool_bytes=1_500_000_001), "it takes 1500000001 bytes on disk, more than limits.spool_bytes"),
        (changed(download_bytes=50_000_001), "it takes 50000001 bytes, more than limits.download_bytes_per_day"),
        (changed(upload_bytes=20_000_001), "it takes 20000001 bytes, more than limits.upload_bytes_per_day"),
    ],
)
def test_what_the_policy_does_not_allow_is_declined_for_good(full: Policy, offer: Offer, reason: str) -> None:
    assert full.judge(OFFER, Usage(), SATURDAY) == Accepted()
    # Also when time would heal something else.
    for now in (SATURDAY, MONDAY + timedelta(hours=12)):
        verdict = full.judge(offer, Usage(), now)
        assert isinstance(verdict, Declined)
        assert verdict.reason.startswith(reason)
        assert verdict.retry_after is None


def test_rounds_are_counted_not_attempts(full: Policy) -> None:
    used = Usage(rounds=frozenset({1, 2, 3}))
    assert full.judge(OFFER, used, SATURDAY) == Declined(
        "updates have left the site in limits.rounds_per_job = 3 rounds of this job"
    )
    assert full.judge(changed(round=3), used, SATURDAY) == Accepted()
    assert full.judge(changed(kind="evaluate"), used, SATURDAY) == Accepted()
    assert full.judge(OFFER, Usage(rounds=frozenset({1, 2})), SATURDAY) == Accepted()


@pytest.mark.parametrize(
    ("used", "key"),
    [
        (Usage(uploaded_bytes_today=16_000_001), "upload_bytes_per_day = 20000000"),
        (Usage(downloaded_bytes_today=46_000_001), "download_bytes_per_day = 50000000"),
    ],
)
def test_a_day_that_is_used_up_heals_at_midnight(full: Policy, used: Usage, key: str) -> None:
    reason = f"what is left of limits.{key} does not suffice today"
    assert full.judge(OFFER, used, SATURDAY) == Declined(reason, timedelta(hours=12))
    left = Usage(
        uploaded_bytes_today=min(used.uploaded_bytes_today, 16_000_000),
        downloaded_bytes_today=min(used.downloaded_bytes_today, 46_000_000),
    )
    assert full.judge(OFFER, left, SATURDAY) == Accepted()
    assert full.judge(changed(upload_bytes=0, download_bytes=0), used, SATURDAY) == Accepted()


@pytest.mark.parametrize(
    ("result", "used", "verdict"),
    [
        (RESULT, Usage(), Accepted()),
        (replace(RESULT, examples=10), Usage(), Accepted()),
        (replace(RESULT, examples=9), Usage(), TOO_FEW),
        (replace(RESULT, examples=9, kind="evaluate"), Usage(), TOO_FEW),
        (replace(RESULT, examples=0, kind="initialize"), Usage(), Accepted()),
        (
            replace(RESULT, examples=1001),
            Usage(),
            Declined("it was made from more examples than limits.max_examples = 1000"),
        ),
        (replace(RESULT, examples=1001, kind="evaluate"), Usage(), Accepted()),
        (
            RESULT,
            Usage(uploaded_bytes_today=16_000_001),
            Declined(
                "what is left of limits.upload_bytes_per_day = 20000000 does not suffice today", timedelta(hours=12)
            ),
        ),
    ],
)
def test_results_are_judged_before_they_leave(full: Policy, result: Result, used: Usage, verdict: object) -> None:
    assert full.judge_result(result, used, SATURDAY) == verdict


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (MONDAY - timedelta(minutes=1), timedelta(0)),  # Sunday, all day
        (MONDAY, timedelta(hours=20)),
        (MONDAY + timedelta(hours=12), timedelta(hours=8)),
        (MONDAY + timedelta(hours=19, minutes=59, seconds=30), timedelta(seconds=30)),
        (MONDAY + timedelta(hours=20), timedelta(0)),
        (MONDAY + timedelta(days=1, hours=5, minutes=59), timedelta(0)),  # the window of Monday
        (MONDAY + timedelta(days=1, hours=6), timedelta(hours=14)),
        (MONDAY + timedelta(days=5, hours=5), timedelta(0)),  # Saturday
    ],
)
def test_windows_go_over_midnight(full: Policy, now: datetime, left: timedelta) -> None:
    verdict = full.judge(OFFER, Usage(), now)
    assert verdict == (Declined("it is outside of the policy's hours", left) if left else Accepted())


def test_a_window_that_has_just_closed_opens_a_week_later() -> None:
    policy = Policy(hours=(Window(days=("mon",), start=ClockTime(0), end=ClockTime(60)),))
    closed = Declined("it is outside of the policy's hours", timedelta(days=7) - timedelta(hours=2))
    assert policy.judge(OFFER, Usage(), MONDAY + timedelta(hours=2)) == closed


@pytest.mark.parametrize(
    ("rule", "value", "wanted"),
    [
        (ValueRule(one_of=(1, "a")), True, "one of 1, 'a'"),
        (ValueRule(one_of=(True,)), 1, "one of True"),
        (ValueRule(one_of=(1, "a")), 1.0, ""),
        (ValueRule(one_of=(1, "a")), ["a", 1], ""),
        (ValueRule(one_of=(1, "a")), ["a", 2], "one of 1, 'a'"),
        (ValueRule(min=0.5), 0.5, ""),
        (ValueRule(max=0.5), "0.1", "at most 0.5"),
        (ValueRule(), {"any": [None]}, ""),
    ],
)
def test_a_rule_says_what_it_wants(rule: ValueRule, value: Any, wanted: str) -> None:
    assert rule.wants(value) == wanted


def test_what_takes_longest_to_heal_is_named(full: Policy) -> None:
    used = Usage(uploaded_bytes_today=20_000_000)
    at_nine = full.judge(OFFER, used, MONDAY + timedelta(hours=9))
    assert isinstance(at_nine, Declined)
    assert at_nine.retry_after == timedelta(hours=15)


clocks = st.integers(0, 24 * 60 - 1).map(ClockTime)
windows = st.builds(Window, days=st.sets(st.sampled_from(DAYS), min_size=1).map(tuple), start=clocks, end=clocks)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))


@settings(deadline=None)
@given(st.lists(windows, min_size=1, max_size=3).map(tuple), moments)
def test_a_closed_policy_opens_exactly_when_it_says(hours: tuple[Window, ...], now: datetime) -> None:
    policy = Policy(hours=hours)
    verdict = policy.judge(OFFER, Usage(), now)
    if isinstance(verdict, Declined):
        assert verdict.retry_after is not None
        assert timedelta(0) < verdict.retry_after <= timedelta(days=7)
        opens = now + verdict.retry_after
        assert policy.judge(OFFER, Usage(), opens) == Accepted()
        assert isinstance(policy.judge(OFFER, Usage(), opens - timedelta(microseconds=1)), Declined)


amounts = st.integers(0, 30)
usages = st.builds(
    Usage, rounds=st.frozensets(st.integers(1, 5)), uploaded_bytes_today=amounts, downloaded_bytes_today=amounts
)
limits = st.builds(
    Limits,
    rounds_per_job=st.none() | st.integers(1, 5),
    upload_bytes_per_day=st.none() | st.integers(1, 30).map(Size),
    download_bytes_per_day=st.none() | st.integers(1, 30).map(Size),
)


@settings(deadline=None)
@given(limits, usages, amounts, amounts, st.integers(1, 6))
def test_what_is_accepted_stays_within_every_limit(limits: Limits, used: Usage, up: int, down: int, round: int) -> None:
    offer = changed(upload_bytes=up, download_bytes=down, round=round)
    verdict = Policy(limits=limits).judge(offer, used, SATURDAY)
    after = {
        "rounds_per_job": len(used.rounds | {round}) if round not in used.rounds else 0,
        "upload_bytes_per_day": used.uploaded_bytes_today + up if up else 0,
        "download_bytes_per_day": used.downloaded_bytes_today + down if down else 0,
    }
    over = [name for name, count in after.items() if (limit := getattr(limits, name)) is not None and count > limit]
    assert isinstance(verdict, Declined) == bool(over)
    if isinstance(verdict, Declined):
        assert any(name in verdict.reason for name in over)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), values))
def test_any_table_is_read_or_refused_in_words(table: dict[str, Any]) -> None:
    complaint = complaint_about(table)
    assert complaint == "" or complaint.startswith("policy.toml: ")


def complaint_about(table: dict[str, Any]) -> str:
    try:
        bind(Policy, table, "policy.toml")
    except ConfigError as error:
        return str(error)
    return ""


@settings(deadline=None)
@given(values, st.booleans())
def test_a_rule_judges_any_value(value: Any, listed: bool) -> None:
    rule = ValueRule(one_of=("sgd", 1)) if listed else ValueRule(min=0, max=1)
    wanted = rule.wants(value)
    if isinstance(value, str | bool | dict) or value is None:
        assert bool(wanted) == (not listed or value != "sgd")
