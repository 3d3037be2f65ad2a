"""The site's log: what is on the disk when, what is read back, and what it adds up to."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fedelta.errors import NotFiniteError
from fedelta_client.history import History
from fedelta_client.ledger import Fate, Ledger, LedgerError, Line, Outcome, Parcel, Reader, Received, Sending
from fedelta_client.policy import Usage
from fedelta_client.tally import Tally

COORDINATOR = "localhost:8470"
UPDATE = Parcel(
    kind="update", job="digits-1", round=3, bytes=1000, digest="ab" * 32, norm=0.5, examples=10, metrics={"loss": 0.25}
)
NOTE = Parcel(kind="failure", job="digits-1", round=4, bytes=20, message="disk full")


@contextmanager
def ledger(where: Path, coordinator: str = COORDINATOR) -> Iterator[Ledger]:
    with Ledger(where / "ledger.jsonl", coordinator) as found:
        yield found


def lines(where: Path) -> list[Line]:
    return list(Reader(where / "ledger.jsonl").lines())


def usage(found: Ledger, job: str = "digits-1") -> Usage:
    return found.usage(job, datetime.now().astimezone())


def test_a_parcel_is_on_the_disk_before_it_leaves_and_its_fate_after(tmp_path: Path) -> None:
    with ledger(tmp_path) as found:
        with found.sending(UPDATE):
            (before,) = lines(tmp_path)
            assert isinstance(before, Sending)
            assert (before.number, before.coordinator, before.digest) == (1, COORDINATOR, "ab" * 32)
            assert (before.norm, before.examples, before.metrics) == (0.5, 10, {"loss": 0.25})
            assert abs(datetime.now(UTC) - before.time) < timedelta(minutes=5)
        _, after = lines(tmp_path)
        assert isinstance(after, Outcome)
        assert (after.number, after.fate, after.bytes, after.reason) == (1, "acknowledged", 1000, "")


def test_the_line_is_synced_before_anything_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fdatasync", lambda _fd: synced.append((tmp_path / "ledger.jsonl").read_text()))
    with ledger(tmp_path) as found, found.sending(UPDATE):
        assert [json.loads(text)["kind"] for text in synced] == ["update"]


@pytest.mark.parametrize(
    ("error", "fate", "reason"),
    [(NotFiniteError("'w' holds NaN"), "refused", "'w' holds NaN"), (KeyboardInterrupt(), "unknown", "")],
)
def test_what_happens_to_it_is_noted(tmp_path: Path, error: BaseException, fate: str, reason: str) -> None:
    moved = iter([100, 350])
    with ledger(tmp_path) as found:
        with pytest.raises(type(error)), found.sending(UPDATE, lambda: next(moved)):
            raise error
        last = lines(tmp_path)[-1]
        assert isinstance(last, Outcome)
        assert (last.fate, last.reason, last.bytes) == (fate, reason, 250)


def send(where: Path, parcel: Parcel, moved: int, *, coordinator: str = COORDINATOR, stops: bool = False) -> bool:
    """A process sends it. `stops`: it ends without knowing what became of it. Returns whether it went on with it."""
    counts = iter([0, moved])
    sending = (parcel, lambda: next(counts))
    with ledger(where, coordinator) as found, suppress(KeyboardInterrupt), found.sending(*sending) as begun:
        if stops:
            raise KeyboardInterrupt
    return begun


def numbers(where: Path) -> list[tuple[int, int]]:
    """Of each line: the parcel's number, and how many bytes it says."""
    return [(line.number, line.bytes) for line in lines(where) if isinstance(line, Sending | Outcome)]


def test_a_result_whose_fate_is_not_known_is_gone_on_with(tmp_path: Path) -> None:
    with ledger(tmp_path) as killed:
        killed.begin(UPDATE)
    # How much of it the killed process sent nobody knows; all of it has arrived by now.
    assert send(tmp_path, UPDATE, 100)
    assert numbers(tmp_path) == [(1, 1000), (1, 1000)]
    # What is known is added up.
    other = msgspec.structs.replace(UPDATE, round=4)
    assert not send(tmp_path, other, 1300, stops=True)
    assert send(tmp_path, other, 200, stops=True)
    assert send(tmp_path, other, 50)
    assert numbers(tmp_path)[2:] == [(2, 1000), (2, 1300), (2, 1500), (2, 1550)]
    with ledger(tmp_path) as found:
        assert usage(found).uploaded_bytes_today == 1000 + 1550
    history = History.of(Reader(tmp_path / "ledger.jsonl"), None)
    assert [(each.fate, each.bytes) for each in history.left] == [("acknowledged", 1000), ("acknowledged", 1550)]


@pytest.mark.parametrize("known", ["acknowledged", "refused"])
def test_a_result_whose_fate_is_known_leaves_anew(tmp_path: Path, known: Fate) -> None:
    with ledger(tmp_path) as found:
        found.end(found.begin(UPDATE), known, 1000)
    assert not send(tmp_path, UPDATE, 1000)
    assert numbers(tmp_path)[2:] == [(2, 1000), (2, 1000)]


@pytest.mark.parametrize(
    ("parcel", "coordinator"),
    [
        (msgspec.structs.replace(UPDATE, digest="cd" * 32), COORDINATOR),
        (msgspec.structs.replace(UPDATE, seconds=2.0), COORDINATOR),
        (UPDATE, "elsewhere:8470"),
    ],
)
def test_another_result_is_not_taken_for_it(tmp_path: Path, parcel: Parcel, coordinator: str) -> None:
    assert not send(tmp_path, UPDATE, 100, stops=True)
    assert not send(tmp_path, parcel, 100, coordinator=coordinator)


def test_what_a_client_says_is_said_each_time(tmp_path: Path) -> None:
    assert not send(tmp_path, NOTE, 20, stops=True)
    assert not send(tmp_path, NOTE, 20)


def test_usage_is_what_the_ledger_says_also_after_a_restart(tmp_path: Path) -> None:
    with ledger(tmp_path) as found:
        for round_ in (3, 3, 5):
            with found.sending(
                Parcel(kind="update", job="digits-1", round=round_, bytes=1000), iter([0, 1500]).__next__
            ):
                pass
        number = found.begin(NOTE)
        found.receive(job="digits-1", round=3, version=2, digest="cd", bytes=700)
        # The fate of the last is not known: its length counts.
        expected = Usage(rounds=frozenset({3, 5}), uploaded_bytes_today=4520, downloaded_bytes_today=700)
        assert usage(found) == expected
        assert usage(found, "digits-2").rounds == frozenset()
    with ledger(tmp_path) as again:
        assert usage(again) == expected
        assert again.begin(NOTE) == number + 1
    with ledger(tmp_path, "elsewhere:8470") as other:
        assert usage(other).rounds == frozenset()
        assert usage(other).uploaded_bytes_today == 4540


def test_a_torn_line_is_left_alone_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with ledger(tmp_path) as found:
        found.begin(UPDATE)
        found.begin(NOTE)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert len(lines(tmp_path)) == 1
    with ledger(tmp_path) as found:
        assert usage(found).uploaded_bytes_today == 1000
        assert found.begin(NOTE) == 2
    reader = Reader(path)
    assert [line.number for line in reader.lines() if isinstance(line, Sending)] == [1, 2]
    assert reader.unreadable == 1
    assert path.read_bytes().startswith(whole[:-9])


@pytest.mark.parametrize("junk", [b"\n", b"{}\n", b'{"line":"other"}\n', b"\xff\n", b"[1, 2]\n"])
def test_lines_that_make_no_sense_are_counted(tmp_path: Path, junk: bytes) -> None:
    with ledger(tmp_path) as found:
        found.begin(UPDATE)
    with (tmp_path / "ledger.jsonl").open("ab") as file:
        file.write(junk)
    with ledger(tmp_path) as found:
        found.begin(NOTE)
    reader = Reader(tmp_path / "ledger.jsonl")
    assert (len(list(reader.lines())), reader.unreadable) == (2, 1)


def test_a_reader_goes_on_where_it_was(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "ledger.jsonl")
    assert list(reader.lines()) == []
    with ledger(tmp_path) as found:
        found.begin(UPDATE)
        assert len(list(reader.lines())) == 1
        with (tmp_path / "ledger.jsonl").open("ab") as file:
            file.write(b'{"line":"outcome","number":1,')
            file.flush()
            assert list(reader.lines()) == []
            file.write(b'"time":"2026-11-21T12:00:00Z","fate":"refused","bytes":3}\n')
        (rest,) = reader.lines()
        assert isinstance(rest, Outcome)
        assert rest.bytes == 3


def test_a_disk_that_refuses_is_told_and_nothing_leaves(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"ledger\.jsonl, which says what leaves this site, cannot be written"):
        Ledger(tmp_path / "nowhere" / "ledger.jsonl", COORDINATOR).__enter__()
    left = False
    with ledger(tmp_path) as found:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, found._fd)
        os.close(full)
        with pytest.raises(LedgerError, match="No space left"), found.sending(UPDATE):
            left = True
    assert not left


def test_days_are_those_of_the_site() -> None:
    tally = Tally(timezone(timedelta(hours=2)))
    tally.sending(1, datetime(2026, 11, 20, 21, 59, tzinfo=UTC), 1)
    tally.sending(2, datetime(2026, 11, 20, 22, 0, tzinfo=UTC), 10)
    tally.received(datetime(2026, 11, 21, 21, 59, tzinfo=UTC), 100)
    tally.received(datetime(2026, 11, 21, 22, 0, tzinfo=UTC), 1000)
    tally.sent(2, 20, final=True)
    tally.sent(2, 5, final=True)  # said twice: only the first counts
    found = tally.usage(COORDINATOR, "digits-1", date(2026, 11, 21))
    assert (found.uploaded_bytes_today, found.downloaded_bytes_today) == (20, 100)


def test_what_was_fetched_is_read_back(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"job": "digits-1", "round": 1, "version": 0, "digest": "cd" * 32, "bytes": 700}
    with ledger(tmp_path) as found:
        found.receive(**fields)
    (line,) = lines(tmp_path)
    assert isinstance(line, Received)
    assert {name: getattr(line, name) for name in fields} == fields
