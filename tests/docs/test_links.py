"""Links between pages lead somewhere, and no page is without a way to it."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it.token import Token

from tests.docs.pages import ROOT, found_pages, tokens


def inline(text: str) -> Iterator[Token]:
    for token in tokens(text):
        yield from token.children or ()


def links(text: str) -> Iterator[str]:
    """The targets of all links and pictures of a page."""
    for token in inline(text):
        for name in ("href", "src"):
            if target := token.attrGet(name):
                yield str(target)


def anchors(text: str) -> set[str]:
    """What GitHub lets links to parts of this page be called."""
    parsed = tokens(text)
    titles = (parsed[i + 1] for i, token in enumerate(parsed) if token.type == "heading_open")
    plain = ("".join(child.content for child in title.children or ()) for title in titles)
    slugs = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in plain]
    seen: Counter[str] = Counter()
    found = set()
    for slug in slugs:
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    return [target for target in links(page.read_text()) if not urlsplit(target).scheme and not leads(page, target)]


def leads(page: Path, target: str) -> bool:
    """Whether the file that a link names is there, and the part of it."""
    parts = urlsplit(target)
    file = page.parent / unquote(parts.path) if parts.path else page
    if not file.exists() or not file.resolve().is_relative_to(ROOT):
        return False
    return not parts.fragment or (file.suffix == ".md" and parts.fragment in anchors(file.read_text()))


@pytest.mark.parametrize("name", found_pages())
def test_links_lead_somewhere(name: str) -> None:
    assert broken(ROOT / name) == []


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs/README.md"
    named = {(index.parent / urlsplit(target).path).resolve() for target in links(index.read_text())}
    missing = [name for name in found_pages() if name != "docs/README.md" and (ROOT / name) not in named]
    assert missing == []


def test_broken_links_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.test_links.ROOT", tmp_path)
    good = "[a](#what-a--b-is) [b](other.md#code-x-1) ![c](other.md) [d](https://a.org/b) [e][ref]\n\n[ref]: deep/"
    bad = "[f](none.md) [g](#none) [h](other.md#none) ![i](none.png) [j](../outside)"
    (tmp_path / "deep").mkdir()
    (tmp_path / "other.md").write_text("# `code` x\n\n# Code X\n")
    page = tmp_path / "page.md"
    page.write_text(f"# What *A* & B is?\n\n{bad}\n\n{good}\n")
    assert broken(page) == ["none.md", "#none", "other.md#none", "none.png", "../outside"]
