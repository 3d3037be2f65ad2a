"""How a job file names the parts that work at the coordinator."""

import pytest

from fedelta.config import AggregatorPart, ServerOptimizerPart
from fedelta.errors import ConfigError
from fedelta_server.aggregate import Mean, Sgd, build_aggregator, build_optimizer


def test_the_defaults_are_fedavg() -> None:
    assert build_aggregator(AggregatorPart()) == Mean()
    assert build_optimizer(ServerOptimizerPart()) == Sgd(1.0)


def test_settings_reach_the_part() -> None:
    assert build_optimizer(ServerOptimizerPart("sgd", {"lr": 0.25})) == Sgd(0.25)


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(ConfigError, match=r"aggregator.name = 'meen' is not known; known are mean"):
        build_aggregator(AggregatorPart("meen"))
    with pytest.raises(ConfigError, match=r"server_optimizer.name = 'sdg'"):
        build_optimizer(ServerOptimizerPart("sdg"))
