"""A power cut at the steps with the disk: what was acknowledged is there afterwards, and the model is the same."""

import random
from pathlib import Path

import pytest

from fedelta.errors import FedeltaError
from tests.faults.disk import ForgetfulDisk
from tests.faults.power import NAMES, ROUNDS, cut, shoot

STEPS = 48
"""So many of the steps, drawn with a seed; `make faults` tries all."""


@pytest.mark.parametrize("keep_names", [False, True], ids=["all forgotten", "names kept"])
def test_a_power_cut_takes_nothing_that_was_acknowledged(tmp_path: Path, keep_names: bool) -> None:
    photographer, model = shoot(tmp_path, keep_names=keep_names)
    assert len(photographer.acknowledged) == ROUNDS * len(NAMES)
    cut(random.Random(4).sample(photographer.photos, STEPS), model)


@pytest.mark.parametrize("forgotten", ["sync", "sync_dir"])
def test_a_store_that_forgets_to_sync_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    monkeypatch.setattr(ForgetfulDisk, forgotten, lambda _disk, _path: None)
    photographer, model = shoot(tmp_path, keep_names=False)
    with pytest.raises((AssertionError, FedeltaError)):
        cut(photographer.photos, model)
