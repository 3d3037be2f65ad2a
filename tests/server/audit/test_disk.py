"""`fedelta disk`: what a state takes."""

import json
from pathlib import Path

from click.testing import CliRunner

from fedelta.cli import main


def test_each_kind_of_file_is_counted(state: Path) -> None:
    result = CliRunner().invoke(main, ["disk", "--state", str(state), "--json"])
    found = {each["kind"]: each for each in json.loads(result.stdout)}
    assert {kind: each["files"] for kind, each in found.items()} == {
        "journal": 1,
        "models": 4,
        "states": 0,
        "manifests": 3,
        "uploads": 0,
        "updates": 4,
        "temp": 0,
        "spares": 0,
    }
    assert found["models"]["bytes"] == sum(path.stat().st_size for path in (state / "models").iterdir())


def test_the_table_ends_with_the_sum(state: Path) -> None:
    result = CliRunner().invoke(main, ["disk", "--state", str(state)])
    assert [line.split()[0] for line in result.stdout.splitlines()][-2:] == ["spares", "all"]
    assert result.stdout.splitlines()[-1].split()[1] == "12"
