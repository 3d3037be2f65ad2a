"""A visit to a page: everything on it is done in its order, as a newcomer would do it."""

import json
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Self

from fedelta.config import parse_job
from fedelta.errors import FedeltaError
from tests.docs.pages import ROOT, Block, Page, PageError
from tests.docs.shell import Shell, ShellError, environment, python

BLOCK_SECONDS = 90.0
READY_SECONDS = 60.0
TOOL_SECONDS = 1500.0
"""For blocks that need a tool which the tests cannot count on: building an image takes minutes."""

_FIND = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
_TOOLS = {"docker": ["docker", "info"], "peft": [sys.executable, "-c", _FIND, "peft"]}
"""What `needs` can name, and the command that succeeds where it works."""


def visit(page: Page, folder: Path) -> Sequence[str]:
    """Does what the page says, below an empty folder; returns the tools that were missing.

    Raises `PageError` where something on the page is not as it says.
    """
    work, home, notes = folder / "work", folder / "home", folder / "notes"
    for each in (work, home, notes):
        each.mkdir()
    if page.folder is not None:
        copy_folder(page.folder, work)
    addresses = Addresses()
    variables = {
        **environment(home, Path(sys.executable).parent),
        "FEDELTA_SERVER": addresses.own("localhost:8470"),
        "FEDELTA_SERVER_PORT": addresses.own("8470"),
        **{name: addresses.own(value) for name, value in page.environment.items()},
    }
    shell = Shell(work, notes, variables)
    with _Tour(page.name, work, shell, addresses) as tour:
        for block in page.blocks:
            tour.take(block)
    return tour.missing


def copy_folder(source: PurePosixPath, target: Path) -> None:
    """Copies a folder of the repository, without what .gitignore names: what earlier runs left there."""
    names = (ROOT / ".gitignore").read_text().split()
    ignored = shutil.ignore_patterns(".git", *(name.strip("/") for name in names))
    shutil.copytree(ROOT / source, target, ignore=ignored, dirs_exist_ok=True)


class Addresses:
    """The page's own ports instead of 8470 to 8479, and this machine instead of 10.0.0.5."""

    def __init__(self) -> None:
        self._ports: dict[str, str] = {}

    def own(self, text: str) -> str:
        """The text with the page's own addresses."""
        return re.sub(r"\b847\d\b", self._port, re.sub(r"\b10\.0\.0\.5\b", "localhost", text))

    def _port(self, found: re.Match[str]) -> str:
        if found[0] not in self._ports:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self._ports[found[0]] = str(free.getsockname()[1])
        return self._ports[found[0]]


class _Tour:
    def __init__(self, page: str, work: Path, shell: Shell, addresses: Addresses) -> None:
        self.missing: list[str] = []
        self._page = page
        self._work = work
        self._shell = shell
        self._addresses = addresses
        self._printed = ""

    def take(self, block: Block) -> None:
        """Does what one block says."""
        if block.skip is not None:
            return
        try:
            self._do(block, self._addresses.own(block.text))
        except ShellError as error:
            raise self._error(block, error) from None
        except (ValueError, FedeltaError) as error:
            raise PageError(self._page, block.line, str(error)) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        """Stops what runs. What went wrong before says more than that something does not stop."""
        try:
            self._shell.stop()
        except ShellError as error:
            if raised is None:
                raise PageError(self._page, 1, f"at the end of the page: {error}\n{error.output}") from None

    def _do(self, block: Block, text: str) -> None:
        if block.file is not None:
            self._write(self._work / block.file, text)
        elif block.needs is not None and not _works(block.needs):
            self.missing.append(block.needs)
        elif block.output:
            check_output(text, self._printed)
        else:
            self._actions()[block.language](block, text)

    def _actions(self) -> dict[str, Callable[[Block, str], object]]:
        return {
            "sh": self._type,
            "python": lambda block, text: self._run(block, python(text)),
            "toml": lambda _, text: check_toml(text),
            "json": lambda _, text: json.loads(text),
            "text": lambda _block, _text: None,
        }

    def _write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _type(self, block: Block, text: str) -> None:
        if block.background is None:
            self._run(block, text)
        else:
            ready = self._addresses.own(block.background)
            self._printed = self._shell.start(text, ready, READY_SECONDS)

    def _run(self, block: Block, text: str) -> None:
        done = self._shell.run(text, TOOL_SECONDS if block.needs else BLOCK_SECONDS)
        self._printed = done.output
        if done.code != block.exit:
            raise ShellError(f"exit code {done.code} instead of {block.exit}", done.output, done.failed)

    def _error(self, block: Block, error: ShellError) -> PageError:
        lines = block.text.splitlines()
        command = lines[min(error.line, len(lines) - 1)].strip()
        told = f"{error}\n    {command}\n{error.output}"
        if beside := self._shell.background():
            told += f"--- meanwhile in the background:\n{beside}"
        return PageError(self._page, block.line + error.line, told)


def check_output(shown: str, printed: str) -> None:
    """Raises `ValueError` unless the lines shown were printed, in their order; `...` stands for anything."""
    lines = iter(printed.splitlines())
    for wanted in shown.splitlines():
        pattern = ".*".join(r"\s+".join(map(re.escape, part.split())) for part in wanted.split("..."))
        if pattern and not any(re.search(pattern, line) for line in lines):
            raise ValueError(f"this was not printed, or not in this order: {wanted}\n--- printed was:\n{printed}")


def check_toml(text: str) -> None:
    """Raises an error unless this is TOML, and a valid job file where it has a [job] table."""
    if "job" in tomllib.loads(text):
        parse_job(text, "job file")


def _works(tool: str) -> bool:
    command = _TOOLS[tool]
    return (
        shutil.which(command[0]) is not None
        and not subprocess.run(command, check=False, capture_output=True).returncode
    )
