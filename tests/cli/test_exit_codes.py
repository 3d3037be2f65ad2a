"""The enumeration, its page, and which error ends with which code."""

import re
from pathlib import Path

import pytest

from fedelta import errors
from fedelta.cli._exit import ExitCode, code_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md"


def test_the_page_is_the_enumeration() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert rows == [(str(code.value), code.name, code.meaning) for code in ExitCode]


def test_the_codes_stay_what_scripts_rely_on() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0,
        "FAILED": 1,
        "USAGE": 2,
        "PAUSED": 3,
        "UNREACHABLE": 4,
        "REFUSED": 5,
        "INTERRUPTED": 130,
        "TERMINATED": 143,
    }


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError, ExitCode.USAGE),
        (errors.ModelMismatchError, ExitCode.USAGE),
        (errors.SchemaMismatchError, ExitCode.USAGE),
        (errors.DigestMismatchError, ExitCode.FAILED),
        (errors.StorageError, ExitCode.FAILED),
        (errors.UnavailableError, ExitCode.UNREACHABLE),
        (errors.StalledError, ExitCode.UNREACHABLE),
        (errors.NotFoundError, ExitCode.REFUSED),
        (errors.NameInUseError, ExitCode.REFUSED),
        (errors.ProtocolMismatchError, ExitCode.REFUSED),
        (errors.FedeltaError, ExitCode.FAILED),
    ],
)
def test_an_error_has_the_code_of_what_it_means(error: type[errors.FedeltaError], code: ExitCode) -> None:
    class Derived(error):  # type: ignore[misc, valid-type]  # the base is a variable
        """What a part of its own raises."""

    assert (code_of(error("x")), code_of(Derived("x"))) == (code, code)
