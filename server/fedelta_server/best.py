"""The best version of a job."""

from fedelta.config import EvaluateConfig
from fedelta_server.engine.metrics import USUAL, Measured, deciding, reported_in


def best_version(evaluate: EvaluateConfig, measured: Measured) -> int | None:
    """The version with the best evaluation, the earlier of equals. None: none was evaluated by what counts."""
    metric, goal = deciding(evaluate, measured)
    found = {version: metrics[metric] for version, metrics in measured.items() if metric in metrics}
    if not found:
        return None
    pick = max if goal == "max" else min
    value = pick(found.values())
    return min(version for version, each in found.items() if each == value)


def why_none(evaluate: EvaluateConfig, measured: Measured) -> str:
    """Why there is no best version, in words."""
    reported = reported_in(measured.values())
    if not reported:
        return 'none of its versions was evaluated; name "latest" or a number'
    wanted = evaluate.metric or " or ".join(name for name, _ in USUAL[:2])
    return f"its clients report {', '.join(sorted(reported))}, but not {wanted}; evaluate.metric says what counts"
