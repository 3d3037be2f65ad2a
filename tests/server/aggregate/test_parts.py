"""How a job file names the parts that work at the coordinator."""

import pytest

from fedelta.config import AggregatorConfig, ServerOptimizerConfig
from fedelta.errors import ConfigError
from fedelta_server.aggregate import Mean, Sgd, build_aggregator, build_optimizer


def test_the_defaults_are_fedavg() -> None:
    assert build_aggregator(AggregatorConfig()) == Mean()
    assert build_optimizer(ServerOptimizerConfig()) == Sgd(1.0)


def test_settings_reach_the_part() -> None:
    assert build_optimizer(ServerOptimizerConfig(name="sgd", lr=0.25)) == Sgd(0.25)


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(ConfigError, match=r"aggregator.name = 'meen' is not known; known are mean"):
        build_aggregator(AggregatorConfig(name="meen"))
    with pytest.raises(ConfigError, match=r"server_optimizer.name = 'sdg'"):
        build_optimizer(ServerOptimizerConfig(name="sdg"))
