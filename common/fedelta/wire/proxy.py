"""Which HTTP proxy a connection goes through, if any: decided here, and not by gRPC's own reading of variables.

Proxies are asked for a tunnel (HTTP CONNECT), with Basic credentials where their URL has some. No error and no `repr`
shows credentials.
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self
from urllib.parse import SplitResult, unquote, urlsplit

from fedelta.errors import ConfigError
from fedelta.wire.hosts import ip_of, is_loopback, join, split

ENVIRONMENT = "environment"
"""The setting that goes by the usual variables."""
NONE = "none"
"""The setting that goes straight to the coordinator."""

# As in curl, small letters first. http_proxy is for plain requests, not for tunnels.
VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
EXCEPTIONS = ("no_proxy", "NO_PROXY")

_DEFAULT_PORT = 80
_WITH_PORT = re.compile(r"\[?(?P<name>[^\[\]]+?)\]?:(?P<port>[0-9]+)")


class ProxySetting:
    """Which proxy is to be used, as a configuration says it. It prints without credentials."""

    __slots__ = ("source", "value")

    JSON_SCHEMA: ClassVar[Mapping[str, Any]] = {"type": "string"}
    """What editors check."""

    def __init__(self, value: str = ENVIRONMENT, source: str = "the setting proxy") -> None:
        self.value = value
        """"environment", "none" or the URL of a proxy."""
        self.source = source
        """The flag or variable that says it, for messages."""

    @classmethod
    def parse(cls, written: object) -> Self:
        """Reads a setting. Raises `ValueError`, whose message does not repeat it."""
        found = cls(str(written), "this")
        try:
            choose("", found, {})
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return cls(found.value)

    def __str__(self) -> str:
        return redacted(self.value)

    __repr__ = __str__


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """An HTTP proxy that makes tunnels."""

    address: str
    """HOST:PORT."""
    source: str
    """The flag or variable that named it, for messages."""
    credentials: str = field(default="", repr=False)
    """USER:PASSWORD in base64, as they travel; empty where the URL has none."""


def choose(target: str, setting: ProxySetting, environment: Mapping[str, str]) -> Proxy | None:
    """The proxy for connections to `target` (HOST:PORT); None: no proxy.

    A URL is obeyed as it is. `environment` goes by HTTPS_PROXY and ALL_PROXY, save for what NO_PROXY excepts and for
    this machine itself.

    Args:
        target: the coordinator.
        setting: what the user said.
        environment: the variables, `os.environ` as a rule.

    Raises `ConfigError` where the proxy's URL is none, or not one that works here.
    """
    if setting.value == NONE:
        return None
    if setting.value != ENVIRONMENT:
        return parse(setting.value, setting.source)
    name = _first(VARIABLES, environment)
    if not name or is_loopback(split(target)[0]) or _is_excepted(target, environment):
        return None
    return parse(environment[name], name)


def parse(url: str, source: str) -> Proxy:
    """The proxy with this URL; without http:// it is taken as HOST:PORT. Raises `ConfigError`."""
    parts = _parts(url)
    if parts is not None and parts.scheme != "http":
        raise ConfigError(
            f"{source} names a proxy by {parts.scheme}://, but only http:// proxies work here (HTTP CONNECT); "
            "name one of those, or go without one (--proxy none, or the coordinator's host in NO_PROXY)"
        )
    if parts is None or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigError(
            f"{source} is not the URL of a proxy; say http://HOST:PORT or http://USER:PASSWORD@HOST:PORT "
            "(with %XX for special characters of the password), or none"
        )
    return Proxy(address=join(parts.hostname, parts.port or _DEFAULT_PORT), source=source, credentials=_basic(parts))


def redacted(setting: str) -> str:
    """The setting as it may be shown: with *** for the credentials of a URL."""
    start, sign, rest = setting.rpartition("@")
    scheme, marks, _ = start.rpartition("://") if "://" in start else ("", "", "")
    return f"{scheme}{marks}***@{rest}" if sign else setting


def _parts(url: str) -> SplitResult | None:
    """The URL taken apart; None where that cannot be done. What it is not is not told: it may hold a password."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        usable = parts.port is None or parts.port > 0
    except ValueError:
        return None
    return parts if usable and not re.search(r"\s", url) else None


def _basic(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return base64.b64encode(pair.encode()).decode()


def _first(names: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """The first of the variables that is set and not empty."""
    return next((name for name in names if environment.get(name)), "")


def _is_excepted(target: str, environment: Mapping[str, str]) -> bool:
    host, port = split(target)
    listed = environment.get(_first(EXCEPTIONS, environment), "")
    return any(
        _matches(entry, host.lower().rstrip("."), port) for entry in re.split(r"[,\s]+", listed.lower()) if entry
    )


def _matches(entry: str, host: str, port: int) -> bool:
    """Whether an entry of NO_PROXY names the host: `*`, a network, or an address or domain, maybe with a port."""
    if entry == "*" or "/" in entry:
        return entry == "*" or _is_within(host, entry)
    name, asked = _entry(entry)
    if asked not in ("", str(port)):
        return False
    if ip_of(host):
        return ip_of(name) == ip_of(host)
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _entry(text: str) -> tuple[str, str]:
    """Name and port; an IPv6 address has colons of its own."""
    found = None if ip_of(text) else _WITH_PORT.fullmatch(text)
    return (found["name"], found["port"]) if found else (text.strip("[]"), "")


def _is_within(host: str, network: str) -> bool:
    address = ip_of(host)
    try:
        return address is not None and address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
