"""Job files: what is read, and what is said about what cannot be."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedelta.config import Duration, ServerOptimizerPart, load_job, parse_job
from fedelta.errors import ConfigError

ISSUE = """
[job]
name = "digits"
seed = 7
[model]
init = "first-client"
[rounds]
max = 20
clients = 4              # or fraction = 0.5
min_clients = 4
deadline = "5m"
[train]                  # goes to the learner as task.config
epochs = 5
lr = 0.1
[aggregator]
name = "mean"            # weighted by examples
[server_optimizer]
name = "sgd"
lr = 1.0
[evaluate]
every = 1                # 0: never
"""

LEAST = '[job]\nname = "a"\n[model]\ninit = "m.safetensors"\n[rounds]\nmax = 3\n'


def test_the_documented_job_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "digits.toml").write_text(ISSUE)

    spec, text = load_job(tmp_path / "digits.toml")

    assert text == ISSUE
    assert (spec.job.name, spec.job.seed, spec.model.init) == ("digits", 7, "first-client")
    assert (spec.rounds.max, spec.rounds.clients, spec.rounds.ready_needed) == (20, 4, 4)
    assert float(spec.rounds.deadline) == 300
    assert spec.train == {"epochs": 5, "lr": 0.1}
    assert (spec.aggregator.name, spec.server_optimizer.name, spec.evaluate.every) == ("mean", "sgd", 1)


def test_most_of_a_job_file_may_be_left_out() -> None:
    spec = parse_job(LEAST, "least.toml")

    assert spec.train == {}
    assert (spec.rounds.clients, spec.rounds.fraction, spec.rounds.ready_needed) == (None, None, 1)
    assert spec.server_optimizer == ServerOptimizerPart("sgd")
    assert parse_job(LEAST + "fraction = 1\n[server_optimizer]\nlr = 1", "ints.toml").rounds.fraction == 1.0


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("clint = 3", "job.toml: unknown key 'rounds.clint'; did you mean 'rounds.clients'?"),
        ("xyz = 3", "job.toml: unknown key 'rounds.xyz'; known are rounds.max, rounds.clients"),
        ("[rouns]", "job.toml: unknown key 'rouns'; did you mean 'rounds'?"),
        ('clients = "four"', "job.toml: rounds.clients: expected `int | null`, got `str`"),
        ("clients = 4.0", "job.toml: rounds.clients: expected `int | null`, got `float`"),
        ("clients = true", "rounds.clients"),
        ("clients = 0", "rounds.clients: expected `int` >= 1"),
        ("clients = 10000000", "rounds.clients"),
        ("fraction = 0.0", "rounds.fraction"),
        ("fraction = 1.5", "rounds.fraction"),
        ("fraction = nan", "rounds.fraction"),
        ('deadline = "soon"', 'rounds.deadline: expected a duration such as "90s"'),
        ("deadline = 0", "rounds.deadline: a duration must be positive"),
        ("deadline = inf", "rounds.deadline: a duration must be positive"),
        ("[train]\n[aggregator]\nname = 3", "aggregator: the part needs a name"),
        ("[train]\n[[stop]]\nrounds = 3", "stop[0]: the part needs a name"),
        ('selector = "uniform"', "unknown key 'rounds.selector'"),
        ('[train]\n[evaluate]\n[aggregator]\nname = "mean"\n[[selector]]', "selector: expected a table with a name"),
        ("[[evaluate]]", "evaluate: expected a table"),
        ("[evaluate]\nevery = -1", "evaluate.every"),
        ("clients = 3\nfraction = 0.5", "rounds.clients and rounds.fraction exclude each other"),
        ("over_select = 1.3", "rounds.over_select = 1.3 needs rounds.clients or rounds.fraction"),
        ("clients = 2\nover_select = 0.9", "rounds.over_select"),
        ("clients = 2\nmin_updates = 3", "rounds.min_updates = 3 can never be reached with rounds.clients = 2"),
        ("min_clients = 2\nmin_updates = 3", "rounds.min_clients = 2 would open rounds that cannot reach"),
        ("max = 4", "job.toml: not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_remedy(line: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_job(LEAST + line, "job.toml")

    assert complaint in str(caught.value)
    assert str(caught.value).startswith("job.toml: ")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('name = "a"', "", "job.name is missing"),
        ("[rounds]\nmax = 3", "", "rounds is missing"),
        ('[job]\nname = "a"', "job = 3", "job: expected a table, got `int`"),
        ('init = "m.safetensors"', "", "`fedelta model init --learner MODULE:CLASS --seed 7`"),
        ('[model]\ninit = "m.safetensors"', "", 'init = "first-client"'),
        ('init = "m.safetensors"', 'init = ""', "model.init"),
        ('name = "a"', 'name = "a"\nseed = -1', "job.seed"),
        ('name = "a"', 'name = "a"\nseed = 99999999999999999999', "job.seed"),
        ('name = "a"', 'name = "../a"', "job.name"),
        ('name = "a"', 'name = "a\\n"', "job.name"),
        ('name = "a"', f'name = "{"a" * 65}"', "job.name"),
    ],
)
def test_what_must_be_there_is_asked_for(old: str, new: str, complaint: str) -> None:
    assert old in LEAST
    with pytest.raises(ConfigError) as caught:
        parse_job(LEAST.replace(old, new), "job.toml")

    assert complaint in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "job.toml").write_bytes(content)

    with pytest.raises(ConfigError, match=r"job\.toml: cannot be read"):
        load_job(tmp_path / "job.toml")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("5m", 300), ("1.5h", 5400), ("250ms", 0.25), ("2d", 172800), (" 3 s ", 3), (45, 45), (0.5, 0.5)],
)
def test_durations_are_seconds_or_have_a_unit(written: object, seconds: float) -> None:
    assert Duration.parse(written) == seconds


@pytest.mark.parametrize("written", ["", "5", "m", "-5m", "5 weeks", "1h30m", 0, -1, True, None, float("nan")])
def test_other_durations_are_refused(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(written)


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^job\.toml: "):
        parse_job(text, "job.toml")


@given(
    st.recursive(st.integers() | st.floats() | st.text() | st.booleans(), lambda inner: st.lists(inner), max_leaves=5)
)
def test_the_train_table_is_the_learners_own(value: Any) -> None:
    def written(value: Any) -> str:
        if isinstance(value, list):
            return f"[{', '.join(map(written, value))}]"
        if isinstance(value, str):
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
        return str(value).lower()

    found = parse_job(f"{LEAST}[train]\nvalue = {written(value)}", "job.toml").train["value"]

    assert repr(found) == repr(value)
