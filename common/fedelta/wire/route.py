"""How a coordinator is reached: directly or through a proxy, and with which settings of a channel."""

from dataclasses import dataclass
from typing import Any

from fedelta.wire.proxy import Proxy

MAX_MESSAGE_BYTES = 4 << 20

RECONNECT_SECONDS = 1.0
"""The longest pause between two tries to connect, where there are not so many clients that it must be longer."""

CONNECT_SECONDS = 10
"""How long one try to connect may take, tunnel included. Other addresses of the same name are tried meanwhile."""
KEEPALIVE_SECONDS = 30.0
"""How long a connection with calls under way may be silent before it is asked whether it still lives."""
LEAST_KEEPALIVE_SECONDS = 1.0
"""The quickest a coordinator puts up with, and gRPC sends no quicker."""
KEEPALIVE_ANSWER_SECONDS = 10
"""How long the answer may take. Then the connection is given up and made anew."""


@dataclass(frozen=True, kw_only=True)
class Route:
    """The way to a coordinator."""

    target: str
    """HOST:PORT of the coordinator."""
    proxy: Proxy | None = None
    """The proxy in between."""
    keepalive_seconds: float = KEEPALIVE_SECONDS
    """At least `LEAST_KEEPALIVE_SECONDS`, and less than the idle limit of what is in between."""
    reconnect_seconds: float = RECONNECT_SECONDS
    """The longest pause between two tries to connect; the first is 0.1 s, and they grow."""

    @property
    def first_hop(self) -> str:
        """HOST:PORT of what this machine connects to."""
        return self.proxy.address if self.proxy else self.target

    def options(self) -> list[tuple[str, Any]]:
        """The options of its channel, which is one to `first_hop`."""
        found: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            # gRPC's own reconnect backoff grows to two minutes, long after a coordinator is back.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", int(self.reconnect_seconds * 1000)),
            # Not a pause, despite its name: the time that a try to connect may take.
            ("grpc.min_reconnect_backoff_ms", CONNECT_SECONDS * 1000),
            ("grpc.keepalive_time_ms", int(self.keepalive_seconds * 1000)),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_ANSWER_SECONDS * 1000),
            # Where a ping of another kind was under way, this is what counts; gRPC's own limit is a minute.
            ("grpc.http2.ping_timeout_ms", KEEPALIVE_ANSWER_SECONDS * 1000),
            ("grpc.http2.max_pings_without_data", 0),
            # gRPC reads some of the usual variables in its own way, and would except hosts from a proxy named by URL.
            ("grpc.enable_http_proxy", 0),
            ("grpc.address_http_proxy_enabled_addresses", ""),
        ]
        return found + (self._tunnel(self.proxy) if self.proxy else [])

    def _tunnel(self, proxy: Proxy) -> list[tuple[str, Any]]:
        """What gRPC itself sets where it finds a proxy by its own rules."""
        found = [("grpc.http_connect_server", self.target), ("grpc.default_authority", self.target)]
        if proxy.credentials:
            found.append(("grpc.http_connect_headers", f"Proxy-Authorization:Basic {proxy.credentials}"))
        return found
