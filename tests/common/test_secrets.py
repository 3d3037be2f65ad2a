"""Secrets in configuration: from a file or the environment, and never shown."""

import dataclasses
from pathlib import Path
from typing import Annotated, ClassVar

import click
import pytest
from click.testing import CliRunner, Result
from msgspec import Meta

from fedelta.cli._config import configured
from fedelta.config import Notes, Secret, json_schema

VALUE = "correct horse battery staple"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """A small schema with a secret in it."""

    ENVIRONMENT: ClassVar[str] = "SAMPLE_"

    token: Secret | None = None
    """Proves who one is."""
    size: Annotated[int, Meta(ge=1), Notes(metavar="BYTES")] = 3
    """How much."""


@click.command()
@configured(Sample)
def sample(config: Sample) -> None:
    click.echo(f"{config} got it: {config.token is not None and config.token.reveal() == VALUE}")


def run(*words: object, **env: str) -> Result:
    return CliRunner().invoke(sample, [str(word) for word in words], env=env)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(VALUE + "\n")
    return path


def config_file(folder: Path, token: str) -> Path:
    (folder / "sample.toml").write_text(f"token = {token}\n")
    return folder / "sample.toml"


def test_a_secret_comes_from_the_file_that_a_flag_names(secret: Path) -> None:
    assert "got it: True" in run("--token", f"@{secret}").stdout


def test_or_from_the_environment_itself_or_by_file(secret: Path) -> None:
    assert "got it: True" in run(SAMPLE_TOKEN=VALUE).stdout
    assert "got it: True" in run(SAMPLE_TOKEN=f"@{secret}").stdout


def test_or_from_a_file_beside_the_configuration(secret: Path) -> None:
    assert "got it: True" in run("--config", config_file(secret.parent, '"@token"')).stdout


def test_a_secret_on_the_command_line_is_refused_and_not_repeated() -> None:
    result = run("--token", VALUE)
    assert result.exit_code == 2
    assert "--token: a secret does not stand here itself" in result.stderr
    assert VALUE not in result.output


@pytest.mark.parametrize("token", [f'"{VALUE}"', f'["{VALUE}"]', f'{{a = "{VALUE}"}}'])
def test_a_secret_in_the_configuration_is_refused_and_not_repeated(tmp_path: Path, token: str) -> None:
    result = run("--config", config_file(tmp_path, token))
    assert result.exit_code == 2
    assert str(tmp_path / "sample.toml") in result.stderr
    assert VALUE not in result.output


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_secret_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
    result = run("--token", f"@{tmp_path}/token")
    assert result.exit_code == 2
    assert f"--token: the file {tmp_path}/token " in result.stderr


@pytest.mark.parametrize("words", [[], ["--print-config"], ["--print-config", "--json"], ["--size", "0"]])
def test_a_secret_is_never_shown(words: list[str]) -> None:
    result = run(*words, SAMPLE_TOKEN=VALUE)
    assert VALUE not in result.output
    assert ("***" in result.output) == (words[:1] != ["--size"])


def test_print_config_says_where_a_secret_is_from(secret: Path) -> None:
    assert run("--print-config", "--token", f"@{secret}").stdout.splitlines()[1].split() == ["token", "***", "--token"]


def test_secrets_are_equal_by_value_and_print_as_stars() -> None:
    assert Secret("a") == Secret("a") != Secret("b")
    assert len({Secret("a"), Secret("a")}) == 1
    assert {str(Secret(VALUE)), repr(Secret(VALUE)), f"{Secret(VALUE)}"} == {"***"}


def test_the_schema_for_editors_takes_a_secret_as_text() -> None:
    assert json_schema(Sample, "sample")["properties"]["token"] == {
        "description": "Proves who one is.",
        "type": "string",
    }
