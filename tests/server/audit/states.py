"""States that a coordinator left behind, and ways to damage them."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from fedelta.cli import main
from fedelta_server.retention import Keep
from tests.server.rpc.harness import BIAS, WEIGHT, Client, job_toml, model_file, running, update_file

JOB = "digits-1"

WEIGHTS = {"a": 10, "b": 30}
"""The examples of each client."""

ADDS = {"a": (1.0, 2.0, -4.0), "b": (3.0, 6.0, 8.0)}
"""What each client's update adds to every element, by round."""


def model_at(base: float = 0.0, *, rounds: int = 3, without: str = "") -> bytes:
    """The initial model plus the weighted means of the first rounds."""
    kept = {name: weight for name, weight in WEIGHTS.items() if name != without}
    total = base + sum(
        sum(weight * ADDS[name][number] for name, weight in kept.items()) / sum(kept.values())
        for number in range(rounds)
    )
    return model_file(WEIGHT + total, BIAS + total)


async def make(state: Path, keep: Keep) -> None:
    """A job of two clients and three rounds, from start to end."""
    async with running(state, keep=keep) as system:
        clients = {name: await system.joined(name) for name in WEIGHTS}
        job_id = await system.submit(job_toml("max = 3\nclients = 2"))
        for number in range(3):
            for name, client in clients.items():
                await push(client, ADDS[name][number], WEIGHTS[name])
        await system.watch(job_id)
        await system.settle()


async def push(client: Client, add: float, examples: int) -> None:
    await client.push((await client.work()).id, update_file(add), examples=examples)


def verify(state: Path, *words: object) -> Result:
    return CliRunner().invoke(
        main, ["verify", JOB, "--state", str(state), *map(str, words)], env={"FEDELTA_DEBUG": None}
    )


def verified(state: Path, *words: object) -> tuple[int, Any]:
    """The exit code and the JSON of an audit."""
    result = verify(state, "--json", *words)
    return result.exit_code, json.loads(result.stdout)


def verdicts(report: Any) -> list[str]:
    return [version["verdict"] for version in report["versions"]]


def links(report: Any) -> list[str]:
    """The links that break, from the first to the last."""
    found = [*report["journal"], *(each for version in report["versions"] for each in version["findings"])]
    return [each["link"] for each in found]


def flip(path: Path, at: int = -3) -> None:
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def execute(state: Path, sql: str, *parameters: object) -> None:
    with closing(sqlite3.connect(state / "journal.db")) as db, db:
        assert db.execute(sql, parameters).rowcount == 1


def row(state: Path, kind: str, number: int = 0) -> tuple[int, bytes]:
    """Sequence number and body of a record, by its place among those of its kind."""
    with closing(sqlite3.connect(state / "journal.db")) as db:
        found = db.execute("SELECT sequence, body FROM journal WHERE kind = ? ORDER BY sequence", (kind,)).fetchall()
    sequence, body = found[number]
    return sequence, body
