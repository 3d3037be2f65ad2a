"""A client is killed before each of its steps, one after the other: nothing is lost, and nothing leaves twice."""

from collections.abc import Iterator
from pathlib import Path

from fedelta_client.ledger import Reader, Sending
from fedelta_client.spool import Spool
from tests.client.crashes import Steps, World, lived

FOLDS = (True, False, True)
"""Which rounds' updates count."""
COUNTS = [1, 2, 2]
"""What the learner's state says in each of these rounds."""


def histories(root: Path) -> Iterator[tuple[Path, World]]:
    """What there is after a client that was killed once and started again has done its part, for each of its steps."""
    for step in range(1000):
        spool, world = root / str(step), World(FOLDS)
        done = lived(spool, world, Steps(kill_before=step))
        if not done:
            assert lived(spool, world, Steps(kill_before=None))
        yield spool, world
        if done:
            return
    raise AssertionError("it has no end")


def test_a_client_that_is_killed_anywhere_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    again = 0
    for root, world in histories(tmp_path):
        assert [update["count"] for update in world.accepted] == COUNTS
        # Once it has begun to leave an update is never made again.
        assert [len(world.begun[round_]) for round_ in (1, 2, 3)] == [1, 1, 1]
        assert world.trained.total() <= len(FOLDS) + 1
        again += world.trained.total() > len(FOLDS)
        assert sent(root) == [1, 2, 3]
        with Spool(root) as spool:
            assert spool.states.unsettled() == []
            promoted = spool.states.promoted("job", "")
            assert promoted is not None
            assert promoted.read_text() == "2"
    assert again > 0


def sent(root: Path) -> list[int]:
    """The rounds of which an update left the site, as its ledger has it."""
    return [line.round for line in Reader(root / "ledger.jsonl").lines() if isinstance(line, Sending)]
