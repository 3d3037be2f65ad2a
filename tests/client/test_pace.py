"""Bandwidth caps."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedelta.wire import bulk
from fedelta_client.pace import Pace, TokenBucket

EXACT = 1e-6
"""Relative rounding errors of sums of floats."""

rates = st.floats(1, 1e9)
bursts = st.integers(0, 4 << 20)
takes = st.lists(st.tuples(st.integers(0, 4 << 20), st.floats(0, 100)), min_size=1, max_size=30)


@settings(deadline=None)
@given(rates, bursts, takes)
def test_in_no_stretch_of_time_goes_more_than_rate_and_burst(
    rate: float, burst: int, takes: list[tuple[int, float]]
) -> None:
    bucket, now, went = TokenBucket(rate, burst), 0.0, [(0.0, 0)]
    for count, pause in takes:
        now += bucket.take(count, now)
        went.append((now, count))
        now += pause
    for first, (begin, _) in enumerate(went):
        total = 0
        for end, count in went[first + 1 :]:
            total += count
            assert total <= (burst + rate * (end - begin)) * (1 + EXACT) + rate * end * EXACT


@settings(deadline=None)
@given(rates, bursts, takes)
def test_nobody_waits_longer_than_the_bytes_take(rate: float, burst: int, takes: list[tuple[int, float]]) -> None:
    bucket, now, total = TokenBucket(rate, burst), 0.0, 0
    for count, _ in takes:
        now += bucket.take(count, now)
        total += count
    assert now == pytest.approx(max(0, total - burst) / rate, rel=EXACT, abs=EXACT)


def test_a_clock_that_goes_backwards_lends_nothing() -> None:
    bucket = TokenBucket(100, 0)
    assert bucket.take(100, 50.0) == 1.0
    assert bucket.take(100, 40.0) == 2.0


def test_a_capped_pace_waits_and_an_uncapped_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async def scenario() -> None:
        pace = Pace()
        await pace.spend(10**9)
        assert (waited, pace.chunk_bytes) == ([], bulk.CHUNK_BYTES)
        pace.cap(1000)
        assert pace.chunk_bytes == 250
        for _ in range(3):
            pace.cap(1000)  # as before each assignment; what was lent stays lent
            await pace.spend(250)
        assert waited[0] == 0
        assert 0 < waited[1] < waited[2] <= 0.5
        pace.cap(None)
        await pace.spend(1)
        assert (len(waited), pace.chunk_bytes, pace.moved) == (3, bulk.CHUNK_BYTES, 10**9 + 751)

    monkeypatch.setattr("fedelta_client.pace.asyncio.sleep", sleep)
    asyncio.run(scenario())
