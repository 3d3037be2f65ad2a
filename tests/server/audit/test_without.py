"""`fedelta verify --without`: what a site's updates made of a model, as far as they are kept."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from fedelta.errors import SchemaMismatchError
from fedelta_server.aggregate import distance
from fedelta_server.retention import Keep
from tests.server.aggregate.tensor_files import Array, write_model
from tests.server.audit.states import ADDS, JOB, flip, make, model_at, verified, verify
from tests.server.rpc.harness import digest_of


def mean(number: int) -> float:
    return (10 * ADDS["a"][number] + 30 * ADDS["b"][number]) / 40


def test_each_round_is_recomputed_without_the_site(state: Path) -> None:
    code, report = verified(state, "--without", "a")
    found = report["without"]
    assert (code, found["job"], found["site"], found["base"]) == (0, JOB, "a", 1)
    assert [(each["round"], each["weight"], each["total_weight"], each["others"]) for each in found["rounds"]] == [
        (2, 10, 40, 1),
        (3, 10, 40, 1),
    ]
    expected = [abs(ADDS["b"][number] - mean(number)) / abs(mean(number)) for number in (1, 2)]
    assert [each["change"] for each in found["rounds"]] == pytest.approx(expected, rel=1e-6)


def test_the_newest_model_is_what_the_others_kept_updates_make_of_the_base(state: Path, tmp_path: Path) -> None:
    out = tmp_path / "without.safetensors"
    _, report = verified(state, "--without", "a", "--out", out)
    left = model_at(rounds=1)
    expected = model_at(mean(0) + ADDS["b"][1] + ADDS["b"][2], rounds=0)
    assert out.read_bytes() == expected != left
    assert report["without"]["digest"] == digest_of(expected).hex()
    steps = [mean(1) + mean(2), ADDS["b"][1] + ADDS["b"][2]]
    assert report["without"]["change"] == pytest.approx(abs(steps[1] - steps[0]) / abs(steps[0]), rel=1e-6)


def test_with_all_updates_kept_nothing_of_the_job_is_left_out(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, Keep(updates=9)))
    _, report = verified(tmp_path, "--without", "b")
    assert report["without"]["base"] == 0
    assert report["without"]["digest"] == digest_of(model_at(without="b")).hex()


def test_versions_that_were_pruned_are_made_again(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, Keep(updates=9, versions=1)))
    _, report = verified(tmp_path, "--without", "b")
    assert [each["round"] for each in report["without"]["rounds"]] == [1, 2, 3]
    assert report["without"]["digest"] == digest_of(model_at(without="b")).hex()


def test_the_words_say_what_it_is_and_what_it_is_not(state: Path, tmp_path: Path) -> None:
    result = verify(state, "--without", "b", "--out", tmp_path / "without.safetensors")
    assert "30 of 40" in result.stdout
    assert "version 3 from the others' updates alone, from version 1 on" in result.stdout
    assert "this is not what training without it would have given" in result.stdout
    assert f"written to {tmp_path / 'without.safetensors'}" in result.stdout


def test_a_site_that_took_no_part_is_refused(state: Path) -> None:
    result = verify(state, "--without", "c")
    assert (result.exit_code, "there is no update of 'c' in the rounds that are kept" in result.stderr) == (5, True)


def test_without_kept_updates_it_says_how_they_are_kept(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, Keep()))
    result = verify(tmp_path, "--without", "a")
    assert (result.exit_code, "`fedelta server --keep-updates N`" in result.stderr) == (5, True)


def test_broken_updates_are_not_folded(state: Path) -> None:
    flip(state / "updates" / JOB / "3.1" / "a.safetensors")
    result = verify(state, "--without", "a")
    assert (result.exit_code, "are not kept, or do not verify" in result.stderr) == (5, True)


def test_the_distance_between_models_of_any_type(tmp_path: Path) -> None:
    one: dict[str, Array] = {
        "w": np.array([1.0, 2.0], np.float32),
        "h": np.array([4.0], np.float16),
        "n": np.array([7], np.int64),
    }
    other: dict[str, Array] = {
        "w": np.array([1.0, 5.0], np.float32),
        "h": np.array([0.0], np.float16),
        "n": np.array([9], np.int64),
    }
    write_model(tmp_path / "one", one)
    write_model(tmp_path / "other", other)
    assert distance(tmp_path / "one", tmp_path / "other") == 5.0
    write_model(tmp_path / "third", {"w": one["w"]})
    with pytest.raises(SchemaMismatchError, match="do not have the same tensors"):
        distance(tmp_path / "one", tmp_path / "third")
