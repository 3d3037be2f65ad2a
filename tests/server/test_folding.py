"""Making a version from a fold's effect: the same bytes when it is done again, nothing left when it fails."""

from pathlib import Path

import numpy as np
import pytest

from fedelta.config import parse_job
from fedelta.errors import FedeltaError, StorageError
from fedelta_server.aggregate import file_digest
from fedelta_server.engine import Job, ModelRef, effects
from fedelta_server.folding import discount, make_version
from fedelta_server.manifest import decode
from fedelta_server.store._fs import FileSystem
from fedelta_server.store.files import Files
from tests.server.aggregate.tensor_files import read, write_model, write_update

TOML = """
[job]
name = "j"
[model]
init = "first-client"
[rounds]
max = 4
buffer = 2
[aggregator]
name = "uniform"
[server_optimizer]
name = "sgd"
momentum = 0.5
"""


@pytest.mark.parametrize(("staleness", "factor"), [(0, 1.0), (1, 0.70710678), (3, 0.5), (8, 0.33333333)])
def test_staleness_is_discounted_by_its_square_root(staleness: int, factor: float) -> None:
    """REFERENCES: FedBuff's weight 1 / sqrt(1 + tau) (Nguyen et al. 2022); a fresh update weighs 1."""
    assert discount(staleness, 0.5) == pytest.approx(factor, abs=1e-8)
    assert discount(staleness, 0.0) == 1.0


class Scene:
    """A job whose version 2 is to be made of a fresh and a stale update, each of ones."""

    def __init__(self, root: Path) -> None:
        self.files = Files(root / "state")
        self.schema = write_model(root / "base", {"w": np.zeros(4, "f4")})
        digest = file_digest(root / "base")
        base = self.files.keep_model(root / "base", digest)
        self.job = Job("j-1", parse_job(TOML, "job.toml"), TOML, 0.0, 4)
        self.effect = effects.Fold(
            job="j-1",
            round=2,
            attempt=1,
            base=ModelRef(1, digest, base.stat().st_size),
            base_manifest=b"\1" * 32,
            updates=(self._update(root, 2, 0), self._update(root, 1, 3)),
            population=7,
        )

    def _update(self, root: Path, round_: int, staleness: int) -> effects.FoldUpdate:
        path = write_update(root / "spool", self.schema, {"w": np.ones(4, "f4")})
        digest, length = file_digest(path), path.stat().st_size
        self.files.keep_update(path, "j-1", round_, 5, "a")
        return effects.FoldUpdate("a", 10, digest, length, {"steps": 2.0}, staleness, round_, 5)


def test_it_is_made_again_with_the_same_bytes(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    made = make_version(scene.files, scene.job, scene.effect)
    assert made == make_version(scene.files, scene.job, scene.effect)
    assert made.digest == file_digest(scene.files.model_path(made.digest))
    assert made.state is not None
    assert made.state.digest == file_digest(scene.files.state_path("j-1", 2))
    assert made.manifest == file_digest(scene.files.manifest_path("j-1", 2))


def test_a_stale_update_counts_less_and_the_manifest_says_so(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    made = make_version(scene.files, scene.job, scene.effect)
    values = read(scene.files.model_path(made.digest), scene.schema)["w"]
    np.testing.assert_array_equal(values, np.full(4, (1 + 0.5) / 2, "f4"))
    assert made.norm == 1.5  # of four values of 0.75
    manifest = decode(scene.files.manifest_path("j-1", 2).read_bytes())
    assert [(each.round, each.attempt, each.staleness) for each in manifest.updates] == [(2, 5, 0), (1, 5, 3)]
    assert (manifest.rounds, manifest.population, manifest.norm) == (4, 7, 1.5)


def test_a_fold_that_fails_leaves_nothing_and_names_what_is_missing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.files.update_path("j-1", 1, 5, "a").unlink()
    with pytest.raises(FedeltaError, match=r"1\.5/a\.safetensors"):
        make_version(scene.files, scene.job, scene.effect)
    assert list((tmp_path / "state" / "temp").iterdir()) == []
    assert list((tmp_path / "state" / "states").rglob("*.safetensors")) == []


class NoStates(FileSystem):
    """A disk on which no state gets its name."""

    def rename(self, source: Path, target: Path) -> None:
        if target.parent.parent.name == "states":
            raise StorageError(f"{target}: no room")
        super().rename(source, target)


def test_a_state_that_cannot_be_kept_leaves_nothing_either(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    with pytest.raises(StorageError, match="no room"):
        make_version(Files(tmp_path / "state", NoStates()), scene.job, scene.effect)
    assert list((tmp_path / "state" / "temp").iterdir()) == []
    assert len(list((tmp_path / "state" / "models").iterdir())) == 1
