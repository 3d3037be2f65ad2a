"""Processes that must not outlive the one that started them.

`python -m fedelta._child PARENT WORDS...` runs `fedelta WORDS...` as such a process; PARENT is the id of its parent.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent dies, however that dies. Exits where it is dead already.

    The kernel watches the *thread* that started this process: it is to be the parent's main thread. Elsewhere than on
    Linux nothing happens.
    """
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


def main() -> None:
    """Runs a command that dies with its parent."""
    die_with(int(sys.argv[1]))
    from fedelta.cli import main as fedelta

    fedelta(sys.argv[2:], prog_name="fedelta")


if __name__ == "__main__":
    main()
