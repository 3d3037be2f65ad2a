"""Stop rules: when they hold, and what they say."""

from collections.abc import Mapping, Sequence

import pytest

from fedelta.config import StopPart
from fedelta.errors import ConfigError
from fedelta.parts import History, RoundFacts, StopRule, build


def rule(name: str, **parameters: object) -> StopRule:
    part: StopRule = build(StopPart(name, parameters), "stop[0]")
    return part


def closed(number: int, seconds: float = 1.0, up: int = 0, down: int = 0, norm: float = 1.0) -> RoundFacts:
    return RoundFacts(number=number, seconds=seconds, bytes_up=up, bytes_down=down, update_norm=norm, train_metrics={})


def history(
    rounds: Sequence[RoundFacts] = (closed(1),),
    evaluations: Mapping[int, Mapping[str, float]] | None = None,
    metric: str = "accuracy",
    goal: str = "max",
) -> History:
    return History(rounds=rounds, evaluations=evaluations or {}, metric=metric, goal=goal)


def measured(*values: float, metric: str = "accuracy") -> dict[int, dict[str, float]]:
    return {version: {metric: value} for version, value in enumerate(values, 1)}


def test_a_target_is_reached_by_any_version() -> None:
    target = rule("target", at_least=0.9)
    assert target.reason(history(evaluations=measured(0.5, 0.899999))) is None
    assert target.reason(history(evaluations=measured(0.5, 0.9, 0.8))) == "version 2 has accuracy 0.9, at least 0.9"
    assert target.reason(history()) is None


def test_a_target_may_be_another_metric_and_a_small_value() -> None:
    target = rule("target", metric="central/loss", at_most=0.25)
    assert target.reason(history(evaluations=measured(0.3, metric="central/loss"))) is None
    found = target.reason(history(evaluations=measured(0.3, 0.2, metric="central/loss")))
    assert found == "version 2 has central/loss 0.2, at most 0.25"
    assert target.reason(history(evaluations=measured(0.1, metric="loss"))) is None


@pytest.mark.parametrize("parameters", [{}, {"at_least": 0.9, "at_most": 0.1}])
def test_a_target_says_one_value(parameters: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"stop\[0\]: say either at_least or at_most"):
        rule("target", **parameters)


def test_patience_ends_after_so_many_rounds_without_improvement() -> None:
    patience = rule("patience", rounds=3)
    assert patience.reason(history(evaluations=measured(0.5, 0.6, 0.6, 0.55))) is None
    found = patience.reason(history(evaluations=measured(0.5, 0.6, 0.6, 0.55, 0.6)))
    assert found == "accuracy has not improved on 0.6 of version 2 for 3 rounds"
    assert patience.reason(history(evaluations=measured(0.5, 0.6, 0.6, 0.55, 0.61))) is None
    assert patience.reason(history()) is None


def test_patience_wants_an_improvement_worth_the_name() -> None:
    values = measured(0.5, 0.505, 0.509, 0.511)
    assert rule("patience", rounds=3, min_delta=0.01).reason(history(evaluations=values)) is None
    assert rule("patience", rounds=3, min_delta=0.02).reason(history(evaluations=values)) is not None


def test_patience_knows_that_less_of_a_loss_is_better() -> None:
    falling = {version: {"accuracy": 0.5, "loss": 1 / version, "churn": 1 / version} for version in range(1, 6)}
    assert rule("patience", rounds=3, metric="loss").reason(history(evaluations=falling)) is None
    assert rule("patience", rounds=3).reason(history(evaluations=falling, metric="loss", goal="min")) is None
    assert rule("patience", rounds=3, metric="churn").reason(history(evaluations=falling)) is not None
    assert rule("patience", rounds=3, metric="churn", goal="min").reason(history(evaluations=falling)) is None


def test_convergence_wants_so_many_small_steps_in_a_row() -> None:
    norms = (0.5, 0.009, 0.02, 0.009, 0.001)
    rounds = [closed(number, norm=norm) for number, norm in enumerate(norms, 1)]
    assert rule("convergence", norm=0.01, rounds=3).reason(history(rounds)) is None
    found = rule("convergence", norm=0.01, rounds=2).reason(history(rounds))
    assert found == "the model changed by a norm below 0.01 for 2 rounds: 0.001"
    assert rule("convergence", norm=0.01, rounds=2).reason(history(rounds[:4])) is None
    assert rule("convergence", norm=1, rounds=2).reason(history(rounds[:1])) is None


def test_time_adds_up() -> None:
    rounds = [closed(number, seconds=40) for number in (1, 2, 3)]
    assert rule("time", limit="2m").reason(history(rounds[:2])) is None
    assert rule("time", limit="2m").reason(history(rounds)) == "its rounds took 2m 00s in all, and the limit is 2m"


def test_bytes_add_up_each_way() -> None:
    rounds = [closed(number, up=2_000_000, down=3_000_000) for number in (1, 2)]
    assert rule("bytes", up="4.1MB", down="6.1MB", total="10.1MB").reason(history(rounds)) is None
    assert rule("bytes", up="4MB").reason(history(rounds)) == "its rounds moved 4 MB up, and the limit is 4 MB"
    assert rule("bytes", down="5MB").reason(history(rounds)) == "its rounds moved 6 MB down, and the limit is 5 MB"
    assert (
        rule("bytes", total="10MB").reason(history(rounds)) == "its rounds moved 10 MB in all, and the limit is 10 MB"
    )
    with pytest.raises(ConfigError, match="say up, down or total"):
        rule("bytes")
