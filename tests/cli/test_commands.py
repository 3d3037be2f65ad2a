"""The command line, in this process, against a coordinator on a real port."""

import json
from datetime import datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fedelta.cli import main
from fedelta.v1 import admin_pb2 as pb
from tests.cli.fake import FakeCoordinator, closed_round, evaluation, evaluation_event, job, round_event, state_event


def fedelta(*words: object, coordinator: FakeCoordinator | None = None) -> Result:
    env = {"FEDELTA_SERVER": coordinator.address if coordinator else None, "FEDELTA_DEBUG": None}
    return CliRunner().invoke(main, [str(word) for word in words], env=env)


def test_submit_ends_with_the_job_id(coordinator: FakeCoordinator, job_file: Path) -> None:
    result = fedelta("job", "submit", job_file, "--insecure", coordinator=coordinator)
    assert (result.exit_code, result.stdout.split()[-1]) == (0, "digits-1")


@pytest.mark.parametrize(
    ("state", "exit_code"),
    [(pb.JOB_STATE_FINISHED, 0), (pb.JOB_STATE_STOPPED, 1), (pb.JOB_STATE_FAILED, 1), (pb.JOB_STATE_PAUSED, 3)],
)
def test_submit_wait_follows_the_job_and_says_how_it_ended(
    coordinator: FakeCoordinator, job_file: Path, state: int, exit_code: int
) -> None:
    coordinator.jobs["digits-1"] = job(state=state)
    coordinator.jobs["digits-1"].reason = "because"
    coordinator.jobs["digits-1"].rounds.append(closed_round(1))
    coordinator.jobs["digits-1"].rounds_done = 1
    coordinator.jobs["digits-1"].evaluations.append(evaluation(1))
    coordinator.events = [
        state_event(1, pb.JOB_STATE_RUNNING),
        round_event(2, 1),
        evaluation_event(3, 1),
        state_event(4, state, "because"),
    ]
    result = fedelta("job", "submit", job_file, "--wait", coordinator=coordinator)
    assert result.exit_code == exit_code
    *_, closed, evaluated, ended, told = result.stdout.splitlines()
    assert closed.endswith("round 1: 1 of 2 clients  loss 0.5  4 kB up  8 kB down  0.25 s")
    results = "accuracy 0.75  recall/* 0.25 to 1  central accuracy 0.5"
    assert evaluated.endswith(f"version 1: 1 of 2 clients  {results}  1.50 s")
    assert ended.endswith(": because")
    assert told.endswith(f" after 1 round, {results} (because): digits-1")


def test_a_wrong_job_file_is_one_line_and_exit_code_2(coordinator: FakeCoordinator, job_file: Path) -> None:
    job_file.write_text(job_file.read_text().replace("max", "mx"))
    result = fedelta("job", "submit", job_file, coordinator=coordinator)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith(f"error: {job_file}: ")


def test_show_json_has_the_documented_shape(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_RUNNING)
    coordinator.jobs["digits-1"].rounds.append(closed_round(1))
    coordinator.jobs["digits-1"].rounds_done = 1
    coordinator.jobs["digits-1"].initial_digest = b"\xab" * 32
    coordinator.jobs["digits-1"].best_version = 1
    coordinator.jobs["digits-1"].origin = "other-1@7"
    result = fedelta("job", "show", "digits-1", "--json", coordinator=coordinator)
    assert json.loads(result.stdout) == {
        "id": "digits-1",
        "name": "digits",
        "state": "running",
        "reason": "",
        "submitted": "2023-11-14T22:13:20Z",
        "rounds_done": 1,
        "rounds_max": 2,
        "waiting_for": "",
        "initial_digest": "ab" * 32,
        "rounds": [
            {
                "number": 1,
                "attempts": 1,
                "seconds": 0.25,
                "bytes_up": 4000,
                "bytes_down": 8000,
                "clients": [
                    {
                        "client": "site-1",
                        "phase": "train",
                        "outcome": "accepted",
                        "reason": "",
                        "examples": 10,
                        "metrics": {"loss": 0.5},
                        "seconds": 0.125,
                        "staleness": 0,
                        "central": False,
                    },
                    {
                        "client": "site-2",
                        "phase": "train",
                        "outcome": "lost",
                        "reason": "fell silent",
                        "examples": 0,
                        "metrics": {},
                        "seconds": 0.0,
                        "staleness": 0,
                        "central": False,
                    },
                ],
                "metrics": {"accuracy": 0.75},
                "train_metrics": {"loss": 0.5},
                "digest": "01" * 32,
                "update_norm": 0.125,
            }
        ],
        "best_version": 1,
        "origin": "other-1@7",
        "evaluations": [],
        "pruned_versions": [],
    }


def test_show_json_has_evaluations_with_their_spread(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.jobs["digits-1"].evaluations.append(evaluation(1))
    (found,) = json.loads(fedelta("job", "show", "digits-1", "--json", coordinator=coordinator).stdout)["evaluations"]
    clients = [(each["client"], each["outcome"], each["central"]) for each in found.pop("clients")]
    assert clients == [("central", "accepted", True), ("site-1", "accepted", False), ("site-2", "late", False)]
    assert found == {
        "version": 1,
        "metrics": {"accuracy": 0.75, "recall/0": 0.5, "recall/10": 0.25, "recall/9": 1.0},
        "spread": {"accuracy": {"min": 0.75, "median": 0.75, "p90": 0.75, "max": 0.75}},
        "central": {"accuracy": 0.5},
        "seconds": 1.5,
        "bytes_down": 1000,
    }


def test_show_tells_people_who_failed_and_why(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.jobs["digits-1"].rounds.append(closed_round(1))
    coordinator.jobs["digits-1"].waiting_for = "2 more clients"
    result = fedelta("job", "show", "digits-1", coordinator=coordinator)
    assert "digits-1: running (waiting for 2 more clients)" in result.stdout
    assert "site-2 lost (train): fell silent" in result.stdout


WHEN = datetime.fromtimestamp(1_700_000_000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
"""When the jobs of these tests were submitted."""


def test_show_sums_up_a_job_and_marks_the_best_round(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_FINISHED)
    coordinator.jobs["digits-1"].origin = "other-1@7"
    coordinator.jobs["digits-1"].rounds.extend([closed_round(1), closed_round(2)])
    coordinator.jobs["digits-1"].rounds[1].attempts = 3
    coordinator.jobs["digits-1"].rounds[1].clients[0].staleness = 3
    coordinator.jobs["digits-1"].rounds_done = 2
    coordinator.jobs["digits-1"].best_version = 1
    coordinator.jobs["digits-1"].evaluations.append(evaluation(1))
    assert fedelta("job", "show", "digits-1", coordinator=coordinator).stdout.splitlines() == [
        "digits-1: finished",
        f"submitted  {WHEN}",
        "starts     from other-1@7",
        "rounds     2 of 2, 0.50 s in all, 0.25 s each",
        "traffic    8 kB up  17 kB down",
        "model      version 2  020202020202",
        "best       version 1  010101010101  accuracy 0.75  recall/* 0.25 to 1  central accuracy 0.5",
        "     1  1 of 2 clients  accuracy 0.75  4 kB up  8 kB down  0.25 s  changed by 0.125  best",
        "        site-2 lost (train): fell silent",
        "     2  1 of 2 clients  attempt 3  accuracy 0.75  4 kB up  8 kB down  0.25 s  changed by 0.125  staleness 3",
        "        site-2 lost (train): fell silent",
        "evaluations",
        "  version  metric    mean  min   median  p90   max   central  clients",
        "  1        accuracy  0.75  0.75  0.75    0.75  0.75  0.5      1 of 2 clients",
        "  recall of version 1: 0: 0.5, 9: 1, 10: 0.25",
        "        version 1: site-2 late (evaluate): too slow",
    ]


def test_show_tells_the_last_evaluations_of_many_and_the_best(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = found = job()
    found.evaluations.extend(evaluation(version) for version in range(20))
    found.best_version = 3
    for name in [name for name in found.evaluations[19].metrics if name != "accuracy"]:
        del found.evaluations[19].metrics[name]
    found.evaluations[19].metrics.update({f"recall/{number}": number / 200 for number in range(200)})
    lines = fedelta("job", "show", "digits-1", coordinator=coordinator).stdout.splitlines()
    table = lines[lines.index("evaluations, the last 5 and the best") + 2 :]
    assert [line.split()[0] for line in table[:6]] == ["3", "15", "16", "17", "18", "19"]
    classes = " ".join(line.strip() for line in table[6:] if "late" not in line)
    assert classes.startswith("recall of version 19: 0: 0, 1: 0.005, 2: 0.01, ")
    assert classes.endswith("49: 0.245, and 150 more")
    assert max(map(len, table)) <= 100


def test_show_of_a_job_without_rounds(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_QUEUED)
    coordinator.jobs["digits-1"].initial_digest = b"\xab" * 32
    assert fedelta("job", "show", "digits-1", coordinator=coordinator).stdout.splitlines() == [
        "digits-1: queued",
        f"submitted  {WHEN}",
        "rounds     0 of 2",
        "model      version 0  abababababab",
    ]


def test_what_clients_say_moves_no_cursor(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.jobs["digits-1"].waiting_for = "1 client; site-1 declined: \x1b[2Jno"
    for verb in ("show digits-1", "list"):
        assert "\\x1b[2Jno" in fedelta("job", *verb.split(), coordinator=coordinator).stdout


def test_list_is_aligned_lines_where_there_is_no_terminal(coordinator: FakeCoordinator) -> None:
    assert fedelta("job", "list", coordinator=coordinator).stdout == "there are no jobs\n"
    coordinator.jobs["digits-1"] = job()
    result = fedelta("job", "list", coordinator=coordinator)
    assert result.stdout == f"job       state    rounds  submitted            why\ndigits-1  running  0/2     {WHEN}\n"


def test_watch_json_is_one_event_a_line(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_FINISHED)
    coordinator.events = [round_event(1, 1), state_event(2, pb.JOB_STATE_FINISHED)]
    result = fedelta("job", "watch", "digits-1", "--json", coordinator=coordinator)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(line["kind"], line["sequence"]) for line in lines] == [("RoundClosed", 1), ("StateChanged", 2)]
    assert result.exit_code == 0


def test_watch_says_once_that_it_waits_for_the_coordinator(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.events = [round_event(1, 1), state_event(2, pb.JOB_STATE_FINISHED)]
    coordinator.break_watch_after = [1, 0]
    result = fedelta("job", "watch", "digits-1", coordinator=coordinator)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 2)
    assert result.stderr == f"no answer from {coordinator.address}; waiting until it is back\n"


@pytest.mark.parametrize("verb", ["stop", "pause", "resume"])
def test_jobs_are_steered(coordinator: FakeCoordinator, verb: str) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_PAUSED)
    assert fedelta("job", verb, "digits-1", coordinator=coordinator).exit_code == 0
    assert coordinator.steered == [(verb, "digits-1", "")]


def test_clients_json(coordinator: FakeCoordinator) -> None:
    coordinator.clients.append(pb.Client(name="site-1", state=pb.CLIENT_STATE_IDLE, learners=["digits:Digits"]))
    (client,) = json.loads(fedelta("clients", "--json", coordinator=coordinator).stdout)
    assert (client["name"], client["state"], client["learners"]) == ("site-1", "idle", ["digits:Digits"])


def test_a_client_that_evaluates_only_is_known_by_it(coordinator: FakeCoordinator) -> None:
    coordinator.clients.append(pb.Client(name="central", state=pb.CLIENT_STATE_IDLE, evaluates_only=True))
    assert "idle, evaluates only" in fedelta("clients", coordinator=coordinator).stdout
    (client,) = json.loads(fedelta("clients", "--json", coordinator=coordinator).stdout)
    assert client["evaluates_only"] is True


def test_clients_are_listed_with_their_labels_and_what_they_decline(coordinator: FakeCoordinator) -> None:
    coordinator.clients.append(
        pb.Client(
            name="site-1",
            state=pb.CLIENT_STATE_IDLE,
            learners=["digits"],
            labels={"site": "north", "gpu": ""},
            declined={"digits-1": "no"},
        )
    )
    header, line = fedelta("clients", coordinator=coordinator).stdout.splitlines()
    assert line.startswith("site-1  idle             digits    gpu, site=north  digits-1")
    assert header.index("labels") == line.index("gpu")
    assert header.index("declined") == line.index("digits-1")


@pytest.mark.parametrize(("words", "rounds_max"), [(["--rounds", 3], 5), (["--to", 3], 3)])
def test_a_job_is_extended(coordinator: FakeCoordinator, words: list[object], rounds_max: int) -> None:
    coordinator.jobs["digits-1"] = job()
    result = fedelta("job", "extend", "digits-1", *words, coordinator=coordinator)
    assert result.stdout == f"digits-1 runs {rounds_max} rounds in all\n"
    assert coordinator.steered == [("extend", "digits-1", str(rounds_max))]


@pytest.mark.parametrize("words", [[], ["--rounds", 3, "--to", 3], ["--rounds", 0]])
def test_an_extension_has_one_number(coordinator: FakeCoordinator, words: list[object]) -> None:
    coordinator.jobs["digits-1"] = job()
    assert fedelta("job", "extend", "digits-1", *words, coordinator=coordinator).exit_code == 2
    assert coordinator.steered == []


def test_an_error_of_the_coordinator_is_one_line_and_its_exit_code(coordinator: FakeCoordinator) -> None:
    result = fedelta("job", "show", "nope", coordinator=coordinator)
    assert (result.exit_code, result.stderr) == (5, "error: there is no job 'nope'\n")


def test_export_writes_the_version_and_asks_before_overwriting(coordinator: FakeCoordinator, tmp_path: Path) -> None:
    coordinator.models = {1: b"one", 2: b"two"}
    out = tmp_path / "model.safetensors"
    assert fedelta("model", "export", "digits-1", "--version", 1, "--out", out, coordinator=coordinator).exit_code == 0
    refused = fedelta("model", "export", "digits-1", "--out", out, coordinator=coordinator)
    assert (refused.exit_code, out.read_bytes()) == (2, b"one")
    assert "--force" in refused.stderr
    assert fedelta("model", "export", "digits-1", "--out", out, "--force", coordinator=coordinator).exit_code == 0
    assert out.read_bytes() == b"two"


@pytest.mark.parametrize(("version", "data"), [("best", b"one"), ("latest", b"two")])
def test_export_knows_versions_by_name(coordinator: FakeCoordinator, tmp_path: Path, version: str, data: bytes) -> None:
    coordinator.models = {1: b"one", 2: b"two"}
    coordinator.best = 1
    out = tmp_path / "model.safetensors"
    fedelta("model", "export", "digits-1", "--version", version, "--out", out, coordinator=coordinator)
    assert out.read_bytes() == data


@pytest.mark.parametrize("version", ["newest", "-1", "1.5", "²", "9" * 10])
def test_export_refuses_what_is_no_version(coordinator: FakeCoordinator, tmp_path: Path, version: str) -> None:
    out = tmp_path / "model.safetensors"
    result = fedelta("model", "export", "digits-1", f"--version={version}", "--out", out, coordinator=coordinator)
    assert result.exit_code == 2
    assert "latest" in result.stderr


def test_model_show_lists_the_tensors_of_a_file(model_file: Path) -> None:
    result = fedelta("model", "show", model_file, "--json")
    shown = json.loads(result.stdout)
    assert {tensor["name"]: (tensor["dtype"], tensor["shape"]) for tensor in shown["tensors"]} == {
        "weight": ("F32", [1_000_000]),
        "bias": ("F64", [2, 3]),
    }
    assert "1000006 values" in fedelta("model", "show", model_file).stdout


def test_model_show_lists_the_versions_of_a_job(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job()
    coordinator.jobs["digits-1"].initial_digest = b"\xab" * 32
    coordinator.jobs["digits-1"].rounds.append(closed_round(1))
    coordinator.jobs["digits-1"].rounds.append(closed_round(2))
    coordinator.jobs["digits-1"].evaluations.append(evaluation(2))
    coordinator.jobs["digits-1"].best_version = 2
    coordinator.jobs["digits-1"].pruned_versions.append(1)
    result = fedelta("model", "show", "digits-1", coordinator=coordinator)
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()[1:]]
    results = "accuracy 0.75 recall/* 0.25 to 1 central accuracy 0.5"
    assert lines == [f"0 {'ab' * 6}", f"1 {'01' * 6} pruned", f"2 {'02' * 6} {results} best"]
    shown = json.loads(fedelta("model", "show", "digits-1", "--json", coordinator=coordinator).stdout)
    assert [(each["version"], each["best"], each["pruned"]) for each in shown] == [
        (0, False, False),
        (1, False, True),
        (2, True, False),
    ]
    assert [(each["metrics"].get("accuracy"), each["central"]) for each in shown] == [
        (None, {}),
        (None, {}),
        (0.75, {"accuracy": 0.5}),
    ]


def test_evaluate_shows_each_clients_value_for_each_version(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_FINISHED)
    coordinator.jobs["digits-1"].best_version = 2
    coordinator.evaluate_after = 5
    # Version 1 was evaluated before, and others are meanwhile.
    found = [(5, 1, 0.125), (6, 7, 0.5), (7, 2, 0.75), (8, 1, 0.25), (9, 1, 1.0)]
    coordinator.events = [evaluation_event(*each) for each in found]
    words = ("job", "evaluate", "digits-1", "--version", 1, "--version", "best")
    assert fedelta(*words, coordinator=coordinator).stdout.splitlines() == [
        "evaluating versions 1, 2 of digits-1",
        "accuracy         version 1  version 2",
        "site-1           0.25       0.75",
        "site-2           late       late",
        "central          0.5        0.5",
        "mean of clients  0.25       0.75",
    ]
    assert coordinator.steered == [("evaluate", "digits-1", "1,2")]
    shown = json.loads(fedelta(*words, "--json", coordinator=coordinator).stdout)
    assert [(each["version"], each["metrics"]["accuracy"]) for each in shown] == [(1, 0.25), (2, 0.75)]


def test_evaluate_without_waiting_and_without_the_metric(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_FINISHED)
    coordinator.jobs["digits-1"].rounds.extend([closed_round(1), closed_round(2)])
    begun = fedelta("job", "evaluate", "digits-1", "--no-wait", coordinator=coordinator)
    assert (begun.exit_code, begun.stdout) == (0, "evaluating version 2 of digits-1\n")
    coordinator.events = [evaluation_event(1, 2)]
    refused = fedelta("job", "evaluate", "digits-1", "--metric", "auc", coordinator=coordinator)
    assert (refused.exit_code, refused.stderr) == (5, "error: no client reported 'auc', but accuracy\n")
    refused = fedelta("job", "evaluate", "digits-1", "--version", "best", coordinator=coordinator)
    assert "has no best version" in refused.stderr


def test_evaluate_says_where_a_job_ended_without_the_results(coordinator: FakeCoordinator) -> None:
    coordinator.jobs["digits-1"] = job(state=pb.JOB_STATE_STOPPED)
    coordinator.events = [evaluation_event(1, 1)]
    refused = fedelta("job", "evaluate", "digits-1", "--version", 0, "--version", 1, coordinator=coordinator)
    assert refused.exit_code == 5
    assert "ended before these versions were evaluated: 0" in refused.stderr


def test_an_unknown_command_names_the_nearest() -> None:
    result = fedelta("modle", "show")
    assert result.exit_code == 2
    assert "'model'" in result.stderr
