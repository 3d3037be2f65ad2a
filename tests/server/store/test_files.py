"""Payload files: resumable uploads, and the order of steps that makes a file durable."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedelta.errors import BadRequestError, DigestMismatchError, StorageError
from fedelta_server.store._fs import FileSystem
from fedelta_server.store.files import Files

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32


class Recorder(FileSystem):
    """Notes the steps on which durability rests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.steps: list[tuple[str, str]] = []

    def _note(self, step: str, path: Path) -> None:
        self.steps.append((step, str(path.relative_to(self.root))))

    def sync(self, path: Path) -> None:
        self._note("sync", path)
        super().sync(path)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", target)
        super().rename(source, target)

    def sync_dir(self, directory: Path) -> None:
        self._note("sync_dir", directory)
        super().sync_dir(directory)

    def make_dir(self, directory: Path) -> None:
        self._note("make_dir", directory)
        super().make_dir(directory)


class FullDisk(FileSystem):
    """A disk with room for 10 bytes."""

    def free_bytes(self, directory: Path) -> int:
        assert directory.is_dir()
        return 10


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def _spool(files: Files, key: str, data: bytes, digest: bytes = ONE) -> Path:
    upload = files.open_upload(key, digest, len(data), 0)
    upload.write(data)
    upload.close()
    return upload.path


def _names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_an_upload_arrives_in_chunks(files: Files) -> None:
    upload = files.open_upload("job-1.r1.a", ONE, 6, 0)
    upload.write(b"abc")
    assert upload.held == 3
    assert files.held("job-1.r1.a", ONE) == 3
    upload.write(b"def")
    upload.close()
    upload.close()
    assert upload.path == files.upload_path("job-1.r1.a", ONE)
    assert upload.path.read_bytes() == b"abcdef"


def test_an_upload_goes_on_where_it_broke_off_even_after_a_restart(files: Files, tmp_path: Path) -> None:
    _spool(files, "j.1.1.train.a", b"abcdef")
    restarted = Files(tmp_path)
    restarted.sweep({("j", 1, 1)}, {})
    assert restarted.held("j.1.1.train.a", ONE) == 6
    upload = restarted.open_upload("j.1.1.train.a", ONE, 8, 4)
    assert upload.held == 4
    upload.write(b"WXYZ")
    upload.close()
    assert upload.path.read_bytes() == b"abcdWXYZ"


def test_going_on_beyond_what_is_held_is_refused(files: Files) -> None:
    _spool(files, "a", b"abc")
    with pytest.raises(BadRequestError, match="byte 5, but 3 bytes of 9 are held"):
        files.open_upload("a", ONE, 9, 5)
    with pytest.raises(BadRequestError, match="byte -1"):
        files.open_upload("a", ONE, 9, -1)
    assert files.held("a", ONE) == 3


def test_more_bytes_than_announced_are_refused(files: Files) -> None:
    upload = files.open_upload("a", ONE, 4, 0)
    upload.write(b"abcd")
    with pytest.raises(DigestMismatchError, match="longer than the 4 bytes"):
        upload.write(b"e")
    upload.close()
    assert files.held("a", ONE) == 4


def test_another_digest_starts_at_zero_and_drops_the_first(files: Files, tmp_path: Path) -> None:
    _spool(files, "a", b"abc", ONE)
    _spool(files, "a.b", b"other key", ONE)
    assert files.held("a", TWO) == 0
    _spool(files, "a", b"xy", TWO)
    assert files.held("a", ONE) == 0
    assert files.held("a.b", ONE) == 9
    files.drop_upload("a")
    assert _names(tmp_path) == [f"uploads/a.b.{ONE.hex()}.part"]
    files.drop_upload("a")


def test_an_upload_that_will_not_fit_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    files = Files(tmp_path, FullDisk())
    with pytest.raises(StorageError, match="11 bytes are needed, 10 are free"):
        files.open_upload("a", ONE, 11, 0)
    assert _names(tmp_path) == []
    _spool(files, "a", b"0123456789")
    files.open_upload("a", ONE, 20, 10).close()  # only what is missing must fit


@pytest.fixture
def small_files_only() -> Iterator[None]:
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, old)


@pytest.mark.usefixtures("small_files_only")
def test_a_write_that_the_disk_refuses_names_path_and_reason_and_can_be_resumed(files: Files) -> None:
    upload = files.open_upload("a", ONE, 3000, 0)
    upload.write(b"x" * 600)
    with pytest.raises(StorageError, match=rf"uploads/a\.{ONE.hex()}\.part: File too large"):
        upload.write(b"y" * 600)
    assert upload.held == 600
    upload.close()
    files.open_upload("a", ONE, 3000, 600).close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(StorageError, match="spool: No space left on device"):
        FileSystem().write(fd, Path("spool"), b"x", 0)
    os.close(fd)


class FailingSync(FileSystem):
    """A disk that cannot write what it was given."""

    def sync(self, path: Path) -> None:
        raise StorageError(f"{path}: Input/output error")


def test_what_could_not_be_synced_must_be_sent_again(files: Files, tmp_path: Path) -> None:
    """A later sync would succeed, for the kernel takes the pages for clean by then, and nothing would be on disk."""
    part = _spool(files, "a", b"abc")
    with pytest.raises(StorageError, match="Input/output"):
        Files(tmp_path, FailingSync()).keep_update(part, "j", 1, 1, "a")
    assert files.held("a", ONE) == 0
    assert _names(tmp_path) == []


def test_an_update_is_durable_before_it_has_its_name(tmp_path: Path) -> None:
    fs = Recorder(tmp_path)
    files = Files(tmp_path, fs)
    part = _spool(files, "a", b"abc")
    fs.steps.clear()
    kept = files.keep_update(part, "digits-1", 3, 1, "site-3")
    where = "updates/digits-1/3.1"
    assert fs.steps == [
        ("sync", f"uploads/a.{ONE.hex()}.part"),
        ("make_dir", "updates/digits-1"),
        ("sync_dir", "updates"),
        ("make_dir", where),
        ("sync_dir", "updates/digits-1"),
        ("rename", f"{where}/site-3.safetensors"),
        ("sync_dir", where),
    ]
    assert kept == files.update_path("digits-1", 3, 1, "site-3")
    assert kept.read_bytes() == b"abc"
    assert not part.exists()


def test_a_directory_is_made_durable_again_after_a_restart_but_only_once(tmp_path: Path) -> None:
    first = Files(tmp_path)
    first.keep_update(_spool(first, "a", b"abc"), "j", 1, 1, "a")
    fs = Recorder(tmp_path)
    second = Files(tmp_path, fs)
    fs.steps.clear()
    second.keep_update(_spool(second, "b", b"abc"), "j", 1, 1, "b")
    assert ("sync_dir", "updates") in fs.steps
    fs.steps.clear()
    second.keep_update(_spool(second, "c", b"abc"), "j", 1, 1, "c")
    assert [step for step, _ in fs.steps] == ["sync", "rename", "sync_dir"]


def test_a_model_is_found_by_its_digest(files: Files) -> None:
    out = files.temp(".model")
    out.write_bytes(b"model")
    assert files.temp(".model") != out
    assert not files.has_model(ONE)
    assert files.keep_model(out, ONE) == files.model_path(ONE)
    assert files.has_model(ONE)
    assert files.model_path(ONE).read_bytes() == b"model"


def test_updates_of_a_round_are_dropped_and_may_come_again(files: Files, tmp_path: Path) -> None:
    for client in ("a", "b"):
        files.keep_update(_spool(files, client, b"abc"), "j", 1, 1, client)
    files.keep_update(_spool(files, "c", b"abc"), "j", 1, 2, "c")
    files.drop_updates("j", 1, 1)
    files.drop_updates("j", 1, 1)
    assert _names(tmp_path) == ["updates/j/1.2/c.safetensors"]
    assert files.keep_update(_spool(files, "a", b"abc"), "j", 1, 1, "a").exists()


def test_the_sweep_at_start_keeps_live_rounds_uploads_and_models(files: Files, tmp_path: Path) -> None:
    for job, round_ in (("j", 1), ("j", 2), ("k", 1)):
        files.keep_update(_spool(files, "a", b"abc"), job, round_, 1, "a")
    _spool(files, "j.2.1.train.b", b"half")
    _spool(files, "j.1.1.train.b", b"half of a round that is over")
    files.temp(".model").write_bytes(b"left over")
    model = files.temp(".model")
    model.write_bytes(b"model")
    files.keep_model(model, TWO)
    Files(tmp_path).sweep({("j", 2, 1)}, {})
    assert _names(tmp_path) == [
        f"models/{TWO.hex()}.safetensors",
        "updates/j/2.1/a.safetensors",
        f"uploads/j.2.1.train.b.{ONE.hex()}.part",
    ]


def test_uploads_that_broke_off_go_with_their_round(files: Files, tmp_path: Path) -> None:
    for key in ("j.1.1.train.a", "j.1.2.train.a", "j.11.1.train.a"):
        _spool(files, key, b"half")
    files.drop_updates("j", 1, 1)
    assert _names(tmp_path) == [f"uploads/j.1.2.train.a.{ONE.hex()}.part", f"uploads/j.11.1.train.a.{ONE.hex()}.part"]


@pytest.mark.parametrize("size", [4 << 20, 5 << 20, 6 << 20])
def test_an_upload_that_overwrites_an_old_update_holds_only_what_came(files: Files, tmp_path: Path, size: int) -> None:
    files.keep_update(_spool(files, "j.1.1.train.a", b"old!" * (5 << 18)), "j", 1, 1, "a")
    files.drop_updates("j", 1, 1)
    upload = files.open_upload("j.2.1.train.a", ONE, size, 0)
    upload.write(b"new" * 1000)
    assert files.held("j.2.1.train.a", ONE) == 3000
    # As after a kill: nobody closed it.
    restarted = Files(tmp_path)
    restarted.sweep({("j", 2, 1)}, {})
    assert restarted.held("j.2.1.train.a", ONE) == 3000
    again = restarted.open_upload("j.2.1.train.a", ONE, size, 3000)
    again.write(b"n" * (size - 3000))
    again.close()
    upload.close()
    assert again.path.read_bytes() == b"new" * 1000 + b"n" * (size - 3000)
    assert _names(tmp_path) == [f"uploads/j.2.1.train.a.{ONE.hex()}.part"]


def test_spares_are_removed_when_nothing_is_to_come(files: Files, tmp_path: Path) -> None:
    files.keep_update(_spool(files, "j.1.1.train.a", b"old!" * (1 << 20)), "j", 1, 1, "a")
    files.drop_updates("j", 1, 1)
    assert len(_names(tmp_path)) == 1
    files.drop_spares()
    assert _names(tmp_path) == []


@pytest.mark.parametrize("name", ["", ".", "..", "../../etc/passwd", "a/b", "a\0b", "x" * 300])
def test_names_cannot_leave_their_directory(files: Files, tmp_path: Path, name: str) -> None:
    part = _spool(files, "a", b"abc")
    with pytest.raises(BadRequestError, match="file name"):
        files.held(name, ONE)
    with pytest.raises(BadRequestError, match="file name"):
        files.keep_update(part, "j", 1, 1, name)
    with pytest.raises(BadRequestError, match="file name"):
        files.keep_update(part, name, 1, 1, "a")
    assert _names(tmp_path) == [f"uploads/a.{ONE.hex()}.part"]


def test_a_state_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/state: Not a directory"):
        Files(tmp_path / "file" / "state")


def _state(files: Files, job: str, version: int) -> Path:
    source = files.temp(".state")
    source.write_bytes(f"{job} {version}".encode())
    return files.keep_state(source, job, version)


def test_a_state_gets_its_name_when_it_is_durable(tmp_path: Path) -> None:
    files = Files(tmp_path, recorder := Recorder(tmp_path))
    source = files.temp(".state")
    source.write_bytes(b"state")
    recorder.steps.clear()
    assert files.keep_state(source, "j", 3).read_bytes() == b"state"
    assert recorder.steps == [
        ("sync", "temp/0.state"),
        ("make_dir", "states/j"),
        ("sync_dir", "states"),
        ("rename", "states/j/3.safetensors"),
        ("sync_dir", "states/j"),
    ]


def test_states_of_older_versions_are_dropped_for_one_job_only(files: Files, tmp_path: Path) -> None:
    for job, version in (("j", 8), ("j", 9), ("j", 10), ("k", 8)):
        _state(files, job, version)
    files.drop_states("j", 10)
    assert _names(tmp_path) == ["states/j/10.safetensors", "states/k/8.safetensors"]


def test_the_sweep_at_start_keeps_the_states_that_jobs_go_on_from(files: Files, tmp_path: Path) -> None:
    for job, version in (("j", 1), ("j", 2), ("j", 3), ("gone", 2)):
        _state(files, job, version)
    # Of version 3 no record was committed: it will be folded again.
    Files(tmp_path).sweep(set(), {"j": range(2, 3)})
    assert _names(tmp_path) == ["states/j/2.safetensors"]
