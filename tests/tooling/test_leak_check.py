"""The leak check of tests/conftest.py finds what it is there to find."""

import subprocess
import sys
import threading
from pathlib import Path

from tests.conftest import Held


def test_an_open_file_a_thread_and_a_process_are_told(tmp_path: Path) -> None:
    before = Held.now()
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="forgotten-thread")
    thread.start()
    with (
        (tmp_path / "forgotten-file").open("w"),
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child,
    ):
        told = " ".join(Held.now().since(before))
        assert "forgotten-thread" in told
        assert "forgotten-file" in told
        assert f"process {child.pid}" in told
    release.set()
    thread.join()
    assert Held.now().since(before) == []
