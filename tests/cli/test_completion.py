"""What a shell gets that asks for completions, by click's protocol."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedelta.v1 import admin_pb2 as pb
from tests.cli.fake import FakeCoordinator, job

FEDELTA = Path(sys.executable).with_name("fedelta")


def completed(line: str, server: str, folder: Path) -> list[str]:
    """What bash is offered for the last word of a line."""
    protocol = {"_FEDELTA_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        [FEDELTA],
        env=os.environ | protocol | {"FEDELTA_SERVER": server},
        cwd=folder,
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_jobs_and_clients_of_the_coordinator_and_model_files(coordinator: FakeCoordinator, tmp_path: Path) -> None:
    coordinator.jobs = {name: job(name) for name in ("digits-1", "digits-2", "wine-1")}
    coordinator.clients = [pb.Client(name=name) for name in ("site-1", "site-2", "x")]
    for name in ("digits.safetensors", "other.txt"):
        (tmp_path / name).touch()

    def offered(line: str) -> list[str]:
        return completed(line, coordinator.address, tmp_path)

    assert offered("fedelta job show ") == ["plain,wine-1", "plain,digits-2", "plain,digits-1"]
    assert offered("fedelta job watch digits-") == ["plain,digits-2", "plain,digits-1"]
    assert offered("fedelta model show di") == ["plain,digits-2", "plain,digits-1", "plain,digits.safetensors"]
    assert offered("fedelta model show ./d") == ["file,./d"]
    assert offered("fedelta clients si") == ["plain,site-1", "plain,site-2"]
    assert offered("fedelta job submit ./d") == ["file,./d"]


@pytest.mark.parametrize("server", ["127.0.0.1:1", "no address"])
def test_without_a_coordinator_nothing_is_offered_and_nothing_said(server: str, tmp_path: Path) -> None:
    assert completed("fedelta job show d", server, tmp_path) == []


def test_commands_are_completed(tmp_path: Path) -> None:
    assert completed("fedelta cl", "127.0.0.1:1", tmp_path) == ["plain,client", "plain,clients"]


def test_parts_are_completed(tmp_path: Path) -> None:
    def offered(line: str) -> list[str]:
        return completed(line, "127.0.0.1:1", tmp_path)

    assert offered("fedelta parts list se") == ["plain,selector", "plain,server_optimizer"]
    assert offered("fedelta parts show selector po") == ["plain,poisson", "plain,power-of-choice"]
    assert offered("fedelta parts show s") == [
        *(f"plain,{name}" for name in ("selector", "server_optimizer", "schedule", "stop")),
        *(f"plain,{name}" for name in ("scaffold", "sgd", "step", "stratified", "sum")),
    ]


def script(shell: str) -> str:
    done = subprocess.run([FEDELTA, "completion", shell], text=True, capture_output=True, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_this_command(shell: str) -> None:
    assert f"_FEDELTA_COMPLETE={shell}_complete" in script(shell)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_script(coordinator: FakeCoordinator, tmp_path: Path) -> None:
    coordinator.jobs = {name: job(name) for name in ("digits-1", "wine-1")}
    typed = 'COMP_WORDS=(fedelta job show w); COMP_CWORD=3; _fedelta_completion fedelta; echo "${COMPREPLY[*]}"'
    environment = os.environ | {"PATH": f"{FEDELTA.parent}:{os.environ['PATH']}", "FEDELTA_SERVER": coordinator.address}
    done = subprocess.run(
        ["bash", "-c", f"{script('bash')}\n{typed}"],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("wine-1\n", "")
