"""Rules that weigh by what clients tell of their training: q-FedAvg and FedNova."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedelta.config import parse_job
from fedelta.errors import ConfigError
from fedelta.parts import Weighted
from fedelta_server.aggregate.rules.fednova import FedNova
from fedelta_server.aggregate.rules.q_fedavg import QFedAvg
from tests.server.aggregate.rules.applied import Array, aggregated, rule_of

CENTRES, STEPS = np.array([0.0, 1.0, 4.0]), (1, 5, 20)
"""REFERENCES, FedNova: half of |x - e_i|^2 with e = (0, 1, 4), of which client i takes tau = (1, 5, 20) steps."""


def _after(rounds: int, eta: float) -> float:
    x = 0.0
    for _ in range(rounds):
        updates = [(1 - (1 - eta) ** steps) * (centre - x) for centre, steps in zip(CENTRES, STEPS, strict=True)]
        x += float(aggregated(FedNova(), updates, facts=[{"steps": float(steps)} for steps in STEPS])[0])
    return x


@pytest.mark.parametrize(("eta", "limit"), [(0.1, 1.14065652), (0.01, 1.59896126)])
def test_fednova_converges_to_its_closed_form(eta: float, limit: float) -> None:
    """REFERENCES: FedNova's limit, where FedAvg's is 2.82665115 and 3.22427410 (Wang et al. 2020)."""
    assert _after(2000, eta) == pytest.approx(limit, abs=1e-8)


def test_fednova_of_equal_steps_is_the_weighted_mean() -> None:
    facts = [{"steps": 12.5}] * 3
    found = aggregated(FedNova(), [1.0, 2.0, 4.0], examples=[1, 2, 5], facts=facts)
    assert found[0] == pytest.approx((1 + 4 + 20) / 8)


def test_fednova_is_what_the_paper_says() -> None:
    """Equation 7: tau_eff * sum(p * update / tau), with p = (0.2, 0.8), tau = (10, 40), tau_eff = 34."""
    rule = rule_of(FedNova(), np.zeros((2, 1)), examples=[1, 4], facts=[{"steps": 10.0}, {"steps": 40.0}])
    assert isinstance(rule, Weighted)
    np.testing.assert_allclose(rule.factors, [0.2 * 34 / 10, 0.8 * 34 / 40])


def test_fednova_counts_no_update_without_steps() -> None:
    rule = rule_of(FedNova(), np.zeros((2, 1)), facts=[{"steps": 0.0}, {"steps": 4.0}])
    assert rule == Weighted(factors=(0.0, 0.5 * 2.0 / 4.0))
    rule = rule_of(FedNova(), np.zeros((2, 1)), facts=[{"steps": 0.0}] * 2)
    assert rule == Weighted(factors=(0.0, 0.0))


def _by_the_paper(values: Array, losses: Sequence[float], q: float, lr: float) -> Array:
    """Algorithm 2 line by line: the model's change for w = 0."""
    big = 1 / lr
    deltas, bends = [], []
    for update, loss in zip(values, losses, strict=True):
        gradient = big * (0 - update)
        deltas.append(loss**q * gradient)
        bends.append(q * loss ** (q - 1) * np.sum(gradient**2) + big * loss**q)
    found: Array = -np.sum(deltas, axis=0) / np.sum(bends)
    return found


@given(
    q=st.sampled_from([0.0, 0.1, 1.0, 2.0, 5.0]),
    lr=st.sampled_from([0.01, 0.1, 1.0]),
    losses=st.lists(st.floats(0.1, 10), min_size=5, max_size=5),
    seed=st.integers(0, 99),
)
def test_q_fedavg_is_what_the_paper_says(q: float, lr: float, losses: list[float], seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((5, 3))
    found = aggregated(QFedAvg(q=q, lr=lr), values, facts=[{"loss": loss} for loss in losses])
    np.testing.assert_allclose(found, _by_the_paper(values, losses, q, lr), rtol=1e-9, atol=1e-12)


def test_q_of_zero_is_the_plain_mean() -> None:
    found = aggregated(QFedAvg(q=0, lr=0.1), [1.0, 2.0, 6.0], facts=[{"loss": loss} for loss in (0.1, 5, 0)])
    assert found[0] == pytest.approx(3.0)


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 100.0])
@pytest.mark.parametrize("losses", [(0.0, 0.0), (0.0, 3.0), (1e-300, 1e300), (-1.0, 2.0)])
def test_no_loss_breaks_q_fedavg(q: float, losses: tuple[float, float]) -> None:
    for values in (np.zeros((2, 3)), np.ones((2, 3))):
        found = aggregated(QFedAvg(q=q, lr=0.1), values, facts=[{"loss": loss} for loss in losses])
        assert np.isfinite(found).all()
        assert (found <= 1 + 1e-12).all()


def _job(server_optimizer: str) -> str:
    return f"""
    job.name = "fair"
    model.init = "first-client"
    rounds.max = 1
    aggregator = {{ name = "q-fedavg", lr = 0.1 }}
    server_optimizer = {server_optimizer}
    """


def test_q_fedavg_leaves_the_step_to_nobody_else() -> None:
    for fine in ("{}", "{ lr = 1.0 }", '{ name = "sgd", lr = 1 }'):
        QFedAvg(lr=0.1).check(parse_job(_job(fine), "job.toml"))
    for other in ("{ lr = 0.5 }", "{ lr = 1.0, momentum = 0.9 }"):
        with pytest.raises(ConfigError, match=r"server_optimizer\.lr = .*'q-fedavg'"):
            QFedAvg(lr=0.1).check(parse_job(_job(other), "job.toml"))
