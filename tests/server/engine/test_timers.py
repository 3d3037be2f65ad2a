"""Timers, against a plain dictionary of what is due when."""

import random

from fedelta_server.engine._timers import Timers


def test_timers_come_up_when_they_are_due_and_never_else() -> None:
    """Most are dropped long before: of those nothing is kept."""
    drawn, timers, known, now = random.Random(7), Timers(), dict[str, float](), 0.0
    for step in range(20_000):
        key, kind = f"timer-{drawn.randrange(50) if step % 2 else step}", drawn.random()
        if kind < 0.6:
            known[key] = now + drawn.choice([0.5, 5.0, 1000.0])
            timers.set(key, known[key])
        elif known and kind < 0.95:
            gone = drawn.choice(sorted(known)) if kind < 0.65 else next(iter(known))
            del known[gone]
            timers.drop(gone)
        else:
            now += drawn.random()
            assert sorted(timers.expired(now)) == sorted(key for key, at in known.items() if at <= now)
            known = {key: at for key, at in known.items() if at > now}
        following = timers.next()
        assert following is not None or not known
        assert not known or (following is not None and following <= min(known.values()))


def test_what_is_dropped_does_not_pile_up() -> None:
    timers = Timers()
    timers.set("deadline", 5000.0)
    for number in range(100_000):
        timers.set(f"lease-{number}", 15.0)
        timers.drop(f"lease-{number}")
    assert timers.entries < 3000
    assert timers.expired(5000.0) == ["deadline"]
