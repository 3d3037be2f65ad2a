"""What is kept of a finished assignment, and when it is found again."""

from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3
from google.protobuf.duration_pb2 import Duration

from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client import messages as say
from fedelta_client.results import Result, Results

UPDATE = bytes(range(256)) * 1000
FILE = say.File(digest=blake3(UPDATE).hexdigest(), length=len(UPDATE), norm=0.1)
TRAINED = say.Trained(
    file=FILE, state_saved=True, examples=5, metrics={"loss": 1 / 3}, seconds=0.1, facts={"steps": 0.1}
)
EVALUATED = say.Evaluated(examples=9, metrics={"accuracy": 2 / 3}, seconds=0.2)
ASSIGNMENT = pb.Assignment(
    id="job-1.2.1.train.site-1",
    kind=pb.ASSIGNMENT_KIND_TRAIN,
    job_id="job-1",
    learner="learners:Counting",
    round=2,
    model=pb.ModelRef(digest=bytes(32), length=10, version=1),
    config_json="{}",
    seed=7,
    model_arguments_json="{}",
    lease=Duration(seconds=60),
)


def results(where: Path) -> Results:
    """As a process finds them that has just been started."""
    return Results(where / "update", where / "note")


def like(**other: object) -> pb.Assignment:
    """Another assignment, which differs in this."""
    found = pb.Assignment()
    found.CopyFrom(ASSIGNMENT)
    found.MergeFrom(pb.Assignment(**other))  # type: ignore[arg-type]  # whatever a test says
    return found


@pytest.fixture(autouse=True)
def kept(tmp_path: Path) -> None:
    (tmp_path / "update").write_bytes(UPDATE)
    results(tmp_path).keep(ASSIGNMENT, TRAINED)


@pytest.mark.parametrize("result", [TRAINED, EVALUATED, say.Initialized(file=FILE)])
def test_another_process_finds_what_was_kept_last(tmp_path: Path, result: Result) -> None:
    results(tmp_path).keep(ASSIGNMENT, result)
    assert results(tmp_path).find(ASSIGNMENT) == result


def test_nothing_is_found_once_it_may_be_overwritten(tmp_path: Path) -> None:
    results(tmp_path).clear()
    assert results(tmp_path).find(ASSIGNMENT) is None
    results(tmp_path).clear()


def _flip(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [_flip, _shorten, Path.unlink])
@pytest.mark.parametrize("name", ["update", "note"])
def test_what_is_damaged_is_not_found(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(tmp_path / name)
    assert results(tmp_path).find(ASSIGNMENT) is None


@pytest.mark.parametrize(
    "other",
    [
        {"id": "job-1.2.2.train.site-1"},
        {"kind": pb.ASSIGNMENT_KIND_INITIALIZE},
        {"job_id": "job-2"},
        {"learner": "learners:Other"},
        {"round": 3},
        {"model": pb.ModelRef(digest=b"1" * 32)},
        {"config_json": '{"lr": 0.1}'},
        {"seed": 8},
        {"model_arguments_json": '{"rows": 3}'},
        {"plan_json": '{"facts": ["steps"]}'},
        {"shared": pb.ModelRef(digest=b"1" * 32)},
    ],
    ids=lambda other: next(iter(other)),
)
def test_what_answers_another_question_is_not_found(tmp_path: Path, other: dict[str, object]) -> None:
    """A coordinator whose data was deleted gives the same ids again."""
    assert results(tmp_path).find(like(**other)) is None


def test_what_may_change_while_it_is_done_does_not_matter(tmp_path: Path) -> None:
    later = like(lease=Duration(seconds=5), time_left=Duration(seconds=9), rounds_max=7, job_name="renamed")
    assert results(tmp_path).find(later) == TRAINED
