"""`fedelta job submit` with variables and --set; `fedelta job schema`."""

import copy
import json
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedelta.cli._submission import submission
from fedelta.config import FIRST_CLIENT, parse_job, parse_origin
from fedelta.errors import ConfigError
from fedelta_server.plan import plan_of
from tests.cli.conftest import write_job
from tests.cli.fake import FakeCoordinator
from tests.cli.test_commands import fedelta as run
from tests.cli.test_configuration import printed

EXAMPLE = Path(__file__).parents[2] / "examples/digits/digits.toml"


def submitted(coordinator: FakeCoordinator, *words: object) -> dict[str, Any]:
    """The job file that arrives."""
    result = run("job", "submit", *words, coordinator=coordinator)
    assert result.exit_code == 0, result.stderr
    return tomllib.loads(coordinator.submitted[-1].toml)


def complaint(*words: object) -> str:
    result = run("job", "submit", *words, "--print-config")
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr.strip().removeprefix("error: ")


def test_values_may_be_changed_when_a_job_is_submitted(
    coordinator: FakeCoordinator, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDELTA_JOB_TRAIN_BATCH_SIZE", "8")
    monkeypatch.setenv("FEDELTA_JOB_TRAIN_LR", "0.5")
    monkeypatch.setenv("FEDELTA_JOB_JOB_LABELS", "gpu,site=north")
    sets = ("rounds.max=5", "train.lr=0.05", "train.kind=adam", "model.arguments.width=32", 'train."a.b"=[1, 2]')
    found = submitted(coordinator, job_file, *(word for each in sets for word in ("--set", each)))
    assert found["rounds"] == {"max": 5}
    assert found["train"] == {"batch_size": 8, "lr": 0.05, "kind": "adam", "a.b": [1, 2]}
    assert found["job"] == {"name": "digits", "seed": 7, "labels": ["gpu", "site=north"]}
    assert found["model"] == {"init": "first-client", "arguments": {"width": 32}}
    first = coordinator.submitted[-1].toml.splitlines()[0]
    assert first.startswith("# digits.toml, changed by ")
    assert "FEDELTA_JOB_TRAIN_BATCH_SIZE" in first


def test_a_file_that_nothing_changes_arrives_as_it_is(coordinator: FakeCoordinator, job_file: Path) -> None:
    job_file.write_text("# mine\n" + job_file.read_text())
    submitted(coordinator, job_file)
    assert coordinator.submitted[-1].toml == job_file.read_text()


def test_a_value_may_be_what_a_file_holds(coordinator: FakeCoordinator, job_file: Path, tmp_path: Path) -> None:
    (tmp_path / "stats.json").write_text('{"age": {"mean": 1.5, "n": 3}}')
    (tmp_path / "train.toml").write_text("lr = 0.1\n[nested]\na = [1]\n")
    sets = ("--set", f"train=@{tmp_path}/train.toml", "--set", f"train.statistics=@{tmp_path}/stats.json")
    assert submitted(coordinator, job_file, *sets)["train"] == {
        "lr": 0.1,
        "nested": {"a": [1]},
        "statistics": {"age": {"mean": 1.5, "n": 3}},
    }


def test_print_config_submits_nothing_and_says_where_values_come_from(
    coordinator: FakeCoordinator, job_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDELTA_JOB_EVALUATE_EVERY", "0")
    found = printed("job", "submit", job_file, "--set", "train.lr=0.1", "--server", coordinator.address)
    assert coordinator.submitted == []
    assert found["rounds.max"] == (2, str(job_file))
    assert found["train.lr"] == (0.1, "--set train.lr")
    assert found["evaluate.every"] == (0, "FEDELTA_JOB_EVALUATE_EVERY")
    assert found["rounds.lease"] == (60.0, "default")
    shown = run("job", "submit", job_file, "--print-config").stdout
    assert "rounds.lease 1m default" in " ".join(shown.split())


def test_a_table_that_is_given_as_one_replaces_the_other(job_file: Path) -> None:
    job_file.write_text(job_file.read_text() + "[train]\nlr = 0.1\nepochs = 5\n")
    found = printed("job", "submit", job_file, "--set", "train={lr = 0.2}")
    assert {key: each for key, each in found.items() if key.startswith("train")} == {"train.lr": (0.2, "--set train")}


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("rounds.max=many", "--set rounds.max: expected a whole number, got 'many'"),
        ("rounds.max=0", "--set rounds.max: expected `int` >= 1, got 0"),
        ("rounds.mx=1", "--set rounds.mx: unknown key 'rounds.mx'; did you mean 'rounds.max'?"),
        ("rouns.max=1", "--set rouns.max: unknown key 'rouns'; did you mean 'rounds'?"),
        ("rounds.max.x=1", "--set rounds.max.x: rounds.max is no table, see "),
        ("rounds=3", "--set rounds: expected a table, got `int`"),
        (
            "rounds.deadline=soon",
            '--set rounds.deadline: expected a duration such as "90s", "5m" or "1h", got \'soon\'',
        ),
        ("job.labels=a b", "--set job.labels: 'a b' is no label; use KEY or KEY=VALUE: the key like a name"),
        ("evaluate.goal=best", "--set evaluate.goal: expected max or min, got 'best'"),
        ("train.x=[1", "--set train.x: '[1' is not TOML"),
        ("train.x=[1]\ny=2", "is more than one value"),
        ("train.x=@there.yaml", "--set train.x: @there.yaml: name a .json or .toml file"),
        ("train.x=@nowhere.json", "--set train.x: nowhere.json cannot be read: No such file or directory"),
        ("rounds.max", "--set rounds.max: say --set SECTION.KEY=VALUE, for example --set rounds.max=5"),
        ("a b=1", "say --set SECTION.KEY=VALUE"),
    ],
)
def test_a_wrong_assignment_is_named(job_file: Path, assignment: str, said: str) -> None:
    assert said in complaint(job_file, "--set", assignment)


@pytest.mark.parametrize("text", ['{"a": [1, null]}', "{", "[1"])
def test_a_file_that_toml_cannot_hold_is_named(job_file: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    assert complaint(job_file, "--set", f"train.x=@{tmp_path}/x.json").startswith(f"--set train.x: {tmp_path}/x.json ")


def test_an_unknown_variable_is_named_with_the_nearest(job_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDELTA_JOB_ROUND_MAX", "3")
    assert complaint(job_file) == (
        "FEDELTA_JOB_ROUND_MAX: there is no such variable; did you mean 'FEDELTA_JOB_ROUNDS_MAX'?"
    )


def test_values_that_exclude_each_other_are_named_with_their_sources(job_file: Path) -> None:
    job_file.write_text(job_file.read_text() + "clients = 2\n")
    assert complaint(job_file, "--set", "rounds.fraction=0.5") == (
        f"{job_file}: rounds.clients and rounds.fraction exclude each other; keep one "
        f"(rounds.clients is from {job_file}, rounds.fraction is from --set rounds.fraction)"
    )


@pytest.mark.parametrize("label", ["", "a b", "=x", "a=", "a=b=c", "-a"])
def test_a_wrong_label_of_a_job_file_is_said_in_words(job_file: Path, label: str) -> None:
    job_file.write_text(job_file.read_text().replace("seed", f'labels = ["gpu", "{label}"]\nseed'))
    assert complaint(job_file) == (
        f"{job_file}: job.labels[1]: {label!r} is no label; use KEY or KEY=VALUE: the key like a name, "
        "the value without spaces"
    )


def test_a_model_file_of_the_command_line_is_relative_to_the_working_directory(
    coordinator: FakeCoordinator, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    monkeypatch.chdir(model_file.parent)
    job_file = write_job(tmp_path / "jobs" / "digits.toml")
    found = submitted(coordinator, job_file, "--set", f"model.init={model_file.name}")
    assert found["model"]["init"] == f"../{model_file.name}"
    assert coordinator.submitted[-1].model_digest


def test_a_model_file_of_the_job_file_stays_relative_to_it(
    coordinator: FakeCoordinator, tmp_path: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_file = write_job(tmp_path / "digits.toml", init=model_file.name)
    monkeypatch.chdir("/")
    assert submitted(coordinator, job_file, "--set", "rounds.max=1")["model"]["init"] == model_file.name
    assert coordinator.submitted[-1].model_digest


@pytest.mark.parametrize("version", ["0", "12", "latest", "best"])
def test_a_job_may_begin_with_another_jobs_version(coordinator: FakeCoordinator, tmp_path: Path, version: str) -> None:
    init = f"job:digits-1@{version}"
    assert submitted(coordinator, write_job(tmp_path / "again.toml", init))["model"]["init"] == init
    assert (coordinator.uploads, coordinator.submitted[-1].model_digest) == ([], b"")
    assert parse_origin(init) == ("digits-1", int(version) if version.isdigit() else version)


@pytest.mark.parametrize("init", ["job:", "job:a", "job:a@", "job:a@newest", "job:a@-1", "job:a b@1", "job:a@1 "])
def test_a_malformed_origin_is_refused_with_the_remedy(tmp_path: Path, init: str) -> None:
    said = complaint(write_job(tmp_path / "again.toml", init))
    assert f"model.init = {init!r} names no version of a job; say job:ID@VERSION" in said


def test_other_models_have_no_origin() -> None:
    assert parse_origin(FIRST_CLIENT) is None
    assert parse_origin("jobs/start.safetensors") is None


SCALARS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.booleans()
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
VALUES = st.recursive(
    SCALARS | TEXTS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(TEXTS, VALUES, max_size=4))
def test_any_values_are_the_same_after_they_were_written_into_a_job_file(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        job = write_job(Path(folder, "job.toml"))
        Path(folder, "values.json").write_text(json.dumps(values))
        found = submission(job, (f"train.values=@{folder}/values.json", "rounds.max=9"), {})
    spec = parse_job(found.text, "job.toml")
    assert json.dumps(spec.train["values"], sort_keys=True) == json.dumps(values, sort_keys=True)
    assert (spec.rounds.max, spec.job.seed, spec) == (9, 7, found.spec)


@given(st.data())
def test_set_beats_the_environment_beats_the_job_file(data: st.DataObject) -> None:
    ways = {
        "rounds.max": st.integers(1, 100),
        "rounds.attempts": st.integers(1, 100),
        "server_optimizer.lr": st.floats(0.01, 10),
        "job.name": st.from_regex("[a-z]{1,8}", fullmatch=True),
        "train.lr": st.floats(0.01, 10) | st.integers() | st.booleans(),
    }
    text = '[job]\nname = "a"\n[model]\ninit = "first-client"\n[rounds]\nmax = 3\n'
    wanted: dict[str, Any] = {"rounds.max": 3, "job.name": "a"}
    environment: dict[str, str] = {}
    assignments: list[str] = []
    for key, values in ways.items():
        below, above = (data.draw(st.none() | values) for _ in range(2))
        if below is not None:
            environment[f"FEDELTA_JOB_{key.replace('.', '_').upper()}"] = json.dumps(below)
            wanted[key] = below
        if above is not None:
            assignments.append(f"{key}={json.dumps(above)}")
            wanted[key] = above
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "job.toml")
        file.write_text(text)
        found = submission(file, tuple(assignments), environment)
    assert (found.text == text) == (not environment and not assignments)
    table = tomllib.loads(found.text)
    for key, value in wanted.items():
        section, name = key.split(".")
        assert repr(table[section][name]) == repr(value)


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("job", "schema").stdout)
    return found


def test_the_schema_accepts_the_example(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.validate(tomllib.loads(EXAMPLE.read_text()), schema)


def changed(key: str, value: Any) -> dict[str, Any]:
    """The example with one value changed; None: taken out."""
    table: dict[str, Any] = copy.deepcopy(tomllib.loads(EXAMPLE.read_text()))
    *sections, name = key.split(".")
    inner = table
    for section in sections:
        inner = inner.setdefault(section, {})
    if value is None:
        del inner[name]
    else:
        inner[name] = value
    return table


GOOD = [
    ("rounds.deadline", 90),
    ("rounds.lease", "1.5h"),
    ("job.labels", ["gpu", "site=north"]),
    ("model.init", "job:digits-1@best"),
    ("model.init", "jobs/start.safetensors"),
    ("model.arguments", {"width": [1, 2]}),
    ("train.anything", {"at": ["all"]}),
    ("aggregator.name", "sum"),
    ("aggregator", {"name": "norm-bounded", "norm": 2.5}),
    ("server_optimizer", {"lr": 0.5}),
    ("server_optimizer", {"name": "adam", "schedule": {"name": "cosine"}}),
    ("selector", {"name": "poisson", "rate": 0.5}),
    ("stop", [{"name": "target", "at_least": 0.9}, {"name": "time", "limit": "2h"}]),
    ("evaluate.goal", "min"),
    ("train", None),
]
BAD = [
    ("job.name", None),
    ("job.name", "a b"),
    ("job.nmae", "a"),
    ("job.labels", ["a b"]),
    ("job.seed", -1),
    ("model", None),
    ("model.init", "job:digits-1"),
    ("rounds.max", "many"),
    ("rounds.max", 0),
    ("rounds", {"max": 3, "clients": 2, "fraction": 0.5}),
    ("rounds.deadline", "soon"),
    ("rounds.deadline", 0),
    ("rouns", {}),
    ("train", 3),
    ("aggregator.name", "median?"),
    ("server_optimizer.lr", 0),
    ("server_optimizer", {"name": "adam", "momentum": 0.5}),
    ("server_optimizer", {"name": "adam", "schedule": {"name": "cosinus"}}),
    ("selector", {"name": "poisson"}),
    ("selector", {"name": "poisson", "rate": 2}),
    ("stop", [{"name": "patience", "rounds": 3, "limit": 2}]),
    ("stop", [{"rounds": 3}]),
    ("evaluate.goal", "best"),
]


@pytest.mark.parametrize(("key", "value"), GOOD)
def test_the_schema_accepts_what_is_accepted(schema: dict[str, Any], key: str, value: Any) -> None:
    jsonschema.validate(changed(key, value), schema)
    plan_of(parse_job(_toml(changed(key, value)), "job.toml"))


@pytest.mark.parametrize(("key", "value"), BAD)
def test_the_schema_rejects_what_is_rejected(schema: dict[str, Any], key: str, value: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(key, value), schema)
    with pytest.raises(ConfigError):
        plan_of(parse_job(_toml(changed(key, value)), "job.toml"))


def _toml(table: dict[str, Any]) -> str:
    import tomli_w

    return tomli_w.dumps(table)


def test_patterns_are_those_of_json_schema_and_not_pythons(schema: dict[str, Any]) -> None:
    text = json.dumps(schema)
    assert text.count('"pattern"') > 3
    assert not {word for word in (r"\\Z", "(?P") if word in text}


def test_the_schema_says_what_every_key_means(schema: dict[str, Any]) -> None:
    def undocumented(table: dict[str, Any]) -> list[str]:
        alternatives = table.get("oneOf", table.get("items", {}).get("oneOf", [table]))
        inner = [item for each in alternatives for item in each.get("properties", {}).items()]
        return [name for name, each in inner if not each.get("description") or undocumented(each)]

    assert undocumented(schema) == []
