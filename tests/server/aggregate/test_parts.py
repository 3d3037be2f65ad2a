"""How a job file names the parts that work at the coordinator."""

import pytest

from fedelta.config import AggregatorPart, ServerOptimizerPart
from fedelta.errors import ConfigError
from fedelta.parts import build
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean


def test_the_defaults_are_fedavg() -> None:
    assert build(AggregatorPart()) == Mean()
    assert build(ServerOptimizerPart()) == Sgd()


def test_settings_reach_the_part() -> None:
    assert build(ServerOptimizerPart("sgd", {"lr": 0.25})) == Sgd(lr=0.25)


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(ConfigError, match=r"aggregator.name = 'meen' is not known; did you mean 'mean'"):
        build(AggregatorPart("meen"))
    with pytest.raises(ConfigError, match=r"server_optimizer.name = 'sdg'"):
        build(ServerOptimizerPart("sdg"))
