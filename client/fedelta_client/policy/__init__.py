"""A site's own policy: what it takes part in, when, and how much. Pure: no clock, no disk, no network."""

from fedelta_client.policy._hours import ClockTime, Window
from fedelta_client.policy._limits import Limits
from fedelta_client.policy._offer import Accepted, Declined, Kind, Offer, Result, Usage, Verdict
from fedelta_client.policy._policy import Jobs, Policy, load_policy
from fedelta_client.policy._values import Rules, ValueRule

__all__ = [
    "Accepted",
    "ClockTime",
    "Declined",
    "Jobs",
    "Kind",
    "Limits",
    "Offer",
    "Policy",
    "Result",
    "Rules",
    "Usage",
    "ValueRule",
    "Verdict",
    "Window",
    "load_policy",
]
