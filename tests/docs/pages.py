"""Pages of the documentation as their blocks: what is in them, and what the comments before them say to do with it.

docs/contributing.md has the conventions for those who write pages.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]

LANGUAGES = ("sh", "python", "toml", "json", "text")

_DIRECTIVE = re.compile(r"<!--\s*doc:\s*(?P<kind>\S+)(?P<argument>.*?)-->\s*", re.DOTALL)
_MARKDOWN = MarkdownIt("commonmark").enable("table")


class PageError(Exception):
    """A page that does not keep the conventions, or does not do what it says."""

    def __init__(self, page: str, line: int, message: str) -> None:
        super().__init__(f"{page}:{line}: {message}")


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block with its directives."""

    line: int
    """Of its first line of text, in the page, from 1."""
    language: str
    text: str
    background: str | None = None
    """Start it, and wait until each of its commands has printed this."""
    exit: int = 0
    """The exit code that it must have."""
    file: PurePosixPath | None = None
    """Write it to this file."""
    output: bool = False
    """The block before it has printed these lines."""
    needs: str | None = None
    """Leave it out where this tool does not work."""
    skip: str | None = None
    """Leave it out, for this reason."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page of the documentation."""

    name: str
    folder: PurePosixPath | None = None
    """The folder of the repository of which it gets a copy to work in. None: it starts in an empty one."""
    environment: Mapping[str, str] = field(default_factory=dict)
    blocks: Sequence[Block] = ()


def found_pages(root: Path = ROOT) -> list[str]:
    """The names of all pages, relative to the root."""
    patterns = ("README.md", "docs/**/*.md", "examples/**/README.md", "deploy/README.md")
    return sorted(str(path.relative_to(root)) for pattern in patterns for path in root.glob(pattern))


def tokens(text: str) -> list[Token]:
    """The page as Markdown tokens."""
    return _MARKDOWN.parse(text)


def read_page(name: str, root: Path = ROOT) -> Page:
    """Reads a page of the repository. A README of an example works in a copy of its folder unless it says otherwise."""
    page = parse_page(name, (root / name).read_text())
    if page.folder is None and name.startswith("examples/"):
        return Page(name=name, folder=PurePosixPath(name).parent, environment=page.environment, blocks=page.blocks)
    return page


def parse_page(name: str, text: str) -> Page:
    """The page with this text. Raises `PageError` where something in it would escape being tested."""
    whole: dict[str, Any] = {"environment": {}}
    blocks: list[Block] = []
    directives: dict[str, Any] = {}
    for token in tokens(text):
        line = token.map[0] + 1 if token.map else 1
        try:
            if token.type == "fence":
                blocks.append(_block(token, line, directives))
                directives = {}
            elif token.type == "html_block":
                _read_directives(token.content, whole, directives, first=not blocks)
            elif directives:
                raise ValueError(f"the directive {', '.join(directives)} must stand right before a fenced block")
            else:
                _nothing_hidden(token)
        except ValueError as error:
            raise PageError(name, line, str(error)) from None
    if directives:
        raise PageError(name, len(text.splitlines()), f"no block follows the directive {', '.join(directives)}")
    return Page(name=name, blocks=blocks, **whole)


def commands(text: str) -> Iterator[tuple[int, str]]:
    """The commands of a ```sh block, each with the number of its first line; a backslash carries one on."""
    gathered: list[str] = []
    for number, line in enumerate(text.splitlines()):
        gathered.append(line)
        if line.endswith("\\"):
            continue
        command = "\n".join(gathered)
        if command.strip() and not command.lstrip().startswith("#"):
            yield number - len(gathered) + 1, command
        gathered = []


def _nothing_hidden(token: Token) -> None:
    if token.type == "code_block":
        raise ValueError("an indented block of code; fence it and name its language, so that it is tested")
    inline = (child.content for child in token.children or () if child.type == "html_inline")
    if any(_DIRECTIVE.match(content) for content in inline):
        raise ValueError("a directive in the middle of a paragraph has no effect; give it a line of its own")


def _read_directives(comment: str, whole: dict[str, Any], block: dict[str, Any], *, first: bool) -> None:
    """Sorts the directives of a comment into those of the whole page and those of the block that follows."""
    for kind, argument in _split(comment):
        if kind in ("in", "env") and not first:
            raise ValueError(f"{kind!r} is for the whole page and belongs to its top")
        match kind:
            case "in":
                whole["folder"] = _relative(argument)
            case "env":
                name, equals, value = argument.partition("=")
                if not equals:
                    raise ValueError("env is given as NAME=VALUE")
                whole["environment"][name] = value
            case _:
                block[kind] = _argument(kind, argument)


def _split(comment: str) -> Iterable[tuple[str, str]]:
    """Kind and argument of each directive in a piece of HTML."""
    end = 0
    for found in _DIRECTIVE.finditer(comment):
        yield found["kind"], found["argument"].strip()
        end = found.end()
    if "doc:" in comment[end:]:
        raise ValueError(f"{comment[end:].strip()!r} is no directive; it is written <!-- doc: KIND ... -->")


def _argument(kind: str, argument: str) -> object:
    match kind:
        case "background":
            words = shlex.split(argument)
            if len(words) != 1:
                raise ValueError('background is followed by the text to wait for, in quotes: background "ready"')
            return words[0]
        case "exit":
            return int(argument)
        case "file":
            return _relative(argument)
        case "output":
            return True
        case "needs" | "skip" if argument:
            return argument
    raise ValueError(f"there is no directive {f'{kind} {argument}'.strip()!r}")


def _relative(argument: str) -> PurePosixPath:
    path = PurePosixPath(argument)
    if not argument or path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{argument!r} is no path below the working folder")
    return path


def _block(token: Token, line: int, directives: Mapping[str, Any]) -> Block:
    language = token.info.strip()
    if language not in LANGUAGES:
        raise ValueError(f"a block of language {language!r}; known are {', '.join(LANGUAGES)}")
    block = Block(line=line + 1, language=language, text=token.content, **directives)
    if language != "sh" and (block.background is not None or block.needs):
        raise ValueError(f"background and needs are for ```sh, not for ```{language}")
    if language != "text" and block.output:
        raise ValueError(f"output is for ```text, not for ```{language}")
    if language == "sh" and block.exit and len(list(commands(block.text))) != 1:
        raise ValueError("a block that exits with another code than 0 holds one command")
    return block
