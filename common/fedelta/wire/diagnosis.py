"""Why no connection comes about, in words that name what is in the way and what helps.

gRPC says what happened in free text, which differs between its versions, so it is recognized by what the versions
have in common; tests/net holds each cause against the grpcio that is installed.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fedelta.errors import BadRequestError, FedeltaError, UnavailableError, UnreachableError
from fedelta.wire.hosts import split
from fedelta.wire.route import CONNECT_SECONDS, Route

_CONNECTING = re.compile(
    r"failed to connect to all addresses|errors resolving|DNS resolution failed|Received http2 header"
)
"""What gRPC begins with where no connection came about; else one broke."""


@dataclass(frozen=True)
class _Cause:
    """A kind of failure: how gRPC puts it, and how we do."""

    pattern: str
    why: str
    remedy: str


_NO_NAME = _Cause(
    r"errors resolving|DNS resolution failed",
    "the name {host} is not known here",
    "check its spelling, and that this machine's name server knows it",
)
_NO_ROUTE = _Cause(
    r"[Uu]nreachable|No route to host", "no route from here to {hop}", "check this machine's network and the address"
)
_NO_BACKEND = _Cause(
    r"http2 header with status",
    "what is in front of it answers in its place: {detail}",
    "is `fedelta server` running behind that?",
)
_NO_ANSWER = _Cause(
    r"FD Shutdown|handshaker shutdown|Endpoint closing|[Tt]imed out|[Tt]ime ?out",
    "{hop} did not answer within {seconds} s",
    "check host and port, and that a firewall lets this machine connect to it",
)

_DIRECT = (
    _NO_NAME,
    _Cause(r"Connection refused", "connection refused", "is `fedelta server` running there?"),
    _NO_ROUTE,
    _Cause(
        r"http1\.x server",
        "what is there speaks HTTP/1 and not gRPC",
        "check the port; a filter or web proxy in between must let HTTP/2 through",
    ),
    _Cause(r"Failed parsing HTTP/2", "what is there does not speak gRPC", "check the port"),
    _Cause(
        r"Socket closed|Connection reset|Broken pipe",
        "the connection was closed before the coordinator said anything",
        "check the port (one that speaks TLS does this), and that no firewall or balancer in between closes it",
    ),
    _Cause(
        r"before receiving SETTINGS",
        "a connection was made, but nothing was said on it within {seconds} s",
        "check the port, and that what is in between passes connections on",
    ),
    _NO_BACKEND,
    _NO_ANSWER,
)

_ALLOW = "ask whoever runs it to allow CONNECT to {target}"
_BEYOND = "check that the proxy may and can reach it, and that `fedelta server` is running there"

_PROXIED = (
    _NO_NAME,
    _Cause(r"Connection refused", "nothing listens at the proxy's address", "check host and port of the proxy"),
    _NO_ROUTE,
    _Cause(
        r"response code 407",
        "the proxy refuses the credentials, or misses them (407)",
        "put them into its URL, http://USER:PASSWORD@HOST:PORT; of the ways to ask for them only Basic works",
    ),
    _Cause(r"response code 40[135]", "the proxy refuses ({status})", _ALLOW),
    _Cause(r"response code 50[0-9]", "the proxy does not get through to {target} ({status})", _BEYOND),
    _Cause(r"response code", "the proxy answers {status}", _ALLOW),
    _Cause(r"Expected (?!SETTINGS)", "what is at {hop} is no HTTP proxy", "check host and port of the proxy"),
    _Cause(
        r"http1\.x server|Failed parsing HTTP/2",
        "the proxy made a tunnel, but what answers in it is no coordinator",
        "check the coordinator's port; a proxy that looks into tunnels must leave this one alone",
    ),
    _Cause(
        r"Socket closed|Connection reset|Broken pipe",
        # Some versions of gRPC say the same where they gave up waiting for the proxy's answer.
        "the proxy, or what is behind it, closed the connection or said nothing for {seconds} s",
        f"{_BEYOND}; a proxy that looks into tunnels, for example one that expects TLS, must leave this one alone",
    ),
    _Cause(r"before receiving SETTINGS", "the proxy made a tunnel, but nothing comes out of it", _BEYOND),
    _NO_BACKEND,
    _NO_ANSWER,
)


def diagnose(route: Route, status: str, detail: str) -> FedeltaError | None:
    """The error for a status that gRPC gave by itself; None for one that says nothing of the connection."""
    if status == "UNIMPLEMENTED":
        return BadRequestError(
            f"{route.target}{_through(route)} answers, but it is no fedelta coordinator, or an older one ({detail})"
        )
    if status != "UNAVAILABLE":
        return None
    if not _CONNECTING.match(detail):
        return UnavailableError(f"the connection to {route.target}{_through(route)} broke ({_last(detail)})")
    why, remedy = _cause(route, detail)
    return UnreachableError(f"no coordinator answers at {route.target}{_through(route)} ({why}); {remedy}")


def _through(route: Route) -> str:
    return f" through the proxy {route.proxy.address}, which {route.proxy.source} names" if route.proxy else ""


def _cause(route: Route, detail: str) -> tuple[str, str]:
    known = _find(_PROXIED if route.proxy else _DIRECT, detail)
    found = known or _Cause("", "{detail}", "is `fedelta server` running there?")
    code = re.search(r"response code (\d+)", detail)
    words = {
        "hop": route.first_hop,
        "host": split(route.first_hop)[0],
        "target": route.target,
        "status": code[1] if code else "",
        "detail": _last(detail),
        "seconds": CONNECT_SECONDS,
    }
    return found.why.format(**words), found.remedy.format(**words)


def _find(causes: Iterable[_Cause], detail: str) -> _Cause | None:
    return next((cause for cause in causes if re.search(cause.pattern, detail)), None)


def _last(detail: str) -> str:
    """The innermost cause, which gRPC puts last, without the address that it names."""
    return re.sub(r"^.*(?:last error: )?\w+: ipv[46]:\S+ ", "", detail).strip() or detail
