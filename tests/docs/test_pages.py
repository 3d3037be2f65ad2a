"""Every page of the documentation does what it says."""

from pathlib import Path

import pytest

from tests.docs.pages import PageError, found_pages, read_page
from tests.docs.visit import visit

SKIPPED = {
    ("README.md", "what make installs is what runs this page; demo and tests run by themselves"),
    ("docs/contributing.md", "continuous integration runs them, and this test with them"),
    ("docs/contributing.md", "a test that runs the tests of the pages would not end"),
}
"""Blocks that are never run, each with its reason."""


@pytest.mark.timeout(1800)  # blocks have limits of their own; an image takes minutes to build
@pytest.mark.parametrize("name", found_pages())
def test_a_page_does_what_it_says(name: str, tmp_path: Path) -> None:
    try:
        missing = visit(read_page(name), tmp_path)
    except PageError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    if missing:
        pytest.skip(f"blocks that need {', '.join(sorted(set(missing)))} were left out")


def test_few_blocks_are_skipped() -> None:
    pages = [read_page(name) for name in found_pages()]
    assert {(page.name, block.skip) for page in pages for block in page.blocks if block.skip} == SKIPPED
