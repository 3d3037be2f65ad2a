"""Statistics over sites against numpy and scikit-learn on the pooled data."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

from fedelta import Task
from fedelta.errors import ConfigError, LearnerError, PayloadError
from fedelta.execution import Workbench
from fedelta.statistics import Statistics, Summary, summarize
from fedelta_server.aggregate import WeightedUpdate, fold
from fedelta_server.aggregate.optimizers.sgd import Sgd
from fedelta_server.aggregate.rules.mean import Mean, Sum

Columns = Mapping[str, NDArray[Any]]
Model = dict[str, NDArray[Any]]

NAN = float("nan")


class Site(Statistics):
    """A site with these columns."""

    smallest_group = 1

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.table = {name: np.asarray(cells) for name, cells in columns.items()}

    def columns(self) -> Columns:
        return self.table


def ask(sites: Sequence[Statistics], rounds: int, **arguments: Any) -> Model:
    """The model after so many rounds in which all sites take part."""
    model = sites[0].model(**arguments)
    for number in range(1, rounds + 1):
        model = asked_once(model, sites, number)
    return model


def asked_once(model: Model, sites: Sequence[Statistics], number: int) -> Model:
    deltas = []
    for k, site in enumerate(sites):
        trained = copy.deepcopy(model)
        site.train(trained, Task(client=f"site-{k}", round=number))
        deltas.append({name: trained[name] - model[name] for name in model})
    return {name: np.asarray(model[name] + sum(delta[name] for delta in deltas)) for name in model}


def dealt(columns: Columns, cuts: Sequence[int]) -> list[Statistics]:
    """Sites that hold the rows between the cuts."""
    rows = len(next(iter(columns.values())))
    bounds = [0, *sorted(cut % (rows + 1) for cut in cuts), rows]
    parts = [slice(low, high) for low, high in itertools.pairwise(bounds) if high > low]
    return [Site({name: cells[part] for name, cells in columns.items()}) for part in parts]


CELLS = st.one_of(
    st.floats(-1e6, 1e6), st.integers(-3, 3).map(float), st.sampled_from([NAN, 0.0, -0.0, 5e-324, -1e-310, 1e60, -1e60])
)
TABLES = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=40).map(
    lambda rows: {"a": np.array([row[0] for row in rows]), "b": np.array([row[1] for row in rows])}
)
CUTS = st.lists(st.integers(0, 60), max_size=5)
LEVELS = st.lists(st.floats(0, 1), min_size=1, max_size=4)


@settings(max_examples=150, deadline=None)
@given(table=TABLES, cuts=CUTS, levels=LEVELS)
def test_quantiles_are_numpys_however_the_rows_are_dealt(table: Columns, cuts: list[int], levels: list[float]) -> None:
    found = summarize(ask(dealt(table, cuts), 8, quantiles=levels, range=True))
    for name, cells in table.items():
        present = cells[~np.isnan(cells)]
        summary = found[name]
        assert (summary.count, summary.missing) == (len(present), np.isnan(cells).sum())
        if not len(present):
            assert (summary.mean, summary.minimum, summary.quantiles) == (None, None, {})
            continue
        assert (summary.minimum, summary.maximum) == (present.min(), present.max())
        for level in levels:
            if 0 < level < 1:
                assert summary.quantiles[level] == np.quantile(present, level, method="inverted_cdf")


@settings(max_examples=150, deadline=None)
@given(table=TABLES, cuts=CUTS, rounds=st.sampled_from([1, 2]))
def test_means_and_variances_are_those_of_the_pooled_rows(table: Columns, cuts: list[int], rounds: int) -> None:
    found = summarize(ask(dealt(table, cuts), rounds, precise=True))
    for name, cells in table.items():
        present = cells[~np.isnan(cells)]
        if not len(present):
            continue
        # Means and sums of squares lose relative to the largest terms in them, as they would in one place.
        scale = np.abs(present).max()
        assert found[name].mean == pytest.approx(math.fsum(present) / len(present), rel=1e-12, abs=1e-14 * scale)
        lost = 1e-13 * scale**2 if rounds == 1 else 1e-14 * scale * present.std()
        assert found[name].variance == pytest.approx(present.var(), rel=1e-12, abs=lost)
        assert found[name].deviation == math.sqrt(found[name].variance or 0)


@settings(max_examples=60, deadline=None)
@given(
    table=TABLES,
    cuts=CUTS,
    edges=st.lists(st.floats(-10, 10), min_size=2, max_size=6, unique=True).map(sorted),
)
def test_histograms_are_numpys_and_count_what_lies_outside(table: Columns, cuts: list[int], edges: list[float]) -> None:
    found = summarize(ask(dealt(table, cuts), 1, edges={"a": edges}))
    present = table["a"][~np.isnan(table["a"])]
    histogram = found["a"].histogram
    assert histogram is not None
    assert histogram.edges == tuple(edges)
    assert histogram.counts == tuple(np.histogram(present, edges)[0])
    assert (histogram.below, histogram.above) == ((present < edges[0]).sum(), (present > edges[-1]).sum())
    assert found["b"].histogram is None


def test_they_agree_with_scikit_learn_on_breast_cancer() -> None:
    data = load_breast_cancer()
    columns = {str(name): data.data[:, k] for k, name in enumerate(data.feature_names)}
    scaler = StandardScaler().fit(data.data)
    for rounds, error in ((1, 1e-10), (2, 1e-12)):
        found = summarize(ask(dealt(columns, [100, 101, 350]), rounds, precise=True))
        for k, name in enumerate(columns):
            assert found[name].mean == pytest.approx(scaler.mean_[k], rel=1e-12)
            assert found[name].variance == pytest.approx(scaler.var_[k], rel=error)
            assert found[name].exact


def test_a_second_round_saves_variances_from_cancellation() -> None:
    """Times in seconds since 1970: 64-bit squares of them have no digits left for a variance of 2/3."""
    times = np.array([1.7e9, 1.7e9 + 1, 1.7e9 + 2] * 4)
    once = summarize(ask(dealt({"t": times}, [5]), 1))["t"]
    assert not once.exact
    twice = summarize(ask(dealt({"t": times}, [5]), 2, precise=True))["t"]
    assert (twice.exact, twice.mean) == (True, 1.7e9 + 1)
    assert twice.variance == pytest.approx(2 / 3, rel=1e-12)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_constant_column_has_no_deviation_whatever_rounding_does(rounds: int) -> None:
    for value, count in itertools.product((0.1, -1e20, 3.7), range(2, 40)):
        found = summarize(ask(dealt({"c": np.full(count, value)}, [3]), rounds, precise=True))["c"]
        assert (found.variance, found.deviation) == (0.0, 0.0)
        assert found.mean == pytest.approx(value, rel=1e-15)


def test_a_second_round_corrects_the_mean() -> None:
    for count in range(2, 60):
        found = summarize(ask([Site({"c": np.full(count, 0.1)})], 2, precise=True))["c"]
        assert (found.mean, found.variance) == (0.1, 0.0)


def test_minus_zero_is_zero() -> None:
    found = summarize(ask([Site({"a": [0.0, -0.0, -0.0]})], 8, range=True))["a"]
    assert (str(found.minimum), str(found.maximum)) == ("0.0", "0.0")


def test_a_column_that_one_site_has_no_values_in_is_that_of_the_others() -> None:
    sites = [Site({"a": [1.0, 3.0]}), Site({"a": [NAN, NAN, NAN]})]
    found = summarize(ask(sites, 8, quantiles=[0.5], range=True))["a"]
    assert found == Summary(
        count=2, missing=3, mean=2.0, variance=1.0, deviation=1.0, minimum=1.0, maximum=3.0, quantiles={0.5: 1.0}
    )


def test_integers_and_booleans_are_numbers_and_text_is_left_out() -> None:
    site = Site({"n": np.array([1, 2, 3]), "yes": np.array([True, False, True]), "who": np.array(["x", "y", "z"])})
    found = summarize(ask([site], 1))
    assert {name: summary.mean for name, summary in found.items()} == {"n": 2.0, "yes": 2 / 3}


def test_the_result_reads_in_any_safetensors_tool(tmp_path: Path) -> None:
    """Through the files and the fold of a real job."""
    names = ("north", "south")
    tables = ({"age": [30.0, 50.0, NAN]}, {"age": [70.0]})
    benches = {name: Workbench(Site(table)) for name, table in zip(names, tables, strict=True)}
    arguments = {"columns": ["age"], "quantiles": [0.5], "range": True, "edges": {"age": [0, 40, 80]}}
    model = tmp_path / "model"
    benches["north"].initialize(Task(), model, arguments=arguments)
    for number in range(1, 9):
        updates = []
        for name, bench in benches.items():
            task = Task(client=name, round=number)
            done = bench.train(task, model, tmp_path / name, arguments=arguments)
            updates.append(WeightedUpdate(name, tmp_path / name, done.examples))
        fold(model, updates, tmp_path / "next", Sum(), Sgd())
        (tmp_path / "next").replace(model)
    tensors = load_file(model)
    plain = {name: tensors[f"age.{name}"] for name in ("count", "missing", "sum", "sum_of_squares")}
    assert plain == {"count": 3, "missing": 1, "sum": 150, "sum_of_squares": 900 + 2500 + 4900}
    assert tensors["age.histogram"].tolist() == [0, 1, 2, 0]
    assert tensors["sites"].tolist() == [2] * 8
    for source in (model, str(model), tensors):
        found = summarize(source)["age"]
        assert (found.minimum, found.quantiles, found.maximum) == (30, {0.5: 50}, 70)


def test_only_counts_and_sums_leave_a_site() -> None:
    """What a round adds to the order statistics is how many values begin with a byte, never a value."""
    site = Site({"a": [1.5, 2.5, 1e6]})
    empty = site.model(quantiles=[0.5])
    first = asked_once(empty, [site], 1)
    counts = first["a.order"]
    assert counts[0].sum() == 3
    assert not counts[1:].any()
    assert set(np.unique(counts)) <= {0, 1, 2, 3}


def test_a_job_that_goes_on_adds_nothing_more() -> None:
    site = Site({"a": [1.0, 2.0]})
    done = ask([site], 1)
    assert summarize(asked_once(done, [site], 2)) == summarize(done)


# What is refused, and how it reads.


class Careful(Site):
    smallest_group = 5
    gives_single_values = False


def refusal(site: Statistics, **arguments: Any) -> str:
    with pytest.raises(LearnerError) as caught:
        site.train(site.model(**arguments), Task(client="north", round=1))
    return str(caught.value)


def test_a_site_refuses_for_small_groups() -> None:
    assert Statistics.smallest_group == 5
    assert refusal(Careful({"a": np.arange(4.0)})) == "site 'north': no answer for fewer than 5 rows"
    few = Careful({"a": np.arange(6.0), "b": [1.0, 2.0, NAN, NAN, NAN, NAN]})
    assert refusal(few) == "site 'north': no answer for column 'b' with fewer than 5 values"
    none = Careful({"a": np.arange(6.0), "b": np.full(6, NAN)})
    assert summarize(ask([none], 1))["b"].missing == 6
    assert "fewer than 1 rows" in refusal(Site({"a": np.empty(0)}))


def test_a_site_may_refuse_single_values() -> None:
    site = Careful({"a": np.arange(6.0)})
    assert "values of single rows" in refusal(site, range=True)
    assert "values of single rows" in refusal(site, quantiles=[0.5])
    assert summarize(ask([site], 2, precise=True))["a"].mean == 2.5


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a": [1.0]}, "site 'north': there is no column 'b'"),
        ({"b": ["x"]}, "site 'north': column 'b' is not numeric"),
        ({"b": [1.0, math.inf]}, "site 'north': column 'b' holds infinite values"),
        ({"b": [1.0, -1e66]}, "some beyond 1e+65"),
    ],
)
def test_a_column_that_cannot_be_summed_is_named_with_its_site(columns: Mapping[str, Any], says: str) -> None:
    assert says in refusal(Site(columns), columns=["b"])


def test_columns_have_one_length() -> None:
    with pytest.raises(LearnerError, match="flat arrays of one length"):
        Site({"a": [1.0, 2.0], "b": [1.0]}).model()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"colums": ["a"]}, "model.arguments: unknown key 'colums'; did you mean 'columns'"),
        ({"quantiles": [1.5]}, "quantiles"),
        ({"columns": ["a", "a"]}, "named twice"),
        ({"edges": {"a": [1]}}, "edges: those of 'a'"),
        ({"edges": {"a": [2, 1]}}, "each above the last"),
        ({"edges": {"a": [0, math.inf]}}, "finite"),
        ({"edges": {"z": [0, 1]}}, "'z' is not among the columns a"),
        ({"columns": ["a"], "edges": {"b": [0, 1]}}, "'b' is not among the columns a"),
    ],
)
def test_wrong_arguments_are_named(arguments: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Site({"a": [1.0]}).model(**arguments)


def test_evaluation_says_what_to_change() -> None:
    with pytest.raises(LearnerError, match="every = 0"):
        Site({"a": [1.0]}).evaluate({}, Task())


# Answers that do not fit together are noticed, not summed up.


def test_other_sites_in_a_later_round_are_noticed() -> None:
    north, south = Site({"a": [1.0, 2.0]}), Site({"a": [3.0]})
    both = asked_once(north.model(quantiles=[0.5]), [north, south], 1)
    with pytest.raises(PayloadError, match="2, 1 sites answered in the rounds so far"):
        summarize(asked_once(both, [north], 2))


def test_data_that_changed_meanwhile_is_noticed() -> None:
    north, grown = Site({"a": [1.0, 2.0]}), Site({"a": [1.0, 1.0, 2.0]})
    first = asked_once(north.model(quantiles=[0.5]), [north], 1)
    second = asked_once(first, [grown], 2)
    with pytest.raises(PayloadError, match="round 2 counted 2 values where round 1 had 1"):
        north.train(second, Task(round=3))


def test_averages_are_not_taken_for_sums(tmp_path: Path) -> None:
    site = Workbench(Site({"a": [1.0, 2.0]}))
    other = Workbench(Site({"a": [1.0, 2.0, 3.0]}))
    site.initialize(Task(), tmp_path / "model")
    for name, bench in (("a", site), ("b", other)):
        bench.train(Task(), tmp_path / "model", tmp_path / name)
    updates = [WeightedUpdate(name, tmp_path / name, 1) for name in "ab"]
    fold(tmp_path / "model", updates, tmp_path / "out", Mean(), Sgd())
    with pytest.raises(PayloadError, match=r'aggregator.name = "sum"'):
        summarize(tmp_path / "out")


def test_another_model_is_no_result(tmp_path: Path) -> None:
    save_file({"weight": np.zeros(3)}, tmp_path / "model")
    with pytest.raises(PayloadError, match="no result of a statistics job"):
        summarize(tmp_path / "model")
