"""Log lines, and what they say they are about."""

import asyncio
import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from fedelta._logs import JsonLines, TextLines, about

log = logging.getLogger("fedelta.test_logs")


def line(formatter: logging.Formatter, message: str, level: int = logging.INFO, **extra: object) -> str:
    """What a formatter makes of a record made here and now."""
    return formatter.format(log.makeRecord(log.name, level, __file__, 1, message, (), None, extra=extra))


def after_time(text: str) -> str:
    """A text line without the time (and date) before it."""
    return text[len("00:00:00 ") :]


def test_text_lines_say_what_they_are_about() -> None:
    short = TextLines(short=True)
    assert after_time(line(short, "nothing in particular")) == "nothing in particular"
    with about(job="digits-1", round=3, client="site-1"):
        assert after_time(line(short, "trained")) == "digits-1 round 3 site-1: trained"
        with about(client="site-2"):
            assert after_time(line(short, "joined")) == "site-2: joined"
    with about(job="digits-1", round=3):
        assert after_time(line(short, "closed", logging.WARNING)) == "warning: digits-1 round 3: closed"
    with about(job="digits-1", round=0):
        assert after_time(line(short, "made")) == "digits-1 initial model: made"
    assert after_time(line(TextLines("site-1", short=True), "idle", logging.DEBUG)) == "site-1 debug: idle"


def test_a_text_line_is_one_line_whatever_it_says() -> None:
    assert after_time(line(TextLines(short=True), "a\nb\x1b[2J é")) == "a b\\x1b[2J é"


def test_text_lines_in_files_have_the_date() -> None:
    datetime.strptime(line(TextLines(), "x").removesuffix(" x"), "%Y-%m-%d %H:%M:%S")


def test_json_lines_are_one_object_with_ids_and_utc_time() -> None:
    with about(job="digits-1", round=0, client="site-1"):
        found = json.loads(line(JsonLines(), 'two\nlines and a "quote"'))
    when = datetime.fromisoformat(found.pop("time"))
    assert when.utcoffset() == UTC.utcoffset(None)
    assert found == {
        "level": "info",
        "logger": "fedelta.test_logs",
        "message": 'two\nlines and a "quote"',
        "job": "digits-1",
        "round": 0,
        "client": "site-1",
    }
    assert json.loads(line(JsonLines("site-2"), "idle"))["client"] == "site-2"


def test_an_exception_is_a_field_of_a_json_line() -> None:
    formatter = JsonLines()
    try:
        raise ValueError("bad")
    except ValueError:
        record = log.makeRecord(log.name, logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    text = formatter.format(record)
    assert "\n" not in text
    assert json.loads(text)["exception"].endswith("ValueError: bad")


def test_tasks_begun_within_are_about_the_same_and_others_are_not() -> None:
    async def scenario() -> tuple[str, str]:
        async def tell() -> str:
            await asyncio.sleep(0)
            return after_time(line(TextLines(short=True), "x"))

        with about(job="digits-1"):
            within = asyncio.create_task(tell())
        return await within, await asyncio.create_task(tell())

    assert asyncio.run(scenario()) == ("digits-1: x", "x")


SCRIPT = """
import logging, sys
from fedelta._logs import configure
configure(format={format!r}, verbose={verbose})
for name in ("fedelta.client", "fedelta_server.rpc", "grpc._server", "other"):
    for level in (logging.DEBUG, logging.INFO, logging.ERROR):
        logging.getLogger(name).log(level, f"{{name}} {{level}}")
import os
print(os.environ.get("GRPC_VERBOSITY"), "grpc" in sys.modules)
"""


@pytest.mark.parametrize(
    ("verbose", "expected"),
    [
        (False, {"fedelta.client 20", "fedelta.client 40", "fedelta_server.rpc 20", "fedelta_server.rpc 40"}),
        (
            True,
            {f"{name} {level}" for name in ("fedelta.client", "fedelta_server.rpc") for level in (10, 20, 40)}
            | {"grpc._server 40"},
        ),
    ],
)
def test_what_a_process_logs(verbose: bool, expected: set[str]) -> None:
    script = SCRIPT.format(format="json", verbose=verbose)
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    said = {json.loads(text)["message"] for text in done.stderr.splitlines()}
    assert said == expected | {"other 40"}
    assert done.stdout == ("None False\n" if verbose else "NONE False\n")
