"""Options of the daemons: from a file, the environment and the command line."""

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
import tomli_w
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from fedelta.cli import main
from fedelta.config._settings import settings
from fedelta_client.config import ClientConfig
from fedelta_server.config import ServerConfig

NO_VARIABLES = {"FEDELTA_SERVER": None, "FEDELTA_DEBUG": None}


def fedelta(*words: object, env: Mapping[str, str | None] | None = None) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words], env={**NO_VARIABLES, **(env or {})})


def printed(*words: object, env: Mapping[str, str | None] | None = None) -> dict[str, tuple[Any, str]]:
    """Value and source of every setting."""
    result = fedelta(*words, "--print-config", "--json", env=env)
    assert result.exit_code == 0, result.stderr
    return {key: (each["value"], each["from"]) for key, each in json.loads(result.stdout).items()}


def refused(*words: object, env: Mapping[str, str | None] | None = None) -> str:
    """The last line that the command says on its way out with code 2."""
    result = fedelta(*words, "--print-config", env=env)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.splitlines()[-1].removeprefix("Error: ")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The file of a client, with its data beside it."""
    (tmp_path / "shard").mkdir()
    (tmp_path / "policy.toml").touch()
    path = tmp_path / "site.toml"
    path.write_text(
        'name = "north"\nthreads = 2\napprove = true\nlabels = ["gpu"]\ndata = "shard"\npolicy = "policy.toml"\n'
        '[[learners]]\nlearner = "a:A"\n[[learners]]\nlearner = "b:B"\ndata = "shard"\nthreads = 3\n'
    )
    return path


def test_a_client_is_configured_by_a_file(site: Path) -> None:
    found = printed("client", "--config", site)
    assert found["name"] == ("north", str(site))
    assert found["learners[0].learner"] == ("a:A", str(site))
    assert found["learners[1].threads"] == (3, str(site))
    assert found["server"] == ("localhost:8470", "default")
    assert found["keepalive_seconds"] == (30.0, "default")
    assert "learners[0].threads" not in found


def test_relative_paths_of_a_file_are_relative_to_it(site: Path) -> None:
    found = printed("client", "--config", site)
    shard = str(site.parent / "shard")
    assert (found["data"][0], found["learners[1].data"][0]) == (shard, shard)
    assert found["policy"][0] == str(site.parent / "policy.toml")


def test_other_relative_paths_are_relative_to_the_working_directory(site: Path) -> None:
    found = printed("client", "--config", site, "--data", "tests", env={"FEDELTA_CLIENT_SPOOL": "spool"})
    assert (found["data"], found["spool"]) == (("tests", "--data"), ("spool", "FEDELTA_CLIENT_SPOOL"))


def test_learners_of_the_command_line_replace_those_of_the_file(site: Path) -> None:
    found = printed("client", "--config", site, "--learner", "c:C", "--learner", "d:D")
    learners = {key: each for key, each in found.items() if key.startswith("learners")}
    assert learners == {"learners[0].learner": ("c:C", "--learner"), "learners[1].learner": ("d:D", "--learner")}


@pytest.mark.parametrize("text", ["c:C,d:D", " c:C , d:D ", '[{learner = "c:C"}, {learner = "d:D"}]'])
def test_a_list_in_the_environment_is_words_between_commas_or_toml(text: str) -> None:
    found = printed("client", env={"FEDELTA_CLIENT_LEARNERS": text})
    assert [found[f"learners[{index}].learner"][0] for index in (0, 1)] == ["c:C", "d:D"]


def test_what_a_file_turns_on_a_flag_turns_off(site: Path) -> None:
    assert printed("client", "--config", site)["approve"] == (True, str(site))
    assert printed("client", "--config", site, "--no-approve")["approve"] == (False, "--approve")


def test_the_file_may_be_named_by_a_variable(site: Path) -> None:
    assert printed("client", env={"FEDELTA_CLIENT_CONFIG": str(site)})["name"][0] == "north"


def test_an_empty_variable_counts_as_not_set(site: Path) -> None:
    assert printed("client", "--config", site, env={"FEDELTA_CLIENT_NAME": ""})["name"][0] == "north"


def test_the_address_has_one_variable_for_all_commands() -> None:
    found = printed("client", "--learner", "a:A", env={"FEDELTA_SERVER": "somewhere"})
    assert found["server"] == ("somewhere:8470", "FEDELTA_SERVER")


def test_the_table_for_people_is_in_the_order_of_the_schema(site: Path) -> None:
    lines = fedelta("client", "--config", site, "--print-config").stdout.splitlines()
    assert lines[0].split() == ["setting", "value", "from"]
    assert [line.split()[0] for line in lines[1:4]] == ["server", "learners[0].learner", "learners[1].learner"]
    assert next(line for line in lines if line.startswith("labels")).split() == ["labels", '["gpu"]', str(site)]


def test_json_is_a_form_of_the_printed_configuration_only(site: Path) -> None:
    result = fedelta("client", "--json", "--config", site)
    assert (result.exit_code, "it goes with --print-config" in result.stderr) == (2, True)


def test_the_coordinator_is_configured_in_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('state = "journal"\nport = 0\n')
    env = {"FEDELTA_SERVER_CONFIG": str(tmp_path / "c.toml"), "FEDELTA_SERVER_LOG_FORMAT": "json"}
    found = printed("server", "--port", 1234, env=env)
    assert found["state"] == (str(tmp_path / "journal"), str(tmp_path / "c.toml"))
    assert (found["port"], found["log_format"]) == ((1234, "--port"), ("json", "FEDELTA_SERVER_LOG_FORMAT"))
    assert list(tmp_path.iterdir()) == [tmp_path / "c.toml"]


@pytest.mark.parametrize(
    ("words", "variables", "complaint"),
    [
        (["--threads", "four"], {}, "--threads: expected a whole number, got 'four'"),
        (["--threads", "0"], {}, "--threads: expected `int` >= 1, got 0"),
        ([], {"THREADS": "0"}, "FEDELTA_CLIENT_THREADS: expected `int` >= 1, got 0"),
        ([], {"APPROVE": "perhaps"}, "FEDELTA_CLIENT_APPROVE: expected true or false, got 'perhaps'"),
        (
            [],
            {"THREAD": "1"},
            "FEDELTA_CLIENT_THREAD: there is no such variable; did you mean 'FEDELTA_CLIENT_THREADS'?",
        ),
        (["--name", "a b"], {}, "--name: 'a b' is no client name; use 1 to 64 of A-Z"),
        (["--label", "site = x"], {}, "--label: 'site = x' is no label; use KEY or KEY=VALUE"),
        (["--label", "a=1", "--label", "a=2"], {}, "labels: 'a' is there twice"),
        ([], {"LABELS": "gpu,a b"}, "FEDELTA_CLIENT_LABELS: 'a b' is no label"),
        ([], {"LABELS": "[1]"}, "FEDELTA_CLIENT_LABELS: expected `str`, got `int`"),
        ([], {"LABELS": "[a"}, "FEDELTA_CLIENT_LABELS: '[a' is not TOML"),
        (
            [],
            {"LEARNERS": "[{lerner = 'a:A'}]"},
            "FEDELTA_CLIENT_LEARNERS: unknown key 'learners[0].lerner'; did you mean",
        ),
        ([], {"LEARNERS": "[{threads = 1}]"}, "FEDELTA_CLIENT_LEARNERS: learners[0].learner is missing"),
        (["--log-format", "xml"], {}, "--log-format: expected text or json, got 'xml'"),
        (["--proxy", "socks://x"], {}, "--proxy: this names a proxy by socks://"),
        (["--keepalive-seconds", "0.1"], {}, "--keepalive-seconds: expected `float` >= 1.0, got 0.1"),
        (["--data", "nowhere"], {}, "--data: 'nowhere' does not exist"),
        ([], {"POLICY": "nowhere"}, "FEDELTA_CLIENT_POLICY: 'nowhere' does not exist"),
        (["--server", "a b"], {}, "--server: 'a b' is not an address; say HOST:PORT"),
        (["--config", "nowhere"], {}, "nowhere: cannot be read"),
    ],
)
def test_what_is_wrong_is_named_by_its_flag_or_variable(
    words: list[str], variables: dict[str, str], complaint: str
) -> None:
    env = {f"FEDELTA_CLIENT_{name}": text for name, text in variables.items()}
    learner = [] if "LEARNERS" in variables else ["--learner", "a:A"]
    assert complaint in refused("client", *learner, *words, env=env)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("threads = 2", "thread = 2", ": unknown key 'thread'; did you mean 'threads'?"),
        ("threads = 2", "ENVIRONMENT = 'x'", ": unknown key 'ENVIRONMENT'"),
        ("threads = 2", 'threads = "2"', ": threads: expected `int | null`, got `str`"),
        ("threads = 3", "threads = 0", ": learners[1].threads: expected `int` >= 1, got 0"),
        ("threads = 3", "tread = 1", ": unknown key 'learners[1].tread'; did you mean 'learners[1].threads'?"),
        ('data = "shard"\nthreads', 'data = "shart"\nthreads', "shart' does not exist"),
        ("threads = 2", "threads = ", ": not TOML: "),
        ('[[learners]]\nlearner = "a:A"\n[[learners]]', "[learners]", ": learners: expected `array`, got"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_the_file_and_the_key(
    site: Path, old: str, new: str, complaint: str
) -> None:
    assert old in site.read_text()
    site.write_text(site.read_text().replace(old, new))
    said = refused("client", "--config", site)
    assert said.startswith(f"{site}: ")
    assert complaint in said


def test_what_must_be_given_is_asked_for_with_all_ways_to_give_it(tmp_path: Path) -> None:
    assert refused("client") == (
        "learners is missing; say --learner, or set FEDELTA_CLIENT_LEARNERS, or learners in the --config file"
    )
    (tmp_path / "empty.toml").touch()
    assert refused("server", "--config", tmp_path / "empty.toml").startswith(
        f"{tmp_path / 'empty.toml'}: state is missing"
    )


def test_a_host_whose_name_is_no_client_name_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "my host")
    assert "the host's name, 'my host', is no client name; say another --name" in refused("client", "--learner", "a:A")
    assert printed("client", "--learner", "a:A", "--name", "site")["name"][0] == "site"


@pytest.mark.parametrize(("name", "schema"), [("client", ClientConfig), ("server", ServerConfig)])
def test_every_setting_has_a_flag_a_variable_and_a_meaning_in_the_help(name: str, schema: type[Any]) -> None:
    command = main.get_command(click.Context(main), name)
    assert command is not None
    options = {option.name: option for option in command.params if isinstance(option, click.Option)}
    for setting in settings(schema):
        option = options["_".join(setting.path)]
        assert setting.flag in option.opts
        assert setting.doc
        assert option.help is not None
        assert setting.doc in option.help
        assert setting.environment(schema.ENVIRONMENT) in option.help


@dataclass(frozen=True)
class Way:
    """How values of a setting are drawn, and how each source writes them."""

    key: str
    values: st.SearchStrategy[Any]
    text: Callable[[Any], str]
    flags: Callable[[Any], list[str]]


def _switch(flag: str) -> Callable[[Any], list[str]]:
    return lambda value: [f"--{flag}" if value else f"--no-{flag}"]


NAMES = st.from_regex(r"[a-z][a-z0-9._-]{0,20}", fullmatch=True)
WAYS = (
    Way("name", NAMES, str, lambda value: ["--name", value]),
    Way("device", NAMES, str, lambda value: ["--device", value]),
    Way("threads", st.integers(1, 64), str, lambda value: ["--threads", str(value)]),
    Way("keepalive_seconds", st.floats(1, 3600), repr, lambda value: ["--keepalive-seconds", repr(value)]),
    Way("approve", st.booleans(), lambda value: str(value).lower(), _switch("approve")),
    Way("verbose", st.booleans(), lambda value: "01"[value], _switch("verbose")),
    Way("labels", st.lists(NAMES, min_size=1, max_size=3, unique=True), ",".join,
        lambda value: [word for label in value for word in ("--label", label)]),
)  # fmt: skip


@given(st.data())
def test_the_command_line_beats_the_environment_beats_the_file(data: st.DataObject) -> None:
    words: list[str] = []
    env: dict[str, str | None] = {}
    table: dict[str, Any] = {"learners": [{"learner": "a:A"}]}
    expected: dict[str, tuple[Any, str]] = {}
    for way in WAYS:
        in_file, in_environment, in_flags = (data.draw(st.none() | way.values) for _ in range(3))
        if in_file is not None:
            table[way.key] = in_file
            expected[way.key] = in_file, "FILE"
        if in_environment is not None:
            variable = f"FEDELTA_CLIENT_{way.key.upper()}"
            env[variable] = way.text(in_environment)
            expected[way.key] = in_environment, variable
        if in_flags is not None:
            words += way.flags(in_flags)
            expected[way.key] = in_flags, next(each.flag for each in settings(ClientConfig) if each.key == way.key)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "site.toml")
        file.write_text(tomli_w.dumps(table))
        found = printed("client", "--config", file, *words, env=env)
        for way in WAYS:
            value, source = found[way.key]
            wanted = expected.get(way.key, (value, "default"))
            assert (value, source.replace(str(file), "FILE")) == wanted
