"""Selectors: what they draw, from what they are told and nothing else."""

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedelta.config import SelectorPart
from fedelta.parts import Candidate, Draw, Selector, Sizing, build, known
from fedelta.parts._registry import SLOTS
from fedelta_server.engine._selection import rank, uniform

EXAMPLES: Mapping[str, dict[str, object]] = {"poisson": {"rate": 0.3}, "stratified": {"label": "site"}}
"""Parameters of the parts that need some."""

NAMES = tuple(known(SLOTS["selector"]))


def selector(name: str, **parameters: object) -> Selector:
    part: Selector = build(SelectorPart(name, parameters or EXAMPLES.get(name, {})))
    return part


def draw(size: int, round_: int = 1, seed: int = 7) -> Draw:
    return Draw(round=round_, rounds=100, wanted=size, size=size, uniform=functools.partial(uniform, seed, round_, 1))


def clients(count: int, **facts: float) -> list[Candidate]:
    return [Candidate(name=f"c{index:03}", labels={}, **facts) for index in range(count)]  # type: ignore[arg-type]


some_candidates = st.lists(
    st.builds(
        Candidate,
        name=st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True),
        labels=st.fixed_dictionaries({}, optional={"site": st.sampled_from("abc")}),
        examples=st.integers(0, 500),
        loss=st.none() | st.floats(0, 1e6),
        seconds=st.none() | st.floats(0, 1e5),
        last_round=st.integers(1, 50),
        rounds=st.integers(0, 50),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda each: each.name,
).map(lambda found: sorted(found, key=lambda each: each.name))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40)
@given(candidates=some_candidates, size=st.integers(1, 40), round_=st.integers(51, 99), seed=st.integers(0, 1000))
def test_every_selector_draws_the_same_again_and_as_many_as_it_is_to(
    name: str, candidates: list[Candidate], size: int, round_: int, seed: int
) -> None:
    part = selector(name)
    drawn = part.select(candidates, draw(size, round_, seed))
    assert list(drawn) == list(part.select(candidates, draw(size, round_, seed)))
    assert len(set(drawn)) == len(drawn) >= 1
    assert set(drawn) <= {each.name for each in candidates}
    if part.sizing is Sizing.ROUNDS:
        assert len(drawn) == min(size, len(candidates))


@pytest.mark.parametrize("name", ["uniform", "poisson", "stratified", "power-of-choice"])
@settings(max_examples=40)
@given(data=st.data(), candidates=some_candidates, size=st.integers(1, 10), seed=st.integers(0, 1000))
def test_a_missing_client_that_was_not_drawn_changes_nobody_elses_place(
    name: str, data: st.DataObject, candidates: list[Candidate], size: int, seed: int
) -> None:
    # Of power-of-choice's sample losses decide: all are sampled.
    part = selector(name, d=30) if name == "power-of-choice" else selector(name)
    drawn = part.select(candidates, draw(size, seed=seed))
    others = [each.name for each in candidates if each.name not in drawn]
    if others:
        missing = data.draw(st.sampled_from(others))
        assert list(part.select([each for each in candidates if each.name != missing], draw(size, seed=seed))) == list(
            drawn
        )


@given(names=st.sets(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=2), seed=st.integers(0, 1000))
def test_uniform_draws_by_the_rank_that_versions_before_plans_drew_by(names: set[str], seed: int) -> None:
    candidates = [Candidate(name=name, labels={}) for name in sorted(names)]
    expected = sorted(names, key=lambda name: rank(seed, 3, 1, name))
    assert selector("uniform").select(candidates, draw(len(names) - 1, 3, seed)) == expected[:-1]


def test_uniform_gives_each_client_the_same_chance() -> None:
    rounds = 2000
    counts = Counter(
        name for number in range(rounds) for name in selector("uniform").select(clients(10), draw(3, number))
    )
    deviation = math.sqrt(rounds * 0.3 * 0.7)
    assert all(abs(counts[each.name] - rounds * 0.3) < 5 * deviation for each in clients(10))


def test_all_takes_everybody() -> None:
    assert selector("all").select(clients(5), draw(2)) == [each.name for each in clients(5)]


def test_poisson_draws_each_client_by_itself() -> None:
    """The size is binomial: for n = 20 and rate = 0.3 its mean is 6 and its variance 4.2."""
    rounds, rate, count = 2000, 0.3, 20
    drawn = [set(selector("poisson", rate=rate).select(clients(count), draw(1, number))) for number in range(rounds)]
    sizes = [len(each) for each in drawn]
    mean = sum(sizes) / rounds
    assert mean == pytest.approx(6, abs=5 * math.sqrt(4.2 / rounds))
    assert sum((size - mean) ** 2 for size in sizes) / rounds == pytest.approx(4.2, rel=0.1)
    both = sum({"c000", "c001"} <= each for each in drawn)
    assert both == pytest.approx(rounds * rate**2, abs=5 * math.sqrt(rounds * 0.09 * 0.91))


def test_a_poisson_draw_of_nobody_is_drawn_again() -> None:
    one = clients(1)
    assert all(selector("poisson", rate=0.001).select(one, draw(1, number)) == ["c000"] for number in range(20))
    # Repeating has a chance of its own: of two clients of which one must be drawn, each is in half of the draws.
    firsts = Counter(selector("poisson", rate=0.01).select(clients(2), draw(1, number))[0] for number in range(400))
    assert firsts["c000"] == pytest.approx(200, abs=50)


def test_power_of_choice_takes_the_greatest_losses_of_its_sample() -> None:
    candidates = [replace(each, examples=10, loss=float(index)) for index, each in enumerate(clients(10))]
    assert selector("power-of-choice", d=10).select(candidates, draw(3)) == ["c009", "c008", "c007"]
    few = selector("power-of-choice", d=4).select(candidates, draw(3))
    assert few == sorted(few, reverse=True) != ["c009", "c008", "c007"]
    # d as small as the cohort: the losses do not matter, as in the paper's remark on d = m.
    counts = Counter(
        name for number in range(2000) for name in selector("power-of-choice", d=1).select(candidates, draw(1, number))
    )
    assert max(counts.values()) < 1.5 * min(counts.values())


def test_power_of_choice_asks_those_first_of_whom_it_knows_nothing() -> None:
    candidates = [replace(each, examples=10, loss=5.0) for each in clients(8)]
    candidates[3] = replace(candidates[3], loss=None)
    candidates[5] = replace(candidates[5], examples=0, loss=None)
    assert set(selector("power-of-choice", d=8).select(candidates, draw(2))) == {"c003", "c005"}


def test_power_of_choice_samples_in_proportion_to_examples() -> None:
    """Cho et al. 2020: the candidates are sampled with probabilities p_k, the clients' shares of all data."""
    candidates = [replace(each, examples=weight, loss=1.0) for each, weight in zip(clients(3), (1, 2, 7), strict=True)]
    counts = Counter(
        name for number in range(4000) for name in selector("power-of-choice", d=1).select(candidates, draw(1, number))
    )
    for name, share in zip(("c000", "c001", "c002"), (0.1, 0.2, 0.7), strict=True):
        assert counts[name] / 4000 == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / 4000))


def explored(candidates: Sequence[Candidate], round_: int, size: int = 10) -> int:
    unknown = {each.name for each in candidates if not each.rounds}
    return len(unknown & set(selector("oort").select(candidates, draw(size, round_))))


def test_oort_explores_less_and_less() -> None:
    """0.9 at first, times 0.98 each round, not below 0.2: the paper's section 7.1."""
    candidates = clients(20, examples=10, loss=1.0, seconds=1.0, rounds=1, last_round=1)
    candidates[10:] = clients(20)[10:]
    assert [explored(candidates, round_) for round_ in (1, 20, 40, 80, 500)] == [9, 6, 4, 2, 2]


def best(candidates: Sequence[Candidate], count: int = 1, round_: int = 2, **parameters: object) -> set[str]:
    chosen = selector("oort", exploration=0.0, least_exploration=0.0, **parameters)
    return set(chosen.select(candidates, draw(count, round_)))


def test_oort_prefers_useful_fast_and_neglected_clients() -> None:
    """Values of algorithm 1, line 10: U = |B| sqrt(mean loss^2), + sqrt(0.1 ln R / L), * (T / t) ** 2 where T < t."""
    same = clients(3, examples=10, loss=1.0, seconds=1.0, rounds=1, last_round=1)
    for better in (replace(same[1], loss=2.0), replace(same[1], examples=20)):
        assert all(best([same[0], better, same[2]], round_=number) == {"c001"} for number in range(2, 10))
    # Twice the duration is a quarter of the utility: a loss 5 times as great makes up for it, one 3 times does not.
    slow = replace(same[1], seconds=20.0)
    at_first = replace(same[0], loss=1.0)
    assert best([at_first, replace(slow, loss=5.0)], round_=1, duration="10s") == {"c001"}
    assert best([at_first, replace(slow, loss=3.0)], round_=1, duration="10s") == {"c000"}
    assert best([at_first, replace(slow, loss=3.0)], round_=1, duration="10s", penalty=0) == {"c001"}
    # In round 50, 1/1 + sqrt(0.1 ln 50 / 49) = 1.09 against 0.9 + sqrt(0.1 ln 50 / 1) = 1.53.
    recent = replace(same[0], last_round=49)
    assert best([recent, replace(same[1], loss=0.9, last_round=1)], round_=50) == {"c001"}


def test_oort_has_nothing_to_divide_by_where_all_losses_are_zero() -> None:
    assert len(best(clients(3, examples=10, loss=0.0, rounds=1, last_round=1), count=2, round_=1)) == 2


def test_a_stratified_draw_takes_as_many_of_each_value() -> None:
    sites = ["north"] * 6 + ["south"] * 3 + ["west"]
    candidates = [replace(each, labels={"site": site}) for each, site in zip(clients(10), sites, strict=True)]
    site_of = {each.name: each.labels["site"] for each in candidates}
    for number in range(20):
        drawn = selector("stratified").select(candidates, draw(5, number))
        assert Counter(map(site_of.__getitem__, drawn)) == {"north": 2, "south": 2, "west": 1}
    more = Counter(site_of[selector("stratified").select(candidates, draw(4, number))[-1]] for number in range(400))
    assert more["west"] == 0, "it has one client only"
    assert more["north"] == pytest.approx(200, abs=60), "who gives one more is drawn anew"


def test_clients_without_the_label_are_a_group() -> None:
    candidates = [*(replace(each, labels={"site": "a"}) for each in clients(5)), Candidate(name="zoe", labels={})]
    assert all("zoe" in selector("stratified").select(candidates, draw(2, number)) for number in range(20))
